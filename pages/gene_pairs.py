"""Gene pairs: which genes sit together in one group of cells and not in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, pair_estimate, pair_form, pair_view, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, link, linked, owner, services

if TYPE_CHECKING:
    from spatialformer_core.service import Job

KIND = "gene-pairs"


def _setup() -> bool:
    slides = services().slides()
    if not slides:
        cards.empty(
            "No slide to compare",
            "Register a slide first, then compare its cell types; several slides let you compare "
            "conditions.",
            "join_inner",
        )
        st.page_link("pages/slides.py", label="Register a slide", icon=":material/add_circle:")
        return False
    left, right = st.columns([1.7, 1], gap="large")
    request = None
    with left, st.container(border=True), errors_shown():
        request = pair_form.form(slides)
    with right, st.container(border=True):
        pair_estimate.panel(request)
    return True


def _shown() -> Job | None:
    """Return the comparison of the link, else the newest one that is done."""
    wanted = linked("pairs")
    if wanted:
        return services().job(wanted, owner())
    done = (job for job in progress.jobs_of(KIND) if job.status == "done")
    return next(done, None)


def _history(chosen: str | None) -> None:
    ended = [job for job in progress.jobs_of(KIND) if job.is_ended]
    if not ended:
        return
    name = f"Previous comparisons ({len(ended)})"
    with st.expander(name, icon=":material/history:"):
        asked = progress.table_of(ended, title, chosen)
        if asked:
            link("pairs", asked)
            st.rerun()


def _results() -> None:
    job = _shown()
    if job is None or not job.is_ended:
        return
    if job.status != "done":
        progress.failure(job, title(job))
        return
    st.subheader(title(job), anchor=False)
    pair_view.view(services().gene_pairs.result(job.id, owner()), job.id)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Gene pairs", "Genes whose transcripts sit together in some cells, not in others."
    )
    with errors_shown():
        if not _setup():
            return
        progress.active_jobs(KIND, title)
        _history(linked("pairs"))
        _results()


main()
