"""Pairs of cells: neighbours, and cells that are none.

Everything is stateless: pair ``k`` of a seed is the same pair whenever it is drawn, whatever the
batch size, so nothing is stored and an interrupted training resumes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, Graph, IntArray, LongArray
from spatialformer_core.cell_graph import kernels
from spatialformer_core.cell_graph.graph import (
    build_grid,
    check_coordinates,
    restrict,
    writable,
)
from spatialformer_core.errors import SpatialFormerError

Kind = Literal["positive", "easy", "hard"]
KIND_CODES: dict[Kind, int] = {
    "positive": kernels.POSITIVE,
    "easy": kernels.EASY,
    "hard": kernels.HARD,
}
BALANCED: tuple[Kind, ...] = ("positive", "easy", "positive", "hard")
"""One group of pairs around one cell: as many neighbours as non-neighbours."""

_RING_BINS = 4


@dataclass(frozen=True, slots=True)
class CellPairs:
    """Labelled pairs of cells.

    Attributes
    ----------
    left, right
        Cell indices, shape ``(n,)``.
    kind
        0 neighbours, 1 easy, 2 hard negative, shape ``(n,)``.
    """

    left: IntArray
    right: IntArray
    kind: NDArray[np.int8]

    @property
    def label(self) -> NDArray[np.int8]:
        """1 for neighbours, 0 for others, shape ``(n,)``."""
        return np.asarray(self.kind == kernels.POSITIVE, np.int8)


def epoch_order(index: LongArray, n: int, *, seed: int, epoch: int = 0) -> LongArray:
    """Return where ``index`` goes in the epoch's permutation of ``[0, n)``.

    Every index of an epoch is visited exactly once; any part of it can be made on its own.

    Raises
    ------
    SpatialFormerError
        If an index lies outside ``[0, n)``.
    """
    wanted = np.require(index, np.int64, ["C", "W"])
    if wanted.size and (wanted.min() < 0 or wanted.max() >= n):
        raise SpatialFormerError(f"An index lies outside [0, {n}).")
    return kernels.permute(wanted, n, seed, epoch)


class PairSampler:
    """Draws labelled pairs within one set of cells of one slide.

    Parameters
    ----------
    graph
        Neighbours of all ``n`` cells at ``radius_um``.
    xy_um
        Cell centres, shape ``(n, 2)``.
    cells
        The cells that may be drawn (one split's QC cells), shape ``(n,)``; a pair never leaves
        this set.
    radius_um
        The graph's radius; an easy negative is farther away.
    hard_um
        Distances of the ring of hard negatives.
    kinds
        What is drawn around one cell, in this order. All pairs of a group share this cell, so it
        says nothing about the label.

    Attributes
    ----------
    anchors
        Cells around which groups are drawn: those with a neighbour and, if hard negatives are
        wanted, with a cell in the ring.
    without_neighbour, without_ring
        How many cells were left out for these reasons.

    Raises
    ------
    SpatialFormerError
        If the arrays disagree, the ring is not outside the radius, or no anchor is left.
    """

    def __init__(
        self,
        graph: Graph,
        xy_um: NDArray[np.floating],
        cells: BoolArray,
        *,
        radius_um: float = 30.0,
        hard_um: tuple[float, float] = (80.0, 150.0),
        kinds: Sequence[Kind] = BALANCED,
    ) -> None:
        _check_setup(graph.n_nodes, cells, (radius_um, *hard_um), kinds)
        xy = check_coordinates(xy_um)
        self.graph = restrict(graph, cells)
        self.kinds = np.array([KIND_CODES[kind] for kind in kinds], np.int8)
        self._tissue = kernels.Tissue(*writable(self.graph), xy[:, 0].copy(), xy[:, 1].copy())
        self._grid = build_grid(xy, hard_um[1] / _RING_BINS, cells)
        lo, hi = (float(value) for value in hard_um)
        self._limits = kernels.Limits(float(radius_um) ** 2, lo * lo, hi * hi, hi)
        anchors = np.flatnonzero(cells & (self.graph.degree > 0)).astype(np.int32)
        self.without_neighbour = int(cells.sum()) - len(anchors)
        self.without_ring = 0
        if kernels.HARD in self.kinds:
            ringed = kernels.has_ring(self._grid, self._tissue, self._limits, anchors)
            self.without_ring = int((~ringed).sum())
            anchors = anchors[ringed]
        self.anchors: IntArray = anchors
        if not len(anchors):
            raise SpatialFormerError(
                f"Of {int(cells.sum()):,} cells none has both a neighbour within {radius_um:g} um "
                f"and a cell for each wanted kind of pair ({', '.join(kinds)}).",
                fix="Use larger blocks, another split or other kinds of pairs.",
            )

    def sample(self, n: int, *, seed: int, position: int = 0) -> CellPairs:
        """Return the pairs ``position ... position + n - 1`` of a seed.

        An epoch is ``len(anchors) * len(kinds)`` pairs and visits each anchor once.
        """
        size, n_anchors = len(self.kinds), len(self.anchors)
        first, last = position // size, max(0, position + n - 1) // size + 1
        at = np.empty(last - first, np.int64)
        for epoch in range(first // n_anchors, (last - 1) // n_anchors + 1):
            here = np.arange(max(first, epoch * n_anchors), min(last, (epoch + 1) * n_anchors))
            order = epoch_order(here - epoch * n_anchors, n_anchors, seed=seed, epoch=epoch)
            at[here - first] = order
        # Whole groups, of which the first and the last may be cut.
        cut = slice(position - first * size, position - first * size + n)
        anchors = np.repeat(self.anchors[at], size)[cut]
        kind = np.tile(self.kinds, last - first)[cut]
        return self.draw(anchors, np.arange(position, position + n), kind, seed=seed)

    def draw(
        self, anchors: IntArray, index: LongArray, kind: NDArray[np.int8], *, seed: int
    ) -> CellPairs:
        """Draw one pair around each given anchor.

        Parameters
        ----------
        anchors
            Cells out of `anchors`, shape ``(n,)``.
        index
            Number of each pair in the run; with the seed it decides the draw, shape ``(n,)``.
        kind
            0 neighbours, 1 easy, 2 hard negative, shape ``(n,)``.
        """
        jobs = kernels.Jobs(
            np.require(index, np.int64, ["C", "W"]),
            np.require(anchors, np.int32, ["C", "W"]),
            np.require(kind, np.int8, ["C", "W"]),
        )
        left, right = kernels.draw_pairs(self._tissue, self._grid, self._limits, jobs, seed)
        if (left < 0).any() or (right < 0).any():
            raise SpatialFormerError(
                "A cell has no partner of the wanted kind: all cells lie within the radius.",
                fix="Use larger blocks or a smaller radius.",
            )
        return CellPairs(left, right, jobs.kind)


def _check_setup(
    n_cells: int, cells: BoolArray, radii_um: tuple[float, ...], kinds: Sequence[Kind]
) -> None:
    if cells.shape != (n_cells,) or cells.dtype != np.bool_:
        raise SpatialFormerError(
            f"The cell mask is {cells.dtype}{cells.shape}, bool({n_cells},) was expected."
        )
    radius_um, lo_um, hi_um = radii_um
    if not (np.isfinite(radii_um).all() and 0 < radius_um <= lo_um < hi_um):
        raise SpatialFormerError(
            f"Hard negatives from {lo_um:g} to {hi_um:g} um do not lie outside the neighbour "
            f"radius of {radius_um:g} um."
        )
    unknown = [kind for kind in kinds if kind not in KIND_CODES]
    if unknown or not kinds:
        raise SpatialFormerError(f"Kinds of pairs are {', '.join(KIND_CODES)}; found {unknown}.")
