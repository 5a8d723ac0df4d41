"""Bootstrap over blocks: neighbouring cells resemble each other, so whole blocks are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import LongArray
from spatialformer_core.errors import SpatialFormerError


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic and its percentile interval.

    Attributes
    ----------
    value
        The statistic of all rows.
    low, high
        NaN with fewer than two blocks, or if the statistic is undefined in most resamples.
    n_blocks
        Blocks that were resampled.
    n_undefined
        Resamples in which the statistic was NaN; they are left out.
    """

    value: float
    low: float
    high: float
    n_blocks: int
    n_undefined: int


def resampled_rows(blocks: NDArray[np.integer], n_resamples: int, seed: int) -> Iterator[LongArray]:
    """Yield the rows of as many blocks as there are, drawn with replacement.

    Parameters
    ----------
    blocks
        Block of each row, shape ``(n,)``.
    n_resamples
        How many times.
    seed
        Decides the draws; resample ``i`` is the same whatever ``n_resamples``.
    """
    names, at = np.unique(blocks, return_inverse=True)
    order = np.argsort(at, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(at, minlength=len(names)))[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(n_resamples):
        drawn = rng.integers(0, len(names), len(names))
        yield np.concatenate([members[block] for block in drawn])


def bootstrap_interval(
    statistic: Callable[[LongArray], float],
    blocks: NDArray[np.integer],
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its percentile interval over blocks.

    Parameters
    ----------
    statistic
        Given row numbers (with repeats), returns a number; NaN where it is undefined.
    blocks
        Block (slide, donor, tissue block) of each row, shape ``(n,)``.
    n_resamples, level, seed
        Resamples, confidence level, seed.

    Raises
    ------
    SpatialFormerError
        If there is no row, no resample, or the level is not between 0 and 1.
    """
    if not len(blocks):
        raise SpatialFormerError("There is no row to resample.")
    if n_resamples < 1 or not 0 < level < 1:
        raise SpatialFormerError(
            f"{n_resamples} resamples at level {level} give no interval.",
            fix="Use at least 1 resample and a level between 0 and 1.",
        )
    value = float(statistic(np.arange(len(blocks))))
    n_blocks = len(np.unique(blocks))
    if n_blocks < 2:
        return Interval(value, float("nan"), float("nan"), n_blocks, 0)
    draws = np.array([statistic(rows) for rows in resampled_rows(blocks, n_resamples, seed)], float)
    defined = draws[~np.isnan(draws)]
    n_undefined = len(draws) - len(defined)
    if len(defined) * 2 < len(draws):
        return Interval(value, float("nan"), float("nan"), n_blocks, n_undefined)
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high), n_blocks, n_undefined)
