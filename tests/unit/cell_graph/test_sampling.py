"""Pair sampling: right distances, right distribution, stateless."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spatialformer_core.arrays import BoolArray
from spatialformer_core.cell_graph import (
    EASY,
    HARD,
    POSITIVE,
    PairMatch,
    PairSampler,
    epoch_order,
    far_pairs,
    near_pairs,
    radius_graph,
)
from spatialformer_core.errors import SpatialFormerError


def place(n: int = 1500, seed: int = 0, side: float = 700.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, side, (n, 2)).astype(np.float32)


def apart(xy: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.linalg.norm(xy[left].astype(float) - xy[right], axis=1)


def everyone(n: int) -> BoolArray:
    return np.ones(n, np.bool_)


def test_distances_and_balance() -> None:
    xy = place()
    pairs = PairSampler(radius_graph(xy, 30), xy, everyone(1500)).sample(4000, seed=0)
    distance = apart(xy, pairs.left, pairs.right)
    assert (distance[pairs.kind == POSITIVE] <= 30).all()
    assert (distance[pairs.kind == EASY] > 30).all()
    hard = distance[pairs.kind == HARD]
    assert hard.min() >= 80
    assert hard.max() <= 150
    assert np.bincount(pairs.kind).tolist() == [2000, 1000, 1000]
    assert (pairs.label == (pairs.kind == POSITIVE)).all()
    assert (pairs.left != pairs.right).all()


def test_a_pair_depends_on_seed_and_position_only() -> None:
    xy = place()
    sampler = PairSampler(radius_graph(xy, 30), xy, everyone(1500))
    # Three epochs, so that the permutation changes on the way.
    n = 3 * len(sampler.anchors) * 4
    whole = sampler.sample(n, seed=7)
    for start, size in ((0, 1), (5, 130), (n // 2 - 3, 777), (n - 10, 10)):
        part = sampler.sample(size, seed=7, position=start)
        assert part.left.tolist() == whole.left[start : start + size].tolist()
        assert part.right.tolist() == whole.right[start : start + size].tolist()
        assert part.kind.tolist() == whole.kind[start : start + size].tolist()
    assert sampler.sample(200, seed=8).left.tolist() != whole.left[:200].tolist()


def test_each_kind_is_drawn_uniformly() -> None:
    # One anchor in the middle: everything else is its neighbour, its ring, or far away.
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 90)
    radius = np.concatenate(
        [rng.uniform(3, 29, 30), rng.uniform(81, 149, 30), rng.uniform(200, 400, 30)]
    )
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    xy = np.concatenate([[[0.0, 0.0]], ring])
    sampler = PairSampler(radius_graph(xy, 30), xy, everyone(91))
    n = 30_000
    for kind, expected in ((POSITIVE, 30), (HARD, 30), (EASY, 60)):
        jobs = (np.zeros(n, np.int32), np.arange(n), np.full(n, kind, np.int8))
        pairs = sampler.draw(*jobs, seed=3)
        other = np.where(pairs.left == 0, pairs.right, pairs.left)
        counts = np.bincount(other, minlength=91)
        drawn = counts[counts > 0]
        assert len(drawn) == expected
        assert stats.chisquare(drawn).pvalue > 1e-4
        # The anchor stands on either side equally often.
        assert stats.binomtest(int((pairs.left == 0).sum()), n).pvalue > 1e-4


def test_sparse_rings_are_still_drawn_uniformly() -> None:
    # Three cells of the ring among 4,000 that share its bounding square: rejection gives up.
    crowd = np.random.default_rng(0).uniform(-55, 55, (4000, 2))
    xy = np.concatenate([[[0.0, 0.0]], crowd, [[140.0, 0], [0, 140], [-140, 0]]])
    sampler = PairSampler(radius_graph(xy, 30), xy, everyone(len(xy)), kinds=("positive", "hard"))
    n = 3000
    pairs = sampler.draw(np.zeros(n, np.int32), np.arange(n), np.full(n, HARD, np.int8), seed=0)
    other = np.where(pairs.left == 0, pairs.right, pairs.left)
    counts = np.bincount(other, minlength=len(xy))[4001:]
    assert counts.sum() == n
    assert stats.chisquare(counts).pvalue > 1e-4


def test_pairs_never_leave_the_given_cells() -> None:
    xy = place()
    inside = xy[:, 0] < 350
    sampler = PairSampler(radius_graph(xy, 30), xy, inside)
    pairs = sampler.sample(3000, seed=0)
    assert inside[pairs.left].all()
    assert inside[pairs.right].all()
    assert sampler.without_neighbour >= 0
    assert inside[sampler.anchors].all()


def test_cells_without_neighbour_or_ring_are_no_anchors() -> None:
    xy = np.array([[0, 0], [10, 0], [100, 0], [1000, 0], [1010, 0], [3000, 0]], float)
    sampler = PairSampler(radius_graph(xy, 30), xy, everyone(6))
    assert sampler.anchors.tolist() == [0, 1]
    assert (sampler.without_neighbour, sampler.without_ring) == (2, 2)
    easy = PairSampler(radius_graph(xy, 30), xy, everyone(6), kinds=("positive", "easy"))
    assert easy.anchors.tolist() == [0, 1, 3, 4]


def test_impossible_requests_are_refused() -> None:
    xy = place(50, side=15.0)
    graph = radius_graph(xy, 30)
    with pytest.raises(SpatialFormerError, match="none has both"):
        PairSampler(graph, xy, everyone(50))
    crowded = PairSampler(graph, xy, everyone(50), kinds=("positive", "easy"))
    with pytest.raises(SpatialFormerError, match="within the radius"):
        crowded.sample(4, seed=0)
    with pytest.raises(SpatialFormerError, match="Kinds"):
        PairSampler(graph, xy, everyone(50), kinds=("positive", "nearby"))  # type: ignore[arg-type]
    with pytest.raises(SpatialFormerError, match="outside the neighbour"):
        PairSampler(graph, xy, everyone(50), hard_um=(20, 150))
    with pytest.raises(SpatialFormerError, match="mask"):
        PairSampler(graph, xy, np.ones(50, np.int8))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 3, 17, 4096, 10_007])
def test_an_epoch_is_a_permutation(n: int) -> None:
    index = np.arange(n)
    order = epoch_order(index, n, seed=5)
    assert sorted(order.tolist()) == index.tolist()
    if n > 100:
        assert epoch_order(index, n, seed=5, epoch=1).tolist() != order.tolist()
        assert epoch_order(index, n, seed=6).tolist() != order.tolist()
        assert abs(np.corrcoef(index, order)[0, 1]) < 0.05
        assert epoch_order(index[50:60], n, seed=5).tolist() == order[50:60].tolist()
    with pytest.raises(SpatialFormerError):
        epoch_order(np.array([n]), n, seed=0)


def test_far_pairs_have_types_distance_and_no_repeats() -> None:
    xy = place()
    kind = np.random.default_rng(0).integers(0, 3, 1500)
    left, right = far_pairs(xy, kind == 0, kind == 1, n=2000, seed=0)
    assert len(left) > 1500
    assert (kind[left] == 0).all()
    assert (kind[right] == 1).all()
    distance = apart(xy, left, right)
    assert ((distance >= 80) & (distance <= 150)).all()
    assert len({(a, b) for a, b in zip(left, right, strict=True)}) == len(left)
    fewer = far_pairs(xy, kind == 0, kind == 1, n=500, seed=0)[0]
    assert left[: len(fewer)].tolist() == fewer.tolist()
    same = far_pairs(xy, kind == 2, kind == 2, n=2000, seed=0)
    assert len({frozenset(pair) for pair in zip(*(s.tolist() for s in same), strict=True)}) == len(
        same[0]
    )


def test_matched_far_pairs_resemble_the_near_pairs() -> None:
    xy = place(4000, side=1000.0)
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 4000)
    depth = rng.normal(size=4000)
    # Near pairs between the deepest cells only: random far pairs would be far poorer.
    deep = depth > 0.8
    near = near_pairs(radius_graph(xy, 30), (kind == 0) & deep, (kind == 1) & deep)
    covariates = np.stack([depth * 40, np.ones(4000)], 1).astype(np.float32)
    groups = (kind == 0, kind == 1)
    matched = far_pairs(
        xy, *groups, n=len(near[0]), seed=1, match=PairMatch(*near, covariates, candidates=32)
    )
    plain = far_pairs(xy, *groups, n=len(near[0]), seed=1)
    assert len(matched[0]) > 0.9 * len(near[0])
    for side in (0, 1):
        target = depth[near[side]].mean()
        assert abs(depth[matched[side]].mean() - target) < 0.15
        assert abs(depth[plain[side]].mean() - target) > 1.0
        assert (kind[matched[side]] == side).all()
    distance = apart(xy, *matched)
    assert ((distance >= 80) & (distance <= 150)).all()
    # Each far pair keeps one cell of a near pair, either side about equally often.
    kept_left = np.isin(matched[0], near[0]).mean()
    assert 0.4 < kept_left < 0.9


def test_far_pairs_where_there_are_none() -> None:
    xy = np.array([[0, 0], [10, 0], [5000, 0]], float)
    masks = [np.array(m, np.bool_) for m in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0])]
    for right in masks[1:]:
        assert len(far_pairs(xy, masks[0], right, n=5, seed=0)[0]) == 0
    none = np.zeros(0, np.int32)
    match = PairMatch(none, none, np.zeros((3, 1), np.float32))
    assert len(far_pairs(xy, masks[0], masks[1], n=5, seed=0, match=match)[0]) == 0
    with pytest.raises(SpatialFormerError, match="ring"):
        far_pairs(xy, masks[0], masks[1], n=5, seed=0, ring_um=(150, 80))
    with pytest.raises(SpatialFormerError, match="group"):
        far_pairs(xy, masks[0][:2], masks[1], n=5, seed=0)
    one = np.zeros(1, np.int32)
    bad = PairMatch(one, one, np.full((3, 1), np.nan, np.float32))
    with pytest.raises(SpatialFormerError, match="covariate"):
        far_pairs(xy, masks[0], masks[1], n=5, seed=0, match=bad)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    xy = np.random.default_rng(0).uniform(0, 2_500, (90_000, 2))
    results = []
    for threads in (1, 4):
        monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", threads)
        graph = radius_graph(xy, 30.0)
        sampler = PairSampler(graph, xy, np.ones(len(xy), np.bool_))
        results.append((graph, sampler.sample(2_000, seed=1)))
    (one, pairs), (other, others) = results
    assert np.array_equal(one.indptr, other.indptr)
    assert np.array_equal(one.indices, other.indices)
    assert np.array_equal(pairs.right, others.right)
