"""Embedding: the cells as the model sees them, beside where they lie in the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, embedding_form, embedding_view, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, link, linked, look_at, owner, services
from spatialformer_core.service.embedding_view import open_map

if TYPE_CHECKING:
    from spatialformer_core.service import Job, SlideMeta

KIND = "embed"


def _no_slide() -> None:
    cards.empty(
        "No slide to embed",
        "Register a slide first; then a model gives each of its cells a place on a map.",
        "bubble_chart",
    )
    st.page_link("pages/slides.py", label="Register a slide", icon=":material/add_circle:")


def _setup(meta: SlideMeta, *, expanded: bool) -> None:
    with st.expander("New embedding", icon=":material/add:", expanded=expanded):
        left, right = st.columns([1.7, 1], gap="large")
        request = None
        with left, errors_shown():
            request = embedding_form.form(meta)
        with right:
            embedding_form.panel(request)


def _jobs(meta: SlideMeta) -> list[Job]:
    """Return the visitor's embeddings of a slide that have a map or will have one."""
    own = progress.jobs_of(KIND)
    return [
        job
        for job in own
        if job.params.get("slide_id") == meta.slide_id and job.params.get("n_umap")
    ]


def _linked_slide() -> None:
    """Look at the slide of a linked embedding, whatever slide was looked at before."""
    wanted = linked("embedding")
    if wanted and not linked("slide"):
        look_at(str(services().job(wanted, owner()).params.get("slide_id")))


def _shown(meta: SlideMeta, jobs: list[Job]) -> Job | None:
    """Return the embedding of the link if it is of this slide, else the newest that is done."""
    wanted = linked("embedding")
    if wanted:
        job = services().job(wanted, owner())
        if job.params.get("slide_id") == meta.slide_id:
            return job
        link("embedding", None)
    return next((job for job in jobs if job.status == "done"), None)


def _history(jobs: list[Job], chosen: str | None) -> None:
    ended = [job for job in jobs if job.is_ended]
    if not ended:
        return
    with st.expander(f"Previous embeddings ({len(ended)})", icon=":material/history:"):
        asked = progress.table_of(ended, title, chosen)
        if asked:
            link("embedding", asked)
            st.rerun()


def _results(meta: SlideMeta, job: Job | None) -> None:
    if job is None or not job.is_ended:
        return
    if job.status != "done":
        progress.failure(job, title(job))
        return
    st.subheader(title(job), anchor=False)
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
            _no_slide()
            return
        _linked_slide()
        meta = embedding_form.choose_slide(slides)
        look_at(meta.slide_id)
        jobs = _jobs(meta)
        job = _shown(meta, jobs)
        _setup(meta, expanded=job is None)
        progress.active_jobs(KIND, title)
        _history(jobs, job.id if job else None)
        _results(meta, job)


main()
