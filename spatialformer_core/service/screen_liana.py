"""liana's scores beside a screen of stored slides: the cells of its near pairs, handed to liana."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.perturbation import ScreenRequest, ScreenResult
from spatialformer_core.perturbation.liana_ranks import (
    ScreenedCells,
    liana_ranks,
    reason_without,
)
from spatialformer_core.progress import Cancel

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import Slide, SlideStore

LIANA = "liana"
_APART_UM = 1e5
"""Between slides, so that no cells of two of them are neighbours."""


def with_liana(
    result: ScreenResult, store: SlideStore, request: ScreenRequest, cancel: Cancel
) -> ScreenResult:
    """Return the result with its gene pairs ranked beside liana's, or with the reason why not."""
    if not request.liana or result.pairs is None:
        return result
    near = result.pairs[result.pairs["side"] == "near"]
    cells = screened_cells(store, near, same_type=request.same_type)
    reason = reason_without(cells, result.table, same_type=request.same_type)
    if reason is not None:
        absent = {**result.info["not_computed"], LIANA: reason}
        return replace(result, info={**result.info, "not_computed": absent})
    ranks, facts = liana_ranks(
        result.table,
        cells,
        same_type=request.same_type,
        radius_um=request.radius_um,
        cancel=cancel,
    )
    if not result.info["p_values"]:
        # The gate is shut or units are too few: nothing here is tested either.
        facts["known"] = [{**entry, "p": None} for entry in facts["known"]]
    return replace(result, info={**result.info, LIANA: facts}, liana=ranks)


def screened_cells(store: SlideStore, near: pd.DataFrame, *, same_type: bool) -> ScreenedCells:
    """Return the cells of some pairs, each once.

    Parameters
    ----------
    store
        Holds their slides.
    near
        Rows of a result's cell pairs.
    same_type
        Whether left and right mean nothing.
    """
    from scipy import sparse

    parts = []
    genes: tuple[str, ...] | None = None
    for number, (slide_id, rows) in enumerate(near.groupby("slide_id", observed=True)):
        slide = store.open(str(slide_id))
        left = np.unique(rows["cell_left"].to_numpy(np.int64))
        right = np.unique(rows["cell_right"].to_numpy(np.int64))
        cells = np.union1d(left, right) if same_type else np.concatenate([left, right])
        shared = tuple(slide.genes)
        genes = shared if genes is None else tuple(g for g in genes if g in set(shared))
        xy = np.asarray(slide.xy_um, np.float64)[cells] + (number * _APART_UM, 0.0)
        is_left = np.isin(cells, left) if not same_type else np.ones(len(cells), np.bool_)
        parts.append((slide, cells, xy, is_left))
    kept = genes or ()
    return ScreenedCells(
        sparse.vstack([_counts(slide, cells, kept) for slide, cells, *_ in parts]).tocsr(),
        kept,
        np.concatenate([xy for _, _, xy, _ in parts]),
        np.concatenate([is_left for *_, is_left in parts]),
    )


def _counts(slide: Slide, cells: np.ndarray, genes: tuple[str, ...]) -> object:
    column = {gene: k for k, gene in enumerate(slide.genes)}
    return slide.counts[cells][:, [column[gene] for gene in genes]]
