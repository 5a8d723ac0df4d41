"""Embedding: the cells as the model sees them, beside where they lie in the tissue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, choices, embedding_form, embedding_view
from pages.ui.result_page import EMBEDDINGS, ask
from pages.ui.session import errors_shown, link, linked, look_at, owner, services
from spatialformer_core.service.embedding_view import open_map

if TYPE_CHECKING:
    from spatialformer_core.service import Job, SlideMeta


def _of_slide(meta: SlideMeta) -> list[Job]:
    """Return the visitor's embeddings of a slide that have a map or will have one."""
    own = (job for job in EMBEDDINGS.jobs() if job.params.get("n_umap"))
    return [job for job in own if job.params.get("slide_id") == meta.slide_id]


def _linked_slide() -> str | None:
    """Return the slide of the linked embedding, None without one."""
    wanted = linked(EMBEDDINGS.name)
    return services().job(wanted, owner()).params.get("slide_id") if wanted else None


def _result(meta: SlideMeta, job: Job) -> None:
    found = open_map(services().slide(meta.slide_id), job.id, owner())
    embedding_view.view(meta, found)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Embedding", "The cells as the model sees them, beside where they lie in the tissue."
    )
    with errors_shown():
        slides = services().slides()
        if not slides:
            cards.no_slide(
                "No slide to embed",
                "Register a slide first; then a model gives each of its cells a place on a map.",
                "bubble_chart",
            )
            return
        of_link = _linked_slide()
        if of_link and not linked("slide"):
            look_at(of_link)
        meta = choices.one_slide(st, slides, key="embedding-slide", width=420)
        look_at(meta.slide_id)
        if of_link != meta.slide_id:
            link(EMBEDDINGS.name, None)
        jobs, new = _of_slide(meta), ":material/add:"
        with st.expander("New embedding", icon=new, expanded=EMBEDDINGS.shown(jobs) is None):
            needed = "Choose a model; numbers and time appear here."
            ask(partial(embedding_form.form, meta), embedding_form.panel, needed, border=False)
        EMBEDDINGS.results(jobs, partial(_result, meta))


main()
