"""Tokenising: hand-worked ranks, an oracle, invariance."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import Vocabulary, tokenise

META = np.array([5, 6, 7, 8], np.int32)


def vocabulary(medians: list[float]) -> Vocabulary:
    names = tuple(f"g{i:04d}" for i in range(len(medians)))
    return Vocabulary((), names, np.array(medians, np.float32))


def test_hand_worked_cell() -> None:
    v = vocabulary([1.0, 2.0, 4.0, 1.0])
    # values: 2/1, 4/2, 0, 3/1 -> g3 first, then the tie g0 = g1 by id; g2 is not expressed
    tokens, report = tokenise(
        sp.csr_matrix([[2, 4, 0, 3], [0, 0, 0, 0], [0, 0, 9, 0]]), v.gene_ids(v.genes), v, META
    )
    offset = v.gene_offset
    assert tokens.row(0).tolist() == [offset + 3, offset, offset + 1]
    assert tokens.counts[:3].tolist() == [3, 2, 4]
    assert tokens.row(1).tolist() == []
    assert tokens.row(2).tolist() == [offset + 2]
    assert tokens.meta.tolist() == [META.tolist()] * 3
    assert report.empty_cells == 1
    assert report.total_counts == 18


def test_unknown_genes_are_counted() -> None:
    v = vocabulary([1.0, 1.0])
    ids = np.array([v.gene_offset, -1, v.gene_offset + 1, -1], np.int32)
    tokens, report = tokenise(sp.csr_matrix([[1, 5, 2, 0], [0, 1, 0, 1]]), ids, v, META)
    assert tokens.row(0).tolist() == [v.gene_offset + 1, v.gene_offset]
    assert report.unknown_columns.tolist() == [1, 3]
    assert (report.unknown_counts, report.total_counts, report.empty_cells) == (7, 10, 1)


def test_max_genes_keeps_the_highest() -> None:
    v = vocabulary([1.0] * 4)
    counts = sp.csr_matrix([[1, 4, 2, 3], [1, 0, 0, 0]])
    tokens, report = tokenise(counts, v.gene_ids(v.genes), v, META, max_genes=2)
    assert (tokens.row(0) - v.gene_offset).tolist() == [1, 3]
    assert (tokens.row(1) - v.gene_offset).tolist() == [0]
    assert tokens.counts.tolist() == [4, 3, 1]
    assert report.truncated_cells == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_genes=st.integers(1, 60))
def test_oracle_and_column_order(seed: int, n_genes: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.8, (7, n_genes))
    v = vocabulary(list(rng.choice([0.5, 1.0, 2.0, 3.0], n_genes)))
    tokens, _ = tokenise(sp.csr_matrix(counts), v.gene_ids(v.genes), v, META)
    for cell in range(7):
        expressed = np.flatnonzero(counts[cell])
        value = counts[cell, expressed].astype(np.float32) / v.gene_medians[expressed]
        expected = expressed[np.lexsort((expressed, -value))]
        assert (tokens.row(cell) - v.gene_offset).tolist() == expected.tolist()
        inside = slice(tokens.indptr[cell], tokens.indptr[cell + 1])
        assert tokens.counts[inside].tolist() == counts[cell, expected].tolist()
    order = rng.permutation(n_genes)
    again, _ = tokenise(
        sp.csr_matrix(counts[:, order]), v.gene_ids([v.genes[i] for i in order]), v, META
    )
    assert again.tokens.tobytes() == tokens.tokens.tobytes()
    assert again.counts.tobytes() == tokens.counts.tobytes()


def test_sparse_layouts_give_equal_tokens() -> None:
    v = vocabulary([1.0, 2.0, 3.0])
    dense = np.array([[3, 0, 1], [2, 2, 2]])
    ids = v.gene_ids(v.genes)
    expected, _ = tokenise(sp.csr_matrix(dense), ids, v, META)
    halves = sp.csr_matrix(
        (
            np.array([1.0, 1.0, 2.0, 0.0, 2.0, 2.0, 2.0]),
            np.array([2, 0, 0, 1, 2, 1, 0]),
            np.array([0, 4, 7]),
        ),
        shape=(2, 3),
    )  # unsorted columns, a value in two parts, a stored zero
    for matrix in (sp.csc_matrix(dense), sp.coo_matrix(dense), halves, sp.csr_array(dense)):
        tokens, _ = tokenise(matrix, ids, v, META)
        assert tokens.tokens.tolist() == expected.tokens.tolist()
        assert tokens.counts.tolist() == expected.counts.tolist()


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan, np.inf, 1e12])
def test_what_is_no_count_is_refused(value: float) -> None:
    v = vocabulary([1.0, 1.0])
    with pytest.raises(SpatialFormerError, match="no counts"):
        tokenise(sp.csr_matrix(np.array([[value, 1.0]])), v.gene_ids(v.genes), v, META)


def test_other_bad_input_is_refused() -> None:
    v = vocabulary([1.0, 1.0])
    counts = sp.csr_matrix([[1, 2]])
    ids = v.gene_ids(v.genes)
    with pytest.raises(SpatialFormerError, match="same gene"):
        tokenise(counts, ids[[0, 0]], v, META)
    with pytest.raises(SpatialFormerError, match="1 gene ids"):
        tokenise(counts, ids[:1], v, META)
    with pytest.raises(SpatialFormerError, match="outside the vocabulary"):
        tokenise(counts, ids + 1, v, META)
    with pytest.raises(SpatialFormerError, match="shape"):
        tokenise(counts, ids, v, META[:3])
    with pytest.raises(SpatialFormerError, match="max_genes"):
        tokenise(counts, ids, v, META, max_genes=0)
