"""Perturbation: which gene pairs hold two cell types together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pages.ui import cards, screen_estimate, screen_form, screen_view
from pages.ui.result_page import SCREENS, ask
from pages.ui.session import errors_shown, owner, services

if TYPE_CHECKING:
    from spatialformer_core.service import Job


def _result(job: Job) -> None:
    screen_view.view(services().screen_result(job.id, owner()), job.id)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Perturbation",
        "Take two genes out of neighbouring cells and see whether the model still expects contact.",
    )
    with errors_shown():
        slides = services().slides()
        if not slides:
            cards.no_slide(
                "No slide to screen",
                "Register a slide first, then come back and choose two of its cell types.",
                "science",
            )
            return
        needed = "Choose two cell types and a model; size and time of the screen appear here."
        ask(partial(screen_form.form, slides), screen_estimate.panel, needed)
        SCREENS.results(SCREENS.jobs(), _result)


main()
