"""liana's scores beside a screen of stored slides: the cells of its near pairs, handed to liana."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.perturbation import ScreenRequest, ScreenResult
from spatialformer_core.perturbation.liana_ranks import (
    ScreenedCells,
    liana_ranks,
    reason_without,
)
from spatialformer_core.progress import Cancel
from spatialformer_core.service.screen_counts import screen_counts
from spatialformer_core.service.vocabularies import spelled_as

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import SlideStore
    from spatialformer_core.vocabulary import Vocabulary

LIANA = "liana"
_APART_UM = 1e5
"""Between slides, so that no cells of two of them are neighbours."""


def with_liana(
    result: ScreenResult,
    store: SlideStore,
    request: ScreenRequest,
    vocabulary: Vocabulary,
    cancel: Cancel,
) -> ScreenResult:
    """Return the result with its gene pairs ranked beside liana's, or with the reason why not."""
    if not request.liana or result.pairs is None:
        return result
    near = result.pairs[result.pairs["side"] == "near"]
    cells = screened_cells(store, near, request, vocabulary)
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


def screened_cells(
    store: SlideStore, near: pd.DataFrame, request: ScreenRequest, vocabulary: Vocabulary
) -> ScreenedCells:
    """Return the cells of some pairs, each once.

    Parameters
    ----------
    store
        Holds their slides.
    near
        Rows of a result's cell pairs.
    request
        What was screened: its types, and which counts were read.
    vocabulary
        By whose names genes go.
    """
    from scipy import sparse

    same_type = request.same_type
    parts = []
    genes: tuple[str, ...] | None = None
    for number, (slide_id, rows) in enumerate(near.groupby("slide_id", observed=True)):
        slide = store.open(str(slide_id))
        left = np.unique(rows["cell_left"].to_numpy(np.int64))
        right = np.unique(rows["cell_right"].to_numpy(np.int64))
        cells = np.union1d(left, right) if same_type else np.concatenate([left, right])
        mapping = spelled_as(slide, vocabulary)
        here = set(mapping.names)
        genes = mapping.names if genes is None else tuple(g for g in genes if g in here)
        xy = np.asarray(slide.xy_um, np.float64)[cells] + (number * _APART_UM, 0.0)
        is_left = np.isin(cells, left) if not same_type else np.ones(len(cells), np.bool_)
        counts = mapping.counts(screen_counts(slide, request))[cells]
        parts.append((counts, mapping.names, xy, is_left))
    kept = genes or ()
    return ScreenedCells(
        sparse.vstack([_of(counts, names, kept) for counts, names, *_ in parts]).tocsr(),
        kept,
        np.concatenate([xy for _, _, xy, _ in parts]),
        np.concatenate([is_left for *_, is_left in parts]),
    )


def _of(counts: Any, names: tuple[str, ...], genes: tuple[str, ...]) -> Any:
    column = {name: k for k, name in enumerate(names)}
    return counts[:, [column[gene] for gene in genes]]
