"""The plain record of a slide that a screen works on, and cell pairs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import cell_graph
from spatialformer_core.arrays import BoolArray, CellTokens, DoubleArray, Graph, LongArray
from spatialformer_core.errors import SpatialFormerError

SpilloverCodes = NDArray[np.int8]
SPILLED, UNDECIDED = 1, -1
"""A gene's counts in a type are a neighbour's; or they may be. 0: nothing says so."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region of interest.

    Attributes
    ----------
    name
        What people call it.
    unit
        Replicate unit that it belongs to; regions of one unit are pooled.
    inside
        Which cells of the slide lie in it, shape ``(n,)``.
    """

    name: str
    unit: str
    inside: BoolArray


@dataclass(frozen=True, slots=True)
class Tissue:
    """One slide as a screen sees it.

    Attributes
    ----------
    slide_id, donor, simulated
        Which slide, whose, and whether its tissue was simulated.
    xy_um
        Centroids of ALL cells (those that fail quality control count as neighbours), ``(n, 2)``.
    left, right
        Cells of the two types that pass quality control, shape ``(n,)``.
    depth
        Transcripts per cell, shape ``(n,)``.
    presence
        scipy CSR ``(n, n_genes)``: 1 where a gene of the vocabulary is expressed.
    seen
        Cells that the checkpoint was trained or selected on; None if unknown.
    held_out
        Cells far from everything that the checkpoint has seen, on which the gate is measured;
        None takes all cells that are not ``seen``.
    regions
        Regions of interest; none means the whole slide.
    cells
        Tokens of all cells, row for row; None while only an estimate is wanted.
    spillover
        Code of every gene in the left and in the right type (`SPILLED`, `UNDECIDED` or 0), each of
        shape ``(n_genes,)``; None if it was not measured.
    versus
        Regions whose near pairs stand in for far pairs; none compares with far pairs.
    """

    slide_id: str
    donor: str
    simulated: bool
    xy_um: DoubleArray
    left: BoolArray
    right: BoolArray
    depth: DoubleArray
    presence: Any
    seen: BoolArray | None
    regions: tuple[Region, ...]
    cells: CellTokens | None = None
    held_out: BoolArray | None = None
    spillover: tuple[SpilloverCodes, SpilloverCodes] | None = None
    versus: tuple[Region, ...] = ()

    @property
    def in_any_region(self) -> BoolArray:
        """Cells inside any region (all cells if there are no regions), shape ``(n,)``."""
        if not self.regions:
            return np.ones(len(self.xy_um), np.bool_)
        inside: BoolArray = np.any([region.inside for region in self.regions], axis=0)
        return inside


@dataclass(frozen=True, slots=True)
class PairTable:
    """Cell pairs, each physical pair once; ``left`` is the cell of the left type.

    Attributes
    ----------
    slide
        Number of the slide, shape ``(n,)``.
    left, right
        Cells, row numbers of that slide, shape ``(n,)``.
    region
        Number of the region on that slide, -1 if none, shape ``(n,)``.
    mid_um
        Midpoint, shape ``(n, 2)``.
    """

    slide: LongArray
    left: LongArray
    right: LongArray
    region: LongArray
    mid_um: DoubleArray

    def __len__(self) -> int:
        return len(self.left)

    def take(self, rows: NDArray[Any]) -> PairTable:
        """Return the given pairs (numbers or a mask)."""
        return PairTable(
            self.slide[rows],
            self.left[rows],
            self.right[rows],
            self.region[rows],
            self.mid_um[rows],
        )


def concatenate(parts: Sequence[PairTable]) -> PairTable:
    """Return all pairs of the parts behind each other."""
    if not parts:
        empty = np.zeros(0, np.int64)
        return PairTable(empty, empty, empty, empty, np.zeros((0, 2)))
    return PairTable(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in PairTable.__slots__)
    )


def make_pairs(
    tissue: Tissue,
    slide: int,
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    region: int,
) -> PairTable:
    """Return the record of pairs between given cells of one slide."""
    n = len(left)
    mid = (tissue.xy_um[left] + tissue.xy_um[right]) / 2
    return PairTable(
        np.full(n, slide, np.int64),
        np.asarray(left, np.int64),
        np.asarray(right, np.int64),
        np.full(n, region, np.int64),
        mid,
    )


def near_pairs(tissue: Tissue, slide: int, graph: Graph) -> PairTable:
    """Return the neighbouring pairs of the two types with both centroids in one region.

    If both types are one, the cell with the smaller row number is called left; screens of one
    type use both orientations, so that this choice changes nothing.

    Parameters
    ----------
    tissue, slide
        The slide and its number.
    graph
        All its cells linked within the radius.
    """
    left, right = cell_graph.near_pairs(graph, tissue.left, tissue.right)
    if not tissue.regions:
        return make_pairs(tissue, slide, left, right, -1)
    parts = []
    for number, region in enumerate(tissue.regions):
        both = region.inside[left] & region.inside[right]
        parts.append(make_pairs(tissue, slide, left[both], right[both], number))
    return concatenate(parts)


def check_regions(tissue: Tissue) -> None:
    """Refuse regions that hold no cell or share cells with another unit's region.

    Raises
    ------
    SpatialFormerError
        Naming the regions.
    """
    for k, region in enumerate(tissue.regions):
        if not region.inside.any():
            raise SpatialFormerError(
                f"Region {region.name!r} holds no cell of slide {tissue.slide_id!r}.",
                fix="Draw it on the tissue, in micrometres of this slide.",
            )
        for other in tissue.regions[:k]:
            shared = int(np.sum(region.inside & other.inside))
            if shared:
                raise SpatialFormerError(
                    f"Regions {other.name!r} and {region.name!r} overlap ({shared:,} cells lie in "
                    "both), so they are no separate replicates.",
                    where=tissue.slide_id,
                    fix="Redraw one of them or choose only one.",
                )
