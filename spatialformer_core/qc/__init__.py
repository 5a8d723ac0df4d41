"""Quality control on plain arrays: thresholds, counts that disagree, spillover."""

from __future__ import annotations

from spatialformer_core.qc.agreement import GeneAgreement, gene_agreement
from spatialformer_core.qc.retention import (
    RetentionRow,
    ThresholdCurve,
    retention_table,
    threshold_curve,
)
from spatialformer_core.qc.spillover import (
    SpilloverCells,
    SpilloverSettings,
    SpilloverTable,
    spillover_table,
)
from spatialformer_core.qc.spillover_depth import counts_within, depth_in_cells

__all__ = [
    "GeneAgreement",
    "RetentionRow",
    "SpilloverCells",
    "SpilloverSettings",
    "SpilloverTable",
    "ThresholdCurve",
    "counts_within",
    "depth_in_cells",
    "gene_agreement",
    "retention_table",
    "spillover_table",
    "threshold_curve",
]
