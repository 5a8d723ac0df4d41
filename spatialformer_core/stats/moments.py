"""Streaming count, mean and variance per (unit, column), mergeable over shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError


class _Table(NamedTuple):
    seen: LongArray
    mean: DoubleArray
    m2: DoubleArray


class Moments:
    """Running moments of values that arrive one batch at a time.

    Holds 24 bytes per (unit, column): 343 x 343 gene pairs of 20 donors take 56 MB, however many
    cell pairs are seen. Updates follow Welford (1962), merging Chan et al. (1979).

    Parameters
    ----------
    n_units
        Replicate units (donors, slides, blocks).
    n_columns
        What is measured, for example gene pairs.

    Attributes
    ----------
    count, mean, m2
        Number, mean and summed squared deviation, shape ``(n_units, n_columns)``.
    """

    def __init__(self, n_units: int, n_columns: int) -> None:
        if n_units < 1 or n_columns < 1:
            raise SpatialFormerError(f"{n_units} units of {n_columns} columns hold nothing.")
        shape = (n_units, n_columns)
        self.count: LongArray = np.zeros(shape, np.int64)
        self.mean: DoubleArray = np.zeros(shape, np.float64)
        self.m2: DoubleArray = np.zeros(shape, np.float64)

    def update(self, unit: int, columns: NDArray[np.integer], values: NDArray[np.floating]) -> None:
        """Add values to one unit; columns may repeat, NaN values are left out.

        Raises
        ------
        SpatialFormerError
            If a unit or column does not exist, shapes disagree, or a value is infinite.
        """
        at = np.ascontiguousarray(columns, np.int64).ravel()
        new = np.ascontiguousarray(values, np.float64).ravel()
        if len(at) != len(new):
            raise SpatialFormerError(f"{len(new):,} values were given for {len(at):,} columns.")
        if not 0 <= unit < len(self.count):
            raise SpatialFormerError(f"Unit {unit} does not exist.")
        if len(at) and not 0 <= at.min() <= at.max() < self.count.shape[1]:
            raise SpatialFormerError("A column does not exist.")
        if np.isinf(new).any():
            raise SpatialFormerError("A value is infinite.")
        # A read-only array would make numba compile the kernel once more.
        at, new = np.require(at, requirements="W"), np.require(new, requirements="W")
        _update(_Table(self.count[unit], self.mean[unit], self.m2[unit]), at, new)

    def merge(self, other: Moments) -> None:
        """Add what another shard has seen.

        Raises
        ------
        SpatialFormerError
            If the shapes differ.
        """
        if other.count.shape != self.count.shape:
            raise SpatialFormerError(
                f"Moments of shapes {self.count.shape} and {other.count.shape} cannot be merged."
            )
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros(total.shape), where=total > 0)
        delta = other.mean - self.mean
        self.mean += delta * share
        self.m2 += other.m2 + delta * delta * self.count * share
        self.count = total

    @property
    def variance(self) -> DoubleArray:
        """Sample variance, NaN below two values, shape ``(n_units, n_columns)``."""
        out = np.full(self.count.shape, np.nan)
        np.divide(self.m2, self.count - 1, out=out, where=self.count > 1)
        return out

    def unit_means(self, min_count: int = 1) -> DoubleArray:
        """Return the mean of each unit, NaN below ``min_count`` values: the input of a test."""
        return np.where(self.count >= max(1, min_count), self.mean, np.nan)

    def pooled(self, units: Sequence[int] | None = None) -> tuple[LongArray, DoubleArray]:
        """Return count and mean over units, NaN where nothing was seen, shape ``(n_columns,)``."""
        chosen = slice(None) if units is None else list(units)
        count = self.count[chosen].sum(0)
        total = (self.count[chosen] * self.mean[chosen]).sum(0)
        return count, np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


@nb.njit(cache=True, nogil=True)
def _update(table: _Table, columns: LongArray, values: DoubleArray) -> None:
    for i in range(len(columns)):
        value = values[i]
        if np.isnan(value):
            continue
        c = columns[i]
        table.seen[c] += 1
        delta = value - table.mean[c]
        table.mean[c] += delta / table.seen[c]
        table.m2[c] += delta * (value - table.mean[c])
