"""Neighbours against scipy, neighbours' means against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from spatialformer_core.cell_graph import near_pairs, niche_means, radius_graph, restrict
from spatialformer_core.errors import SpatialFormerError


def tissue(n: int = 3000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1500, (12, 2))
    clumps = centres[rng.integers(0, 12, n // 2)] + rng.normal(0, 60, (n // 2, 2))
    return np.concatenate([rng.uniform(0, 1500, (n - n // 2, 2)), clumps]).astype(np.float32)


@pytest.mark.parametrize("radius", [5.0, 30.0, 400.0])
def test_edges_equal_scipy(radius: float) -> None:
    xy = tissue(1200)
    graph = radius_graph(xy, radius)
    expected = cKDTree(xy.astype(float)).query_pairs(radius)
    left, right = graph.edges()
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
    assert len(graph.indices) == 2 * len(expected)
    for cell in range(0, 1200, 37):
        row = graph.neighbors(cell)
        assert (np.diff(row) > 0).all()
        assert cell not in row
        assert all(cell in graph.neighbors(other) for other in row)


def test_the_radius_itself_is_within() -> None:
    # cell 2 lies at 30 um exactly, cell 3 at the same place as cell 0
    xy = np.array([[0, 0], [18, 24], [30, 0], [0, 0], [30.001, -0.5]], np.float32)
    graph = radius_graph(xy, 30.0)
    assert graph.neighbors(0).tolist() == [1, 2, 3]
    assert graph.neighbors(4).tolist() == [1, 2]


def test_ring_leaves_out_the_nearer() -> None:
    xy = tissue(800)
    ring, inner, outer = (
        radius_graph(xy, 80, inner_um=30),
        radius_graph(xy, 30),
        radius_graph(xy, 80),
    )
    assert len(ring.indices) == len(outer.indices) - len(inner.indices)
    for cell in range(0, 800, 19):
        expected = set(outer.neighbors(cell).tolist()) - set(inner.neighbors(cell).tolist())
        assert set(ring.neighbors(cell).tolist()) == expected


def test_only_the_chosen_cells_are_linked() -> None:
    xy = tissue(900)
    chosen = np.random.default_rng(1).random(900) < 0.6
    graph, whole = radius_graph(xy, 30, cells=chosen), radius_graph(xy, 30)
    again = restrict(whole, chosen)
    assert graph.indptr.tolist() == again.indptr.tolist()
    assert graph.indices.tolist() == again.indices.tolist()
    assert (graph.degree[~chosen] == 0).all()


def test_order_place_and_turn_change_nothing() -> None:
    xy = tissue(700).astype(float)
    left, right = radius_graph(xy, 30).edges()
    expected = {frozenset(pair) for pair in zip(left.tolist(), right.tolist(), strict=True)}
    order = np.random.default_rng(0).permutation(700)
    left, right = radius_graph(xy[order], 30).edges()
    assert {
        frozenset((int(order[a]), int(order[b]))) for a, b in zip(left, right, strict=True)
    } == expected
    turn = np.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])
    left, right = radius_graph(xy @ turn.T - 5000.0, 30).edges()
    assert {frozenset(pair) for pair in zip(left.tolist(), right.tolist(), strict=True)} == expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    angle=st.floats(0, 6.3),
    shift=st.tuples(st.floats(-2e4, 2e4), st.floats(-2e4, 2e4)),
    radius=st.floats(2, 120),
)
def test_any_order_place_and_turn_give_the_same_edges(
    seed: int, angle: float, shift: tuple[float, float], radius: float
) -> None:
    xy = tissue(150, seed).astype(float)
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    if (np.abs(apart - radius) < 1e-6).any():
        return  # rounding would decide
    linked = (apart <= radius) & ~np.eye(150, dtype=bool)
    order = np.random.default_rng(seed).permutation(150)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    graph = radius_graph(xy[order] @ turn.T + shift, radius)
    for cell in range(150):
        assert graph.neighbors(cell).tolist() == np.flatnonzero(linked[order[cell]][order]).tolist()


def test_far_outliers_cost_neither_memory_nor_edges() -> None:
    xy = np.concatenate([tissue(500), [[4e6, -3e6], [4e6 + 10, -3e6]]]).astype(np.float32)
    graph = radius_graph(xy, 30)
    assert len(graph.indices) == 2 * len(cKDTree(xy.astype(float)).query_pairs(30.0))
    assert graph.neighbors(500).tolist() == [501]


def test_no_cells_one_cell_all_in_one_place() -> None:
    assert radius_graph(np.zeros((0, 2)), 30).indptr.tolist() == [0]
    assert radius_graph(np.zeros((1, 2)), 30).indptr.tolist() == [0, 0]
    assert radius_graph(np.zeros((4, 2)), 30).degree.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("xy", "radius", "inner"),
    [
        (np.array([[0.0, np.nan]]), 30.0, 0.0),
        (np.zeros((2, 3)), 30.0, 0.0),
        (np.zeros((2, 2)), 0.0, 0.0),
        (np.zeros((2, 2)), np.inf, 0.0),
        (np.zeros((2, 2)), 30.0, 30.0),
    ],
)
def test_bad_input_is_refused(xy: np.ndarray, radius: float, inner: float) -> None:
    with pytest.raises(SpatialFormerError):
        radius_graph(xy, radius, inner_um=inner)


def test_niche_means_match_a_loop() -> None:
    xy = tissue(400)
    graph = radius_graph(xy, 30)
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    means, counts = niche_means(graph, features)
    for cell in range(400):
        near = graph.neighbors(cell)
        expected = features[near].astype(float).mean(0) if len(near) else np.zeros(5)
        np.testing.assert_allclose(means[cell], expected, atol=1e-6)
        assert counts[cell] == len(near)
    assert (counts == 0).any()
    with pytest.raises(SpatialFormerError, match="shape"):
        niche_means(graph, features[:-1])


def test_near_pairs_are_physical_pairs_once_and_oriented() -> None:
    xy = tissue(600)
    graph = radius_graph(xy, 30)
    kind = np.random.default_rng(0).integers(0, 3, 600)
    left, right = near_pairs(graph, kind == 0, kind == 1)
    assert (kind[left] == 0).all()
    assert (kind[right] == 1).all()
    one, two = graph.edges()
    assert len(left) == ((kind[one] + kind[two] == 1) & (kind[one] != kind[two])).sum()
    same_left, same_right = near_pairs(graph, kind == 2, kind == 2)
    assert (same_left < same_right).all()
    assert len(same_left) == ((kind[one] == 2) & (kind[two] == 2)).sum()
