"""Shares per unit, adjusted for strata: by hand, against least squares, and under the null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import (
    UnitCounts,
    VariancePrior,
    adjusted_shares,
    compare_shares,
    enough_seen,
    moderated_two_sample_t,
    odds_ratio,
)


def counts_of(present, unit, side, stratum):
    """`UnitCounts` of cells, ``present`` of shape (cells, features)."""
    n_units, n_strata = unit.max() + 1, stratum.max() + 1
    hits = np.zeros((n_units, 2, n_strata, present.shape[1]))
    cells = np.zeros((n_units, 2, n_strata, 1))
    np.add.at(hits, (unit, side, stratum), present)
    np.add.at(cells, (unit, side, stratum), 1.0)
    return UnitCounts(hits, cells)


def test_worked_by_hand():
    """One unit. Shallow: A 1/4, B 1/8; deep: A 6/8, B 2/4. Gap: shallow 1/8, deep 1/4.

    Weights 4*8/12 in both strata, so the gap is 3/16. Stratum levels (B's):
    shallow (2 - 4*3/16) / 12 = 5/48, deep (8 - 8*3/16) / 12 = 26/48, mean 31/96.
    A: 7/12 - (4*5 + 8*26)/(48*12) + 31/96 = 49/96; B: 3/12 - (8*5 + 4*26)/(48*12) + 31/96 = 31/96.
    """
    hits = np.array([[[1, 6], [1, 2]]], float)[..., None]
    cells = np.array([[[4, 8], [8, 4]]], float)[..., None]
    shares = adjusted_shares(UnitCounts(hits, cells))
    assert shares[0, :, 0] == pytest.approx([49 / 96, 31 / 96])
    assert shares[0, 0, 0] - shares[0, 1, 0] == pytest.approx(3 / 16)
    assert odds_ratio(UnitCounts(hits, cells))[0] == pytest.approx((7.5 / 5.5) / (3.5 / 9.5))


def test_equals_least_squares_over_cells():
    rng = np.random.default_rng(0)
    n = 600
    unit, side, stratum = rng.integers(0, 4, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    present = (rng.random((n, 2)) < (0.2 + 0.2 * stratum + 0.1 * side)[:, None]).astype(float)
    shares = adjusted_shares(counts_of(present, unit, side, stratum))
    design = np.column_stack([side == 0, *(stratum == s for s in range(3))]).astype(float)
    level = np.linalg.lstsq(design, present, rcond=None)[0][1:]
    usual = (np.bincount(stratum) / n) @ level
    for u in range(4):
        for g in range(2):
            here = (unit == u) & (side == g)
            residual = (present[here] - level[stratum[here]]).mean(0)
            np.testing.assert_allclose(shares[u, g], residual + usual)


def test_a_difference_of_depth_alone_vanishes():
    rng = np.random.default_rng(1)
    n = 40_000
    unit, side = rng.integers(0, 8, n), rng.integers(0, 2, n)
    stratum = np.where(rng.random(n) < np.where(side == 0, 0.7, 0.3), 1, 0)
    present = (rng.random((n, 1)) < np.where(stratum, 0.5, 0.1)[:, None]).astype(float)
    counts = counts_of(present, unit, side, stratum)
    raw = counts.hits.sum((0, 2)) / counts.cells.sum((0, 2))
    assert raw[0, 0] - raw[1, 0] > 0.14
    shares = adjusted_shares(counts)
    assert abs((shares[:, 0] - shares[:, 1]).mean()) < 0.015


def test_units_that_are_too_small_are_left_out_and_shapes_checked():
    hits, cells = np.ones((2, 2, 1, 1)), np.array([[5, 5], [5, 4.0]]).reshape(2, 2, 1, 1)
    shares = adjusted_shares(UnitCounts(hits, cells), min_cells=5)
    assert np.isnan(shares[1, 1, 0])
    assert not np.isnan(shares[:, 0]).any()
    with pytest.raises(SpatialFormerError, match="units, 2, strata"):
        UnitCounts(np.ones((2, 3, 1, 1)), cells)


def test_two_samples_without_a_prior_are_the_ordinary_test():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.5, 1, (5, 20)), rng.normal(0, 1, (7, 20))
    ours = moderated_two_sample_t(first, second, prior=VariancePrior(0.0, 0.0))
    theirs = scipy_stats.ttest_ind(first, second)
    np.testing.assert_allclose(ours.t, theirs.statistic)
    np.testing.assert_allclose(ours.p, theirs.pvalue)
    interval = theirs.confidence_interval()
    np.testing.assert_allclose(ours.low, interval.low)
    assert (ours.n == 12).all()
    first[:, 0] = np.nan
    assert np.isnan(moderated_two_sample_t(first, second).p[0])


@pytest.mark.parametrize(("paired", "units"), [(True, 5), (False, 2)])
def test_too_few_units_give_no_p(paired, units):
    shares = np.random.default_rng(3).random((units * (1 if paired else 2), 2, 4))
    if not paired:
        shares[:units, 0] = shares[units:, 1] = np.nan
    enough = np.ones(4, bool)
    test = compare_shares(shares, paired=paired, with_p=True, enough=enough)
    assert np.isnan(test.p).all()
    assert np.isfinite(test.mean).all()
    assert np.isfinite(test.low).all()


def test_a_small_group_that_lacks_a_rare_property_says_nothing():
    cells = np.broadcast_to(np.array([10.0, 1000.0]).reshape(1, 2, 1, 1), (6, 2, 1, 3)).copy()
    hits = np.zeros((6, 2, 1, 3))
    hits[:, 1, 0] = [2, 200, 2]  # expected in the small group: 0.1, 12, 0.1
    hits[:, 0, 0, 2] = 1  # 6 seen
    assert enough_seen(UnitCounts(hits, cells)).tolist() == [False, True, True]
    assert enough_seen(UnitCounts(cells - hits, cells)).tolist() == [False, True, True]
    shares = adjusted_shares(UnitCounts(hits, cells)) + np.random.default_rng(0).normal(
        0, 1e-4, (6, 2, 3)
    )
    test = compare_shares(shares, paired=True, with_p=True, enough=np.array([False, True, True]))
    assert test.p[0] == 1
    assert test.p[1] < 1e-4


def null_rate(seed, units=8, features=400, cells=200):
    """Share of p < .05 where groups differ in nothing but units do differ (overdispersion)."""
    rng = np.random.default_rng(seed)
    base = rng.beta(1.2, 12, features)
    level = np.clip(rng.normal(base, 0.2 * base, (units, features)), 0, 1)
    depth = rng.integers(0, 3, (units, 2, cells))
    hits, size = np.zeros((units, 2, 3, features)), np.zeros((units, 2, 3, 1))
    for s in range(3):
        size[:, :, s, 0] = (depth == s).sum(2)
        share = np.clip(level[:, None] * (0.5 + 0.5 * s), 0, 1)
        hits[:, :, s] = rng.binomial(size[:, :, s].astype(int), share)
    counts = UnitCounts(hits, size)
    share = counts.hits.sum((0, 1, 2)) / counts.cells.sum((0, 1, 2))
    test = compare_shares(
        adjusted_shares(counts),
        paired=True,
        with_p=True,
        enough=enough_seen(counts),
        scale=np.sqrt(share * (1 - share)),
    )
    return float((test.p < 0.05).mean())


def test_under_the_null_five_in_a_hundred():
    assert np.mean([null_rate(seed) for seed in range(5)]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
def test_under_the_null_four_to_six_in_a_hundred():
    assert 0.04 <= np.mean([null_rate(seed) for seed in range(100)]) <= 0.06
