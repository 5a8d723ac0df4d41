"""Which cells and transcripts are analysed, on plain arrays (paper section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, FloatArray
from spatialformer_core.config import QcThresholds

NO_GROUP = "(no label)"


def passing_cells(
    n_transcripts: NDArray[np.integer], n_genes: NDArray[np.integer], qc: QcThresholds
) -> BoolArray:
    """Tell which cells have enough transcripts and genes.

    Parameters
    ----------
    n_transcripts, n_genes
        Gene transcripts and distinct genes of each cell, shape ``(n,)``.
    """
    mask: BoolArray = (n_transcripts >= qc.min_transcripts) & (n_genes >= qc.min_genes)
    return mask


def passing_quality(qv: FloatArray | None, n: int, min_qv: float) -> BoolArray:
    """Tell which transcripts are called well enough; all where there is no quality.

    A missing quality (NaN) does not pass.
    """
    return np.ones(n, np.bool_) if qv is None else qv >= min_qv


def retention(
    codes: NDArray[np.integer], categories: Sequence[str], passes: BoolArray
) -> dict[str, tuple[int, int]]:
    """Count cells per category, and those of them that pass.

    Cells without a label (code -1) appear as ``(no label)`` if there are any.
    """
    slots = len(categories) + 1
    place = np.where(codes < 0, len(categories), codes)
    before = np.bincount(place, minlength=slots)
    after = np.bincount(place[passes], minlength=slots)
    names = [*categories, NO_GROUP]
    used = range(slots if before[-1] else len(categories))
    return {names[i]: (int(before[i]), int(after[i])) for i in used}


def mismatch(
    matrix_totals: NDArray[np.integer], transcript_totals: NDArray[np.integer]
) -> dict[str, float]:
    """Say how far the matrix and the assigned transcripts of the same cells disagree.

    Parameters
    ----------
    matrix_totals, transcript_totals
        Gene counts of each cell from either side, shape ``(n,)``.

    Returns
    -------
    dict
        ``matrix_counts``, ``assigned_transcripts`` (totals), ``cells_equal`` (share of cells with
        the same total), ``median_ratio`` (transcripts per matrix count, over cells that have both)
        and ``correlation`` of the totals (0 where one side is constant).
    """
    both = (matrix_totals > 0) & (transcript_totals > 0)
    ratio = transcript_totals[both] / matrix_totals[both]
    return {
        "matrix_counts": float(matrix_totals.sum()),
        "assigned_transcripts": float(transcript_totals.sum()),
        "cells_equal": float(np.mean(matrix_totals == transcript_totals)),
        "median_ratio": float(np.median(ratio)) if len(ratio) else 0.0,
        "correlation": _correlation(matrix_totals, transcript_totals),
    }


def _correlation(left: NDArray[Any], right: NDArray[Any]) -> float:
    if len(left) < 2 or left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
