"""What QC thresholds keep, per cell type and as the thresholds move.

Thresholds that suit one cell type may empty another: on a shallow slide small immune cells fall
first, so retention belongs beside every result about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, LongArray
from spatialformer_core.errors import SpatialFormerError

NO_LABEL = "(no label)"
Counts = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class RetentionRow:
    """One cell type before and after QC.

    Attributes
    ----------
    cells_in, cells_kept
        Number of cells.
    failed_transcripts, failed_genes
        Cells below either threshold; a cell may be in both.
    median_transcripts, median_genes
        Over all cells of the type, before QC.
    """

    category: str
    cells_in: int
    cells_kept: int
    failed_transcripts: int
    failed_genes: int
    median_transcripts: float
    median_genes: float

    @property
    def share_kept(self) -> float:
        """Share of the cells that pass, 0 where there are none."""
        return self.cells_kept / self.cells_in if self.cells_in else 0.0


@dataclass(frozen=True, slots=True)
class ThresholdCurve:
    """Cells kept per category at several thresholds.

    Attributes
    ----------
    thresholds
        Ascending, shape ``(t,)``.
    kept
        Cells with at least that many, shape ``(t, n_categories)``.
    """

    thresholds: LongArray
    kept: LongArray


def retention_table(
    n_transcripts: Counts,
    n_genes: Counts,
    codes: Counts,
    categories: Sequence[str],
    *,
    min_transcripts: int,
    min_genes: int,
) -> list[RetentionRow]:
    """Tabulate what thresholds would keep of each category, in the order of ``categories``.

    Parameters
    ----------
    n_transcripts, n_genes
        Of each cell, shape ``(n,)``.
    codes
        Category of each cell, ``-1`` = none, shape ``(n,)``; those cells form a last row.

    Raises
    ------
    SpatialFormerError
        If the arrays differ in length or a code has no category.
    """
    _check(n_transcripts, n_genes, codes, categories)
    enough, diverse = n_transcripts >= min_transcripts, n_genes >= min_genes
    rows = []
    for code in [*range(len(categories)), -1]:
        members = codes == code
        if code < 0 and not members.any():
            continue
        rows.append(
            RetentionRow(
                category=categories[code] if code >= 0 else NO_LABEL,
                cells_in=_count(members),
                cells_kept=_count(members & enough & diverse),
                failed_transcripts=_count(members & ~enough),
                failed_genes=_count(members & ~diverse),
                median_transcripts=_median(n_transcripts[members]),
                median_genes=_median(n_genes[members]),
            )
        )
    return rows


def threshold_curve(
    values: Counts, codes: Counts, n_categories: int, thresholds: Sequence[int]
) -> ThresholdCurve:
    """Count, for each category, the cells that reach each threshold.

    Parameters
    ----------
    values
        What is thresholded (transcripts or genes) of each cell, shape ``(n,)``.
    codes
        Category of each cell, shape ``(n,)``; cells of code ``-1`` are left out.
    """
    order = np.unique(np.asarray(thresholds, np.int64))
    labelled = codes >= 0
    # A cell reaches every threshold up to its value: count by the highest, then add from above.
    reached = np.searchsorted(order, values[labelled], side="right")
    table = np.zeros((len(order) + 1, n_categories), np.int64)
    np.add.at(table, (reached, codes[labelled]), 1)
    kept = np.cumsum(table[::-1], axis=0)[::-1][1:]
    return ThresholdCurve(order, kept)


def _check(
    n_transcripts: Counts, n_genes: Counts, codes: Counts, categories: Sequence[str]
) -> None:
    if not len(n_transcripts) == len(n_genes) == len(codes):
        raise SpatialFormerError(
            f"{len(n_transcripts):,} transcript counts, {len(n_genes):,} gene counts and "
            f"{len(codes):,} labels; one of each per cell expected."
        )
    if len(codes) and codes.max() >= len(categories):
        raise SpatialFormerError("A label has no category.")


def _count(mask: BoolArray) -> int:
    return int(np.count_nonzero(mask))


def _median(values: Counts) -> float:
    return float(np.median(values)) if len(values) else 0.0
