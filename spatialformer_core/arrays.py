"""Array types that travel between rooms.

Kernels take and return plain arrays; what belongs together travels in one of the frozen records
below, so that no two rooms invent their own layout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Graph:
    """A symmetric graph over ``n`` cells in CSR form, without self loops.

    Attributes
    ----------
    indptr
        Row pointers, shape ``(n + 1,)``.
    indices
        Neighbours, ascending within a row, shape ``(2 * n_edges,)``.
    """

    indptr: LongArray
    indices: IntArray

    @property
    def n_nodes(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1

    @property
    def degree(self) -> LongArray:
        """Number of neighbours of each cell, shape ``(n,)``."""
        return np.diff(self.indptr)

    def neighbors(self, node: int) -> IntArray:
        """Return the neighbours of one cell, ascending."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return each physical edge once as ``(left, right)`` with ``left < right``."""
        left = np.repeat(np.arange(self.n_nodes, dtype=np.int32), self.degree)
        once = left < self.indices
        return left[once], self.indices[once]


@dataclass(frozen=True, slots=True)
class GenePairs:
    """Co-occurring gene pairs of each cell, ragged, ``left < right`` (gene column indices).

    Attributes
    ----------
    indptr
        Shape ``(n_cells + 1,)``.
    left, right
        Gene columns, sorted within a cell, shape ``(n_pairs,)``.
    """

    indptr: LongArray
    left: IntArray
    right: IntArray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class CellTokens:
    """Tokenised cells: gene tokens in rank order, ragged, without special tokens.

    The model lays out ``CLS meta genes SEP`` itself, so that single cells, pairs and knock-outs
    all start from the same record.

    Attributes
    ----------
    indptr
        Row pointers, shape ``(n_cells + 1,)``.
    tokens
        Vocabulary ids of the expressed genes, highest scaled expression first, shape ``(nnz,)``.
    counts
        Raw counts aligned with ``tokens``, shape ``(nnz,)``.
    meta
        Token ids of condition, tissue, species, assay, shape ``(n_cells, 4)``.
    """

    indptr: LongArray
    tokens: IntArray
    counts: IntArray
    meta: IntArray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> LongArray:
        """Number of gene tokens of each cell, shape ``(n_cells,)``."""
        return np.diff(self.indptr)

    def row(self, cell: int) -> IntArray:
        """Return the gene tokens of one cell in rank order."""
        return self.tokens[self.indptr[cell] : self.indptr[cell + 1]]

    def take(self, cells: NDArray[np.integer]) -> CellTokens:
        """Return the given cells, in the given order (repeats allowed)."""
        lengths = self.lengths[cells]
        indptr = np.zeros(len(cells) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        offsets = np.repeat(self.indptr[:-1][cells] - indptr[:-1], lengths)
        source = offsets + np.arange(indptr[-1])
        return CellTokens(indptr, self.tokens[source], self.counts[source], self.meta[cells])

    def without(self, positions: NDArray[np.integer]) -> CellTokens:
        """Return one variant per row with the token at ``positions[row]`` removed.

        Parameters
        ----------
        positions
            Index within each row's genes, shape ``(n_cells,)``; ``-1`` keeps the row whole.
        """
        keep = np.ones(len(self.tokens), np.bool_)
        hit = positions >= 0
        keep[self.indptr[:-1][hit] + positions[hit]] = False
        indptr = np.zeros_like(self.indptr)
        np.cumsum(self.lengths - hit, out=indptr[1:])
        return replace(self, indptr=indptr, tokens=self.tokens[keep], counts=self.counts[keep])
