"""Thresholds and counts, by hand."""

from __future__ import annotations

import numpy as np

from spatialformer_core.config import QcThresholds
from spatialformer_core.slides import thresholds


def test_both_limits_must_be_reached() -> None:
    qc = QcThresholds(min_transcripts=30, min_genes=10)
    n_transcripts, n_genes = np.array([30, 29, 500, 30]), np.array([10, 10, 9, 11])
    passes = thresholds.passing_cells(n_transcripts, n_genes, qc)
    assert passes.tolist() == [True, False, False, True]


def test_quality_limit_is_inclusive_and_nan_fails() -> None:
    qv = np.array([20.0, 19.99, np.nan, 40], np.float32)
    assert thresholds.passing_quality(qv, 4, 20.0).tolist() == [True, False, False, True]
    assert thresholds.passing_quality(None, 3, 20.0).all()


def test_retention_counts_unlabelled_cells_last() -> None:
    codes, passes = np.array([0, 0, 1, -1]), np.array([True, False, True, True])
    found = thresholds.retention(codes, ["a", "b", "c"], passes)
    assert found == {"a": (2, 1), "b": (1, 1), "c": (0, 0), "(no label)": (1, 1)}
    assert list(thresholds.retention(codes[:3], ["a", "b"], passes[:3])) == ["a", "b"]


def test_mismatch_by_hand() -> None:
    found = thresholds.mismatch(np.array([10, 20, 0, 4]), np.array([10, 30, 5, 8]))
    assert found["cells_equal"] == 0.25
    assert found["median_ratio"] == 1.5
    assert found["matrix_counts"] == 34
    assert found["assigned_transcripts"] == 53
    assert thresholds.mismatch(np.zeros(3, int), np.arange(3))["correlation"] == 0
