"""Whether a set is over-represented: exact for lists, by permuted names for scored pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError


def hypergeometric_p(
    hits: NDArray[np.integer],
    set_sizes: NDArray[np.integer],
    n_chosen: int,
    n_background: int,
) -> DoubleArray:
    """Return the exact chance of at least so many hits (Fisher's one-sided test).

    Parameters
    ----------
    hits
        Chosen things in each set, shape ``(n_sets,)``.
    set_sizes
        Things of the background in each set, shape ``(n_sets,)``.
    n_chosen, n_background
        Things chosen, and things that could have been chosen.

    Raises
    ------
    SpatialFormerError
        If the numbers contradict each other.

    Examples
    --------
    Both of two chosen in a set of 3 out of 10: 3/10 * 2/9.

    >>> round(float(hypergeometric_p(np.array([2]), np.array([3]), 2, 10)[0]), 6)
    0.066667
    """
    hit, size = np.asarray(hits, np.int64), np.asarray(set_sizes, np.int64)
    least = np.maximum(0, n_chosen + size - n_background)
    if not 0 <= n_chosen <= n_background or (size < 0).any() or (size > n_background).any():
        raise SpatialFormerError(
            f"{n_chosen:,} chosen of {n_background:,} and sets of at most "
            f"{size.max(initial=0):,} contradict each other."
        )
    if ((hit < least) | (hit > np.minimum(size, n_chosen))).any():
        raise SpatialFormerError("A number of hits is impossible for its set.")
    p = stats.hypergeom.sf(hit - 1, n_background, size, n_chosen)
    return np.asarray(np.clip(p, 0.0, 1.0), np.float64)


def smallest_p(set_sizes: NDArray[np.integer], n_chosen: int, n_background: int) -> DoubleArray:
    """Return the p of as many hits as there can be: no set can do better, shape ``(n_sets,)``."""
    size = np.asarray(set_sizes, np.int64)
    return hypergeometric_p(np.minimum(size, n_chosen), size, n_chosen, n_background)


@dataclass(frozen=True, slots=True)
class MatchedMean:
    """Mean score of a set of pairs beside that of like pairs of other names.

    Attributes
    ----------
    observed, expected, sd
        Mean score of the set; mean and spread of the means of the random sets.
    p, smallest_p
        Share of random sets (this one counted) whose mean is at least as high, and the least that
        so many random sets allow; NaN without a pair that has a score.
    n_pairs, n_random
        Pairs of the set that have a score, and random sets.
    """

    observed: float
    expected: float
    sd: float
    p: float
    smallest_p: float
    n_pairs: int
    n_random: int


def matched_mean(
    score: DoubleArray,
    chosen: BoolArray,
    strata: tuple[LongArray, LongArray],
    *,
    symmetric: bool = False,
    n_random: int = 2_000,
    seed: int = 0,
) -> MatchedMean:
    """Test whether chosen pairs score higher than pairs of like rows and columns.

    A random set renames the rows within their strata and the columns within theirs. So it keeps
    how often each name occurs in the set: a row that scores high everywhere is as influential in
    the random sets as in the set itself, which drawing pairs one by one would forget.

    Parameters
    ----------
    score
        Score of each pair, NaN where it has none, shape ``(n_rows, n_columns)``.
    chosen
        The set, same shape.
    strata
        Stratum of each row and of each column (expression and rank, say).
    symmetric
        Rows and columns are the same things: they are renamed together.
    n_random, seed
        Random sets, and what decides them.

    Raises
    ------
    SpatialFormerError
        If shapes disagree.
    """
    shapes = (len(strata[0]), len(strata[1]))
    if score.shape != chosen.shape or score.shape != shapes or n_random < 1:
        raise SpatialFormerError(
            f"Scores {score.shape}, set {chosen.shape} and strata {shapes} do not fit."
        )
    rows, columns = np.nonzero(chosen & ~np.isnan(score))
    if not len(rows):
        nan = float("nan")
        return MatchedMean(nan, nan, nan, nan, nan, 0, n_random)
    # Pairs of the set without a score may gain one under other names, and the other way round.
    every_row, every_column = np.nonzero(chosen)
    rng = np.random.default_rng(seed)
    means = np.empty(n_random)
    for k in range(n_random):
        one = _renamed(strata[0], rng)
        other = one if symmetric else _renamed(strata[1], rng)
        values = score[one[every_row], other[every_column]]
        known = ~np.isnan(values)
        means[k] = values[known].mean() if known.any() else np.nan
    means = means[~np.isnan(means)]
    observed = float(score[rows, columns].mean())
    # Means of the same values in another order differ in their last bits.
    as_high = int((means >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    return MatchedMean(
        observed,
        float(means.mean()),
        float(means.std()),
        (1 + as_high) / (1 + len(means)),
        1 / (1 + len(means)),
        len(rows),
        n_random,
    )


def without_trend(score: DoubleArray, rows: DoubleArray, columns: DoubleArray) -> DoubleArray:
    """Return scores less what measures of their rows and columns predict (quadratic, by ranks).

    Strata are never so fine that nothing of the measure is left inside them; this takes the rest.

    Parameters
    ----------
    score
        Shape ``(n_rows, n_columns)``; NaN stays NaN.
    rows, columns
        Measures, shapes ``(n_rows, k)`` and ``(n_columns, k)``.
    """
    row, column = np.nonzero(~np.isnan(score))
    one, other = _centred_ranks(rows)[row], _centred_ranks(columns)[column]
    terms = [np.ones((len(row), 1)), one, other, one**2, other**2, one * other]
    design = np.concatenate(terms, axis=1)
    values = score[row, column]
    # Normal equations: the design is narrow and tall, and its columns are of like size.
    fitted, *_ = np.linalg.lstsq(design.T @ design, design.T @ values, rcond=None)
    left = np.full(score.shape, np.nan)
    left[row, column] = values - design @ fitted
    return left


def _centred_ranks(values: DoubleArray) -> DoubleArray:
    ranks = stats.rankdata(values, axis=0)
    return np.asarray(2 * (ranks - 0.5) / max(len(values), 1) - 1, np.float64)


def _renamed(stratum: LongArray, rng: np.random.Generator) -> LongArray:
    """Return a random order that leaves everything in its stratum."""
    start = np.argsort(stratum, kind="stable")
    end = np.lexsort((rng.random(len(stratum)), stratum))
    order = np.empty(len(stratum), np.int64)
    order[start] = end
    return order


def strata_of(values: DoubleArray, finer: DoubleArray, *, least: int = 10) -> LongArray:
    """Return strata of things alike in two measures, each with at least ``least`` things.

    The first measure is cut into quantiles, and each of those into quantiles of the second.

    Parameters
    ----------
    values, finer
        The measures, shape ``(n,)``, without NaN.
    least
        Size of the smallest stratum; fewer things make one stratum.
    """
    n = len(values)
    n_coarse = max(1, int(np.sqrt(n / least)))
    place = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    coarse = place * n_coarse // max(n, 1)
    out = np.zeros(n, np.int64)
    for k in range(n_coarse):
        mine = np.flatnonzero(coarse == k)
        n_fine = max(1, len(mine) // least)
        inner = np.argsort(np.argsort(finer[mine], kind="stable"), kind="stable")
        out[mine] = k * n + inner * n_fine // max(len(mine), 1)
    return np.asarray(np.unique(out, return_inverse=True)[1].ravel(), np.int64)
