"""Jobs: what waits, what runs, what it left behind."""

from __future__ import annotations

from pages.ui import cards, job_view, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown


def main() -> None:
    """Draw the page."""
    cards.heading("Jobs", "Your long steps: their place in the queue, progress, log and files.")
    with errors_shown():
        jobs = progress.jobs_of(None)
        if not jobs:
            cards.no_slide(
                "No job yet",
                "Register a slide or start a screen; it runs here while you do something else, "
                "also when this page is closed.",
                "pending_actions",
            )
            return
        job_view.numbers(jobs)
        progress.active_jobs(None, title)
        job_view.list_all(jobs)
        chosen = job_view.choose(jobs)
        if chosen:
            job_view.details(chosen)


main()
