"""Quality control on plain arrays: what thresholds keep, and where two counts disagree."""

from __future__ import annotations

from spatialformer_core.qc.agreement import GeneAgreement, gene_agreement
from spatialformer_core.qc.retention import (
    RetentionRow,
    ThresholdCurve,
    retention_table,
    threshold_curve,
)

__all__ = [
    "GeneAgreement",
    "RetentionRow",
    "ThresholdCurve",
    "gene_agreement",
    "retention_table",
    "threshold_curve",
]
