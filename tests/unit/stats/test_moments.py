"""Streaming moments: equal to numpy, however the values arrive."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import Moments


def stream(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = 5000
    # A large offset is where naive sums of squares fail.
    return rng.integers(0, 3, n), rng.integers(0, 7, n), rng.normal(1e6, 1.0, n)


def filled(unit: np.ndarray, column: np.ndarray, value: np.ndarray) -> Moments:
    moments = Moments(3, 7)
    for u in range(3):
        moments.update(u, column[unit == u], value[unit == u])
    return moments


def test_moments_match_numpy() -> None:
    unit, column, value = stream(0)
    moments = filled(unit, column, value)
    for u in range(3):
        for c in range(7):
            here = value[(unit == u) & (column == c)]
            assert moments.count[u, c] == len(here)
            assert moments.mean[u, c] == pytest.approx(here.mean(), rel=1e-12)
            assert moments.variance[u, c] == pytest.approx(here.var(ddof=1), rel=1e-8)
    count, mean = moments.pooled()
    assert count.sum() == 5000
    np.testing.assert_allclose(mean, [value[column == c].mean() for c in range(7)], rtol=1e-12)
    assert moments.pooled([1])[0].tolist() == moments.count[1].tolist()


def test_shards_merge_to_the_whole() -> None:
    parts = stream(1)
    whole = filled(*parts)
    merged = Moments(3, 7)
    for start in range(0, 5000, 700):
        merged.merge(filled(*(part[start : start + 700] for part in parts)))
    assert merged.count.tolist() == whole.count.tolist()
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.variance, whole.variance, rtol=1e-8)


def test_nothing_seen_and_nan() -> None:
    moments = Moments(2, 2)
    moments.update(0, np.array([0, 0]), np.array([np.nan, 2.0]))
    assert moments.count.tolist() == [[1, 0], [0, 0]]
    assert np.isnan(moments.variance).all()
    np.testing.assert_array_equal(moments.unit_means(), [[2.0, np.nan], [np.nan, np.nan]])
    assert np.isnan(moments.unit_means(min_count=2)).all()
    moments.merge(Moments(2, 2))
    assert moments.mean[0, 0] == 2.0
    assert np.isnan(moments.pooled()[1][1])


def test_read_only_and_narrow_input() -> None:
    moments = Moments(1, 3)
    columns, values = np.array([2, 2], np.int32), np.array([1.0, 3.0], np.float32)
    values.setflags(write=False)
    moments.update(0, columns, values)
    assert moments.mean[0].tolist() == [0.0, 0.0, 2.0]


def test_bad_updates_are_refused() -> None:
    moments = Moments(1, 3)
    for unit, columns, values in (
        (1, [0], [1.0]),
        (-1, [0], [1.0]),
        (0, [3], [1.0]),
        (0, [-1], [1.0]),
        (0, [0, 1], [1.0]),
        (0, [0], [np.inf]),
    ):
        with pytest.raises(SpatialFormerError):
            moments.update(unit, np.array(columns), np.array(values))
    assert moments.count.sum() == 0
    with pytest.raises(SpatialFormerError, match="merged"):
        moments.merge(Moments(2, 3))
    with pytest.raises(SpatialFormerError):
        Moments(0, 3)
