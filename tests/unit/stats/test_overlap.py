"""Exact over-representation against counted cases, and matched sets on planted scores."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import (
    hypergeometric_p,
    matched_mean,
    smallest_p,
    strata_of,
    without_trend,
)


def test_hypergeometric_p_is_the_share_of_all_choices() -> None:
    n, size, chosen = 9, 4, 3
    for hits in range(4):
        as_many = sum(
            len(set(c) & set(range(size))) >= hits for c in combinations(range(n), chosen)
        )
        got = hypergeometric_p(np.array([hits]), np.array([size]), chosen, n)
        assert got[0] == pytest.approx(as_many / comb(n, chosen), rel=1e-12)


def test_hypergeometric_p_is_fishers_one_sided_test() -> None:
    hits, sizes = np.array([5, 12, 0]), np.array([20, 30, 7])
    got = hypergeometric_p(hits, sizes, 40, 343)
    for p, hit, size in zip(got, hits, sizes, strict=True):
        table = [[hit, 40 - hit], [size - hit, 343 - 40 - size + hit]]
        assert p == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-9)


def test_the_smallest_p_is_reached_by_a_full_set_and_never_passed() -> None:
    # Two chosen of ten, a set of two: both hit in 1 of 45 choices.
    assert smallest_p(np.array([2]), 2, 10)[0] == pytest.approx(1 / 45)
    sizes = np.arange(1, 10)
    p = hypergeometric_p(np.minimum(sizes, 2), sizes, 2, 10)
    np.testing.assert_array_equal(p, smallest_p(sizes, 2, 10))


@pytest.mark.parametrize(
    ("hits", "size", "chosen", "n"), [(3, 2, 5, 9), (0, 8, 5, 9), (1, 10, 2, 9), (1, 1, 10, 9)]
)
def test_impossible_numbers_are_refused(hits: int, size: int, chosen: int, n: int) -> None:
    with pytest.raises(SpatialFormerError):
        hypergeometric_p(np.array([hits]), np.array([size]), chosen, n)


def _null_set(seed: int):
    """Scores with strong row, column and expression effects; a set that prefers high rows."""
    rng = np.random.default_rng(seed)
    n = 60
    expression, rank = rng.random(n), rng.random(n)
    score = (
        2 * expression[:, None]
        + 2 * expression[None, :]
        + rng.normal(0, 1, n)[:, None]
        + rng.normal(0, 1, n)[None, :]
        + rng.normal(0, 1, (n, n))
    )
    score[rng.random((n, n)) < 0.2] = np.nan
    weight = np.outer(expression, expression)
    chosen = rng.random((n, n)) < 0.05 * weight / weight.mean()
    strata = strata_of(expression, rank, least=6)
    measures = np.column_stack([expression, rank])
    return without_trend(score, measures, measures), chosen, (strata, strata)


def test_p_is_uniform_where_the_set_is_only_highly_expressed() -> None:
    p = []
    for seed in range(120):
        score, chosen, strata = _null_set(seed)
        p.append(matched_mean(score, chosen, strata, n_random=199, seed=seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) < 0.12


def test_a_planted_set_is_found_beyond_its_expression() -> None:
    score, chosen, strata = _null_set(1)
    found = matched_mean(score + 0.8 * chosen, chosen, strata, n_random=999)
    assert found.p == found.smallest_p == 1 / 1000
    assert found.observed > found.expected + 3 * found.sd
    without = matched_mean(score, chosen, strata, n_random=999)
    assert without.observed == pytest.approx(found.observed - 0.8)


def test_a_trend_of_rows_and_columns_is_taken_out_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    # Ranks of evenly spaced values are the values: the trend is exactly quadratic.
    measure = np.linspace(-1, 1, 40)[:, None]
    noise = rng.normal(size=(40, 40))
    trend = 3 * measure - 2 * measure.T**2 + measure * measure.T
    plain = without_trend(noise, measure, measure)
    np.testing.assert_allclose(without_trend(noise + trend, measure, measure), plain, atol=1e-9)
    assert np.corrcoef(plain.ravel(), noise.ravel())[0, 1] > 0.98
    assert np.isnan(without_trend(np.array([[1.0, np.nan]]), measure[:1], measure[:2])[0, 1])


def test_one_stratum_per_thing_leaves_nothing_to_rename() -> None:
    score = np.arange(9.0).reshape(3, 3)
    chosen = np.eye(3, dtype=bool)
    alone = np.arange(3)
    fixed = matched_mean(score, chosen, (alone, alone), n_random=50)
    assert fixed.observed == fixed.expected == 4.0
    assert fixed.p == 1.0
    # Renamed together, the diagonal stays the diagonal.
    one = np.zeros(3, np.int64)
    together = matched_mean(score, chosen, (one, one), symmetric=True, n_random=50)
    assert together.p == 1.0
    assert together.sd == pytest.approx(0.0)


def test_a_set_without_scores_has_no_p() -> None:
    one = np.zeros(2, np.int64)
    nothing = matched_mean(np.full((2, 2), np.nan), np.ones((2, 2), bool), (one, one))
    assert np.isnan(nothing.p)
    assert nothing.n_pairs == 0
    with pytest.raises(SpatialFormerError, match="do not fit"):
        matched_mean(np.zeros((2, 3)), np.zeros((2, 2), bool), (one, one))


def test_strata_are_large_enough_and_ordered() -> None:
    rng = np.random.default_rng(0)
    values, finer = rng.random(230), rng.random(230)
    strata = strata_of(values, finer, least=10)
    assert np.bincount(strata).min() >= 10
    assert strata.max() > 8
    means = [values[strata == k].mean() for k in range(strata.max() + 1)]
    assert means[0] < 0.3
    assert means[-1] > 0.7
    assert strata_of(values[:5], finer[:5]).tolist() == [0] * 5
