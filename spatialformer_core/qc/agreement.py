"""Where the count matrix and the transcripts of the same cells disagree, gene by gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError


@dataclass(frozen=True, slots=True)
class GeneAgreement:
    """Totals of each gene from either side.

    Attributes
    ----------
    matrix, transcripts
        Counts over all cells, shape ``(n_genes,)``.
    entries_equal
        Share of the cell-gene entries, of those that either side holds, with the same count,
        shape ``(n_genes,)``; NaN for a gene that neither side holds.
    """

    matrix: LongArray
    transcripts: LongArray
    entries_equal: DoubleArray

    @property
    def ratio(self) -> DoubleArray:
        """Transcripts per matrix count, NaN where the matrix has none, shape ``(n_genes,)``."""
        out = np.full(len(self.matrix), np.nan)
        np.divide(self.transcripts, self.matrix, out=out, where=self.matrix > 0)
        return out


def gene_agreement(counts: Any, indptr: LongArray, gene: NDArray[np.integer]) -> GeneAgreement:
    """Compare a count matrix with transcripts sorted by cell.

    Parameters
    ----------
    counts
        CSR matrix, cells x genes.
    indptr
        Row pointers of the transcripts, shape ``(n_cells + 1,)``.
    gene
        Gene column of each transcript, shape ``(m,)``.

    Raises
    ------
    SpatialFormerError
        If the transcripts belong to another number of cells or to unknown genes.
    """
    from scipy import sparse

    n_cells, n_genes = counts.shape
    if len(indptr) != n_cells + 1 or indptr[-1] != len(gene):
        raise SpatialFormerError(
            f"Transcripts of {len(indptr) - 1:,} cells, a matrix of {n_cells:,}."
        )
    if len(gene) and int(gene.max()) >= n_genes:
        raise SpatialFormerError("A transcript belongs to a gene that the matrix lacks.")
    ones = np.ones(len(gene), np.int64)
    recounted = sparse.csr_matrix((ones, gene.astype(np.int64), indptr), shape=counts.shape)
    recounted.sum_duplicates()
    matrix = counts.astype(np.int64)
    held = ((matrix != 0) + (recounted != 0)).sum(axis=0)
    different = (matrix != recounted).sum(axis=0)
    held_n, different_n = np.asarray(held).ravel(), np.asarray(different).ravel()
    equal = np.full(n_genes, np.nan)
    np.divide(held_n - different_n, held_n, out=equal, where=held_n > 0)
    return GeneAgreement(
        np.asarray(matrix.sum(axis=0)).ravel().astype(np.int64),
        np.asarray(recounted.sum(axis=0)).ravel().astype(np.int64),
        equal,
    )
