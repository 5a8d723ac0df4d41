"""The first convolution of many nearly equal sequences, once per distinct neighbourhood.

Before the first attention a row depends on its own token and on those within half a kernel only.
Knock-outs of one cell, or of a pair of cells, repeat the same neighbourhoods thousands of times:
of 70 x 70 versions of a pair about one row in a hundred is new. So embedding, first convolution,
its feed-forward and the first queries, keys and values are computed once per distinct row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba as nb
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spatialformer_core.arrays import LongArray
from spatialformer_core.model.layout import Packed

WORTH = 0.6
"""Rows are shared where distinct ones are at most this share of all: finding them costs, too."""

_N_SEGMENTS = 3
_START, _STEP = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows of a packed batch by what stands around them.

    Attributes
    ----------
    kinds
        A row of the batch for each distinct (token, segment, magnitude), shape ``(K,)``.
    around
        Kinds within half a kernel of each distinct row, ``K`` beyond either end of its sequence,
        shape ``(U, kernel)``.
    number
        Which distinct row each packed row is, shape ``(T,)``.
    """

    kinds: Int[Tensor, " K"]
    around: Int[Tensor, "U W"]
    number: Int[Tensor, " T"]

    @property
    def centre(self) -> Int[Tensor, " U"]:
        """Kind of each distinct row itself."""
        return self.around[:, self.around.shape[1] // 2]

    def embedded(self, batch: Packed) -> Packed:
        """Return the batch with one row per kind, for layers that look at single rows."""
        return replace(
            batch,
            tokens=batch.tokens[self.kinds],
            segments=batch.segments[self.kinds],
            magnitudes=batch.magnitudes[self.kinds],
        )

    def convolved(
        self, of_kind: Float[Tensor, "K D"], weight: Float[Tensor, "D 1 W"]
    ) -> Float[Tensor, "U D"]:
        """Return the depthwise convolution of each distinct row, zeros beyond both ends."""
        padded = torch.cat([of_kind, of_kind.new_zeros(1, of_kind.shape[1])])
        taps = weight[:, 0].t()
        out = padded[self.around[:, 0]] * taps[0]
        for place in range(1, len(taps)):
            out = out.addcmul_(padded[self.around[:, place]], taps[place])
        return out


def find_windows(batch: Packed, kernel: int) -> Windows | None:
    """Return the distinct rows of a batch, None if they are too many to be worth it.

    Parameters
    ----------
    batch
        On a CPU.
    kernel
        Width of the convolution.
    """
    tokens, segments, magnitudes = (
        part.numpy() for part in (batch.tokens, batch.segments, batch.magnitudes)
    )
    if not len(tokens):
        return None
    code = (tokens * _N_SEGMENTS + segments) * (magnitudes.max() + 1) + magnitudes
    _, kinds, kind = np.unique(code, return_index=True, return_inverse=True)
    starts = batch.starts.numpy()
    ends = np.append(starts[1:], len(tokens))
    most = int(WORTH * len(tokens))
    first, number = _distinct(kind, (starts, ends), kernel // 2, most)
    if len(first) > most:
        return None
    around = _around(kind, (starts, ends), kernel // 2, first, len(kinds))
    return Windows(torch.from_numpy(kinds), torch.from_numpy(around), torch.from_numpy(number))


@nb.njit(cache=True, nogil=True)
def _same(
    kind: LongArray, one: tuple[int, int, int], other: tuple[int, int, int], half: int
) -> bool:
    """Tell whether two rows, each given with the bounds of its sequence, see the same."""
    for shift in range(-half, half + 1):
        a, b = one[0] + shift, other[0] + shift
        inside = one[1] <= a < one[2]
        if inside != (other[1] <= b < other[2]) or (inside and kind[a] != kind[b]):
            return False
    return True


@nb.njit(cache=True, nogil=True)
def _distinct(
    kind: LongArray, bounds: tuple[LongArray, LongArray], half: int, most: int
) -> tuple[LongArray, LongArray]:
    """Return a row for each distinct neighbourhood, and the neighbourhood of every row.

    Stops where there are more than ``most``. Rows are found by a hash and compared in full.
    """
    starts, ends = bounds
    size = 16
    while size < 2 * (most + 2):
        size *= 2
    held = np.full(size, -1, np.int64)
    number = np.empty(len(kind), np.int64)
    rows, sequence = np.empty(most + 1, np.int64), np.empty(most + 1, np.int64)
    found = 0
    for s in range(len(starts)):
        for row in range(starts[s], ends[s]):
            key = _START
            for place in range(row - half, row + half + 1):
                value = kind[place] + 1 if starts[s] <= place < ends[s] else 0
                key = (key ^ np.uint64(value)) * _STEP
            at = np.int64((key ^ (key >> np.uint64(29))) & np.uint64(size - 1))
            while held[at] >= 0:
                known = held[at]
                q = sequence[known]
                here, there = (row, starts[s], ends[s]), (rows[known], starts[q], ends[q])
                if _same(kind, here, there, half):
                    break
                at = (at + 1) & (size - 1)
            if held[at] < 0:
                held[at], rows[found], sequence[found] = found, row, s
                found += 1
                if found > most:
                    return rows[:found], number
            number[row] = held[at]
    return rows[:found], number


def _around(
    kind: NDArray[np.int64],
    bounds: tuple[LongArray, LongArray],
    half: int,
    rows: LongArray,
    beyond: int,
) -> LongArray:
    starts, ends = bounds
    sequence = np.searchsorted(starts, rows, side="right") - 1
    place = rows[:, None] + np.arange(-half, half + 1)
    inside = (place >= starts[sequence, None]) & (place < ends[sequence, None])
    return np.where(inside, kind[np.where(inside, place, 0)], beyond)
