"""QC tables against loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.qc import gene_agreement, retention_table, threshold_curve


def test_retention_by_hand() -> None:
    """Five cells: two of A (one passes), two of B (too few genes; too few of both), one without."""
    n_transcripts, n_genes = np.array([40, 29, 90, 5, 99]), np.array([12, 12, 9, 3, 50])
    codes = np.array([0, 0, 1, 1, -1])
    rows = retention_table(
        n_transcripts, n_genes, codes, ["A", "B", "C"], min_transcripts=30, min_genes=10
    )
    assert [(r.category, r.cells_in, r.cells_kept) for r in rows] == [
        ("A", 2, 1),
        ("B", 2, 0),
        ("C", 0, 0),
        ("(no label)", 1, 1),
    ]
    assert [(r.failed_transcripts, r.failed_genes) for r in rows] == [
        (1, 0),
        (1, 2),
        (0, 0),
        (0, 0),
    ]
    assert [r.median_transcripts for r in rows] == [34.5, 47.5, 0, 99]
    assert [r.share_kept for r in rows] == [0.5, 0, 0, 1]


def test_retention_refuses_what_does_not_fit() -> None:
    one = np.ones(3, int)
    with pytest.raises(SpatialFormerError, match="per cell expected"):
        retention_table(one, one, one[:2], ["A", "B"], min_transcripts=1, min_genes=1)
    with pytest.raises(SpatialFormerError, match="no category"):
        retention_table(one, one, one, ["A"], min_transcripts=1, min_genes=1)


def test_threshold_curve_equals_counting() -> None:
    rng = np.random.default_rng(0)
    values, codes = rng.integers(0, 60, 500), rng.integers(-1, 3, 500)
    found = threshold_curve(values, codes, 3, [50, 0, 10, 10, 30, 99])
    assert found.thresholds.tolist() == [0, 10, 30, 50, 99]
    brute = [[np.sum(values[codes == c] >= t) for c in range(3)] for t in found.thresholds]
    assert found.kept.tolist() == brute
    assert np.all(np.diff(found.kept, axis=0) <= 0)


def test_gene_agreement_equals_loops() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.4, (30, 6))
    counts[:, 5] = 0
    recount = np.where(rng.random((30, 6)) < 0.7, counts, rng.poisson(0.6, (30, 6)))
    recount[:, 5] = 0
    gene = np.concatenate([np.repeat(np.arange(6), row) for row in recount])
    indptr = np.concatenate([[0], np.cumsum(recount.sum(1))])
    found = gene_agreement(sparse.csr_matrix(counts), indptr, gene.astype(np.uint16))
    assert found.matrix.tolist() == counts.sum(0).tolist()
    assert found.transcripts.tolist() == recount.sum(0).tolist()
    for g in range(5):
        held = (counts[:, g] > 0) | (recount[:, g] > 0)
        equal = np.mean(counts[held, g] == recount[held, g])
        assert found.entries_equal[g] == pytest.approx(equal)
        assert found.ratio[g] == pytest.approx(recount[:, g].sum() / counts[:, g].sum())
    assert np.isnan(found.entries_equal[5])
    assert np.isnan(found.ratio[5])


def test_gene_agreement_refuses_what_does_not_fit() -> None:
    counts = sparse.csr_matrix(np.ones((2, 2), int))
    with pytest.raises(SpatialFormerError, match="matrix of 2"):
        gene_agreement(counts, np.array([0, 1]), np.array([0]))
    with pytest.raises(SpatialFormerError, match="lacks"):
        gene_agreement(counts, np.array([0, 1, 1]), np.array([7]))
