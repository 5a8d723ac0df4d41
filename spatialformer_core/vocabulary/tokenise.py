"""Cells as gene tokens, ranked by expression (paper section 4.2).

A gene's rank value is its count scaled to 10,000 per cell, divided by the gene's median of the
same scaled values. Within a cell the scale is one constant, so the order is that of
``count / median``, which is what the kernel compares: it has no rounding that depends on the
cell's total. Ties are broken by vocabulary id, so the order of the gene columns is irrelevant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import CellTokens, DoubleArray, FloatArray, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary.vocabulary import Vocabulary

_INSERTION_LIMIT = 24


@dataclass(frozen=True, slots=True)
class TokeniseReport:
    """What tokenising left out; nothing is dropped silently.

    Attributes
    ----------
    unknown_columns
        Gene columns that the vocabulary lacks.
    unknown_counts
        Counts in those columns.
    total_counts
        All counts.
    empty_cells
        Cells without a single known gene.
    truncated_cells
        Cells that had more than ``max_genes`` genes.
    """

    unknown_columns: IntArray
    unknown_counts: int
    total_counts: int
    empty_cells: int
    truncated_cells: int


def tokenise(
    counts: Any,
    gene_ids: IntArray,
    vocabulary: Vocabulary,
    meta: IntArray,
    max_genes: int | None = None,
) -> tuple[CellTokens, TokeniseReport]:
    """Rank each cell's genes by median-scaled expression.

    Parameters
    ----------
    counts
        Raw counts, scipy sparse ``(n_cells, n_genes)``.
    gene_ids
        Vocabulary id of each column, -1 where unknown (`Vocabulary.gene_ids`).
    vocabulary
        Gives the medians.
    meta
        Ids of condition, tissue, species, assay: ``(4,)`` for all cells or ``(n_cells, 4)``.
    max_genes
        Keep the highest-ranked genes of each cell only.

    Returns
    -------
    CellTokens, TokeniseReport
        The tokens, and what could not be represented.

    Raises
    ------
    SpatialFormerError
        If the counts are no raw counts, shapes disagree, or two columns are the same gene.
    """
    matrix = _checked_counts(counts)
    n_cells = matrix.shape[0]
    _check_genes(gene_ids, matrix.shape[1], len(vocabulary))
    if max_genes is not None and max_genes < 1:
        raise SpatialFormerError(f"max_genes is {max_genes}, it must be at least 1.")
    limit = matrix.shape[1] if max_genes is None else max_genes
    # Copies in fixed types (float64 holds every count exactly) give the kernels one signature,
    # also for read-only memory maps.
    rows = _Rows(
        np.array(matrix.indptr, np.int64),
        np.array(matrix.indices, np.int32),
        np.array(matrix.data, np.float64),
        np.array(gene_ids, np.int32),
    )
    known = np.zeros(n_cells, np.int64)
    _count_known(rows, known)
    out_indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(np.minimum(known, limit), out=out_indptr[1:])
    tokens = np.empty(out_indptr[-1], np.int32)
    kept = np.empty(out_indptr[-1], np.int32)
    _rank(rows, np.array(vocabulary.medians), out_indptr, tokens, kept)
    unknown = rows.ids < 0
    per_column = np.bincount(rows.columns, weights=rows.data, minlength=matrix.shape[1])
    report = TokeniseReport(
        unknown_columns=np.flatnonzero(unknown).astype(np.int32),
        unknown_counts=int(per_column[unknown].sum()),
        total_counts=int(per_column.sum()),
        empty_cells=int((known == 0).sum()),
        truncated_cells=int((known > limit).sum()),
    )
    return CellTokens(out_indptr, tokens, kept, _cell_meta(meta, n_cells)), report


def _checked_counts(counts: Any) -> Any:
    matrix = counts.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    data = matrix.data
    whole = np.isfinite(data).all() and (data >= 0).all() and (data == np.rint(data)).all()
    if not whole or (data.size and data.max() > np.iinfo(np.int32).max):
        raise SpatialFormerError(
            "The matrix holds values that are no counts (negative, fractional or not finite).",
            fix="Give the raw counts, not normalised or log-transformed values.",
        )
    return matrix


def _check_genes(gene_ids: IntArray, n_columns: int, n_tokens: int) -> None:
    if gene_ids.shape != (n_columns,):
        raise SpatialFormerError(
            f"{gene_ids.size:,} gene ids were given for {n_columns:,} gene columns."
        )
    known = gene_ids[gene_ids >= 0]
    if known.size and known.max() >= n_tokens:
        raise SpatialFormerError("A gene id lies outside the vocabulary.")
    if len(np.unique(known)) != len(known):
        raise SpatialFormerError(
            "Two columns of the counts are the same gene of the vocabulary.",
            fix="Sum the counts of equal genes or rename them.",
        )


def _cell_meta(meta: IntArray, n_cells: int) -> IntArray:
    values = np.asarray(meta, np.int32)
    if values.shape not in ((4,), (n_cells, 4)):
        raise SpatialFormerError(
            f"The sample's token ids have shape {values.shape}, "
            f"(4,) or ({n_cells}, 4) was expected."
        )
    return np.ascontiguousarray(np.broadcast_to(values, (n_cells, 4)))


class _Rows(NamedTuple):
    """CSR counts with the vocabulary id of each column, as the kernels take them."""

    indptr: LongArray
    columns: IntArray
    data: DoubleArray
    ids: IntArray


@nb.njit(cache=True)
def _count_known(rows: _Rows, known: LongArray) -> None:
    for cell in range(len(known)):
        for entry in range(rows.indptr[cell], rows.indptr[cell + 1]):
            if rows.data[entry] > 0 and rows.ids[rows.columns[entry]] >= 0:
                known[cell] += 1


@nb.njit(cache=True)
def _rank(
    rows: _Rows, medians: FloatArray, out_indptr: LongArray, tokens: IntArray, kept: IntArray
) -> None:
    """Sort each row by one packed key: inverted bits of the value, then the vocabulary id."""
    longest = 0
    for cell in range(len(rows.indptr) - 1):
        longest = max(longest, rows.indptr[cell + 1] - rows.indptr[cell])
    keys = np.empty(longest, np.uint64)
    value = np.empty(1, np.float32)
    # Positive floats order like their bit patterns, so a descending key is the inverted pattern.
    bits = value.view(np.uint32)
    count_of = np.zeros(len(medians), np.int32)
    for cell in range(len(rows.indptr) - 1):
        n = 0
        for entry in range(rows.indptr[cell], rows.indptr[cell + 1]):
            token = rows.ids[rows.columns[entry]]
            if rows.data[entry] > 0 and token >= 0:
                value[0] = np.float32(rows.data[entry]) / medians[token]
                inverted = np.uint64(0xFFFFFFFF) - np.uint64(bits[0])
                keys[n] = (inverted << np.uint64(32)) | np.uint64(token)
                count_of[token] = np.int32(rows.data[entry])
                n += 1
        _sort(keys, n)
        start = out_indptr[cell]
        for k in range(out_indptr[cell + 1] - start):
            token = np.int32(keys[k] & np.uint64(0xFFFFFFFF))
            tokens[start + k] = token
            kept[start + k] = count_of[token]


@nb.njit(cache=True)
def _sort(keys: NDArray[np.uint64], n: int) -> None:
    if n > _INSERTION_LIMIT:
        keys[:n].sort()
        return
    for i in range(1, n):
        key = keys[i]
        j = i - 1
        while j >= 0 and keys[j] > key:
            keys[j + 1] = keys[j]
            j -= 1
        keys[j + 1] = key
