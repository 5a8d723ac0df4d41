"""Numba kernels that link the transcripts of a cell, as a matrix of bits or lists of neighbours.

A file of its own because numba's cache does not see a helper change in another file.

At 5 um about half of a cell's transcripts are linked to each other: one bit per pair is then far
smaller than a list, and 64 distances are compared without a branch. A graph with fewer links than
one pair in 32 takes less memory as lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, IntArray, LongArray
from spatialformer_core.cooccurrence.order_kernels import Run

BitRows = NDArray[np.uint64]

_WORD = 64
_SPARSE = 32
_ONE = np.uint64(1)


class Links(NamedTuple):
    """Links of the transcripts of a run, each cell in one of two forms."""

    bits: BitRows  # flat: rows of one word per 64 transcripts of the cell
    first_word: LongArray  # of each cell, (n_cells + 1,); no words: see the lists
    indptr: LongArray  # of each transcript, (m + 1,)
    indices: IntArray  # places within the cell, ascending


class Points(NamedTuple):
    """Transcripts of one cell, padded with NaN to whole words of bits."""

    x: DoubleArray
    y: DoubleArray
    z: DoubleArray
    n: int


@nb.njit(cache=True, nogil=True)
def _points(run: Run, start: int, stop: int) -> Points:
    n = stop - start
    padded = (n + _WORD - 1) // _WORD * _WORD
    x, y, z = np.full(padded, np.nan), np.full(padded, np.nan), np.full(padded, np.nan)
    for i in range(n):
        x[i], y[i], z[i] = run.position[start + i]
    return Points(x, y, z, n)


@nb.njit(cache=True, nogil=True)
def _count_bits(word: np.uint64) -> int:
    # LLVM knows this sum and emits the processor's own instruction.
    word -= (word >> _ONE) & np.uint64(0x5555555555555555)
    twos = np.uint64(0x3333333333333333)
    word = (word & twos) + ((word >> np.uint64(2)) & twos)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56)))


@nb.njit(cache=True, nogil=True)
def _link_row(points: Points, i: int, radius2: float, row: BitRows) -> int:
    """Set the bits of the transcripts within the radius of one; return how many there are."""
    x, y, z = points.x[i], points.y[i], points.z[i]
    n = 0
    for w in range(len(row)):
        word, base = np.uint64(0), w * _WORD
        for b in range(_WORD):
            dx, dy, dz = points.x[base + b] - x, points.y[base + b] - y, points.z[base + b] - z
            word |= np.uint64(dx * dx + dy * dy + dz * dz <= radius2) << np.uint64(b)
        if w == i >> 6:
            word &= ~(_ONE << np.uint64(i & 63))
        row[w] = word
        n += _count_bits(word)
    return n


@nb.njit(cache=True, nogil=True)
def _list_row(row: BitRows, indices: IntArray, k: int) -> int:
    for w in range(len(row)):
        word = row[w]
        while word != np.uint64(0):
            indices[k] = w * _WORD + _count_bits((word & (~word + _ONE)) - _ONE)
            word &= word - _ONE
            k += 1
    return k


@nb.njit(cache=True, nogil=True)
def link(run: Run, radius: float, wanted: BoolArray) -> Links:
    """Link transcripts of the same cell at most ``radius`` apart, in the cells that are wanted."""
    n_cells = len(run.indptr) - 1
    bits, indices = np.empty(1 << 10, np.uint64), np.empty(0, np.int32)
    first_word, indptr = np.zeros(n_cells + 1, np.int64), np.zeros(len(run.gene) + 1, np.int64)
    for cell in range(n_cells):
        start, stop = run.indptr[cell], run.indptr[cell + 1]
        n, at = stop - start, first_word[cell]
        first_word[cell + 1] = at
        indptr[start + 1 : stop + 1] = indptr[start]
        if not wanted[cell] or n == 0:
            continue
        words, n_links = (n + _WORD - 1) // _WORD, 0
        if at + n * words > len(bits):
            more = np.empty(2 * (at + n * words), np.uint64)
            more[:at] = bits[:at]
            bits = more
        points = _points(run, start, stop)
        for i in range(n):
            row = bits[at + i * words : at + (i + 1) * words]
            n_links += _link_row(points, i, radius * radius, row)
            indptr[start + i + 1] = indptr[start] + n_links
        if n_links * _SPARSE >= n * n:
            first_word[cell + 1] = at + n * words
            indptr[start + 1 : stop + 1] = indptr[start]
            continue
        if indptr[stop] > len(indices):
            longer = np.empty(2 * indptr[stop], np.int32)
            longer[: indptr[start]] = indices[: indptr[start]]
            indices = longer
        for i in range(n):
            row = bits[at + i * words : at + (i + 1) * words]
            _list_row(row, indices, indptr[start + i])
    return Links(bits, first_word, indptr, indices)
