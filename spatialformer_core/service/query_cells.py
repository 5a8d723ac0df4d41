"""Which cells of a slide a co-localisation asks about, and which of them a checkpoint has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.rois import find_roi
from spatialformer_core.service.training_cells import exposure, took_part

if TYPE_CHECKING:
    from spatialformer_core.io import Groups
    from spatialformer_core.slides import Slide

Cells = Literal["auto", "all", "held_out"]
"""As `ColocaliseRequest.cells`."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """What a checkpoint has seen of a slide; masks in slide order, shape ``(n,)``.

    Attributes
    ----------
    may_ask
        Cells that may ask and answer.
    seen
        Cells that it was trained or selected on.
    words
        The same in a sentence.
    """

    may_ask: BoolArray
    seen: BoolArray
    words: str


def exposed(slide: Slide, provenance: dict[str, Any], name: str, cells: Cells) -> Exposed:
    """Return which cells of a slide may be asked about.

    Parameters
    ----------
    provenance, name
        Of the checkpoint.
    cells
        ``all``, ``held_out``, or ``auto``: held out where that can be told.

    Raises
    ------
    SpatialFormerError
        If only held-out cells are wanted and nobody can tell which these are.
    """
    every = np.ones(slide.meta.n_cells, np.bool_)
    known = exposure(slide, provenance)
    if known is not None and not took_part(slide, provenance):
        return Exposed(every, ~every, "The slide took no part in training.")
    if known is None:
        if cells == "held_out":
            raise SpatialFormerError(
                f"Nobody can tell which cells of slide {slide.meta.slide_id!r} checkpoint "
                f"{name!r} has seen.",
                fix="Ask about all cells; the figures then flatter the model.",
            )
        words = "Which cells the checkpoint has seen is not known; it may flatter."
        return Exposed(every, ~every, words)
    if cells == "all":
        share = float(known.seen[np.asarray(slide.passes_qc)].mean())
        words = f"The checkpoint has seen {share:.0%} of these cells: it flatters."
        return Exposed(every, known.seen, words)
    words = "Cells of the test blocks only: the checkpoint has seen none of them."
    return Exposed(known.held_out, known.seen, words)


def in_regions(slide: Slide, roi_ids: Sequence[str]) -> BoolArray:
    """Tell which cells of a slide lie in any of some saved regions, all of them without one.

    Raises
    ------
    SpatialFormerError
        If there is no such region.
    """
    from spatialformer_core.slides import select_cells

    if not roi_ids:
        return np.ones(slide.meta.n_cells, np.bool_)
    inside = np.zeros(slide.meta.n_cells, np.bool_)
    for roi_id in roi_ids:
        inside |= select_cells(slide.xy_um, find_roi(slide, roi_id).polygon)
    return inside


def of_types(groups: Groups, names: Sequence[str], where: str) -> BoolArray:
    """Tell which cells are of any of some types, all of them without one.

    Raises
    ------
    SpatialFormerError
        If the grouping has no such type.
    """
    codes = np.asarray(groups.codes)
    if not names:
        return np.ones(len(codes), np.bool_)
    place = {name: code for code, name in enumerate(groups.categories)}
    unknown = [name for name in names if name not in place]
    if unknown:
        raise SpatialFormerError(
            f"There is no type {unknown[0][:60]!r} among the cells.",
            where=where,
            fix=f"Types: {', '.join(groups.categories[:40])}.",
        )
    return np.isin(codes, [place[name] for name in names])


def require_queries(may_ask: BoolArray, where: str) -> None:
    """Refuse a choice of query cells that leaves none.

    Raises
    ------
    SpatialFormerError
        If no cell is left.
    """
    if not may_ask.any():
        raise SpatialFormerError(
            "No cell is left to ask about: none of the chosen regions and types passes quality "
            "control and was held out of training.",
            where=where,
            fix="Choose other regions or types, or ask about all cells (also those that the "
            "checkpoint has seen; the figures then flatter the model).",
        )
