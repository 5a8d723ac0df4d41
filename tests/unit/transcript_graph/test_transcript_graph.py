"""The 3 um graph against scipy, and the sampler by its promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.transcript_graph import (
    draw_pairs,
    join,
    sample_two_hops,
    transcript_graph,
)
from spatialformer_core.transcript_graph import (
    graph as graph_module,
)


def cloud(n=4000, seed=0, side=60.0):
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(0, side, (n, 2)), rng.uniform(0, 10, n)].astype(np.float32)


def edges_of(found):
    """Edges in the given numbering, as rows ``(smaller, larger)``, sorted."""
    left, right = found.graph.edges()
    pairs = np.sort(np.c_[found.order[left], found.order[right]], axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


def oracle(xyz, radius_um):
    pairs = cKDTree(np.asarray(xyz, np.float64)).query_pairs(radius_um, output_type="ndarray")
    pairs = np.sort(pairs, axis=1).reshape(-1, 2)
    return pairs[np.lexsort(pairs.T[::-1])]


@pytest.mark.parametrize("dims", [2, 3])
def test_edges_are_those_of_scipy(dims):
    xyz = cloud()
    found = transcript_graph(xyz, dims=dims)
    expected = oracle(xyz[:, :dims], 3.0)
    assert len(expected) > 10_000
    np.testing.assert_array_equal(edges_of(found), expected)
    np.testing.assert_array_equal(found.xyz_um[:, :dims], xyz[found.order, :dims])


# Whole quarters: distances of exactly the radius and equal positions occur often.
quarters = st.integers(-40, 40).map(lambda k: k / 4)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=quarters))
def test_edges_are_those_of_scipy_at_exact_distances(xyz):
    expected = oracle(xyz, 3.0) if len(xyz) else np.zeros((0, 2))
    np.testing.assert_array_equal(edges_of(transcript_graph(xyz)), expected)


def test_rows_ascend_and_are_symmetric():
    found = transcript_graph(cloud(2000))
    indptr, indices = found.graph.indptr, found.graph.indices
    row = np.repeat(np.arange(found.n), np.diff(indptr))
    inside = np.diff(row) == 0
    assert (np.diff(indices)[inside] > 0).all()
    forward = np.unique(row * found.n + indices)
    np.testing.assert_array_equal(forward, np.unique(indices.astype(np.int64) * found.n + row))


def test_threads_and_outliers_change_nothing(monkeypatch):
    xyz = cloud(3000)
    expected = transcript_graph(xyz)
    monkeypatch.setattr(graph_module, "_RUN_TRANSCRIPTS", 170)
    cut = transcript_graph(xyz)
    np.testing.assert_array_equal(cut.graph.indices, expected.graph.indices)
    np.testing.assert_array_equal(cut.graph.indptr, expected.graph.indptr)
    far = np.concatenate([xyz, [[1e7, -1e7, 0]]])
    np.testing.assert_array_equal(edges_of(transcript_graph(far)), edges_of(expected))


def test_within_cells_only_edges_of_one_cell_stay():
    xyz, cell = cloud(2000), np.random.default_rng(1).integers(0, 5, 2000)
    every = oracle(xyz, 3.0)
    expected = every[cell[every[:, 0]] == cell[every[:, 1]]]
    assert 0 < len(expected) < len(every) / 3
    np.testing.assert_array_equal(edges_of(transcript_graph(xyz, cell=cell)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius_um": 0.0}, "not positive"),
        ({"dims": 4}, "dimensions"),
        ({"cell": np.zeros(3, int)}, "3 cells"),
        ({"max_edges": 100}, "more than 100 edges"),
    ],
)
def test_what_cannot_be_linked_is_said(change, message):
    with pytest.raises(SpatialFormerError, match=message):
        transcript_graph(cloud(500, side=10.0), **change)


def test_depth_and_positions_are_checked():
    with pytest.raises(SpatialFormerError, match="no z position"):
        transcript_graph(cloud(50)[:, :2], dims=3)
    broken = cloud(50)
    broken[7, 1] = np.nan
    with pytest.raises(SpatialFormerError, match="the first is 7"):
        transcript_graph(broken)


@pytest.fixture(scope="module")
def sparse():
    """A graph in which some transcripts have no neighbour."""
    found = transcript_graph(cloud(600, side=90.0))
    assert (found.graph.degree == 0).any()
    return found


def test_sampled_neighbours_are_neighbours(sparse):
    hops = sample_two_hops(sparse, np.arange(sparse.n), seed=3, fan_out=(6, 4))
    for root in range(0, sparse.n, 7):
        near = set(sparse.graph.neighbors(root).tolist())
        assert set(hops.hop_1[root].tolist()) <= (near or {-1})
        middle = [root, *hops.hop_1[root].tolist()]
        for slot, node in enumerate(middle):
            around = set(sparse.graph.neighbors(node).tolist()) if node >= 0 else set()
            assert set(hops.hop_2[root, slot].tolist()) <= (around or {-1})


def test_a_draw_depends_on_seed_and_root_alone(sparse):
    roots = np.array([5, 90, 5, 17])
    hops = sample_two_hops(sparse, roots, seed=3)
    every = sample_two_hops(sparse, np.arange(sparse.n), seed=3)
    np.testing.assert_array_equal(hops.hop_1, every.hop_1[roots])
    np.testing.assert_array_equal(hops.hop_2, every.hop_2[roots])
    assert (sample_two_hops(sparse, np.arange(sparse.n), seed=4).hop_1 != every.hop_1).any()


def test_neighbours_are_drawn_evenly():
    found = transcript_graph(cloud(300, side=12.0))
    root = int(np.argmax(found.graph.degree))
    near = found.graph.neighbors(root)
    draws = np.concatenate(
        [sample_two_hops(found, np.array([root]), seed=s).hop_1[0] for s in range(3000)]
    )
    counts = np.bincount(draws, minlength=found.n)[near]
    expected = len(draws) / len(near)
    # 99.9 % of chi-square with this many degrees of freedom lie below.
    assert ((counts - expected) ** 2 / expected).sum() < len(near) + 3.3 * np.sqrt(
        2 * len(near)
    ) + 8


def test_pairs_are_neighbours_and_strangers_of_one_slide(sparse):
    both = join([sparse, transcript_graph(cloud(900, seed=4))])
    assert both.n == sparse.n + 900
    pairs = draw_pairs(both, 4000, seed=1)
    assert len(pairs.root) > 3990
    apart = [
        np.linalg.norm(both.xyz_um[pairs.root] - both.xyz_um[other], axis=1)
        for other in (pairs.near, pairs.far)
    ]
    assert apart[0].max() <= 3.0 < apart[1].min()
    for other in (pairs.near, pairs.far):
        np.testing.assert_array_equal(pairs.root < sparse.n, other < sparse.n)
    fewer = draw_pairs(both, 50, seed=1)
    np.testing.assert_array_equal(fewer.far, pairs.far[: len(fewer.far)])


def test_sampling_what_is_not_there():
    found = transcript_graph(cloud(5, side=1e5))
    with pytest.raises(SpatialFormerError, match="No two of 5"):
        draw_pairs(found, 10, seed=0)
    with pytest.raises(SpatialFormerError, match="outside the 5"):
        sample_two_hops(found, np.array([5]), seed=0)
    with pytest.raises(SpatialFormerError, match="draws nothing"):
        sample_two_hops(found, np.array([0]), seed=0, fan_out=(0, 3))
    assert transcript_graph(np.zeros((0, 3))).n == 0
