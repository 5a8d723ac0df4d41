"""Numba kernels of the canonical order of a cell's transcripts.

Whatever is decided by an order (visits of Louvain, ties, permutations) is decided by this one,
which depends neither on the order of the transcripts nor on how the slide is moved, turned or
mirrored. A file of its own because numba's cache does not see a helper change in another file.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import DoubleArray, IntArray, LongArray

_FIXED_POINT = float(1 << 20)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Run(NamedTuple):
    """Transcripts of some consecutive cells."""

    position: DoubleArray  # (m, 3), um, z = 0 in two dimensions
    gene: IntArray
    indptr: LongArray


@nb.njit(cache=True, nogil=True)
def _before(run: Run, a: int, b: int) -> bool:
    for k in range(3):
        if run.position[a, k] != run.position[b, k]:
            return bool(run.position[a, k] < run.position[b, k])
    return bool(run.gene[a] < run.gene[b])


@nb.njit(cache=True, nogil=True)
def _squares(run: Run, start: int, stop: int) -> DoubleArray:
    """Return squared distances from a cell's centre.

    The centre is summed in whole numbers, so that it does not depend on the order of the sum.
    """
    n = stop - start
    square = np.zeros(n)
    for k in range(3):
        low = run.position[start, k]
        for i in range(start, stop):
            low = min(low, run.position[i, k])
        total = np.int64(0)
        for i in range(start, stop):
            total += np.int64(np.rint((run.position[i, k] - low) * _FIXED_POINT))
        centre = total / (n * _FIXED_POINT)
        for i in range(n):
            offset = (run.position[start + i, k] - low) - centre
            square[i] += offset * offset
    return square


@nb.njit(cache=True, nogil=True)
def canonical_order(run: Run) -> LongArray:
    """Return the run's transcripts, cell by cell, by distance from the cell's centre."""
    order = np.empty(len(run.gene), np.int64)
    rounded = np.empty(1, np.float32)
    # Positive floats order like their bit patterns; the low half of a key is the transcript.
    pattern = rounded.view(np.uint32)
    for cell in range(len(run.indptr) - 1):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        if stop == start:
            continue
        square = _squares(run, start, stop)
        keys = np.empty(stop - start, np.uint64)
        for i in range(stop - start):
            rounded[0] = square[i]
            keys[i] = (np.uint64(pattern[0]) << np.uint64(32)) | np.uint64(i)
        keys.sort()
        # Insertion puts those right that only the full precision or the place tells apart.
        for i in range(stop - start):
            moved = start + np.int64(keys[i] & np.uint64(0xFFFFFFFF))
            own = square[moved - start]
            j = start + i - 1
            while j >= start and (
                square[order[j] - start] > own
                or (square[order[j] - start] == own and _before(run, moved, order[j]))
            ):
                order[j + 1] = order[j]
                j -= 1
            order[j + 1] = moved
    return order


@nb.njit(cache=True, nogil=True)
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@nb.njit(cache=True, nogil=True)
def visit_orders(run: Run, job: tuple[int, int]) -> IntArray:
    """Return in which orders the transcripts of each cell are visited, ``(n_seeds, m)``.

    ``job``: how many orders, and their seed. A single one is as they come; several are
    permutations that depend on the seed and the number of transcripts alone.
    """
    n_seeds, seed = job
    orders = np.empty((n_seeds, len(run.gene)), np.int32)
    for cell in range(len(run.indptr) - 1):
        start, n = run.indptr[cell], run.indptr[cell + 1] - run.indptr[cell]
        for number in range(n_seeds):
            order = orders[number, start : start + n]
            for i in range(n):
                order[i] = i
            if n_seeds == 1:
                continue
            state = _mix(_mix(np.uint64(seed) + _GOLDEN) + np.uint64(number) * _MIX_1)
            for i in range(n - 1, 0, -1):
                state += _GOLDEN
                j = np.int64(((_mix(state) >> np.uint64(32)) * np.uint64(i + 1)) >> np.uint64(32))
                order[i], order[j] = order[j], order[i]
    return orders
