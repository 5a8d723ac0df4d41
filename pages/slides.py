"""Slides: register one, see what quality control kept, name its types, change what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import (
    attach_view,
    cards,
    panel_box,
    progress,
    qc_view,
    register,
    sample_view,
    slide_cards,
    spillover_view,
    types_view,
    upload_box,
)
from pages.ui.job_titles import title
from pages.ui.session import current_slide, errors_shown, look_at, services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service import SlideMeta

KINDS = ("ingest", "change", "types")
_QC, _TYPES, _FILES, _SAMPLE = "Quality control", "Cell types", "Files", "Sample and removal"


def _registration(slides: Sequence[SlideMeta]) -> None:
    name, key, icon = "Register a slide", "register-box", ":material/add_circle:"
    with st.expander(name, expanded=not slides, key=key, icon=icon), errors_shown():
        register.form(slides)


def _chosen(slides: Sequence[SlideMeta]) -> SlideMeta | None:
    wanted = current_slide()
    found = [meta for meta in slides if meta.slide_id == wanted]
    if wanted and not found:
        st.warning(f"There is no slide `{wanted}`; it may have been removed.")
    return found[0] if found else None


def _parts(meta: SlideMeta, slides: Sequence[SlideMeta]) -> None:
    st.subheader(meta.name, anchor=False)
    part = st.segmented_control(
        "Part", (_QC, _TYPES, _FILES, _SAMPLE), default=_QC, required=True, key="slides-part"
    )
    if part == _TYPES:
        types_view.view(meta)
    elif part == _FILES:
        attach_view.view(meta)
    elif part == _SAMPLE:
        sample_view.view(meta, slides)
    else:
        qc_view.view(meta)
        panel_box.view(meta)
        spillover_view.view(meta)


def main() -> None:
    """Draw the page."""
    cards.heading("Slides", "Register a slide, see what quality control keeps, name its types.")
    with errors_shown():
        slides = services().slides()
        register.show_when_read(slides)
        # Apart: a list of jobs that cannot be read hides no slide.
        with errors_shown():
            for kind in KINDS:
                progress.active_jobs(kind, title)
                progress.last_failure(kind, title)
            spillover_view.jobs()
        if not slides:
            cards.empty(
                "No slide yet",
                "Register one below: a Xenium, CosMx or MERSCOPE folder, a SpatialData zarr, an "
                ".h5ad or a table folder. `spatialformer simulate` writes a practice slide.",
                "stacks",
            )
        chosen = _chosen(slides)
        asked = slide_cards.grid(slides, chosen.slide_id if chosen else None)
        if asked:
            look_at(asked)
            st.rerun()
        upload_box.view()
        _registration(slides)
        if chosen:
            with errors_shown():
                _parts(chosen, slides)


main()
