"""Replicate units: the tissue that a p-value is about, never the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.perturbation.request import MIN_PAIRS_PER_UNIT, UnitKind
from spatialformer_core.perturbation.tissue import PairTable, Tissue
from spatialformer_core.stats import BLOCK_SIZES_UM, best_level, block_corners


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
    chosen = (level for level in levels(pairs, tissues) if kind in ("auto", level.kind))
    best = best_level(map(usable, chosen), lambda units: len(units.names))
    if best is not None and best.names:
        return best
    return Units("all", None, ("all",), np.zeros(len(pairs), np.int64))


@dataclass(frozen=True, slots=True)
class Level:
    """One way to divide the pairs: whole numbers per pair, and how their rows are called."""

    kind: str
    block_um: float | None
    keys: LongArray
    name: Callable[[LongArray], str]


def usable(level: Level) -> Units:
    """Return the units of a level that hold enough pairs."""
    rows, codes, counts = np.unique(level.keys, axis=0, return_inverse=True, return_counts=True)
    names = [level.name(row) for row in rows]
    enough = counts >= MIN_PAIRS_PER_UNIT
    number = np.where(enough, np.cumsum(enough) - 1, -1)
    return Units(
        level.kind,
        level.block_um,
        tuple(name for name, ok in zip(names, enough, strict=True) if ok),
        number[codes.ravel()],
        tuple((name, int(n)) for name, n, ok in zip(names, counts, enough, strict=True) if not ok),
    )


def levels(pairs: PairTable, tissues: Sequence[Tissue]) -> Iterator[Level]:
    """Yield the ways to divide pairs, largest first."""
    slides = [tissue.slide_id for tissue in tissues]
    donors = sorted({tissue.donor for tissue in tissues})
    donor_of = np.array([donors.index(tissue.donor) for tissue in tissues])
    yield Level("donor", None, donor_of[pairs.slide][:, None], lambda row: donors[row[0]])
    yield Level("slide", None, pairs.slide[:, None], lambda row: slides[row[0]])
    if (pairs.region >= 0).any():
        yield _roi_level(pairs, tissues)
    for size in BLOCK_SIZES_UM:
        corner = block_corners(pairs.mid_um, size)
        yield Level(
            "block",
            size,
            np.column_stack([pairs.slide, corner]),
            lambda row: f"{slides[row[0]]} x{row[1]} y{row[2]}",
        )


def _roi_level(pairs: PairTable, tissues: Sequence[Tissue]) -> Level:
    names = ["outside"]
    number: dict[tuple[int, int], int] = {}
    for slide, tissue in enumerate(tissues):
        for region, record in enumerate(tissue.regions):
            name = f"{tissue.slide_id}: {record.unit}"
            if name not in names:
                names.append(name)
            number[slide, region] = names.index(name)
    keys = [
        number.get(key, 0) for key in zip(pairs.slide.tolist(), pairs.region.tolist(), strict=True)
    ]
    return Level("roi", None, np.array(keys, np.int64)[:, None], lambda row: names[row[0]])
