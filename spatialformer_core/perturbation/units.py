"""Replicate units: the tissue that a p-value is about, never the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.perturbation.request import MIN_PAIRS_PER_UNIT, MIN_UNITS, UnitKind
from spatialformer_core.perturbation.tissue import PairTable, Tissue

BLOCK_SIZES_UM = (1000.0, 800.0, 600.0, 400.0, 300.0, 200.0)
"""Sides of the square blocks that are tried, largest first; never below 200 um."""


@dataclass(frozen=True, slots=True)
class Units:
    """Which unit each near pair belongs to.

    Attributes
    ----------
    kind
        ``donor slide roi block``, or ``all`` if no kind has a unit of 10 near pairs.
    block_um
        Side of the blocks, None for other kinds.
    names
        Units with enough near pairs.
    of_pair
        Number of the unit of each near pair, -1 if its unit is too small, shape ``(n,)``.
    too_small
        Names and near pairs of the units left out.
    """

    kind: str
    block_um: float | None
    names: tuple[str, ...]
    of_pair: LongArray
    too_small: tuple[tuple[str, int], ...] = ()

    @property
    def label(self) -> str:
        """How the unit is called in a sentence."""
        return f"{self.block_um:.0f} um block" if self.block_um else self.kind


def choose_units(pairs: PairTable, tissues: Sequence[Tissue], kind: UnitKind) -> Units:
    """Return the replicate units of near pairs.

    ``auto`` takes the largest kind (donor, slide, region, block) with at least 6 units of at least
    10 near pairs; if none has, the one with most such units, the larger kind first. Only the
    number of pairs decides, no effect is known yet.
    """
    candidates = [
        _usable(labels, name, size)
        for name, size, labels in _labels(pairs, tissues)
        if kind in ("auto", name)
    ]
    for units in candidates:
        if len(units.names) >= MIN_UNITS:
            return units
    best = max(candidates, key=lambda units: len(units.names))
    if best.names:
        return best
    return Units("all", None, ("all",), np.zeros(len(pairs), np.int64))


def _usable(labels: list[str], kind: str, size: float | None) -> Units:
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    enough = counts >= MIN_PAIRS_PER_UNIT
    number = np.where(enough, np.cumsum(enough) - 1, -1)
    small = zip(names[~enough], counts[~enough], strict=True)
    return Units(
        kind,
        size,
        tuple(str(name) for name in names[enough]),
        number[codes],
        tuple((str(name), int(n)) for name, n in small),
    )


def _labels(
    pairs: PairTable, tissues: Sequence[Tissue]
) -> list[tuple[str, float | None, list[str]]]:
    slides = [tissues[k].slide_id for k in pairs.slide]
    found: list[tuple[str, float | None, list[str]]] = [
        ("donor", None, [tissues[k].donor for k in pairs.slide]),
        ("slide", None, slides),
    ]
    if (pairs.region >= 0).any():
        found.append(("roi", None, _roi_labels(pairs, tissues)))
    for size in BLOCK_SIZES_UM:
        corner = np.floor(pairs.mid_um / size).astype(int)
        blocks = [f"{s} x{x} y{y}" for s, (x, y) in zip(slides, corner, strict=True)]
        found.append(("block", size, blocks))
    return found


def _roi_labels(pairs: PairTable, tissues: Sequence[Tissue]) -> list[str]:
    labels = []
    for slide, region in zip(pairs.slide, pairs.region, strict=True):
        tissue = tissues[slide]
        unit = tissue.regions[region].unit if region >= 0 else "outside"
        labels.append(f"{tissue.slide_id}: {unit}")
    return labels
