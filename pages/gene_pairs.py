"""Gene pairs: which genes sit together in one group of cells and not in another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pages.ui import cards, pair_estimate, pair_form, pair_view
from pages.ui.result_page import GENE_PAIRS, ask
from pages.ui.session import errors_shown, owner, services

if TYPE_CHECKING:
    from spatialformer_core.service import Job


def _result(job: Job) -> None:
    pair_view.view(services().gene_pairs.result(job.id, owner()), job.id)


def main() -> None:
    """Draw the page."""
    cards.heading(
        "Gene pairs", "Genes whose transcripts sit together in some cells, not in others."
    )
    with errors_shown():
        slides = services().slides()
        if not slides:
            cards.no_slide(
                "No slide to compare",
                "Register a slide first, then compare its cell types; several slides let you "
                "compare conditions.",
                "join_inner",
            )
            return
        needed = "Choose what to compare; size, replicates and time appear here."
        ask(partial(pair_form.form, slides), pair_estimate.panel, needed)
        GENE_PAIRS.results(GENE_PAIRS.jobs(), _result)


main()
