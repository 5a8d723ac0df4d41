"""The permutation null: exact expectations, no false alarm, planted pairs found."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from spatialformer_core.cooccurrence import CooccurrenceSettings, Molecules, permuted_pairs
from spatialformer_core.errors import SpatialFormerError

A, B, C = range(3)
TWO_COPIES = CooccurrenceSettings(min_copies=2)


def molecules(
    clusters: np.ndarray,
    gene: np.ndarray,
    indptr: np.ndarray,
    n_genes: int = 14,
    compartment: np.ndarray | None = None,
) -> Molecules:
    """Return transcripts whose communities are the given clusters, 50 um apart."""
    place = np.random.default_rng(len(gene)).uniform(0, 1, (len(gene), 2))
    xy = np.stack([50.0 * clusters, 0 * clusters], 1) + place
    return Molecules(xy, gene, indptr, n_genes, compartment)


def test_expectation_matches_all_permutations() -> None:
    # One cell: communities of 4 and 3 transcripts, 2 copies are asked for.
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    gene = np.array([A, A, B, B, A, B, C])
    p = brute_force(labels, gene, np.zeros(7, int))
    cell = molecules(labels, gene, np.array([0, 7]), 3)
    null = permuted_pairs(cell, TWO_COPIES, n_permutations=20_000)
    assert (null.left.tolist(), null.right.tolist()) == ([A], [B])
    assert null.observed.tolist() == [1]
    assert null.expected[0] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000))
    assert null.sd[0] == pytest.approx(np.sqrt(p * (1 - p)), rel=0.02)
    assert null.share[0] == pytest.approx(null.expected[0], rel=1e-6)
    # One cell is too few for a normal approximation.
    assert np.isnan(null.z[0])


def brute_force(labels: np.ndarray, gene: np.ndarray, compartment: np.ndarray) -> float:
    """Return in which share of all permutations within compartments A and B co-occur."""
    hits, total = 0, 0
    for order in permutations(range(len(gene))):
        if (compartment[list(order)] != compartment).any():
            continue
        shuffled = gene[list(order)]
        total += 1
        hits += any(
            (shuffled[labels == c] == A).sum() >= 2 and (shuffled[labels == c] == B).sum() >= 2
            for c in (0, 1)
        )
    return hits / total


def test_within_compartments_it_matches_all_permutations_too() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    gene = np.array([A, A, B, C, B, A, B, C])
    # Compartments cut through the communities.
    compartment = np.array([1, 1, 1, 1, 0, 1, 0, 0])
    p = brute_force(labels, gene, compartment)
    assert abs(p - brute_force(labels, gene, np.zeros(8, int))) > 0.05
    cell = molecules(labels, gene, np.array([0, 8]), 3, compartment)
    null = permuted_pairs(cell, TWO_COPIES, n_permutations=20_000)
    assert null.expected[0] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000))


def nuclear_cells(n: int, seed: int, *, planted: bool) -> Molecules:
    """Return cells whose nucleus is one community and whose cytoplasm another two.

    A and B are nuclear genes; C and 13 lie in the cytoplasm, planted: in the same community.
    """
    rng = np.random.default_rng(seed)
    clusters = np.tile(np.repeat([0, 1, 2], 20), n)
    gene = np.empty((n, 60), np.int64)
    for cell in range(n):
        gene[cell, :20] = rng.permutation([A] * 5 + [B] * 5 + rng.integers(3, 8, 10).tolist())
        outside = [C] * 5 + [13] * 5
        rest = rng.integers(8, 13, 30).tolist()
        gene[cell, 20:] = (
            outside + rng.permutation(rest).tolist() if planted else rng.permutation(outside + rest)
        )
    compartment = np.tile(np.repeat([1, 0, 0], 20), n)
    return molecules(clusters, gene.ravel(), np.arange(0, 60 * n + 1, 60), 14, compartment)


def z_of(null: object, left: int, right: int) -> tuple[int, float, float]:
    (row,) = np.flatnonzero((null.left == left) & (null.right == right))  # type: ignore[attr-defined]
    return null.observed[row], null.expected[row], null.z[row]  # type: ignore[attr-defined]


def test_sharing_the_nucleus_is_explained_within_compartments_only() -> None:
    cells = nuclear_cells(60, 0, planted=True)
    anywhere = Molecules(cells.xyz_um, cells.gene, cells.indptr, cells.n_genes)
    plain, within = permuted_pairs(anywhere), permuted_pairs(cells)
    observed, _, z = z_of(plain, A, B)
    assert observed == 60
    assert z > 10
    # The nucleus is one community, so both nuclear genes are in it whatever is permuted there.
    assert z_of(within, A, B)[:2] == (60, 60.0)
    # A pair planted inside the cytoplasm stands out from both.
    assert z_of(plain, C, 13)[2] > 10
    assert z_of(within, C, 13)[2] > 5
    control = permuted_pairs(nuclear_cells(60, 1, planted=False))
    assert abs(z_of(control, C, 13)[2]) < 3


def cells(n: int, seed: int, *, planted: bool) -> Molecules:
    """Return cells of two communities of 15; 4 copies of A and of B, apart or together."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat([0, 1], 15), n)
    gene = np.empty((n, 30), np.int32)
    for cell in range(n):
        others = rng.integers(2, 14, 22)
        if planted:
            gene[cell] = [A] * 4 + [B] * 4 + others.tolist()
        else:
            gene[cell] = rng.permutation([A] * 4 + [B] * 4 + others.tolist())
    return molecules(labels, gene.ravel(), np.arange(0, 30 * n + 1, 30))


def test_planted_pair_stands_out_and_random_ones_do_not() -> None:
    found = permuted_pairs(cells(150, 0, planted=True))
    observed, _, z = z_of(found, A, B)
    assert observed == 150
    assert z > 10
    null = [permuted_pairs(cells(150, seed, planted=False), seed=seed) for seed in range(20)]
    z = [z_of(one, A, B)[2] for one in null]
    assert abs(np.mean(z)) < 0.8
    assert 0.5 < np.std(z) < 1.6


def test_streams_depend_on_nothing_but_the_cell() -> None:
    some = cells(30, 1, planted=False)
    whole = permuted_pairs(some, seed=3)
    rng = np.random.default_rng(0)
    # Cells, transcripts within cells and names of genes in another order.
    order = rng.permutation(30)
    rows = np.concatenate([30 * cell + rng.permutation(30) for cell in order])
    names = rng.permutation(14)
    turned = some.xyz_um[rows][:, ::-1] * [1, -1]
    again = permuted_pairs(Molecules(turned, names[some.gene[rows]], some.indptr, 14), seed=3)
    low, high = (
        np.minimum(names[whole.left], names[whole.right]),
        np.maximum(names[whole.left], names[whole.right]),
    )
    sort = np.lexsort((high, low))
    assert (low[sort].tolist(), high[sort].tolist()) == (again.left.tolist(), again.right.tolist())
    for name in ("observed", "expected", "sd"):
        assert getattr(whole, name)[sort].tolist() == getattr(again, name).tolist()
    last = permuted_pairs(
        Molecules(some.xyz_um, some.gene, some.indptr, 14, cells=np.array([29])), seed=3
    )
    start = whole.pairs.indptr[-2]
    assert last.share.tolist() == whole.share[start:].tolist()
    assert permuted_pairs(some, seed=4).expected.tolist() != whole.expected.tolist()


def test_sums_do_not_depend_on_threads_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    some = nuclear_cells(40, 2, planted=False)
    results = []
    for threads, size, apart in ((1, 100_000, 32), (4, 100, 1), (3, 777, 3)):
        monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", threads)
        monkeypatch.setattr("spatialformer_core.cooccurrence.runs._RUN_TRANSCRIPTS", size)
        monkeypatch.setattr("spatialformer_core.cooccurrence.null._KEPT_APART", apart)
        null = permuted_pairs(some, CooccurrenceSettings(n_seeds=3), n_permutations=5)
        parts = (null.left, null.right, null.observed, null.expected, null.sd, null.share)
        results.append([part.tobytes() for part in parts])
    assert results[0] == results[1] == results[2]


def test_shares_belong_to_their_cell() -> None:
    # Cell 0: one community, so every permutation gives A-B. Cell 1: never, B has two copies.
    labels = np.zeros(12, int)
    gene = np.array([A, A, A, B, B, B, A, A, A, A, B, B], np.int32)
    null = permuted_pairs(molecules(labels, gene, np.array([0, 6, 12]), 2))
    assert null.pairs.indptr.tolist() == [0, 1, 1]
    assert null.share.tolist() == [1.0]
    assert null.expected.tolist() == [1.0]
    assert np.isnan(null.z).tolist() == [True]


def test_nothing_in_nothing_out() -> None:
    none = molecules(np.zeros(0), np.zeros(0, np.int32), np.array([0, 0]), 3)
    null = permuted_pairs(none)
    assert len(null.left) == len(null.share) == 0
    with pytest.raises(SpatialFormerError, match="permutations"):
        permuted_pairs(none, n_permutations=1)
