"""From ragged cells to packed sequences.

A batch carries no padding: all sequences stand behind each other in one row of tokens, sorted by
length. Layers that look at one token at a time run on that row directly; attention cuts it into
groups of (nearly) equal length and pads only there. So padding can change no result, batch
statistics see real tokens only, and short cells do not pay for long ones.

Single cell: ``CLS meta(4) genes SEP``. Pair: ``CLS meta(4) genes SEP meta(4) genes SEP``.
Segment 1 is the first cell with CLS and its SEP, segment 2 the second cell with its SEP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spatialformer_core.arrays import CellTokens, LongArray
from spatialformer_core.vocabulary import CLS, SEP

N_META = 4
HEAD_TOKENS = 1 + N_META
"""Tokens before the first gene of the first cell."""

_GROUP_SLACK = 1.12
_GROUP_EXTRA = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring sequences of similar length that attention handles together.

    Attributes
    ----------
    start, stop
        Rows of the packed batch.
    n, length
        Number of sequences and length of the longest.
    index
        Where each packed row stands in the padded ``(n * length)`` rows; None if all are equally
        long and a view is enough.
    padding
        Key padding, True on padded places, ``(n, length)``; None as above.
    """

    start: int
    stop: int
    n: int
    length: int
    index: Tensor | None
    padding: Tensor | None


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of sequences without padding, sorted by length.

    Attributes
    ----------
    tokens, segments, magnitudes, counts
        Per packed row, shape ``(T,)``. Magnitude 0 means none; raw counts are 0 where there is no
        gene, or a hidden one.
    starts
        First row (CLS) of each sequence, shape ``(B,)``.
    conv_index
        Where each row stands once gaps of zeros are put between the sequences, shape ``(T,)``.
    groups
        The sequences by length.
    order
        ``order[k]`` is the caller's number of the ``k``-th packed sequence, shape ``(B,)``.
    """

    tokens: Int[Tensor, " T"]
    segments: Int[Tensor, " T"]
    magnitudes: Int[Tensor, " T"]
    counts: Int[Tensor, " T"]
    starts: Int[Tensor, " B"]
    conv_index: Int[Tensor, " T"]
    groups: tuple[Group, ...]
    order: LongArray

    def to(self, device: torch.device | str) -> Packed:
        """Return the batch on a device."""

        def move(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device)

        groups = tuple(
            Group(g.start, g.stop, g.n, g.length, move(g.index), move(g.padding))
            for g in self.groups
        )
        return Packed(
            move(self.tokens),
            move(self.segments),
            move(self.magnitudes),
            move(self.counts),
            move(self.starts),
            move(self.conv_index),
            groups,
            self.order,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Sequences as plain arrays, before masking and before they become tensors.

    Attributes
    ----------
    tokens, segments, magnitudes, counts
        Per packed row, shape ``(T,)``; magnitude and raw count are 0 where there is no gene.
    lengths
        Length of each packed sequence, ascending, shape ``(B,)``.
    starts
        First row of each packed sequence, shape ``(B,)``.
    order
        As in `Packed`.
    first_gene
        Packed row of the first gene of the left and of the right cell of each sequence, in the
        caller's order, shape ``(B, 1)`` for single cells, ``(B, 2)`` for pairs.
    """

    tokens: LongArray
    segments: LongArray
    magnitudes: LongArray
    counts: LongArray
    lengths: LongArray
    starts: LongArray
    order: LongArray
    first_gene: LongArray


def magnitude_bins(counts: NDArray[np.integer], n_bins: int) -> LongArray:
    """Return the half-octave bin of raw counts, 1 to ``n_bins`` (0 everywhere if ``n_bins`` is 0).

    Bin ``1 + floor(2 log2(count))``: counts 1, 2, 3, 4, 6, 8 lie in bins 1, 3, 4, 5, 6, 7.
    """
    bins = np.zeros(len(counts), np.int64)
    if n_bins:
        octaves = np.log2(np.maximum(counts, 1).astype(np.float64))
        # The small addend keeps exact powers of two on the right side of the floor.
        bins[:] = np.minimum(1 + np.floor(2 * octaves + 1e-9), n_bins)
    return bins


def _ragged_rows(starts: LongArray, lengths: LongArray) -> LongArray:
    """Return ``starts[k] + 0 .. lengths[k] - 1`` for all ``k``, behind each other."""
    first = np.cumsum(lengths) - lengths
    rows: LongArray = np.repeat(starts - first, lengths) + np.arange(lengths.sum())
    return rows


def lay_out(cells: CellTokens, right: CellTokens | None = None, n_bins: int = 0) -> Rows:
    """Lay single cells, or aligned pairs of cells, out as sequences sorted by length.

    Parameters
    ----------
    cells
        The cells, or the left cells of the pairs.
    right
        The right cells, as many as ``cells``; None for single cells.
    n_bins
        Magnitude bins of the model that will read the sequences.
    """
    sides = [cells] if right is None else [cells, right]
    lengths: LongArray = 1 + np.sum([side.lengths + N_META + 1 for side in sides], axis=0)
    order = np.argsort(lengths, kind="stable")
    starts = np.empty(len(lengths), np.int64)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    total = int(lengths.sum())
    tokens, segments, magnitudes, counts = (np.zeros(total, np.int64) for _ in range(4))
    tokens[starts] = CLS
    segments[starts] = 1
    cursor = starts + 1
    first_gene = np.empty((len(lengths), len(sides)), np.int64)
    for number, side in enumerate(sides):
        meta_rows = cursor[:, None] + np.arange(N_META)
        tokens[meta_rows] = side.meta
        first_gene[:, number] = cursor + N_META
        rows = _ragged_rows(first_gene[:, number], side.lengths)
        tokens[rows] = side.tokens
        magnitudes[rows] = magnitude_bins(side.counts, n_bins)
        counts[rows] = side.counts
        end = first_gene[:, number] + side.lengths
        tokens[end] = SEP
        segments[_ragged_rows(cursor, side.lengths + N_META + 1)] = number + 1
        cursor = end + 1
    packed = tokens, segments, magnitudes, counts
    return Rows(*packed, lengths[order], starts[order], order, first_gene)


def _group_bounds(lengths: LongArray) -> list[tuple[int, int]]:
    """Cut ascending lengths where the longest would waste more than an eighth of the shortest."""
    bounds, first = [], 0
    for k in range(1, len(lengths) + 1):
        limit = lengths[first] * _GROUP_SLACK + _GROUP_EXTRA
        if k == len(lengths) or lengths[k] > limit:
            bounds.append((first, k))
            first = k
    return bounds


def _group(lengths: LongArray, start: int) -> Group:
    n, longest, rows = len(lengths), int(lengths[-1]), int(lengths.sum())
    if lengths[0] == longest:
        return Group(start, start + rows, n, longest, None, None)
    index = _ragged_rows(np.arange(n) * longest, lengths)
    padding = np.arange(longest) >= lengths[:, None]
    return Group(
        start, start + rows, n, longest, torch.from_numpy(index), torch.from_numpy(padding)
    )


def pack(rows: Rows, conv_kernel: int) -> Packed:
    """Turn laid-out sequences into tensors, with the plan for attention and convolution."""
    groups = tuple(
        _group(rows.lengths[first:last], int(rows.starts[first]))
        for first, last in _group_bounds(rows.lengths)
    )
    # Half a kernel of zeros between two sequences: no tap reaches from one into the next.
    gap = conv_kernel // 2
    number = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
    conv_index = np.arange(len(rows.tokens)) + gap * (number + 1)
    return Packed(
        torch.from_numpy(rows.tokens),
        torch.from_numpy(rows.segments),
        torch.from_numpy(rows.magnitudes),
        torch.from_numpy(rows.counts),
        torch.from_numpy(rows.starts),
        torch.from_numpy(conv_index),
        groups,
        rows.order,
    )
