"""Cells x pairs: brute force, joins by name, variable pairs, expression of the two genes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from spatialformer_core.arrays import GenePairs
from spatialformer_core.cooccurrence import (
    LEVELS,
    both_genes,
    copy_tables,
    join_matrices,
    named_matrix,
    pair_matrix,
    pair_name,
    variability,
    variable_pairs,
)
from spatialformer_core.errors import SpatialFormerError


def gene_pairs(cells, genes):
    """``GenePairs`` of one set of unordered gene-name pairs per cell."""
    rows = [
        sorted(tuple(sorted((genes.index(a), genes.index(b)))) for a, b in cell) for cell in cells
    ]
    indptr = np.cumsum([0, *map(len, rows)])
    flat = np.array([pair for row in rows for pair in row], np.int32).reshape(-1, 2)
    return GenePairs(indptr.astype(np.int64), flat[:, 0], flat[:, 1])


def as_sets(matrix):
    names = np.array(matrix.names, dtype=object)
    return [set(names[row.indices]) for row in matrix.presence]


GENES = ["B", "D", "A", "C"]
some_cells = st.lists(
    st.sets(st.sampled_from([(a, b) for i, a in enumerate(GENES) for b in GENES[i + 1 :]])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(some_cells, st.permutations(GENES))
def test_matrix_is_the_sets_of_pairs_whatever_the_order_of_the_panel(cells, genes):
    matrix = pair_matrix(gene_pairs(cells, genes), genes)
    expected = [{pair_name(a, b) for a, b in cell} for cell in cells]
    assert as_sets(matrix) == expected
    assert matrix.n_cells == len(cells)  # cells without any pair stay
    assert matrix.names == tuple(sorted(set().union(*expected)))
    assert matrix.presence.dtype == np.bool_
    again = named_matrix(matrix.presence[:, ::-1], matrix.names[::-1], genes)
    assert again.names == matrix.names
    assert (again.presence != matrix.presence).nnz == 0


def test_slides_are_joined_by_name_and_missing_genes_are_not_known():
    one = pair_matrix(gene_pairs([{("A", "B")}, set()], ["B", "A"]), ["B", "A"])
    two = pair_matrix(gene_pairs([{("C", "A")}, {("B", "A")}], list("ABC")), list("ABC"))
    joined = join_matrices([one, two])
    assert joined.names == ("A|B", "A|C")
    assert as_sets(joined) == [{"A|B"}, set(), {"A|C"}, {"A|B"}]
    assert joined.slide.tolist() == [0, 0, 1, 1]
    assert joined.testable.tolist() == [[True, False], [True, True]]
    taken = joined.take_pairs(np.array([1]))
    assert (taken.names, taken.testable.tolist()) == (("A|C",), [[False], [True]])


@pytest.mark.parametrize(
    ("genes", "match"), [(["A", "A"], "there twice"), (["A", "B|C"], "empty or holds")]
)
def test_gene_names_that_cannot_name_pairs(genes, match):
    with pytest.raises(SpatialFormerError, match=match):
        pair_matrix(GenePairs(np.zeros(2, np.int64), *np.zeros((2, 0), np.int32)), genes)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["A|B"], "2 columns"),
        (["A|B", "AB"], "no name of a gene pair"),
        (["A|B", "A|X"], "not among the genes"),
        (["A|B", "B|A"], "pair is there twice"),
    ],
)
def test_names_that_do_not_fit_the_columns(names, match):
    with pytest.raises(SpatialFormerError, match=match):
        named_matrix(sparse.csr_matrix((3, 2), dtype=bool), names, ["A", "B", "C"])


def driven(seed=0, n=3000):
    """20 pairs that follow a hidden state, 20 that follow depth, 20 coin flips; all in 20 %."""
    rng = np.random.default_rng(seed)
    state, depth = rng.random(n) < 0.3, rng.gamma(8.0, 15.0, n)
    by_depth = 0.4 * depth.argsort().argsort() / n
    share = np.column_stack(
        [np.tile(np.where(state, 0.6, 0.03)[:, None], 20), np.tile(by_depth[:, None], 20)]
    )
    share = np.column_stack([share, np.full((n, 20), 0.2)])
    present = rng.random(share.shape) < share
    genes = [f"G{i:02d}" for i in range(12)]
    names = [f"{a}|{b}" for i, a in enumerate(genes) for b in genes[i + 1 :]][:60]
    return sparse.csr_matrix(present), names, genes, depth


def test_variable_pairs_follow_a_state_and_not_depth_or_chance():
    present, names, genes, depth = driven()
    matrix = named_matrix(present, names, genes)
    chosen, scores = variable_pairs(matrix, depth, top=20)
    assert {matrix.names[i] for i in chosen} == set(names[:20])
    assert scores.min() > 0.2
    every = variability(matrix, depth)
    assert np.delete(every, chosen).max() < 0.3 * scores.min()


def test_variability_does_not_depend_on_any_order():
    present, names, genes, depth = driven(1, 800)
    rng = np.random.default_rng(2)
    cells, columns = rng.permutation(800), rng.permutation(60)
    first = variability(named_matrix(present, names, genes), depth)
    shuffled = named_matrix(present[cells][:, columns], [names[i] for i in columns], genes[::-1])
    np.testing.assert_allclose(variability(shuffled, depth[cells]), first, atol=2e-9)


def test_rare_pairs_are_not_scored_and_few_pairs_are_solved_exactly():
    present = sparse.csr_matrix(np.repeat([[1, 1, 0], [0, 0, 0]], 50, axis=0).astype(bool))
    matrix = named_matrix(present, ["A|B", "A|C", "B|C"], ["A", "B", "C"])
    scores = variability(matrix, np.arange(100.0) % 7)
    np.testing.assert_allclose(scores[:2], 1.0)
    assert np.isnan(scores[2])
    assert variable_pairs(matrix, np.ones(100), min_cells=60)[0].size == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_both_genes_and_correlations_against_loops(seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2.5, (14, 4))
    genes, names = list("ABCD"), ["A|B", "A|D", "B|C"]
    index = np.array([[0, 1], [0, 3], [1, 2]])
    fewer, more = (
        f(counts[:, index[:, 0]], counts[:, index[:, 1]]) for f in (np.minimum, np.maximum)
    )
    close = (fewer >= 3) & (rng.random(fewer.shape) < 0.6)
    matrix = named_matrix(sparse.csr_matrix(close), names, genes)
    found = both_genes(matrix, sparse.csr_matrix(counts))
    got = {
        (c, p): (s, n)
        for c, p, s, n in zip(found.cell, found.pair, found.stratum, found.close, strict=True)
    }
    expected = {}
    for cell, pair in zip(*np.nonzero(fewer >= 3), strict=True):
        few = sum(fewer[cell, pair] >= cut for cut in (4, 5, 6, 8))
        expected[cell, pair] = (2 * few + (more[cell, pair] >= 8), close[cell, pair])
    assert got == expected
    for value, name in (
        (fewer, "r_min"),
        (counts[:, index[:, 0]] + counts[:, index[:, 1]], "r_sum"),
    ):
        for pair in range(3):
            if close[:, pair].std() > 0 and value[:, pair].std() > 0:
                r = np.corrcoef(close[:, pair], value[:, pair])[0, 1]
                assert getattr(found, name)[pair] == pytest.approx(r)
            else:
                assert np.isnan(getattr(found, name)[pair])


def test_cells_of_slides_without_a_gene_do_not_enter_the_correlation():
    one = pair_matrix(gene_pairs([{("A", "B")}, set(), set()], ["A", "B"]), ["A", "B"])
    two = pair_matrix(gene_pairs([set(), set()], ["A", "C"]), ["A", "C"])
    counts = sparse.csr_matrix(np.array([[3, 4, 0], [1, 2, 0], [0, 2, 0], [9, 0, 0], [9, 0, 0]]))
    found = both_genes(join_matrices([one, two]), counts)
    assert found.r_sum[0] == pytest.approx(np.corrcoef([1, 0, 0], [7, 3, 2])[0, 1])


def test_copy_tables_count_every_cell_once():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, (200, 3))
    close = (counts[:, :2].min(1) >= 3) & (rng.random(200) < 0.5)
    matrix = named_matrix(sparse.csr_matrix(close[:, None]), ["A|B"], list("ABC"))
    side = rng.integers(-1, 2, 200)
    table = copy_tables(matrix, sparse.csr_matrix(counts), np.array([0]), side)[0]
    assert table.sum() == (side >= 0).sum()
    level = np.searchsorted(LEVELS, counts, side="right") - 1
    for cell in np.flatnonzero(side >= 0)[:20]:
        same = (
            (level[:, :2] == level[cell, :2]).all(1) & (close == close[cell]) & (side == side[cell])
        )
        assert table[level[cell, 0], level[cell, 1], int(close[cell]), side[cell]] == same.sum()
