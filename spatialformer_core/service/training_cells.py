"""Which cells of a slide a checkpoint has seen, from the split recipe in its provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    SplitCodes,
    split_by_recipe,
)

if TYPE_CHECKING:
    from spatialformer_core.slides import Slide

_NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}


def training_split(slide: Slide, provenance: dict[str, Any]) -> SplitCodes | None:
    """Return the split codes with which a checkpoint was trained on a slide.

    The recipe is applied to all cells and to the cells that pass quality control; the one whose
    counts equal those that training recorded is taken.

    Returns
    -------
    numpy.ndarray or None
        Codes, shape ``(n,)``; None if the slide took no part or its split cannot be told.
    """
    entry = _entry(slide, provenance)
    recipe = _recipe(entry, provenance)
    if entry is None or recipe is None:
        return None
    recorded = entry.get("split")
    kept = np.asarray(slide.passes_qc)
    for cells in (np.ones_like(kept), kept):
        codes = np.full(len(kept), -1, np.int8)
        try:
            codes[cells] = split_by_recipe(np.asarray(slide.xy_um)[cells], recipe)
        except SpatialFormerError:
            continue
        counts = {name: int(np.sum(codes[kept] == code)) for code, name in _NAMES.items()}
        if isinstance(recorded, dict) and all(
            recorded.get(name, 0) == n for name, n in counts.items()
        ):
            return codes
    return None


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a checkpoint knows of a slide's cells, shapes ``(n,)``.

    Attributes
    ----------
    seen
        Cells that it was trained or selected on.
    held_out
        Cells of the test blocks: unlike those of the gaps, no neighbour of theirs was seen either.
    """

    seen: BoolArray
    held_out: BoolArray


def exposure(slide: Slide, provenance: dict[str, Any]) -> Exposure | None:
    """Return which cells a checkpoint has seen and which it surely has not.

    Returns
    -------
    Exposure or None
        Nothing is seen of a slide that took no part; None if it took part and nobody can tell
        which of its cells did.
    """
    if not isinstance(provenance.get("trained_on"), list):
        return None
    if not took_part(slide, provenance):
        nothing = np.zeros(slide.meta.n_cells, np.bool_)
        return Exposure(nothing, ~nothing)
    codes = training_split(slide, provenance)
    if codes is None:
        return None
    return Exposure((codes == TRAIN) | (codes == VALIDATION), codes == TEST)


def took_part(slide: Slide, provenance: dict[str, Any]) -> bool:
    """Tell whether a checkpoint was trained on this slide."""
    return _entry(slide, provenance) is not None


def _entry(slide: Slide, provenance: dict[str, Any]) -> dict[str, Any] | None:
    for entry in provenance.get("trained_on") or []:
        if isinstance(entry, dict) and entry.get("slide") == slide.meta.slide_id:
            return entry
    return None


def _recipe(entry: dict[str, Any] | None, provenance: dict[str, Any]) -> dict[str, Any] | None:
    """Return the split recipe: one per slide under ``blocks``, or one for all."""
    blocks = provenance.get("blocks")
    if entry is None or not isinstance(blocks, dict):
        return None
    recipe = blocks if "gap_um" in blocks else blocks.get(entry["slide"])
    return recipe if isinstance(recipe, dict) else None
