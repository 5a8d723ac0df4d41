"""Near pairs of some regions against near pairs of others, instead of against far pairs.

What is compared are two pieces of tissue, so the replicate must be able to differ between them:
donors (or slides) that hold both are compared within themselves; regions that are all of one
donor's kind on one side and another's on the other are compared between donors, and pieces of a
donor are then no replicates. Regions of the same slides count one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.far import FarPairs, Slides, imbalance, match
from spatialformer_core.perturbation.plan import (
    ScreenPlan,
    check_types,
    limited,
    supported,
)
from spatialformer_core.perturbation.request import MIN_PAIRS_PER_UNIT, ScreenRequest
from spatialformer_core.perturbation.tissue import (
    PairTable,
    Tissue,
    check_regions,
    concatenate,
    near_pairs,
)
from spatialformer_core.perturbation.units import Level, Units, levels, usable
from spatialformer_core.stats import MIN_PER_ARM, MIN_UNITS

SOURCE = "versus"


def make_versus_plan(tissues: Sequence[Tissue], request: ScreenRequest) -> ScreenPlan:
    """Return what a screen of regions against other regions will compare and test.

    Without regions of its own the first side is all tissue outside the others.

    Raises
    ------
    SpatialFormerError
        If regions are empty or overlap, a type is absent, or a side has too few neighbours.
    """
    check_types(tissues, request)
    sides = [_first_side(tissues), _second_side(tissues)]
    for tissue in sides[0] + sides[1]:
        check_regions(tissue)
    _check_apart(tissues)
    graphs = [radius_graph(t.xy_um, request.radius_um) for t in tissues]
    slides = Slides(tissues, graphs)
    pairs = [
        concatenate([near_pairs(t, k, graphs[k]) for k, t in enumerate(side)]) for side in sides
    ]
    for found, name in zip(pairs, ("the regions", "the regions of --versus"), strict=True):
        if len(found) < MIN_PAIRS_PER_UNIT:
            raise SpatialFormerError(
                f"Only {len(found)} pairs of {request.group_left} and {request.group_right} are "
                f"neighbours in {name}; at least {MIN_PAIRS_PER_UNIT} are needed.",
                fix="Choose larger regions, or regions where the two types meet.",
            )
    arms = _choose(pairs, sides, request)
    return _plan(slides, request, pairs, arms)


@dataclass(frozen=True, slots=True)
class _Arms:
    """Units of both sides at one level.

    ``one`` and ``other`` give the unit of each pair, -1 without; paired units hold both sides.
    """

    units: Units
    names: tuple[str, ...]
    one: LongArray
    other: LongArray
    paired: bool

    @property
    def sizes(self) -> tuple[int, int]:
        """Units with pairs of the first, and of the second side."""
        return len(np.unique(self.one[self.one >= 0])), len(np.unique(self.other[self.other >= 0]))

    @property
    def enough(self) -> bool:
        one, other = self.sizes
        if self.paired:
            return len(self.names) >= MIN_UNITS
        return min(one, other) >= MIN_PER_ARM and one + other >= MIN_UNITS


def _first_side(tissues: Sequence[Tissue]) -> list[Tissue]:
    if any(tissue.regions for tissue in tissues):
        # A slide without a region of this side takes no part in it.
        return [
            t if t.regions else replace(t, left=np.zeros_like(t.left), right=np.zeros_like(t.right))
            for t in tissues
        ]
    out = []
    for tissue in tissues:
        outside = ~_inside(tissue)
        out.append(replace(tissue, left=tissue.left & outside, right=tissue.right & outside))
    return out


def _second_side(tissues: Sequence[Tissue]) -> list[Tissue]:
    return [
        replace(
            t,
            regions=t.versus,
            left=t.left if t.versus else np.zeros_like(t.left),
            right=t.right if t.versus else np.zeros_like(t.right),
        )
        for t in tissues
    ]


def _inside(tissue: Tissue) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    inside = np.zeros(len(tissue.xy_um), np.bool_)
    for region in tissue.versus:
        inside |= region.inside
    return inside


def _check_apart(tissues: Sequence[Tissue]) -> None:
    for tissue in tissues:
        if not tissue.regions:
            continue
        shared = int((_inside(tissue) & tissue.in_any_region).sum())
        if shared:
            raise SpatialFormerError(
                f"{shared:,} cells lie in the regions of both sides.",
                where=tissue.slide_id,
                fix="A cell cannot be compared with itself: redraw the regions.",
            )


def _choose(
    pairs: Sequence[PairTable], sides: Sequence[Sequence[Tissue]], request: ScreenRequest
) -> _Arms:
    """Return the largest level with enough units, or the one with most of them."""
    best: _Arms | None = None
    second = {(level.kind, level.block_um): level for level in levels(pairs[1], sides[1])}
    for one in levels(pairs[0], sides[0]):
        # A side without regions of its own has no level of regions.
        if (one.kind, one.block_um) not in second:
            continue
        other = second[one.kind, one.block_um]
        shared = set(_names(one)) & set(_names(other))
        # Regions and blocks of one slide are separate tissue: each belongs to one side.
        paired = bool(shared) and one.kind in ("donor", "slide")
        if request.unit in ("auto", one.kind):
            arms = _paired(one, other) if paired else _unpaired(one, other)
            if arms.enough:
                return arms
            if best is None or sum(arms.sizes) > sum(best.sizes):
                best = arms
        if not shared and one.kind in ("donor", "slide"):
            # The sides differ between whole donors or slides: pieces of them are no replicates.
            break
    if best is None:
        raise SpatialFormerError(
            f"The sides differ between whole donors or slides, so that a {request.unit} is no "
            "replicate.",
            fix="Choose the unit auto.",
        )
    return best


def _names(level: Level) -> list[str]:
    return [level.name(row) for row in np.unique(level.keys, axis=0)]


def _coded(level: Level, prefix: str = "") -> tuple[Units, tuple[str, ...]]:
    units = usable(level)
    return units, tuple(prefix + name for name in units.names)


def _paired(one: Level, other: Level) -> _Arms:
    units, names = _coded(one)
    second, second_names = _coded(other)
    both = tuple(name for name in names if name in second_names)
    return _Arms(
        units,
        both,
        _renumbered(units.of_pair, names, both),
        _renumbered(second.of_pair, second_names, both),
        paired=True,
    )


def _unpaired(one: Level, other: Level) -> _Arms:
    units, names = _coded(one)
    second, second_names = _coded(other, "versus ")
    shifted = np.where(second.of_pair >= 0, second.of_pair + len(names), -1)
    return _Arms(units, names + second_names, units.of_pair, shifted, paired=False)


def _renumbered(code: LongArray, names: tuple[str, ...], kept: tuple[str, ...]) -> LongArray:
    number = np.array([kept.index(n) if n in kept else -1 for n in names] + [-1], np.int64)
    return number[code]


def _plan(
    slides: Slides, request: ScreenRequest, pairs: Sequence[PairTable], arms: _Arms
) -> ScreenPlan:
    rows = limited(arms.one, request.max_pairs_per_unit, request.seed)
    near, near_unit = pairs[0].take(rows), arms.one[rows]
    chosen = _matched(slides, (near, near_unit), (pairs[1], arms.other), arms, request)
    other, other_unit = pairs[1].take(chosen), arms.other[chosen]
    kept = _large_enough(near_unit, other_unit, arms)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    names = tuple(name for name, ok in zip(arms.names, kept, strict=True) if ok)
    in_near, in_other = number[near_unit] >= 0, number[other_unit] >= 0
    near, near_unit = near.take(in_near), number[near_unit[in_near]]
    other, other_unit = other.take(in_other), number[other_unit[in_other]]
    if not len(near) or not len(other):
        raise SpatialFormerError(
            f"No replicate unit ({arms.units.label}) holds {MIN_PAIRS_PER_UNIT} near pairs on each "
            "side that are alike in depth and crowding.",
            fix="Choose larger regions, or other ones to compare with.",
        )
    spread = imbalance(slides.covariates(near), slides.covariates(other))
    far = FarPairs(other, other_unit, SOURCE, spread)
    # Genes that one side expresses and the other does not are of interest: its units suffice.
    needed = MIN_UNITS if arms.paired else MIN_PER_ARM
    index = supported(slides.tissues, (near, near_unit), far, request, needed=needed)
    left = replace(arms, names=names, one=near_unit, other=other_unit)
    return ScreenPlan(
        slides, len(pairs[0]), near, near_unit, far, arms.units, names, index, _no_p_reason(left)
    )


def _matched(
    slides: Slides,
    near: tuple[PairTable, LongArray],
    other: tuple[PairTable, LongArray],
    arms: _Arms,
    request: ScreenRequest,
) -> LongArray:
    """Return the pairs of the second side that resemble those of the first, each used once."""
    rng = np.random.default_rng(request.seed)
    near_x, other_x = slides.covariates(near[0]), slides.covariates(other[0])
    usable_rows = np.flatnonzero(other[1] >= 0)
    rows = [np.zeros(0, np.int64)]
    for unit in np.unique(other[1][usable_rows]):
        pool = usable_rows[other[1][usable_rows] == unit]
        like = np.flatnonzero(near[1] == unit)
        if not arms.paired:
            # A unit of the second side resembles the first side as a whole; half of its pairs are
            # left out, so that there is a choice.
            wanted = max(MIN_PAIRS_PER_UNIT, len(pool) // 2)
            n = min(len(near_x), request.max_pairs_per_unit, wanted)
            like = rng.choice(len(near_x), n, replace=False)
        rows.append(pool[match(near_x[like], other_x[pool], rng)])
    return np.concatenate(rows)


def _large_enough(
    one: LongArray, other: LongArray, arms: _Arms
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    counts = [np.bincount(side, minlength=len(arms.names)) for side in (one, other)]
    least = np.minimum(*counts) if arms.paired else np.maximum(*counts)
    enough: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = least >= MIN_PAIRS_PER_UNIT
    return enough


def _no_p_reason(arms: _Arms) -> str | None:
    if arms.enough:
        return None
    if arms.paired:
        return (
            f"Replicate units ({arms.units.label}) with at least {MIN_PAIRS_PER_UNIT} near pairs "
            f"of both sides: {len(arms.names)}; {MIN_UNITS} are needed for a p-value."
        )
    one, other = arms.sizes
    return (
        f"Replicate units ({arms.units.label}) with at least {MIN_PAIRS_PER_UNIT} near pairs: "
        f"{one} and {other} on the two sides; {MIN_PER_ARM} of each and {MIN_UNITS} in all are "
        "needed for a p-value."
    )
