"""Perturbation: which gene pairs hold two cell types together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, progress, screen_estimate, screen_form, screen_view
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, link, linked, owner, services

if TYPE_CHECKING:
    from spatialformer_core.service import Job

KIND = "screen"


def _setup() -> bool:
    slides = services().slides()
    if not slides:
        cards.empty(
            "No slide to screen",
            "Register a slide first, then come back and choose two of its cell types.",
            "science",
        )
        st.page_link("pages/slides.py", label="Register a slide", icon=":material/add_circle:")
        return False
    left, right = st.columns([1.7, 1], gap="large")
    request = None
    with left, st.container(border=True), errors_shown():
        request = screen_form.form(slides)
    with right, st.container(border=True):
        screen_estimate.panel(request)
    return True


def _shown() -> Job | None:
    """Return the screen of the link, else the newest one that is done."""
    ended = [job for job in progress.jobs_of(KIND) if job.is_ended]
    wanted = linked("screen")
    if wanted:
        return services().job(wanted, owner())
    done = [job for job in ended if job.status == "done"]
    return done[0] if done else None


def _history(chosen: str | None) -> None:
    ended = [job for job in progress.jobs_of(KIND) if job.is_ended]
    if not ended:
        return
    with st.expander(f"Previous screens ({len(ended)})", icon=":material/history:"):
        asked = progress.table_of(ended, title, chosen)
        if asked:
            link("screen", asked)
            st.rerun()


def _results() -> None:
    job = _shown()
    if job is None:
        return
    if not job.is_ended:
        return
    if job.status == "done":
        st.subheader(title(job), anchor=False)
        screen_view.view(services().screen_result(job.id, owner()), job.id)
    else:
        progress.failure(job, title(job))


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Perturbation",
        "Take two genes out of neighbouring cells and see whether the model still expects contact.",
    )
    with errors_shown():
        if not _setup():
            return
        progress.active_jobs(KIND, title)
        _history(linked("screen"))
        _results()


main()
