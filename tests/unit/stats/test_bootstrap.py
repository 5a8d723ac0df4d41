"""Bootstrap over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import bootstrap_interval, resampled_rows


def test_whole_blocks_are_drawn() -> None:
    blocks = np.array([7, 3, 7, 9, 3, 3])
    members = {7: [0, 2], 3: [1, 4, 5], 9: [3]}
    for rows in resampled_rows(blocks, 30, seed=0):
        names = []
        left = rows.tolist()
        while left:
            name = int(blocks[left[0]])
            names.append(name)
            assert left[: len(members[name])] == members[name]
            left = left[len(members[name]) :]
        assert len(names) == 3


def test_seed_decides_and_more_resamples_only_add() -> None:
    blocks = np.arange(10) // 2
    few = [rows.tolist() for rows in resampled_rows(blocks, 3, seed=1)]
    many = [rows.tolist() for rows in resampled_rows(blocks, 8, seed=1)]
    assert many[:3] == few
    assert few != [rows.tolist() for rows in resampled_rows(blocks, 3, seed=2)]


def test_interval_covers_the_spread_of_blocks_not_of_rows() -> None:
    # 20 blocks of 50 rows that agree within a block: the mean is as sure as 20 values make it.
    rng = np.random.default_rng(0)
    level = rng.normal(size=20)
    values = np.repeat(level, 50) + rng.normal(0, 0.01, 1000)
    blocks = np.repeat(np.arange(20), 50)
    got = bootstrap_interval(lambda rows: float(values[rows].mean()), blocks, n_resamples=600)
    error = level.std(ddof=1) / np.sqrt(20)
    assert got.value == pytest.approx(values.mean())
    assert (got.high - got.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)
    assert got.n_blocks == 20


def test_undefined_and_too_few() -> None:
    one = bootstrap_interval(lambda rows: 1.0, np.zeros(5, int))
    assert (one.value, one.n_blocks) == (1.0, 1)
    assert np.isnan([one.low, one.high]).all()
    blocks = np.arange(4)
    undefined = bootstrap_interval(
        lambda rows: float("nan") if len(set(rows.tolist())) < 4 else 2.0, blocks, n_resamples=200
    )
    assert np.isnan([undefined.low, undefined.high]).all()
    assert undefined.n_undefined > 100
    with pytest.raises(SpatialFormerError, match="no row"):
        bootstrap_interval(lambda rows: 1.0, np.zeros(0, int))
    with pytest.raises(SpatialFormerError, match="level"):
        bootstrap_interval(lambda rows: 1.0, blocks, level=2.0)
