"""Which gene pairs the co-occurrence task asks for."""

from __future__ import annotations

import numpy as np

from spatialformer_core.arrays import CellTokens, GenePairs
from spatialformer_core.objectives import sample_gene_pairs


def tissue(seed=0, n=30):
    """Return cells of 2 to 11 genes and random co-occurring places."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 12, n)
    indptr = np.cumsum([0, *lengths])
    tokens = np.concatenate([rng.permutation(40)[:k] + 9 for k in lengths]).astype(np.int32)
    cells = CellTokens(indptr, tokens, np.ones_like(tokens), np.full((n, 4), 5, np.int32))
    rows = []
    for length in lengths:
        every = [(i, j) for i in range(length) for j in range(i + 1, length)]
        rows.append([p for p in every if rng.random() < 0.2])
    flat = np.array([p for row in rows for p in row], np.int32).reshape(-1, 2)
    pairs = GenePairs(np.cumsum([0, *map(len, rows)]), flat[:, 0], flat[:, 1])
    return cells, pairs, {(c, *p) for c, row in enumerate(rows) for p in row}


def triples(sample, wanted):
    chosen = sample.label == wanted
    return [
        (int(c), int(min(a, b)), int(max(a, b)))
        for c, a, b in zip(
            sample.cell[chosen], sample.left[chosen], sample.right[chosen], strict=True
        )
    ]


def test_positives_are_the_co_occurring_pairs_and_negatives_never_are():
    cells, pairs, truth = tissue()
    sample = sample_gene_pairs(cells, pairs, (1, 2))
    assert set(triples(sample, 1.0)) == truth
    negatives = triples(sample, 0.0)
    assert len(negatives) == len(truth)
    assert not set(negatives) & truth
    assert all(0 <= a < b < cells.lengths[c] for c, a, b in negatives)


def two_cells(indptr):
    """Return cells of 3 and of 10 genes; the first two genes co-occur where ``indptr`` says."""
    tokens = np.arange(9, 22, dtype=np.int32)
    cells = CellTokens(np.array([0, 3, 13]), tokens, tokens, np.full((2, 4), 5, np.int32))
    n = indptr[-1]
    pairs = GenePairs(np.array(indptr), np.zeros(n, np.int32), np.ones(n, np.int32))
    return cells, pairs


def test_negatives_fall_on_cells_in_proportion_to_their_pairs():
    cells, pairs = two_cells([0, 1, 2])
    cell = np.array([sample_gene_pairs(cells, pairs, (s,)).cell[2:] for s in range(600)])
    # Free pairs: 2 in the first cell, 44 in the second; 1,200 draws give about 52.
    assert 25 < np.sum(cell == 0) < 85


def test_a_cell_without_any_pair_is_not_asked():
    cells, pairs = two_cells([0, 1, 1])
    cell = [sample_gene_pairs(cells, pairs, (s,)).cell for s in range(50)]
    assert set(np.concatenate(cell).tolist()) == {0}


def test_the_sample_is_seeded_and_capped():
    cells, pairs, _ = tissue()
    one = sample_gene_pairs(cells, pairs, (5,), max_positives=7)
    two = sample_gene_pairs(cells, pairs, (5,), max_positives=7)
    assert one.label.sum() == 7
    np.testing.assert_array_equal(one.left, two.left)
    assert triples(one, 0.0) != triples(sample_gene_pairs(cells, pairs, (6,), 7), 0.0)


def test_cells_without_pairs_give_an_empty_sample():
    cells, _, _ = tissue(n=3)
    nothing = GenePairs(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert len(sample_gene_pairs(cells, nothing, (0,)).label) == 0


def test_where_every_pair_co_occurs_there_is_no_negative():
    tokens = np.array([9, 10], np.int32)
    cells = CellTokens(np.array([0, 2]), tokens, tokens, np.full((1, 4), 5, np.int32))
    pairs = GenePairs(np.array([0, 1]), np.array([0], np.int32), np.array([1], np.int32))
    assert sample_gene_pairs(cells, pairs, (0,)).label.tolist() == [1.0]
