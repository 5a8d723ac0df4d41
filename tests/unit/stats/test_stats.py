"""Tests and intervals against scipy, hand-worked numbers and limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import (
    VariancePrior,
    benjamini_hochberg,
    fit_variance_prior,
    moderated_t,
    one_sample_t,
    paired_t,
    t_interval,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_bh_agrees_with_scipy(p: list[float]) -> None:
    q = benjamini_hochberg(np.array(p))
    np.testing.assert_allclose(q, stats.false_discovery_control(p), rtol=1e-12)
    assert (q >= np.array(p) * (1 - 1e-12)).all()


def test_bh_counts_only_what_was_tested() -> None:
    q = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.5]))
    np.testing.assert_allclose(q, [0.03, np.nan, 0.06, 0.5])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
    assert benjamini_hochberg(np.zeros(0)).shape == (0,)
    with pytest.raises(SpatialFormerError):
        benjamini_hochberg(np.array([1.2]))


def test_bh_rejects_nothing_under_the_null_where_the_peer_rejects_all() -> None:
    p = np.random.default_rng(0).uniform(size=20_000)
    assert (benjamini_hochberg(p) < 0.05).sum() == 0
    survivors = p[p < 0.05]
    assert (benjamini_hochberg(survivors) < 0.05).all()


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_one_sample_agrees_with_scipy(alternative: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1, (9, 20))
    values[rng.random(values.shape) < 0.15] = np.nan
    got = one_sample_t(values, alternative=alternative)  # type: ignore[arg-type]
    expected = stats.ttest_1samp(values, 0, nan_policy="omit", alternative=alternative)
    np.testing.assert_allclose(got.t, expected.statistic, rtol=1e-10)
    np.testing.assert_allclose(got.p, expected.pvalue, rtol=1e-9)
    two = stats.ttest_1samp(values, 0, nan_policy="omit").confidence_interval(0.95)
    np.testing.assert_allclose(got.low, two.low, rtol=1e-9)
    np.testing.assert_allclose(got.high, two.high, rtol=1e-9)


def test_paired_is_the_test_of_the_differences() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, 7, 5))
    np.testing.assert_allclose(paired_t(one, two).p, stats.ttest_rel(one, two).pvalue, rtol=1e-9)
    with pytest.raises(SpatialFormerError, match="shapes"):
        paired_t(one, two[:3])


def test_degenerate_columns_give_no_p() -> None:
    nan = np.nan
    values = np.array([[1.0, nan, 0.1, 0.0], [nan, nan, 0.1, 0.0], [nan, nan, 0.1, 0.0]])
    got = one_sample_t(values)
    assert np.isnan(got.p).all()
    assert np.isnan(got.t).all()
    np.testing.assert_allclose(got.mean, [1.0, nan, 0.1, 0.0])
    assert got.n.tolist() == [1, 0, 3, 3]
    assert np.isnan(got.low[:2]).all()
    assert got.low[2] == got.high[2] == pytest.approx(0.1)
    assert one_sample_t(np.zeros((0, 2))).n.tolist() == [0, 0]
    with pytest.raises(SpatialFormerError, match="infinite"):
        one_sample_t(np.array([[np.inf], [1.0]]))
    with pytest.raises(SpatialFormerError, match="units, tests"):
        one_sample_t(np.zeros(3))


def test_interval_of_known_quantiles() -> None:
    # t(0.975, 4) = 2.776445, normal 1.959964
    low, high = t_interval(np.array([1.0, 1.0, 1.0]), np.full(3, 0.5), np.array([4.0, np.inf, 0.0]))
    np.testing.assert_allclose(high, [1 + 0.5 * 2.776445, 1 + 0.5 * 1.959964, np.nan], rtol=1e-6)
    np.testing.assert_allclose(low, 2 - high)
    with pytest.raises(SpatialFormerError, match="level"):
        t_interval(np.zeros(1), np.ones(1), np.ones(1), level=1.0)


def test_moderated_t_by_hand() -> None:
    # Column 1: mean 2, variance 1, n 3, df 2. Prior: 4 df around 0.25.
    # Pooled variance (4 * 0.25 + 2 * 1) / 6 = 0.5; t = 2 / sqrt(0.5 / 3) = 4.898979; df 6.
    # Column 2: no spread; pooled 4 * 0.25 / 6 = 1 / 6; t = 1 / sqrt(1 / 18) = 4.242641.
    values = np.array([[1.0, 1.0, 5.0], [2.0, 1.0, np.nan], [3.0, 1.0, np.nan], [np.nan] * 3])
    wide = np.column_stack([values, np.arange(12.0).reshape(4, 3)])
    got = moderated_t(wide, prior=VariancePrior(4.0, 0.25))
    np.testing.assert_allclose(got.t[:3], [np.sqrt(24), np.sqrt(18), np.nan], rtol=1e-12)
    assert got.df[:2].tolist() == [6.0, 6.0]
    assert got.p[0] == pytest.approx(2 * stats.t.sf(np.sqrt(24), 6))
    assert np.isnan(got.p[2])


def test_moderated_df_never_exceeds_all_that_was_seen() -> None:
    got = moderated_t(np.array([[1.0, 2.0], [2.0, 5.0]]), prior=VariancePrior(50.0, 1.0))
    assert got.df.tolist() == [2.0, 2.0]


def test_prior_is_found_again() -> None:
    rng = np.random.default_rng(0)
    true = 0.4 * 6.0 / rng.chisquare(6.0, 60_000)
    df = rng.choice([3.0, 5.0, 9.0], 60_000)
    sample = true * rng.chisquare(df) / df
    prior = fit_variance_prior(sample, df)
    assert prior.df == pytest.approx(6.0, rel=0.05)
    assert prior.variance == pytest.approx(0.4, rel=0.02)
    # The moment equations hold exactly at the fit.
    e = np.log(sample) - special.digamma(df / 2) + np.log(df / 2)
    spread = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    assert special.polygamma(1, prior.df / 2) == pytest.approx(spread, rel=1e-9)


def test_prior_limits() -> None:
    rng = np.random.default_rng(0)
    equal = fit_variance_prior(np.full(50, 2.0), np.full(50, 4.0))
    assert np.isinf(equal.df)
    assert fit_variance_prior(np.array([1.0]), np.array([3.0])) == VariancePrior(0.0, 0.0)
    assert fit_variance_prior(np.zeros(9), np.full(9, 3.0)) == VariancePrior(0.0, 0.0)
    with_zeros = fit_variance_prior(np.append(rng.chisquare(3, 99), 0.0), np.full(100, 3.0))
    assert np.isfinite(with_zeros.variance)
    assert with_zeros.variance > 0


def test_without_a_prior_moderated_is_ordinary() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4))
    moderated = moderated_t(values, prior=VariancePrior(0.0, 0.0))
    np.testing.assert_allclose(moderated.p, one_sample_t(values).p, rtol=1e-12)


def test_moderation_keeps_its_level_with_four_units() -> None:
    rng = np.random.default_rng(3)
    scale = np.sqrt(1.0 / rng.chisquare(8.0, 20_000) * 8.0)
    p = moderated_t(rng.normal(size=(4, 20_000)) * scale).p
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.006)
    shifted = rng.normal(1.0, 1.0, size=(4, 20_000)) * scale
    assert (moderated_t(shifted).p < 0.01).mean() > 1.3 * (one_sample_t(shifted).p < 0.01).mean()
