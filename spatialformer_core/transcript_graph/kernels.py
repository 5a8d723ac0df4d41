"""Numba kernels of the transcript graph and its sampler.

Kernels call only kernels of their own file, because numba's cache does not see a helper change in
another. All release the interpreter lock and write to places of their own, so the result does not
depend on the number of threads. Randomness is counter-based (splitmix64): a draw depends on the
seed and on the number of its root, not on what was drawn before.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from spatialformer_core.arrays import DoubleArray, IntArray, LongArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_NEGATIVE_TRIES = 256

NONE = -1
"""In place of a transcript: there is none."""


class Points(NamedTuple):
    """Transcripts in the order of a cell list: by row of bins, then by bin."""

    x: DoubleArray
    y: DoubleArray
    z: DoubleArray
    cell: IntArray  # cell of each transcript; all 0 where cells do not matter
    column: IntArray  # bin of each transcript along x
    row: IntArray
    start: LongArray  # first transcript of each bin, (nx * ny + 1,)
    nx: int
    ny: int


@nb.njit(cache=True, nogil=True)
def fill_bins(bins: LongArray, start: LongArray, order: LongArray) -> None:
    """Sort by bin, keeping the order within a bin; ``start`` comes in as zeros."""
    for i in range(len(bins)):
        start[bins[i] + 1] += 1
    for k in range(len(start) - 1):
        start[k + 1] += start[k]
    at = start[:-1].copy()
    for i in range(len(bins)):
        order[at[bins[i]]] = i
        at[bins[i]] += 1


@nb.njit(cache=True, nogil=True)
def _window(points: Points, i: int, row: int) -> tuple[int, int]:
    base = row * points.nx
    first = max(points.column[i] - 1, 0)
    last = min(points.column[i] + 1, points.nx - 1)
    return points.start[base + first], points.start[base + last + 1]


@nb.njit(cache=True, nogil=True)
def link(points: Points, radius2: float, bounds: tuple[int, int], degree: LongArray) -> IntArray:
    """Return the neighbours of transcripts ``first..last``, ascending, and write how many.

    Transcripts are numbered row by row of bins, so that the windows come in ascending order and
    nothing has to be sorted.
    """
    first, last = bounds
    found = np.empty(max(64 * (last - first), 1024), np.int32)
    n = 0
    for i in range(first, last):
        before = n
        x, y, z, cell = points.x[i], points.y[i], points.z[i], points.cell[i]
        for row in range(max(points.row[i] - 1, 0), min(points.row[i] + 2, points.ny)):
            lo, hi = _window(points, i, row)
            if n + hi - lo > len(found):
                grown = np.empty(2 * (n + hi - lo), np.int32)
                grown[:n] = found[:n]
                found = grown
            for j in range(lo, hi):
                dx, dy, dz = points.x[j] - x, points.y[j] - y, points.z[j] - z
                # Without a branch: a third of the tests succeed, no processor predicts them.
                found[n] = j
                near = dx * dx + dy * dy + dz * dz <= radius2
                n += near & (j != i) & (points.cell[j] == cell)
        degree[i] = n - before
    return found[:n].copy()


@nb.njit(cache=True, nogil=True)
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@nb.njit(cache=True, nogil=True)
def _stream(seed: int, index: int) -> np.uint64:
    """Return the state from which the draws of one index follow."""
    return _mix(_mix(np.uint64(seed) + _GOLDEN) ^ (np.uint64(index) * _GOLDEN + _MIX_1))


@nb.njit(cache=True, nogil=True)
def _below(state: np.uint64, n: int) -> int:
    """Return an integer in ``[0, n)`` for ``n < 2**31``."""
    return int(((_mix(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@nb.njit(cache=True, nogil=True)
def _any_neighbour(indptr: LongArray, indices: IntArray, node: int, state: np.uint64) -> int:
    if node == NONE or indptr[node + 1] == indptr[node]:
        return NONE
    return int(indices[indptr[node] + _below(state, indptr[node + 1] - indptr[node])])


@nb.njit(cache=True, nogil=True)
def two_hops(
    network: tuple[LongArray, IntArray],
    roots: LongArray,
    seed: int,
    hop_1: IntArray,
    hop_2: IntArray,
) -> None:
    """Draw neighbours with replacement; ``hop_1 (b, k1)``, ``hop_2 (b, 1 + k1, k2)``."""
    indptr, indices = network
    for b in range(len(roots)):
        state = _stream(seed, roots[b])
        for t in range(hop_1.shape[1]):
            state += _GOLDEN
            hop_1[b, t] = _any_neighbour(indptr, indices, int(roots[b]), state)
        for s in range(hop_1.shape[1] + 1):
            node = int(roots[b]) if s == 0 else int(hop_1[b, s - 1])
            for t in range(hop_2.shape[2]):
                state += _GOLDEN
                hop_2[b, s, t] = _any_neighbour(indptr, indices, node, state)


@nb.njit(cache=True, nogil=True)
def draw_partners(
    network: tuple[LongArray, IntArray],
    position: DoubleArray,
    bounds: tuple[LongArray, LongArray, float],
    roots: LongArray,
    seed: int,
) -> tuple[IntArray, IntArray]:
    """Draw for each root a neighbour, and a transcript of its slide beyond the radius.

    ``bounds``: first transcript of the root's slide and the one after its last, squared radius.
    """
    indptr, indices = network
    low, high, radius2 = bounds
    near, far = np.full(len(roots), NONE, np.int32), np.full(len(roots), NONE, np.int32)
    for b in range(len(roots)):
        root = roots[b]
        state = _stream(seed, b)
        near[b] = _any_neighbour(indptr, indices, root, state)
        for _ in range(_NEGATIVE_TRIES):
            state += _GOLDEN
            other = low[b] + _below(state, high[b] - low[b])
            d2 = 0.0
            for k in range(position.shape[1]):
                offset = position[other, k] - position[root, k]
                d2 += offset * offset
            if d2 > radius2:
                far[b] = other
                break
    return near, far
