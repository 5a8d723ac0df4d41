from __future__ import annotations

import numpy as np

from spatialformer_core.arrays import CellTokens, Graph


def _cells() -> CellTokens:
    return CellTokens(
        indptr=np.array([0, 3, 3, 5]),
        tokens=np.array([7, 8, 9, 5, 6], np.int32),
        counts=np.array([3, 2, 1, 9, 4], np.int32),
        meta=np.arange(12, dtype=np.int32).reshape(3, 4),
    )


def test_take_repeats_and_reorders_rows() -> None:
    taken = _cells().take(np.array([2, 0, 1, 2]))
    assert [taken.row(i).tolist() for i in range(4)] == [[5, 6], [7, 8, 9], [], [5, 6]]
    assert taken.counts.tolist() == [9, 4, 3, 2, 1, 9, 4]
    assert taken.meta[:, 0].tolist() == [8, 0, 4, 8]


def test_without_removes_one_token_a_row() -> None:
    left = _cells().without(np.array([1, -1, 0]))
    assert [left.row(i).tolist() for i in range(3)] == [[7, 9], [], [6]]
    assert left.counts.tolist() == [3, 1, 4]


def test_graph_lists_each_edge_once() -> None:
    #  0 - 1
    #   \ /
    #    2   3
    graph = Graph(np.array([0, 2, 4, 6, 6]), np.array([1, 2, 0, 2, 0, 1], np.int32))
    left, right = graph.edges()
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert graph.degree.tolist() == [2, 2, 2, 0]
    assert graph.neighbors(3).tolist() == []
