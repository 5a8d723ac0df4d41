"""Neighbours: which cells the model would put next to each other, and what the tissue says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pages.ui import cards, neighbour_estimate, neighbour_form, neighbour_view
from pages.ui.result_page import NEIGHBOURS, ask
from pages.ui.session import errors_shown, owner, services
from spatialformer_core.service import model_jobs
from spatialformer_core.service.colocalise_estimate import expression_files

if TYPE_CHECKING:
    from spatialformer_core.service import Job


def _result(job: Job) -> None:
    neighbour_view.view(model_jobs.colocalisation(services(), job.id, owner()), job.id)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Neighbours", "Which cells the model puts next to each other, beside what the tissue says."
    )
    with errors_shown():
        slides = services().slides()
        if not slides and not expression_files(services()):
            cards.no_slide(
                "No cells to ask about",
                "Register a slide first, or put an `.h5ad` file of dissociated cells into an "
                "allowed folder.",
                "hub",
            )
            return
        needed = "Choose cells and a model; numbers and time appear here."
        ask(partial(neighbour_form.form, slides), neighbour_estimate.panel, needed)
        NEIGHBOURS.results(NEIGHBOURS.jobs(), _result)


main()
