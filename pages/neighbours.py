"""Neighbours: which cells the model would put next to each other, and what the tissue says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, neighbour_estimate, neighbour_form, neighbour_view, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, link, linked, owner, services
from spatialformer_core.service import model_jobs
from spatialformer_core.service.colocalise_estimate import expression_files

if TYPE_CHECKING:
    from spatialformer_core.service import Job

KIND = "colocalise"


def _setup() -> bool:
    slides = services().slides()
    if not slides and not expression_files(services()):
        cards.empty(
            "No cells to ask about",
            "Register a slide first, or put an `.h5ad` file of dissociated cells into an allowed "
            "folder.",
            "hub",
        )
        st.page_link("pages/slides.py", label="Register a slide", icon=":material/add_circle:")
        return False
    left, right = st.columns([1.7, 1], gap="large")
    request = None
    with left, st.container(border=True), errors_shown():
        request = neighbour_form.form(slides)
    with right, st.container(border=True):
        neighbour_estimate.panel(request)
    return True


def _shown() -> Job | None:
    """Return the prediction of the link, else the newest one that is done."""
    wanted = linked("neighbours")
    if wanted:
        return services().job(wanted, owner())
    done = (job for job in progress.jobs_of(KIND) if job.status == "done")
    return next(done, None)


def _history(chosen: str | None) -> None:
    ended = [job for job in progress.jobs_of(KIND) if job.is_ended]
    if not ended:
        return
    name = f"Previous predictions ({len(ended)})"
    with st.expander(name, icon=":material/history:"):
        asked = progress.table_of(ended, title, chosen)
        if asked:
            link("neighbours", asked)
            st.rerun()


def _results() -> None:
    job = _shown()
    if job is None or not job.is_ended:
        return
    if job.status != "done":
        progress.failure(job, title(job))
        return
    st.subheader(title(job), anchor=False)
    neighbour_view.view(model_jobs.colocalisation(services(), job.id, owner()), job.id)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Neighbours", "Which cells the model puts next to each other, beside what the tissue says."
    )
    with errors_shown():
        if not _setup():
            return
        progress.active_jobs(KIND, title)
        _history(linked("neighbours"))
        _results()


main()
