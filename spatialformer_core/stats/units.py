"""Replicate units of cells: the tissue that a p-value is about, never the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import LongArray

MIN_UNITS = 6
"""Fewer replicate units give effects and intervals and no p-value."""

MIN_PER_UNIT = 10
"""What is counted (cells, pairs of cells) that a unit needs to count as a replicate."""

MIN_PER_ARM = 3
"""Units that each of two groups needs where no unit holds both."""

BLOCK_SIZES_UM = (1000.0, 800.0, 600.0, 400.0, 300.0, 200.0)
"""Sides of the square blocks that are tried, largest first; never below 200 um."""

CellUnitKind = Literal["auto", "donor", "slide", "block"]
Level = TypeVar("Level")


def best_level(levels: Iterable[Level], n_units: Callable[[Level], int]) -> Level | None:
    """Return the first level with `MIN_UNITS` units; if none has, the first with most of them.

    Give the levels largest first, lazily: what comes after a sufficient one is not worked out.
    """
    best: Level | None = None
    for level in levels:
        if n_units(level) >= MIN_UNITS:
            return level
        if best is None or n_units(level) > n_units(best):
            best = level
    return best


def block_corners(xy_um: NDArray[np.floating], size_um: float) -> LongArray:
    """Return column and row of the square block that each point lies in, shape ``(n, 2)``."""
    return np.floor(np.asarray(xy_um, np.float64) / size_um).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the compared cells come from.

    Attributes
    ----------
    slide
        Slide of each cell, shape ``(n,)``.
    xy_um
        Centroids, shape ``(n, 2)``; None allows no blocks.
    slides, donors
        Name and donor of each slide.
    """

    slide: LongArray
    xy_um: NDArray[np.floating] | None
    slides: tuple[str, ...]
    donors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellUnits:
    """Which unit each cell belongs to.

    Attributes
    ----------
    kind
        ``donor slide block``, or ``all`` if no kind has a usable unit.
    block_um
        Side of the blocks, None for other kinds.
    names
        The units in use.
    of_cell
        Number of each cell's unit, -1 where it is of neither group or its unit is too small,
        shape ``(n,)``.
    paired
        Whether every unit holds both groups, so that they are compared within units.
    no_p_reason
        Why there can be no p-value; None if there can.
    """

    kind: str
    block_um: float | None
    names: tuple[str, ...]
    of_cell: LongArray
    paired: bool
    no_p_reason: str | None = None

    @property
    def label(self) -> str:
        """How the unit is called in a sentence."""
        return f"{self.block_um:.0f} um block" if self.block_um else self.kind


def choose_cell_units(
    side: NDArray[np.integer], placed: Placed, kind: CellUnitKind = "auto"
) -> CellUnits:
    """Return the replicate units in which two groups of cells are compared.

    A unit that holds at least 10 cells of both groups compares them within itself. ``auto`` takes
    the largest kind (donor, slide, block) with 6 such units, or the one with most of them. A
    grouping that is one and the same within every donor (or slide) cannot be compared within
    anything smaller: its replicates are the donors (or slides), 3 per group at least, and pieces
    of them are none.

    Parameters
    ----------
    side
        0 for the group, 1 for the reference, -1 for neither, shape ``(n,)``.
    placed
        Where the cells come from.
    kind
        One kind only, or ``auto``.

    Returns
    -------
    CellUnits
        With a reason where a p-value is not earned; then the effects of the units that there are
        still hold.
    """
    tried = (
        _usable(side, level, paired=paired)
        for level, paired in _levels(side, placed)
        if kind in ("auto", level.kind)
    )
    best = best_level(tried, _n_usable)
    if best is None:
        return _nothing(
            side,
            f"The groups differ between whole donors or slides, so that a {kind} is no replicate.",
        )
    return best if best.names else _nothing(side, best.no_p_reason)


def _n_usable(units: CellUnits) -> int:
    # Ten donors against one are many units and still no replication.
    return min(len(units.names), MIN_UNITS - 1) if units.no_p_reason else len(units.names)


@dataclass(frozen=True, slots=True)
class _Level:
    """One way to divide the cells: whole numbers per cell, and how their rows are called."""

    kind: str
    block_um: float | None
    keys: LongArray
    name: Callable[[LongArray], str]


def _levels(side: NDArray[np.integer], placed: Placed) -> Iterator[tuple[_Level, bool]]:
    """Yield the ways to divide the cells, and whether groups are compared within a unit."""
    donors = sorted(set(placed.donors))
    of_slide = np.array([donors.index(donor) for donor in placed.donors], np.int64)
    donor = _Level("donor", None, of_slide[placed.slide][:, None], lambda row: donors[row[0]])
    slide = _Level("slide", None, placed.slide[:, None], lambda row: placed.slides[row[0]])
    if not _meet(side, donor):
        yield donor, False
        return
    yield donor, True
    if not _meet(side, slide):
        yield slide, False
        return
    yield slide, True
    if placed.xy_um is None:
        return
    for size in BLOCK_SIZES_UM:
        corner = block_corners(placed.xy_um, size)
        yield (
            _Level(
                "block",
                size,
                np.column_stack([placed.slide, corner]),
                lambda row: f"{placed.slides[row[0]]} x{row[1]} y{row[2]}",
            ),
            True,
        )


def _counts(side: NDArray[np.integer], level: _Level) -> tuple[LongArray, LongArray, LongArray]:
    """Return the level's rows, the row of each compared cell, and cells per row and group."""
    used = side >= 0
    keys = level.keys[used]
    low = keys.min(0, initial=0)
    span = tuple(keys.max(0, initial=0) - low + 1)
    flat, code = np.unique(np.ravel_multi_index((keys - low).T, span), return_inverse=True)
    rows = np.column_stack(np.unravel_index(flat, span)) + low
    counts = np.bincount(code * 2 + side[used], minlength=2 * len(rows)).reshape(-1, 2)
    return rows, code, counts


def _meet(side: NDArray[np.integer], level: _Level) -> bool:
    _, _, counts = _counts(side, level)
    return bool((counts.min(1, initial=np.iinfo(np.int64).max) > 0).any())


def _usable(side: NDArray[np.integer], level: _Level, *, paired: bool) -> CellUnits:
    rows, code, counts = _counts(side, level)
    enough = (counts.min(1) if paired else counts.max(1)) >= MIN_PER_UNIT
    number = np.where(enough, np.cumsum(enough) - 1, -1)
    of_cell = np.full(len(side), -1, np.int64)
    of_cell[side >= 0] = number[code]
    names = tuple(level.name(row) for row in rows[enough])
    units = CellUnits(level.kind, level.block_um, names, of_cell, paired)
    return replace(units, no_p_reason=_no_p_reason(units, counts[enough]))


def _no_p_reason(units: CellUnits, counts: LongArray) -> str | None:
    if units.paired:
        if len(units.names) >= MIN_UNITS:
            return None
        return (
            f"Replicate units ({units.label}) with at least {MIN_PER_UNIT} cells of both groups: "
            f"{len(units.names)}; {MIN_UNITS} are needed for a p-value."
        )
    one, other = int((counts[:, 0] > 0).sum()), int((counts[:, 1] > 0).sum())
    if min(one, other) >= MIN_PER_ARM:
        return None
    return (
        f"The groups differ between {units.kind}s. With at least {MIN_PER_UNIT} cells there are "
        f"{one} and {other}; {MIN_PER_ARM} of each are needed for a p-value."
    )


def _nothing(side: NDArray[np.integer], reason: str | None) -> CellUnits:
    of_cell = np.where(side >= 0, 0, -1).astype(np.int64)
    return CellUnits("all", None, ("all",), of_cell, paired=True, no_p_reason=reason)
