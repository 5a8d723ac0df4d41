"""Which function carries out which kind of job; imported only when a job of that kind runs."""

from __future__ import annotations

import importlib

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobFunction

KINDS: dict[str, tuple[str, str]] = {
    "ingest": ("spatialformer_core.service.ingest", "run_ingest_job"),
    "screen": ("spatialformer_core.service.screen", "run_screen_job"),
    "evaluate": ("spatialformer_core.service.evaluate", "run_evaluate_job"),
    "embed": ("spatialformer_core.service.embed", "run_embed_job"),
    "embedding-groups": ("spatialformer_core.service.embed_files", "run_labels_job"),
    "colocalise": ("spatialformer_core.service.colocalise", "run_colocalise_job"),
    "gene-pairs": ("spatialformer_core.service.gene_pairs", "run_gene_pairs_job"),
    "change": ("spatialformer_core.service.changes", "run_change_job"),
    "convert": ("spatialformer_core.service.model_convert", "run_convert_job"),
    "types": ("spatialformer_core.service.cell_types", "run_types_job"),
    "spillover": ("spatialformer_core.service.spillover", "run_spillover_job"),
}


def resolve(kind: str) -> JobFunction:
    """Return the function ``(params, out, progress, cancel)`` of a job kind.

    Raises
    ------
    SpatialFormerError
        If no such kind exists.
    """
    if kind not in KINDS:
        raise SpatialFormerError(
            f"There is no job kind {kind[:80]!r}; there are: {', '.join(KINDS)}."
        )
    module, name = KINDS[kind]
    function: JobFunction = getattr(importlib.import_module(module), name)
    return function
