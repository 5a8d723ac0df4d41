"""Counting sorts of transcripts by a small whole number: cell, tile or gene.

An order is a list of row numbers, 4 bytes per transcript, so that a hundred million transcripts
are sorted in memory and their columns never move there: they are gathered while they are written.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, IntArray, LongArray

Order = NDArray[np.uint32]


@nb.njit(cache=True, nogil=True)
def _count(keys: IntArray, counts: LongArray) -> None:
    for i in range(len(keys)):
        if keys[i] >= 0:
            counts[keys[i]] += 1


@nb.njit(cache=True, nogil=True)
def _place(keys: IntArray, start: LongArray, order: Order) -> None:
    for i in range(len(keys)):
        key = keys[i]
        if key >= 0:
            order[start[key]] = i
            start[key] += 1


@nb.njit(cache=True, nogil=True)
def _count_rows(rows: Order, keys: IntArray, counts: LongArray) -> None:
    for i in range(len(rows)):
        counts[keys[rows[i]]] += 1


@nb.njit(cache=True, nogil=True)
def _place_rows(rows: Order, keys: IntArray, start: LongArray, order: Order) -> None:
    for i in range(len(rows)):
        key = keys[rows[i]]
        order[start[key]] = rows[i]
        start[key] += 1


@nb.njit(cache=True, nogil=True)
def _tally(feature: IntArray, cell: IntArray, good: BoolArray, table: LongArray) -> None:
    for i in range(len(feature)):
        table[feature[i], int(good[i]), int(cell[i] >= 0)] += 1


def count_by(keys: IntArray, n: int) -> LongArray:
    """Count the rows of each key, shape ``(n,)``; negative keys are left out."""
    counts = np.zeros(n, np.int64)
    _count(keys, counts)
    return counts


def order_by(keys: IntArray, n: int) -> tuple[LongArray, Order]:
    """Sort rows by key, stable; rows with a negative key are left out.

    Parameters
    ----------
    keys
        Below ``n``, shape ``(m,)``.

    Returns
    -------
    indptr, order
        Row pointers of the keys, shape ``(n + 1,)``, and the rows in order of their keys.
    """
    indptr = np.zeros(n + 1, np.int64)
    _count(keys, indptr[1:])
    np.cumsum(indptr, out=indptr)
    order = np.empty(indptr[-1], np.uint32)
    _place(keys, indptr[:-1].copy(), order)
    return indptr, order


def reorder_by(rows: Order, keys: IntArray, n: int) -> tuple[LongArray, Order]:
    """Sort some rows by key, stable: ties keep the order of ``rows``.

    Parameters
    ----------
    rows
        Rows of ``keys``, shape ``(k,)``.
    keys
        In ``0..n-1`` for all those rows, shape ``(m,)``.
    """
    indptr = np.zeros(n + 1, np.int64)
    _count_rows(rows, keys, indptr[1:])
    np.cumsum(indptr, out=indptr)
    order = np.empty(len(rows), np.uint32)
    _place_rows(rows, keys, indptr[:-1].copy(), order)
    return indptr, order


def tally(feature: IntArray, cell: IntArray, good: BoolArray, n_features: int) -> LongArray:
    """Count transcripts by feature, by quality and by whether they lie in a cell.

    Returns
    -------
    NDArray
        Shape ``(n_features, 2, 2)``: ``[feature, passes quality, in a cell]``.
    """
    table = np.zeros((n_features, 2, 2), np.int64)
    _tally(feature, cell, good, table)
    return table
