"""What a gene pair's co-occurrence owes to the expression of its two genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, IntArray, LongArray
from spatialformer_core.cooccurrence.matrix import PairMatrix

_CHUNK_PAIRS = 250
_CUTS_FEWER = (4, 5, 6, 8)
_CUT_MORE = 8
_MANY, _CLOSE = 1 << 32, 1 << 33
N_STRATA = (len(_CUTS_FEWER) + 1) * 2
"""Strata of copies: five classes of the rarer gene's copies, two of the other's."""

LEVELS = np.array([0, 1, 2, 3, 4, 5, 8])
"""Lower ends of the classes of copies in `copy_tables`."""


@dataclass(frozen=True, slots=True)
class BothGenes:
    """Cells that hold enough copies of both genes of a pair, wherever in the cell they are.

    Attributes
    ----------
    cell, pair
        The cell and the pair, shape ``(n,)``.
    stratum
        Class of the two copy numbers, ``[0, N_STRATA)``, shape ``(n,)``.
    close
        Whether the pair co-occurs there, shape ``(n,)``.
    r_min, r_sum
        Correlation over cells of co-occurrence with the smaller and the summed copy number of the
        two genes (point-biserial), NaN where one of them does not vary, shape ``(n_pairs,)``.
    """

    cell: IntArray
    pair: IntArray
    stratum: NDArray[np.int8]
    close: BoolArray
    r_min: DoubleArray
    r_sum: DoubleArray


def both_genes(matrix: PairMatrix, counts: Any, min_copies: int = 3) -> BothGenes:
    """Find the cells with enough copies of both genes, and correlate with expression.

    Cells in which a pair co-occurs count as having enough copies even if the counts (of a matrix
    made elsewhere) disagree.

    Parameters
    ----------
    matrix
        The pairs.
    counts
        Raw counts, CSR, cells x ``matrix.genes``.
    min_copies
        Copies that each gene needs.
    """
    columns = counts.tocsc().astype(np.int64)
    presence = matrix.presence.tocsc()
    cells_of_slide = np.bincount(matrix.slide, minlength=len(matrix.testable))
    n_known = np.maximum(cells_of_slide @ matrix.testable, 1)
    parts, correlations = [], []
    for start in range(0, matrix.n_pairs, _CHUNK_PAIRS):
        at = slice(start, min(start + _CHUNK_PAIRS, matrix.n_pairs))
        one, other = columns[:, matrix.left[at]], columns[:, matrix.right[at]]
        close = presence[:, at].astype(np.int64)
        fewer, more = one.minimum(other), one.maximum(other)
        total = _where_testable(one + other, matrix, start)
        n = n_known[at]
        correlations.append([_correlation(close, fewer, n), _correlation(close, total, n)])
        parts.append(_enough((fewer, more, close), start, min_copies))
    cell, pair, stratum, near = (
        np.concatenate([part[i] for part in parts] or [np.zeros(0, np.int64)]) for i in range(4)
    )
    r = np.concatenate(correlations, axis=1) if correlations else np.zeros((2, 0))
    return BothGenes(
        cell.astype(np.int32),
        pair.astype(np.int32),
        stratum.astype(np.int8),
        near.astype(np.bool_),
        r[0],
        r[1],
    )


def _enough(copies: tuple[Any, Any, Any], start: int, min_copies: int) -> list[LongArray]:
    """Return cell, pair, stratum and co-occurrence of the entries with enough copies."""
    fewer, more, close = copies
    enough = fewer.multiply(fewer >= min_copies)
    many = enough.astype(np.bool_).multiply(more >= _CUT_MORE)
    # One sparse sum carries three facts: copies of the rarer gene in the low bits, above them
    # whether the other gene has many, and whether the pair is close.
    joined = (enough + many.astype(np.int64) * _MANY + close * _CLOSE).tocoo()
    few = np.maximum(joined.data % _MANY, min_copies)
    is_many = joined.data % _CLOSE >= _MANY
    stratum = np.searchsorted(_CUTS_FEWER, few, side="right") * 2 + is_many
    return [joined.row, joined.col + start, stratum, joined.data >= _CLOSE]


def _where_testable(total: Any, matrix: PairMatrix, start: int) -> Any:
    """Leave out the cells of slides whose panel has only one of the two genes."""
    if matrix.testable.all():
        return total
    entries = total.tocoo()
    known = matrix.testable[matrix.slide[entries.row], entries.col + start]
    entries.data = entries.data * known
    return entries.tocsc()


def _correlation(close: Any, value: Any, n: LongArray) -> DoubleArray:
    """Return the correlation of two sparse arrays' columns over ``n`` cells each."""

    def mean(array: Any) -> DoubleArray:
        total: DoubleArray = np.asarray(array.sum(0), np.float64).ravel()
        return total / n

    x, y = mean(close), mean(value)
    xy, yy = mean(close.multiply(value)), mean(value.multiply(value))
    spread = np.sqrt(np.maximum(x * (1 - x), 0) * np.maximum(yy - y * y, 0))
    r: DoubleArray = np.full(len(x), np.nan)
    np.divide(xy - x * y, spread, out=r, where=spread > 1e-12)
    return r


def copy_tables(
    matrix: PairMatrix, counts: Any, pairs: LongArray, side: NDArray[np.integer]
) -> DoubleArray:
    """Count cells by copies of both genes, co-occurrence and group.

    Parameters
    ----------
    matrix, counts
        As in `both_genes`.
    pairs
        The pairs of interest, shape ``(k,)``.
    side
        Group of each cell, 0 or 1, -1 to leave out, shape ``(n_cells,)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(k, classes, classes, 2, 2)``: class of the left gene's copies (`LEVELS`), of the
        right one's, co-occurrence, group.
    """
    n = len(LEVELS)
    columns, presence = counts.tocsc(), matrix.presence.tocsc()
    out = np.zeros((len(pairs), n * n * 4))
    for row, pair in enumerate(pairs):
        used = (side >= 0) & matrix.testable[matrix.slide, pair]
        code = _classes(columns, int(matrix.left[pair])) * n
        code += _classes(columns, int(matrix.right[pair]))
        code *= 2
        code[presence.indices[presence.indptr[pair] : presence.indptr[pair + 1]]] += 1
        out[row] = np.bincount(code[used] * 2 + side[used], minlength=n * n * 4)
    return out.reshape(-1, n, n, 2, 2)


def _classes(columns: Any, gene: int) -> LongArray:
    at = slice(columns.indptr[gene], columns.indptr[gene + 1])
    classes = np.zeros(columns.shape[0], np.int64)
    classes[columns.indices[at]] = np.searchsorted(LEVELS, columns.data[at], side="right") - 1
    return classes
