"""Differential gene pairs: which co-occurring pairs differ between groups of cells."""

from spatialformer_core.gene_pairs.cells import Grouping, PairCells, join_cells
from spatialformer_core.gene_pairs.compare import (
    Contrast,
    GenePairResult,
    compare_groups,
    planned_units,
)
from spatialformer_core.gene_pairs.report import COLUMNS, read_result, write_result
from spatialformer_core.gene_pairs.settings import GenePairSettings

__all__ = [
    "COLUMNS",
    "Contrast",
    "GenePairResult",
    "GenePairSettings",
    "Grouping",
    "PairCells",
    "compare_groups",
    "join_cells",
    "planned_units",
    "read_result",
    "write_result",
]
