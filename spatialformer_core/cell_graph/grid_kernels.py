"""Numba kernels of the cell list and of the graph over it.

A file of its own because numba's cache does not see a helper change in another file.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray, LongArray

_RANK_LIMIT = 64


class Grid(NamedTuple):
    """A cell list: cells grouped by square bin, row by row."""

    x0: float
    y0: float
    bin_um: float
    nx: int
    ny: int
    start: LongArray  # first entry of each bin, (nx * ny + 1,)
    order: IntArray  # cell of each entry
    x: DoubleArray  # coordinates of each entry
    y: DoubleArray


class Rows(NamedTuple):
    """Where the neighbours go."""

    indptr: LongArray
    indices: IntArray
    widest: int


@nb.njit(cache=True)
def fill_grid(xy: DoubleArray, chosen: IntArray, size: float, low: tuple[float, float]) -> Grid:
    """Sort the chosen cells by square bins from ``low`` on (counting sort)."""
    bins, nx, ny = np.empty(len(chosen), np.int32), 1, 1
    for i in range(len(chosen)):
        nx = max(nx, int(np.floor((xy[chosen[i], 0] - low[0]) / size)) + 1)
        ny = max(ny, int(np.floor((xy[chosen[i], 1] - low[1]) / size)) + 1)
    start = np.zeros(nx * ny + 1, np.int64)
    for i in range(len(chosen)):
        column = int(np.floor((xy[chosen[i], 0] - low[0]) / size))
        bins[i] = int(np.floor((xy[chosen[i], 1] - low[1]) / size)) * nx + column
        start[bins[i] + 1] += 1
    for k in range(len(start) - 1):
        start[k + 1] += start[k]
    at, order = start[:-1].copy(), np.empty(len(chosen), np.int32)
    x, y = np.empty(len(chosen)), np.empty(len(chosen))
    for i in range(len(chosen)):
        place = at[bins[i]]
        at[bins[i]] += 1
        order[place] = chosen[i]
        x[place], y[place] = xy[chosen[i]]
    return Grid(low[0], low[1], size, nx, ny, start, order, x, y)


@nb.njit(cache=True)
def _bin_range(centre: float, origin: float, reach: float, size: float, n: int) -> tuple[int, int]:
    first = max(0, int(np.floor((centre - reach - origin) / size)))
    last = min(n - 1, int(np.floor((centre + reach - origin) / size)))
    return first, last


@nb.njit(cache=True)
def _block(grid: Grid, entry: int, outer2: float) -> tuple[int, int, int, int]:
    """Return first and last column and row of the bins that the radius touches."""
    # A little more than the radius, so that rounding hides no bin.
    reach = np.sqrt(outer2) * (1 + 1e-9)
    columns = _bin_range(grid.x[entry], grid.x0, reach, grid.bin_um, grid.nx)
    rows = _bin_range(grid.y[entry], grid.y0, reach, grid.bin_um, grid.ny)
    return columns[0], columns[1], rows[0], rows[1]


@nb.njit(cache=True)
def _count_neighbours(grid: Grid, entry: int, inner2: float, outer2: float) -> int:
    """Return how many cells lie at a squared distance in ``(inner2, outer2]``."""
    x, y = grid.x[entry], grid.y[entry]
    first, last, low, high = _block(grid, entry, outer2)
    n = 0
    for row in range(low, high + 1):
        for other in range(grid.start[row * grid.nx + first], grid.start[row * grid.nx + last + 1]):
            dx, dy = grid.x[other] - x, grid.y[other] - y
            d2 = dx * dx + dy * dy
            n += (d2 <= outer2) & (d2 > inner2)
    # The cell itself, at distance 0, was counted if there is no inner radius.
    return n - (inner2 < 0)


@nb.njit(cache=True)
def _find_neighbours(grid: Grid, entry: int, inner2: float, outer2: float, found: IntArray) -> int:
    """Write these cells, unsorted; ``found`` needs one place more than there are."""
    x, y = grid.x[entry], grid.y[entry]
    first, last, low, high = _block(grid, entry, outer2)
    n = 0
    for row in range(low, high + 1):
        for other in range(grid.start[row * grid.nx + first], grid.start[row * grid.nx + last + 1]):
            dx, dy = grid.x[other] - x, grid.y[other] - y
            d2 = dx * dx + dy * dy
            # Without a branch: a third of the tests succeed, no processor predicts them.
            found[n] = grid.order[other]
            n += (d2 <= outer2) & (d2 > inner2) & (other != entry)
    return n


@nb.njit(cache=True)
def _sort_into(values: IntArray, row: IntArray) -> None:
    """Write distinct values in ascending order.

    Each value's place is the number of smaller ones: no branch, and the row, which may lie anywhere
    in memory, is only written.
    """
    if len(values) > _RANK_LIMIT:
        values.sort()
        row[:] = values
        return
    for i in range(len(values)):
        rank = np.int32(0)
        for j in range(len(values)):
            rank += np.int32(values[j] < values[i])
        row[rank] = values[i]


@nb.njit(cache=True, nogil=True)
def count_run(
    grid: Grid, run: tuple[int, int], inner2: float, outer2: float, degree: LongArray
) -> int:
    """Write the number of neighbours of a run of entries; return the largest."""
    widest = 0
    for entry in range(run[0], run[1]):
        n = _count_neighbours(grid, entry, inner2, outer2)
        degree[grid.order[entry]] = n
        widest = max(widest, n)
    return widest


@nb.njit(cache=True, nogil=True)
def link_run(grid: Grid, run: tuple[int, int], inner2: float, outer2: float, rows: Rows) -> None:
    """Write the neighbours of a run of entries, ascending within a row."""
    found = np.empty(rows.widest + 1, np.int32)
    for entry in range(run[0], run[1]):
        cell = grid.order[entry]
        n = _find_neighbours(grid, entry, inner2, outer2, found)
        _sort_into(found[:n], rows.indices[rows.indptr[cell] : rows.indptr[cell + 1]])


@nb.njit(cache=True)
def neighbour_means(indptr: LongArray, indices: IntArray, features: FloatArray) -> FloatArray:
    """Return the mean of the neighbours' features, zeros where there is no neighbour."""
    n, width = len(indptr) - 1, features.shape[1]
    means = np.zeros((n, width), np.float32)
    total = np.empty(width, np.float64)
    for cell in range(n):
        degree = indptr[cell + 1] - indptr[cell]
        if degree == 0:
            continue
        total[:] = 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            for f in range(width):
                total[f] += features[indices[k], f]
        for f in range(width):
            means[cell, f] = total[f] / degree
    return means
