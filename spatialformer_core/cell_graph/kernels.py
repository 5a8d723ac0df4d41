"""Numba kernels of the samplers of pairs.

They share one file because numba's cache is keyed by the file of the cached function only: a
helper that changed in another file would silently leave stale machine code behind.

Randomness is counter-based (splitmix64): a draw depends on ``(seed, index)`` and on nothing that
was drawn before, so any part of an epoch can be made again, in any order, on any machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray, LongArray
from spatialformer_core.cell_graph.grid_kernels import Grid

POSITIVE, EASY, HARD = 0, 1, 2
"""Kinds of pairs: neighbours, anywhere on the slide, in the ring around the cell."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ROUNDS = 4
_RING_TRIES = 64
_EASY_TRIES = 256


class Tissue(NamedTuple):
    """The graph and the place of every cell."""

    indptr: LongArray
    indices: IntArray
    x: DoubleArray
    y: DoubleArray


class Limits(NamedTuple):
    """Squared distances that bound the neighbours and the ring of hard negatives."""

    radius2: float
    lo2: float
    hi2: float
    hi: float


class Jobs(NamedTuple):
    """Which pairs to draw: the number that seeds each, its first cell, its kind."""

    number: LongArray
    anchor: IntArray
    kind: NDArray[np.int8]


class Near(NamedTuple):
    """Near pairs to be matched and the covariates to match them on."""

    left: IntArray
    right: IntArray
    covariates: FloatArray
    candidates: int


@nb.njit(cache=True)
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@nb.njit(cache=True)
def _stream(seed: int, index: int) -> np.uint64:
    """Return the state from which the draws of one index follow."""
    return _mix(_mix(np.uint64(seed) + _GOLDEN) ^ (np.uint64(index) * _GOLDEN + _MIX_1))


@nb.njit(cache=True)
def _below(state: np.uint64, n: int) -> int:
    """Return an integer in ``[0, n)`` for ``n < 2**31``."""
    return int(((_mix(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@nb.njit(cache=True)
def permute(index: LongArray, n: int, seed: int, epoch: int) -> LongArray:
    """Return where each index goes in a pseudo-random permutation of ``[0, n)``.

    A Feistel network over the next power of four, walked until it lands inside: no memory, and
    another permutation for each epoch.
    """
    half = np.uint64(1)
    while (np.uint64(1) << (np.uint64(2) * half)) < np.uint64(n):
        half += np.uint64(1)
    mask = (np.uint64(1) << half) - np.uint64(1)
    key = _stream(seed, epoch)
    out = np.empty(len(index), np.int64)
    for i in range(len(index)):
        value = np.uint64(index[i])
        while True:
            left, right = value >> half, value & mask
            for turn in range(_ROUNDS):
                mixed = _mix(key + right * _MIX_1 + np.uint64(turn) * _GOLDEN) & mask
                left, right = right, left ^ mixed
            value = (left << half) | right
            if value < np.uint64(n):
                break
        out[i] = np.int64(value)
    return out


@nb.njit(cache=True)
def _bin_range(centre: float, origin: float, reach: float, size: float, n: int) -> tuple[int, int]:
    first = max(0, int(np.floor((centre - reach - origin) / size)))
    last = min(n - 1, int(np.floor((centre + reach - origin) / size)))
    return first, last


@nb.njit(cache=True)
def _row_space(grid: Grid, hi: float) -> LongArray:
    """Return room for the rows of bins that a square of half width ``hi`` touches."""
    return np.empty((min(grid.ny, int(2 * hi / grid.bin_um) + 3), 2), np.int64)


@nb.njit(cache=True)
def _ring_rows(grid: Grid, x: float, y: float, hi: float, rows: LongArray) -> int:
    """List the entries of the bins that the square around a place touches, row by row.

    Writes how many entries there are up to each row's end, and what turns such a number into an
    entry. Returns the number of entries.
    """
    first_x, last_x = _bin_range(x, grid.x0, hi, grid.bin_um, grid.nx)
    first_y, last_y = _bin_range(y, grid.y0, hi, grid.bin_um, grid.ny)
    total = 0
    if last_x < first_x:
        return total
    for n, row in enumerate(range(first_y, last_y + 1)):
        start = grid.start[row * grid.nx + first_x]
        rows[n, 1] = start - total
        total += grid.start[row * grid.nx + last_x + 1] - start
        rows[n, 0] = total
    return total


@nb.njit(cache=True)
def _ring_entry(rows: LongArray, k: int) -> int:
    """Return the k-th of these entries."""
    row = 0
    while rows[row, 0] <= k:
        row += 1
    return int(rows[row, 1] + k)


@nb.njit(cache=True)
def _in_ring(grid: Grid, entry: int, x: float, y: float, limits: Limits) -> bool:
    dx, dy = grid.x[entry] - x, grid.y[entry] - y
    d2 = dx * dx + dy * dy
    return bool(limits.lo2 <= d2 <= limits.hi2)


@nb.njit(cache=True)
def _draw_ring(
    grid: Grid, place: tuple[float, float], limits: Limits, state: np.uint64, rows: LongArray
) -> int:
    """Return a cell drawn uniformly from the ring around a place, -1 if it is empty."""
    x, y = place
    total = _ring_rows(grid, x, y, limits.hi, rows)
    if total == 0:
        return -1
    for _ in range(_RING_TRIES):
        state += _GOLDEN
        entry = _ring_entry(rows, _below(state, total))
        if _in_ring(grid, entry, x, y, limits):
            return int(grid.order[entry])
    inside = 0
    for k in range(total):
        inside += _in_ring(grid, _ring_entry(rows, k), x, y, limits)
    if inside == 0:
        return -1
    wanted = _below(state + _GOLDEN, inside)
    for k in range(total):
        entry = _ring_entry(rows, k)
        if _in_ring(grid, entry, x, y, limits):
            if wanted == 0:
                return int(grid.order[entry])
            wanted -= 1
    return -1


@nb.njit(cache=True)
def has_ring(grid: Grid, tissue: Tissue, limits: Limits, cells: IntArray) -> BoolArray:
    """Tell for each cell whether there is any cell in the ring around it."""
    found, rows = np.zeros(len(cells), np.bool_), _row_space(grid, limits.hi)
    for i in range(len(cells)):
        place = (tissue.x[cells[i]], tissue.y[cells[i]])
        # A draw finds a cell in two or three tries and searches all only where there is none.
        found[i] = _draw_ring(grid, place, limits, _stream(0, i), rows) >= 0
    return found


@nb.njit(cache=True)
def _draw_easy(grid: Grid, x: float, y: float, radius2: float, state: np.uint64) -> int:
    """Return a cell drawn uniformly from all that are farther than the radius, or -1."""
    n = len(grid.order)
    for _ in range(_EASY_TRIES):
        state += _GOLDEN
        entry = _below(state, n)
        dx, dy = grid.x[entry] - x, grid.y[entry] - y
        if dx * dx + dy * dy > radius2:
            return int(grid.order[entry])
    far = np.empty(n, np.int32)
    m = 0
    for entry in range(n):
        dx, dy = grid.x[entry] - x, grid.y[entry] - y
        if dx * dx + dy * dy > radius2:
            far[m] = grid.order[entry]
            m += 1
    return int(far[_below(state + _GOLDEN, m)]) if m else -1


@nb.njit(cache=True)
def draw_pairs(
    tissue: Tissue, grid: Grid, limits: Limits, jobs: Jobs, seed: int
) -> tuple[IntArray, IntArray]:
    """Draw one pair per job; -1 where there is no such cell. Half of the pairs are swapped."""
    n = len(jobs.number)
    left, right = np.empty(n, np.int32), np.empty(n, np.int32)
    rows = _row_space(grid, limits.hi)
    for i in range(n):
        anchor = jobs.anchor[i]
        x, y = tissue.x[anchor], tissue.y[anchor]
        state = _stream(seed, jobs.number[i])
        swap = _mix(state) & np.uint64(1)
        state += _GOLDEN
        if jobs.kind[i] == POSITIVE:
            first, last = tissue.indptr[anchor], tissue.indptr[anchor + 1]
            other = -1
            if last > first:
                other = tissue.indices[first + _below(state, last - first)]
        elif jobs.kind[i] == EASY:
            other = _draw_easy(grid, x, y, limits.radius2, state)
        else:
            other = _draw_ring(grid, (x, y), limits, state, rows)
        left[i], right[i] = (other, anchor) if swap else (anchor, other)
    return left, right


@nb.njit(cache=True)
def _closest(
    grid: Grid, place: tuple[float, float], limits: Limits, near: Near, job: tuple[int, np.uint64]
) -> int:
    """Return the ring cell, of a few drawn, that most resembles the cell to be replaced."""
    (replaced, state), rows = job, _row_space(grid, limits.hi)
    best, best_d2 = -1, np.inf
    for _ in range(near.candidates):
        state = _mix(state + _GOLDEN)
        cell = _draw_ring(grid, place, limits, state, rows)
        if cell < 0:
            return -1
        d2 = 0.0
        for k in range(near.covariates.shape[1]):
            difference = near.covariates[cell, k] - near.covariates[replaced, k]
            d2 += difference * difference
        if d2 < best_d2:
            best, best_d2 = cell, d2
    return best


@nb.njit(cache=True)
def draw_far(
    tissue: Tissue, grids: tuple[Grid, Grid], limits: Limits, near: Near, job: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """Draw far pairs; -1 where none was found. ``grids``: left and right cells.

    With near pairs, each far pair keeps one cell of a near pair and replaces the other.
    """
    n, seed = job
    lefts, rights = grids
    left, right = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    rows = _row_space(rights, limits.hi)
    for i in range(n):
        state = _stream(seed, i)
        if len(near.left):
            a, b = near.left[i % len(near.left)], near.right[i % len(near.left)]
            keep_left = (_mix(state) & np.uint64(1)) == np.uint64(1)
            for _ in range(2):
                if left[i] < 0 and keep_left:
                    cell = _closest(rights, (tissue.x[a], tissue.y[a]), limits, near, (b, state))
                    if cell >= 0:
                        left[i], right[i] = a, cell
                elif left[i] < 0:
                    cell = _closest(lefts, (tissue.x[b], tissue.y[b]), limits, near, (a, state))
                    if cell >= 0:
                        left[i], right[i] = cell, b
                keep_left = not keep_left
            continue
        for _ in range(_RING_TRIES):
            state = _mix(state + _GOLDEN)
            a = lefts.order[_below(state, len(lefts.order))]
            cell = _draw_ring(rights, (tissue.x[a], tissue.y[a]), limits, state, rows)
            if cell >= 0:
                left[i], right[i] = a, cell
                break
    return left, right
