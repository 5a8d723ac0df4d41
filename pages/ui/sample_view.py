"""What a slide is: its name and sample, changed afterwards; and its removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import attach_view, register
from pages.ui.session import errors_shown, link, remember, services
from spatialformer_core.service import changes

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta


def _form(meta: SlideMeta, slides: Sequence[SlideMeta]) -> None:
    # Another version of the slide gets fields of its own, filled with what it is now.
    prefix = f"sample-{meta.slide_id}-{meta.version}"
    with st.form(prefix, border=False):
        name = st.text_input("Name", meta.name, key=f"{prefix}-name", max_chars=64, width=420)
        sample = register.sample_fields(slides, prefix, meta.sample)
        if st.form_submit_button("Save", type="primary", icon=":material/save:"):
            with errors_shown():
                facts = register.filled_in({"Name": name}, sample)
                if (facts, name.strip()) == (meta.sample, meta.name):
                    st.info("Nothing differs from what is kept.", icon=":material/info:")
                    return
                change = changes.SampleChange(slide_id=meta.slide_id, sample=facts, name=name)
                attach_view.start(change, "The slide is being described anew.")
    st.caption(
        "Results that were made so far keep what was said then. Donor and block are the replicate "
        f"units of comparisons to come. The slide keeps its id `{meta.slide_id}`."
    )


def _removal(meta: SlideMeta) -> None:
    with st.expander("Remove this slide", icon=":material/delete_forever:"):
        st.markdown(
            f"**{meta.name}** goes for good and for everyone, with all regions and what was "
            "measured on it. Results of jobs stay, and so does the source that it was read from."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            typed = st.text_input(
                f"Type its name to confirm: {meta.name}", key=f"remove-{meta.slide_id}", width=420
            )
            if st.button(
                "Remove the slide",
                key=f"remove-go-{meta.slide_id}",
                icon=":material/delete_forever:",
                disabled=not typed.strip(),
            ):
                with errors_shown():
                    changes.remove_slide(services(), meta.slide_id, typed)
                    st.session_state.pop("_slide", None)
                    link("slide", None)
                    remember(f"{meta.name} was removed.")
                    st.rerun()


def view(meta: SlideMeta, slides: Sequence[SlideMeta]) -> None:
    """Draw the form and the removal of one slide."""
    _form(meta, slides)
    _removal(meta)
