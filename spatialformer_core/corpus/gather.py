"""Copying ragged rows out of memory-mapped shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import IntArray, LongArray


def gather(
    pointers: Sequence[LongArray],
    values: Sequence[NDArray[Any]],
    slide: LongArray,
    local: NDArray[np.integer],
) -> tuple[LongArray, IntArray]:
    """Return ragged rows of several slides in the order asked for.

    Parameters
    ----------
    pointers, values
        CSR arrays of each slide.
    slide, local
        Slide and row within it, shape ``(n,)``.

    Returns
    -------
    indptr, values
        Shape ``(n + 1,)`` and ``(total,)``.
    """
    rows = np.require(local, np.int64, ["C", "W"])
    indptr = np.zeros(len(rows) + 1, np.int64)
    present = np.unique(slide)
    for number in present:
        chosen = slide == number
        at = rows[chosen]
        indptr[1:][chosen] = pointers[number][at + 1] - pointers[number][at]
    np.cumsum(indptr, out=indptr)
    out = np.empty(indptr[-1], np.int32)
    for number in present:
        slots = np.flatnonzero(slide == number)
        _copy_rows(pointers[number], values[number], rows[slots], indptr[slots], out)
    return indptr, out


@nb.njit(cache=True)
def _copy_rows(
    indptr: LongArray, values: NDArray[Any], rows: LongArray, target: LongArray, out: IntArray
) -> None:
    for i in range(len(rows)):
        start = indptr[rows[i]]
        for k in range(indptr[rows[i] + 1] - start):
            out[target[i] + k] = values[start + k]
