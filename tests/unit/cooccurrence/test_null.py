"""The permutation null: exact expectations, no false alarm, planted pairs found."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from spatialformer_core.cooccurrence import permuted_pairs
from spatialformer_core.errors import SpatialFormerError

A, B, C = range(3)


def test_expectation_matches_all_permutations() -> None:
    # One cell: communities of 4 and 3 transcripts, 2 copies are asked for.
    labels = np.array([0, 0, 0, 0, 1, 1, 1], np.int32)
    gene = np.array([A, A, B, B, A, B, C], np.int32)
    hits = 0
    total = 0
    for order in permutations(range(7)):
        shuffled = gene[list(order)]
        total += 1
        hits += any(
            (shuffled[labels == c] == A).sum() >= 2 and (shuffled[labels == c] == B).sum() >= 2
            for c in (0, 1)
        )
    null = permuted_pairs(
        labels, gene, np.array([0, 7]), n_genes=3, min_copies=2, n_permutations=20_000
    )
    assert (null.left.tolist(), null.right.tolist()) == ([A], [B])
    assert null.observed.tolist() == [1]
    p = hits / total
    assert null.expected[0] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000))
    assert null.sd[0] == pytest.approx(np.sqrt(p * (1 - p)), rel=0.02)
    assert null.share[0] == pytest.approx(null.expected[0], rel=1e-6)
    # One cell is too few for a normal approximation.
    assert np.isnan(null.z[0])


def cells(n: int, seed: int, *, planted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cells of two communities of 15; 4 copies of A and of B, apart or together."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat([0, 1], 15).astype(np.int32), n)
    gene = np.empty((n, 30), np.int32)
    for cell in range(n):
        others = rng.integers(2, 14, 22)
        if planted:
            gene[cell] = [A] * 4 + [B] * 4 + others.tolist()
        else:
            gene[cell] = rng.permutation([A] * 4 + [B] * 4 + others.tolist())
    return labels, gene.ravel(), np.arange(0, 30 * n + 1, 30)


def test_planted_pair_stands_out_and_random_ones_do_not() -> None:
    found = permuted_pairs(*cells(150, 0, planted=True), n_genes=14)
    index = np.flatnonzero((found.left == A) & (found.right == B))[0]
    assert found.observed[index] == 150
    assert found.z[index] > 10
    z = []
    for seed in range(20):
        null = permuted_pairs(*cells(150, seed, planted=False), n_genes=14, seed=seed)
        z.append(null.z[(null.left == A) & (null.right == B)][0])
    assert abs(np.mean(z)) < 0.8
    assert 0.5 < np.std(z) < 1.6


def test_streams_do_not_depend_on_other_cells_or_on_order() -> None:
    labels, gene, indptr = cells(30, 1, planted=False)
    whole = permuted_pairs(labels, gene, indptr, n_genes=14, seed=3)
    again = permuted_pairs(labels[::-1].copy(), gene[::-1].copy(), indptr, n_genes=14, seed=3)
    np.testing.assert_allclose(again.expected, whole.expected, rtol=1e-12)
    last = permuted_pairs(labels[-30:], gene[-30:], np.array([0, 30]), n_genes=14, seed=3)
    start = whole.pairs.indptr[-2]
    assert last.share.tolist() == whole.share[start:].tolist()
    other = permuted_pairs(labels, gene, indptr, n_genes=14, seed=4)
    assert other.expected.tolist() != whole.expected.tolist()


def test_shares_belong_to_their_cell() -> None:
    # Cell 0: one community, so every permutation gives A-B. Cell 1: never, B has two copies.
    labels = np.zeros(12, np.int32)
    gene = np.array([A, A, A, B, B, B, A, A, A, A, B, B], np.int32)
    null = permuted_pairs(labels, gene, np.array([0, 6, 12]), n_genes=2)
    assert null.pairs.indptr.tolist() == [0, 1, 1]
    assert null.share.tolist() == [1.0]
    assert null.expected.tolist() == [1.0]
    assert np.isnan(null.z).tolist() == [True]


def test_nothing_in_nothing_out() -> None:
    null = permuted_pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.array([0, 0]), n_genes=3)
    assert len(null.left) == len(null.share) == 0
    with pytest.raises(SpatialFormerError, match="permutations"):
        permuted_pairs(
            np.zeros(0, np.int32), np.zeros(0, np.int32), np.array([0]), n_genes=3, n_permutations=1
        )
