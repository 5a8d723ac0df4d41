"""Cell pairs as token sequences: ``CLS meta genes SEP meta genes SEP``, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, GenePairs, IntArray, LongArray
from spatialformer_core.corpus.corpus import Corpus
from spatialformer_core.corpus.pairs import PairBatch
from spatialformer_core.vocabulary import CLS, META_FIELDS, PAD, SEP

N_META = len(META_FIELDS)
LEFT_HEAD = 1 + N_META
"""Places before the first gene of the left cell."""
OVERHEAD = LEFT_HEAD + 1 + N_META + 1
"""Places of a pair that are no genes."""


@dataclass(frozen=True, slots=True)
class DensePairs:
    """Sequences padded to the longest of the batch.

    Attributes
    ----------
    tokens, segments, counts
        Shape ``(n, length)``; padding has token ``<PAD>`` and segment and count 0.
    """

    tokens: IntArray
    segments: NDArray[np.int8]
    counts: IntArray

    @property
    def mask(self) -> BoolArray:
        """True where a token stands, shape ``(n, length)``."""
        return np.asarray(self.segments != 0)


@dataclass(frozen=True, slots=True)
class PairSequences:
    """Labelled pairs as ragged sequences.

    Attributes
    ----------
    pairs
        Rows of the corpus, labels, kinds and slides.
    indptr
        First place of each sequence, shape ``(n + 1,)``.
    tokens
        Token ids, shape ``(total,)``.
    segments
        1 for the left cell with CLS and its SEP, 2 for the right cell with its SEP.
    counts
        Raw counts of the genes, 0 elsewhere.
    gene_pairs
        Co-occurring genes of both cells as places within the sequence, left cell first.
    has_cooccurrence
        Sequences whose slide has transcript positions, shape ``(n,)``.
    """

    pairs: PairBatch
    indptr: LongArray
    tokens: IntArray
    segments: NDArray[np.int8]
    counts: IntArray
    gene_pairs: GenePairs
    has_cooccurrence: BoolArray

    @property
    def lengths(self) -> LongArray:
        """Places of each sequence, shape ``(n,)``."""
        return np.diff(self.indptr)

    @property
    def padding_waste(self) -> float:
        """Share of a dense batch that would be padding."""
        lengths = self.lengths
        return float(1 - lengths.sum() / (len(lengths) * lengths.max())) if len(lengths) else 0.0

    def part(self, start: int, stop: int) -> PairSequences:
        """Return consecutive sequences; the large arrays are views."""
        at = slice(self.indptr[start], self.indptr[stop])
        linked = self.gene_pairs
        inside = slice(linked.indptr[start], linked.indptr[stop])
        return PairSequences(
            self.pairs.take(slice(start, stop)),
            self.indptr[start : stop + 1] - self.indptr[start],
            self.tokens[at],
            self.segments[at],
            self.counts[at],
            GenePairs(
                linked.indptr[start : stop + 1] - linked.indptr[start],
                linked.left[inside],
                linked.right[inside],
            ),
            self.has_cooccurrence[start:stop],
        )

    def dense(self) -> DensePairs:
        """Return the sequences padded to the longest of them."""
        n, longest = len(self.lengths), int(self.lengths.max(initial=0))
        padded = DensePairs(
            np.full((n, longest), PAD, np.int32),
            np.zeros((n, longest), np.int8),
            np.zeros((n, longest), np.int32),
        )
        inside = np.arange(longest) < self.lengths[:, None]
        for field in fields(padded):
            getattr(padded, field.name)[inside] = getattr(self, field.name)
        return padded


def pair_lengths(corpus: Corpus, pairs: PairBatch) -> LongArray:
    """Return the length of each pair's sequence, shape ``(n,)``."""
    genes = corpus.n_genes_of_cell
    return OVERHEAD + genes[pairs.left_cells] + genes[pairs.right_cells]


class _Cells(NamedTuple):
    """Cells of one slide as the kernel takes them."""

    indptr: LongArray
    tokens: NDArray[Any]
    counts: NDArray[Any]
    meta: IntArray
    pair_indptr: LongArray
    pair_left: NDArray[Any]
    pair_right: NDArray[Any]


class _Wanted(NamedTuple):
    """Pairs of one slide: local cells, and the sequence that each becomes."""

    left: LongArray
    right: LongArray
    slot: LongArray


class _Out(NamedTuple):
    """What the kernel fills."""

    indptr: LongArray
    tokens: IntArray
    segments: NDArray[np.int8]
    counts: IntArray
    pair_indptr: LongArray
    pair_left: IntArray
    pair_right: IntArray


def pack_pairs(corpus: Corpus, pairs: PairBatch) -> PairSequences:
    """Lay out pairs as sequences, in their order.

    Parameters
    ----------
    corpus
        Gives tokens and co-occurring genes.
    pairs
        Both cells of a pair are of one slide.
    """
    n = len(pairs.label)
    linked = corpus.n_pairs_of_cell
    n_linked = linked[pairs.left_cells] + linked[pairs.right_cells]
    indptr, pair_indptr = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    np.cumsum(pair_lengths(corpus, pairs), out=indptr[1:])
    np.cumsum(n_linked, out=pair_indptr[1:])
    out = _Out(
        indptr,
        np.empty(indptr[-1], np.int32),
        np.empty(indptr[-1], np.int8),
        np.empty(indptr[-1], np.int32),
        pair_indptr,
        np.empty(pair_indptr[-1], np.int32),
        np.empty(pair_indptr[-1], np.int32),
    )
    for number in np.unique(pairs.slide):
        shard = corpus.shards[number]
        slot = np.flatnonzero(pairs.slide == number)
        first = corpus.offsets[number]
        cells = _Cells(
            shard.indptr,
            shard.tokens,
            shard.counts,
            shard.meta,
            shard.pair_indptr,
            shard.pair_left,
            shard.pair_right,
        )
        wanted = _Wanted(pairs.left_cells[slot] - first, pairs.right_cells[slot] - first, slot)
        _fill(cells, wanted, out)
    known = np.array([shard.info.has_cooccurrence for shard in corpus.shards], np.bool_)
    return PairSequences(
        pairs,
        indptr,
        out.tokens,
        out.segments,
        out.counts,
        GenePairs(pair_indptr, out.pair_left, out.pair_right),
        known[pairs.slide],
    )


@nb.njit(cache=True)
def _fill(cells: _Cells, wanted: _Wanted, out: _Out) -> None:
    for i in range(len(wanted.slot)):
        begin = out.indptr[wanted.slot[i]]
        stop = out.indptr[wanted.slot[i] + 1]
        linked = out.pair_indptr[wanted.slot[i]]
        out.tokens[begin] = CLS
        out.counts[begin:stop] = 0
        out.segments[begin:stop] = 1
        at = begin + 1
        for right in (False, True):
            cell = wanted.right[i] if right else wanted.left[i]
            if right:
                out.segments[at:stop] = 2
            out.tokens[at : at + N_META] = cells.meta
            at += N_META
            start = cells.indptr[cell]
            end = cells.indptr[cell + 1]
            # Slices become plain copies of memory, which is where the time goes.
            out.tokens[at : at + end - start] = cells.tokens[start:end]
            out.counts[at : at + end - start] = cells.counts[start:end]
            first = cells.pair_indptr[cell]
            n_linked = cells.pair_indptr[cell + 1] - first
            shift = at - begin
            for k in range(n_linked):
                out.pair_left[linked + k] = cells.pair_left[first + k] + shift
                out.pair_right[linked + k] = cells.pair_right[first + k] + shift
            linked += n_linked
            at += end - start
            out.tokens[at] = SEP
            at += 1
