"""The suite ``genepairs`` on a stored slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.service.gene_pairs import (
    GenePairRequest,
    run_gene_pairs,
    slide_cells,
    stored_cooccurrence,
)
from spatialformer_core.slides import SlideStore

REPORT, TABLE, RESULT = "report.json", "report.md", "gene_pairs"


class GenePairEvaluation(FrozenModel):
    """What the suite is comparison to do.

    Attributes
    ----------
    gene_pairs
        One slide and its cell types; how co-occurrence is measured and groups are compared.
    draws
        Draws of each kind of groups that mean nothing.
    """

    gene_pairs: GenePairRequest
    draws: int = Field(default=30, ge=2, le=10_000)


def run_gene_pair_evaluation(
    store: SlideStore,
    request: GenePairEvaluation,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Measure the type-I error on a slide and, on a simulated one, what was planted.

    Writes ``report.json``, ``report.md`` and, of a simulated slide, the comparison of its types
    (``gene_pairs/``) into an existing folder.

    Raises
    ------
    SpatialFormerError
        If the slide or its grouping does not exist.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.evaluation.genepairs import markdown, null_rows, planted_rows

    comparison = request.gene_pairs
    slide = store.open(comparison.slide_ids[0])
    rows: list[dict[str, Any]] = []
    if slide.meta.simulated:
        folder = out / RESULT
        folder.mkdir()
        here = staged(progress, 0.0, 0.2)
        found = run_gene_pairs(store, comparison, folder, progress=here, cancel=cancel)
        rows += planted_rows(found.table)
    folder = stored_cooccurrence(slide, comparison.cooccurrence, cancel=cancel)
    cells = slide_cells(slide, folder, np.array(slide.passes_qc))
    rows += null_rows(
        cells,
        request.draws,
        settings=comparison.settings,
        progress=staged(progress, 0.2, 1.0),
        cancel=cancel,
    )
    facts = {"slide_id": slide.meta.slide_id, "simulated": slide.meta.simulated}
    report = {
        "rows": rows,
        "provenance": {**facts, "request": request.model_dump(mode="json")},
    }
    files.write_json(out / REPORT, report)
    with files.atomic_write(out / TABLE, "w") as stream:
        stream.write(markdown(report))
    return report
