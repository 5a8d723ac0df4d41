"""What a screen will test, decided from positions and expression before any effect is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from spatialformer_core.arrays import IntArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.far import FarPairs, Slides, matched_far_pairs
from spatialformer_core.perturbation.request import MIN_PAIRS_PER_UNIT, ScreenRequest
from spatialformer_core.perturbation.tissue import (
    PairTable,
    Tissue,
    check_regions,
    concatenate,
    near_pairs,
)
from spatialformer_core.perturbation.units import Units, choose_units
from spatialformer_core.stats import MIN_UNITS


@dataclass(frozen=True, slots=True)
class GenePairIndex:
    """The gene pairs that are tested, each with a slot.

    Attributes
    ----------
    left, right
        Gene columns of each slot, shape ``(n_slots,)``.
    slot
        Slot of each gene pair, -1 where it is not tested, shape ``(n_genes, n_genes)``.
    n_units
        Units that support each gene pair, shape ``(n_slots,)``.
    """

    left: IntArray
    right: IntArray
    slot: IntArray
    n_units: IntArray

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True, slots=True)
class ScreenPlan:
    """Pairs, units and gene pairs of a screen.

    Attributes
    ----------
    slides
        The tissue.
    n_near_found
        Neighbouring pairs found, before small units and the limit per unit.
    near, near_unit
        Near pairs used and the unit of each.
    far
        Far pairs used and the unit of each.
    units
        All units of the near pairs; ``unit_names`` are those with enough near AND far pairs.
    index
        Gene pairs that are tested.
    no_p_reason
        Why there can be no p-value; None if there can.
    """

    slides: Slides
    n_near_found: int
    near: PairTable
    near_unit: LongArray
    far: FarPairs
    units: Units
    unit_names: tuple[str, ...]
    index: GenePairIndex
    no_p_reason: str | None

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """Units that hold too few near or far pairs to be replicates, and why."""
        few_near = [{"unit": name, "why": f"{n} near pairs"} for name, n in self.units.too_small]
        few_far = [
            {"unit": name, "why": "too few matched far pairs"}
            for name in self.units.names
            if name not in self.unit_names
        ]
        return few_near + few_far

    @property
    def pairs_per_unit(self) -> list[dict[str, Any]]:
        """Name and numbers of near and far pairs of each unit."""
        near = np.bincount(self.near_unit, minlength=len(self.unit_names))
        far = np.bincount(self.far.unit, minlength=len(self.unit_names))
        return [
            {"unit": name, "n_near": int(near[k]), "n_far": int(far[k])}
            for k, name in enumerate(self.unit_names)
        ]


def make_plan(tissues: Sequence[Tissue], request: ScreenRequest) -> ScreenPlan:
    """Return what a screen will compare and test.

    Raises
    ------
    SpatialFormerError
        If a region is empty or overlaps another, a type is absent, the types have no neighbours
        in the regions, or no far pairs exist to compare with.
    """
    if any(tissue.versus for tissue in tissues):
        from spatialformer_core.perturbation.versus import make_versus_plan

        return make_versus_plan(tissues, request)
    for tissue in tissues:
        check_regions(tissue)
    check_types(tissues, request)
    slides = Slides(tissues, [radius_graph(t.xy_um, request.radius_um) for t in tissues])
    found = concatenate([near_pairs(t, k, slides.graphs[k]) for k, t in enumerate(slides.tissues)])
    if not len(found):
        raise _no_neighbours(tissues, request)
    units = choose_units(found, tissues, request.unit)
    rows = limited(units.of_pair, request.max_pairs_per_unit, request.seed)
    near, unit = found.take(rows), units.of_pair[rows]
    outside = request.far_from == "outside"
    far = matched_far_pairs(slides, near, unit, request.far_um, request.seed, outside=outside)
    if not len(far.pairs):
        raise SpatialFormerError(
            f"No {request.group_left} and {request.group_right} cells lie "
            f"{request.far_um[0]:.0f}-{request.far_um[1]:.0f} um apart, so near pairs have "
            "nothing to be compared with.",
            fix="Widen far_um or choose tissue that holds both types in more than one place.",
        )
    return _finish(slides, request, units, (near, unit, far), len(found))


def _finish(
    slides: Slides,
    request: ScreenRequest,
    units: Units,
    pairs: tuple[PairTable, LongArray, FarPairs],
    n_found: int,
) -> ScreenPlan:
    near, unit, far = pairs
    far_counts = np.bincount(far.unit, minlength=len(units.names))
    enough = far_counts >= min(MIN_PAIRS_PER_UNIT, far_counts.max())
    number = np.where(enough, np.cumsum(enough) - 1, -1)
    names = tuple(name for name, ok in zip(units.names, enough, strict=True) if ok)
    kept_near, kept_far = number[unit] >= 0, number[far.unit] >= 0
    near, near_unit = near.take(kept_near), number[unit[kept_near]]
    far = FarPairs(far.pairs.take(kept_far), number[far.unit[kept_far]], far.source, far.imbalance)
    index = supported(slides.tissues, (near, near_unit), far, request)
    return ScreenPlan(
        slides, n_found, near, near_unit, far, units, names, index, _no_p_reason(units, names)
    )


def _no_p_reason(units: Units, names: tuple[str, ...]) -> str | None:
    if units.kind == "all":
        return (
            f"No replicate unit holds {MIN_PAIRS_PER_UNIT} near pairs; {MIN_UNITS} such units are "
            "needed for a p-value. The interval is over cell pairs and describes these cells only."
        )
    if len(names) < MIN_UNITS:
        return (
            f"Replicate units ({units.label}) with at least {MIN_PAIRS_PER_UNIT} near and "
            f"{MIN_PAIRS_PER_UNIT} far pairs: {len(names)}; {MIN_UNITS} are needed for a p-value."
        )
    return None


def check_types(tissues: Sequence[Tissue], request: ScreenRequest) -> None:
    """Refuse types that no analysed cell has."""
    for name, side in ((request.group_left, "left"), (request.group_right, "right")):
        if not any(getattr(tissue, side).any() for tissue in tissues):
            raise SpatialFormerError(
                f"No cell of type {name!r} passes quality control and has a gene that the "
                "checkpoint knows.",
                where=", ".join(tissue.slide_id for tissue in tissues),
                fix="Choose another type, or look at the retention per type on the Slides page.",
            )


def _no_neighbours(tissues: Sequence[Tissue], request: ScreenRequest) -> SpatialFormerError:
    inside = [
        sum(int((getattr(t, side) & t.in_any_region).sum()) for t in tissues)
        for side in ("left", "right")
    ]
    return SpatialFormerError(
        f"The chosen tissue holds {inside[0]:,} {request.group_left} and {inside[1]:,} "
        f"{request.group_right} cells that pass quality control, and no two of them are within "
        f"{request.radius_um:.0f} um of each other in one region.",
        fix="Draw a larger region, one where the two types meet, or choose other types.",
    )


def limited(unit: LongArray, limit: int, seed: int) -> LongArray:
    """Return the pairs of usable units, at most ``limit`` of each, by unit and then cell."""
    rng = np.random.default_rng(seed)
    rows = [np.zeros(0, np.int64)]
    for number in np.unique(unit[unit >= 0]):
        mine = np.flatnonzero(unit == number)
        if len(mine) > limit:
            mine = np.sort(rng.choice(mine, limit, replace=False))
        rows.append(mine)
    return np.concatenate(rows)


def presence(tissues: Sequence[Tissue], pairs: PairTable, side: str) -> Any:
    """Return the genes of one side of each pair, scipy CSR ``(n_pairs, n_genes)`` of 0 and 1."""
    cells = pairs.left if side == "left" else pairs.right
    blocks, rows = [], []
    for number, tissue in enumerate(tissues):
        here = np.flatnonzero(pairs.slide == number)
        blocks.append(tissue.presence[cells[here]])
        rows.append(here)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return sparse.vstack(blocks, format="csr")[order]


def carriers(left: Any, right: Any, *, same_type: bool) -> Any:
    """Return in how many pairs both genes are expressed, CSR ``(n_genes, n_genes)``.

    For one type both orientations count and only ``left <= right`` is kept.
    """
    counts = (left.T @ right).tocsr()
    return sparse.triu(counts + counts.T, format="csr") if same_type else counts


def supported(
    tissues: Sequence[Tissue],
    near: tuple[PairTable, LongArray],
    far: FarPairs,
    request: ScreenRequest,
    *,
    needed: int = MIN_UNITS,
) -> GenePairIndex:
    """Return the gene pairs that enough cell pairs of enough units carry."""
    pairs = concatenate([near[0], far.pairs])
    unit = np.concatenate([near[1], far.unit])
    left, right = presence(tissues, pairs, "left"), presence(tissues, pairs, "right")
    n_genes = left.shape[1]
    supporting = np.zeros((n_genes, n_genes), np.int32)
    for number in np.unique(unit):
        mine = np.flatnonzero(unit == number)
        count = carriers(left[mine], right[mine], same_type=request.same_type)
        count.data = (count.data >= request.min_support).astype(np.int32)
        supporting += count.toarray()
    enough = supporting >= min(needed, len(np.unique(unit)))
    tested_left, tested_right = np.nonzero(enough)
    slot = np.full((n_genes, n_genes), -1, np.int32)
    slot[tested_left, tested_right] = np.arange(len(tested_left))
    return GenePairIndex(
        tested_left.astype(np.int32),
        tested_right.astype(np.int32),
        slot,
        supporting[tested_left, tested_right],
    )
