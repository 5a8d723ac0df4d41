"""Ordinary and moderated t-tests over replicate units, vectorised over tests.

Moderation: Smyth (2004), Statistical Applications in Genetics and Molecular Biology 3(1), 3. The
variances of all tests share a scaled inverse chi-square prior, fitted by the moments of their
logarithms; with few units this steadies each test's variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy import special

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError

Alternative = Literal["two-sided", "less", "greater"]

_NEWTON_STEPS = 50
_SMALLEST_SHARE = 1e-5


@dataclass(frozen=True, slots=True)
class TTest:
    """One t-test per column; NaN where a test is impossible.

    Attributes
    ----------
    mean
        Mean over units.
    low, high
        Confidence interval of the mean.
    t, df, p
        Statistic, degrees of freedom, p-value.
    n
        Units with a value.
    """

    mean: DoubleArray
    low: DoubleArray
    high: DoubleArray
    t: DoubleArray
    df: DoubleArray
    p: DoubleArray
    n: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """Prior of the tests' variances: ``df`` degrees of freedom around ``variance``."""

    df: float
    variance: float


def t_interval(
    mean: NDArray[np.floating],
    standard_error: NDArray[np.floating],
    df: NDArray[np.floating],
    level: float = 0.95,
) -> tuple[DoubleArray, DoubleArray]:
    """Return the confidence interval of a mean; NaN where ``df <= 0``.

    Raises
    ------
    SpatialFormerError
        If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise SpatialFormerError(f"The confidence level {level} is not between 0 and 1.")
    degrees = np.asarray(df, np.float64)
    reach = np.full(degrees.shape, np.nan)
    known = degrees > 0
    reach[known] = _per_distinct(lambda df: _quantile(0.5 + level / 2, df), degrees[known])
    half = reach * standard_error
    return np.asarray(mean - half, np.float64), np.asarray(mean + half, np.float64)


def one_sample_t(
    values: NDArray[np.floating], *, alternative: Alternative = "two-sided", level: float = 0.95
) -> TTest:
    """Test whether each column's mean over units is 0.

    Parameters
    ----------
    values
        Shape ``(n_units, n_tests)``; NaN marks a unit without a value.
    alternative
        Direction of the test.
    level
        Level of the (two-sided) interval.

    Returns
    -------
    TTest
        Fewer than 2 units, or units that all agree exactly, give no t and no p: without a spread
        there is nothing to judge the mean by.
    """
    mean, variance, n = _summaries(values)
    df = np.where(n >= 2, n - 1.0, np.nan)
    return _tested((mean, variance, n), df, alternative, level)


def paired_t(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> TTest:
    """Test whether ``first - second`` is 0 within units, shape ``(n_units, n_tests)`` each."""
    if first.shape != second.shape:
        raise SpatialFormerError(
            f"Paired values have shapes {first.shape} and {second.shape}; they must be equal."
        )
    return one_sample_t(
        np.asarray(first, np.float64) - second, alternative=alternative, level=level
    )


def moderated_t(
    values: NDArray[np.floating],
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
    prior: VariancePrior | None = None,
) -> TTest:
    """Test whether each column's mean is 0, with variances shrunk towards each other.

    Parameters
    ----------
    values
        Shape ``(n_units, n_tests)``; NaN marks a unit without a value.
    alternative, level
        As in `one_sample_t`.
    prior
        Prior of the variances; fitted over all tests when None.

    Returns
    -------
    TTest
        ``df`` is the sum of the test's own and the prior's degrees of freedom, at most the sum
        over all tests. A test with one unit only has no p; a test without any spread borrows the
        prior's.
    """
    mean, variance, n = _summaries(values)
    own = np.where(n >= 2, n - 1.0, np.nan)
    shrunk, df = _shrunk(variance, own, prior)
    return _tested((mean, shrunk, n), df, alternative, level)


def moderated_two_sample_t(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
    prior: VariancePrior | None = None,
) -> TTest:
    """Test whether the means of two sets of units differ, with one moderated variance for both.

    Parameters
    ----------
    first, second
        Shapes ``(n_units, n_tests)``, the numbers of units may differ; NaN marks a unit without a
        value.
    alternative, level, prior
        As in `moderated_t`.

    Returns
    -------
    TTest
        Of ``first - second``; ``n`` counts the units of both. A side without a unit, or two units
        in all, give no p.
    """
    one, one_variance, n_one = _summaries(first)
    other, other_variance, n_other = _summaries(second)
    squares = np.nan_to_num(one_variance) * np.maximum(n_one - 1, 0)
    squares += np.nan_to_num(other_variance) * np.maximum(n_other - 1, 0)
    own = np.where((n_one > 0) & (n_other > 0), n_one + n_other - 2.0, 0.0)
    own = np.where(own > 0, own, np.nan)
    shrunk, df = _shrunk(squares / own, own, prior)
    # The variance of the difference is that of a mean over so many units.
    both = np.maximum(n_one + n_other, 1)
    tested = _tested((one - other, shrunk, n_one * n_other / both), df, alternative, level)
    return replace(tested, n=n_one + n_other)


def _shrunk(
    variance: DoubleArray, own: DoubleArray, prior: VariancePrior | None
) -> tuple[DoubleArray, DoubleArray]:
    """Return variances shrunk towards the prior, and their degrees of freedom."""
    chosen = fit_variance_prior(variance, own) if prior is None else prior
    if np.isinf(chosen.df):
        shrunk = np.where(np.isnan(own), np.nan, chosen.variance)
    else:
        shrunk = (chosen.df * chosen.variance + own * variance) / (chosen.df + own)
    return shrunk, np.minimum(own + chosen.df, np.nansum(own))


def fit_variance_prior(variance: NDArray[np.floating], df: NDArray[np.floating]) -> VariancePrior:
    """Fit the prior of variances by the moments of their logarithms (Smyth 2004, section 6.2).

    Parameters
    ----------
    variance, df
        Sample variances and their degrees of freedom, shape ``(n_tests,)``; NaN is left out.

    Returns
    -------
    VariancePrior
        ``df`` is 0 (no shrinkage) with fewer than 2 usable variances, and infinite where the
        variances differ no more than chance makes them.
    """
    s2, d = np.asarray(variance, np.float64), np.asarray(df, np.float64)
    usable = np.isfinite(s2) & np.isfinite(d) & (d > 0)
    s2, d = s2[usable], d[usable]
    if len(s2) < 2 or not (s2 > 0).any():
        return VariancePrior(0.0, 0.0)
    # A variance of exactly 0 has no logarithm; it counts as a very small one.
    s2 = np.maximum(s2, _SMALLEST_SHARE * np.median(s2[s2 > 0]))
    e = np.log(s2) - _per_distinct(lambda df: special.digamma(df / 2) - np.log(df / 2), d)
    centre = float(e.mean())
    own = float(_per_distinct(lambda df: special.polygamma(1, df / 2), d).mean())
    excess = float(((e - centre) ** 2).sum() / (len(e) - 1)) - own
    if excess <= 0:
        return VariancePrior(float("inf"), float(np.exp(centre)))
    half = _inverse_trigamma(excess)
    return VariancePrior(2 * half, float(np.exp(centre + special.digamma(half) - np.log(half))))


def _inverse_trigamma(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton's method on ``1 / trigamma`` (Smyth 2004)."""
    x = 0.5 + 1 / value
    for _ in range(_NEWTON_STEPS):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-12 * x:
            break
    return x


def _summaries(
    values: NDArray[np.floating],
) -> tuple[DoubleArray, DoubleArray, NDArray[np.int64]]:
    """Return mean, sample variance and number of units of each column."""
    table = np.ascontiguousarray(values, np.float64)
    if table.ndim != 2:
        raise SpatialFormerError(
            f"Values of shape {table.shape} were given, (units, tests) was expected."
        )
    mean, variance = np.full((2, table.shape[1]), np.nan)
    n = np.zeros(table.shape[1], np.int64)
    # A read-only array would make numba compile the kernel once more.
    if not _summarise(np.require(table, requirements="W"), mean, variance, n):
        raise SpatialFormerError("A value is infinite.")
    return mean, variance, n


@nb.njit(cache=True, nogil=True)
def _summarise(table: DoubleArray, mean: DoubleArray, variance: DoubleArray, n: LongArray) -> bool:
    """Fill in what is known of each column; False if a value is infinite."""
    n_units, n_tests = table.shape
    for c in range(n_tests):
        total, seen, low, high = 0.0, 0, np.inf, -np.inf
        for u in range(n_units):
            value = table[u, c]
            if np.isnan(value):
                continue
            if np.isinf(value):
                return False
            seen += 1
            total += value
            low, high = min(low, value), max(high, value)
        n[c] = seen
        if seen == 0:
            continue
        mean[c] = total / seen
        squares = 0.0
        # Equal values must have a spread of exactly 0, not of the rounding of their mean.
        if low < high:
            for u in range(n_units):
                if not np.isnan(table[u, c]):
                    squares += (table[u, c] - mean[c]) ** 2
        if seen > 1:
            variance[c] = squares / (seen - 1)
    return True


def _per_distinct(
    function: Callable[[DoubleArray], NDArray[Any]], values: DoubleArray
) -> DoubleArray:
    """Return ``function(values)``, called once per distinct value: tests share their df."""
    if len(values) and (values == values[0]).all():
        return np.full(len(values), function(values[:1])[0])
    distinct, place = np.unique(values, return_inverse=True)
    return np.asarray(function(distinct), np.float64)[place]


def _tested(
    summary: tuple[DoubleArray, DoubleArray, NDArray[Any]],
    df: DoubleArray,
    alternative: Alternative,
    level: float,
) -> TTest:
    mean, variance, n = summary
    error = np.sqrt(np.divide(variance, n, out=np.full(mean.shape, np.nan), where=n > 0))
    possible = (error > 0) & (df > 0)
    t = np.full(mean.shape, np.nan)
    np.divide(mean, error, out=t, where=possible)
    p = np.full(mean.shape, np.nan)
    p[possible] = _tail(t[possible], df[possible], alternative)
    low, high = t_interval(mean, error, df, level)
    return TTest(mean, low, high, t, df, p, n)


def _tail(t: DoubleArray, df: DoubleArray, alternative: Alternative) -> DoubleArray:
    if alternative == "two-sided":
        return np.asarray(2 * special.stdtr(df, -np.abs(t)), np.float64)
    if alternative == "less":
        return np.asarray(special.stdtr(df, t), np.float64)
    if alternative == "greater":
        return np.asarray(special.stdtr(df, -t), np.float64)
    raise SpatialFormerError(f"The alternative {alternative!r} is not known.")


def _quantile(share: float, df: DoubleArray) -> DoubleArray:
    finite = np.where(np.isfinite(df), df, 1.0)
    quantile = np.where(np.isfinite(df), special.stdtrit(finite, share), special.ndtri(share))
    return np.asarray(quantile, np.float64)
