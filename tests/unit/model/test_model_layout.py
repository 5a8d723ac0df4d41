"""The packed layout, on worked sequences."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.arrays import CellTokens
from spatialformer_core.model.layout import lay_out, magnitude_bins, pack

META = [5, 6, 7, 8]


def cells(*rows: list[int], counts: list[list[int]] | None = None) -> CellTokens:
    lengths = [len(row) for row in rows]
    flat = np.array([t for row in rows for t in row], np.int32)
    n = np.ones_like(flat) if counts is None else np.concatenate(counts).astype(np.int32)
    return CellTokens(np.cumsum([0, *lengths]), flat, n, np.array([META] * len(rows), np.int32))


def test_a_single_cell_is_cls_meta_genes_sep():
    rows = lay_out(cells([20, 30], [10]))
    # Shorter first; CLS=1, SEP=3.
    assert rows.tokens.tolist() == [1, *META, 10, 3, 1, *META, 20, 30, 3]
    assert set(rows.segments.tolist()) == {1}
    assert rows.order.tolist() == [1, 0]
    assert rows.first_gene.tolist() == [[12], [5]]


def test_a_pair_repeats_the_meta_tokens_and_changes_segment():
    rows = lay_out(cells([20, 30]), cells([40]))
    assert rows.tokens.tolist() == [1, *META, 20, 30, 3, *META, 40, 3]
    assert rows.segments.tolist() == [1] * 8 + [2] * 6
    assert rows.first_gene.tolist() == [[5, 12]]


def test_magnitudes_follow_the_counts_of_genes_only():
    rows = lay_out(cells([20, 30], counts=[[6, 1]]), n_bins=10)
    assert rows.magnitudes.tolist() == [0] * 5 + [6, 1, 0]
    assert lay_out(cells([20, 30], counts=[[6, 1]])).magnitudes.tolist() == [0] * 8


def test_magnitude_bins_are_half_octaves_with_a_last_open_bin():
    counts = np.array([1, 2, 3, 4, 6, 8, 10_000])
    assert magnitude_bins(counts, 10).tolist() == [1, 3, 4, 5, 6, 7, 10]
    assert magnitude_bins(counts, 0).tolist() == [0] * 7


def test_groups_cover_every_row_once_and_pad_little():
    rng = np.random.default_rng(0)
    batch = cells(*[[9] * n for n in rng.integers(0, 80, 300)])
    rows = lay_out(batch)
    packed = pack(rows, 17)
    assert [g.start for g in packed.groups[1:]] == [g.stop for g in packed.groups[:-1]]
    assert packed.groups[0].start == 0
    assert packed.groups[-1].stop == len(rows.tokens)
    assert sum(g.n for g in packed.groups) == 300
    assert sum(g.n * g.length for g in packed.groups) < 1.12 * len(rows.tokens)


def test_convolution_gaps_keep_sequences_half_a_kernel_apart():
    packed = pack(lay_out(cells([9], [9, 9])), 5)
    # 7 rows, a gap of 2, 8 rows; a gap of 2 before the first.
    assert packed.conv_index.tolist() == [*range(2, 9), *range(11, 19)]


def test_a_cell_without_genes_is_still_a_sequence():
    rows = lay_out(cells([]))
    assert rows.tokens.tolist() == [1, *META, 3]


@pytest.mark.parametrize("right", [None, cells([], [30, 40, 50])])
def test_every_token_arrives(right):
    left = cells([20], [21, 22])
    rows = lay_out(left, right)
    genes = rows.tokens[rows.tokens >= 9]
    expected = [*left.tokens, *([] if right is None else right.tokens)]
    assert sorted(genes.tolist()) == sorted(int(t) for t in expected)
