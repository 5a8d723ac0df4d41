"""Far pairs of the same two cell types: the control of every near-against-far comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, FloatArray, IntArray
from spatialformer_core.cell_graph import kernels
from spatialformer_core.cell_graph.graph import build_grid, check_coordinates
from spatialformer_core.errors import SpatialFormerError

_RING_BINS = 4


@dataclass(frozen=True, slots=True)
class PairMatch:
    """Near pairs that the far pairs shall resemble.

    Attributes
    ----------
    left, right
        Near pairs, shape ``(m,)``.
    covariates
        What to match on, for example log transcripts and degree, shape ``(n_cells, k)``; each
        column is scaled to unit standard deviation over the two groups.
    candidates
        How many far cells are drawn to choose the most similar from; more match closer.
    """

    left: IntArray
    right: IntArray
    covariates: FloatArray
    candidates: int = 16


def far_pairs(
    xy_um: NDArray[np.floating],
    left_cells: BoolArray,
    right_cells: BoolArray,
    *,
    ring_um: tuple[float, float] = (80.0, 150.0),
    n: int,
    seed: int,
    match: PairMatch | None = None,
) -> tuple[IntArray, IntArray]:
    """Draw pairs of two groups of cells at a distance within ``ring_um``.

    With ``match``, near pair ``i % m`` gives far pair ``i``: one of its cells stays (either side
    equally often), the other is replaced by the most similar of some cells of its group in the
    ring around the one that stays. So tissue region, cell type and covariates agree, and
    nearness is what differs. Without, left cells are drawn uniformly.

    Parameters
    ----------
    xy_um
        Cell centres, shape ``(n_cells, 2)``.
    left_cells, right_cells
        Groups (restricted to one unit by the caller), shape ``(n_cells,)``.
    ring_um
        Smallest and largest distance.
    n
        Number of draws.
    seed
        Decides the draws, whatever their number.
    match
        Near pairs to resemble.

    Returns
    -------
    left, right
        Distinct pairs in the order drawn: fewer than ``n`` where draws repeat each other or no
        cell is found, none where the groups never lie that far apart.

    Raises
    ------
    SpatialFormerError
        If shapes disagree or the ring is not ``0 < lo < hi``.
    """
    xy = check_coordinates(xy_um)
    lo, hi = (float(value) for value in ring_um)
    if not (np.isfinite(hi) and 0 < lo < hi):
        raise SpatialFormerError(f"The ring from {lo:g} to {hi:g} um is not 0 < lo < hi.")
    for mask in (left_cells, right_cells):
        if mask.shape != (len(xy),) or mask.dtype != np.bool_:
            raise SpatialFormerError(
                f"A group is {mask.dtype}{mask.shape}, bool({len(xy)},) was expected."
            )
    none = np.zeros(0, np.int32)
    if not left_cells.any() or not right_cells.any() or (match and not len(match.left)):
        return none, none.copy()
    nothing = np.zeros(0, np.int64)
    tissue = kernels.Tissue(nothing, none, xy[:, 0].copy(), xy[:, 1].copy())
    grids = (
        build_grid(xy, hi / _RING_BINS, left_cells),
        build_grid(xy, hi / _RING_BINS, right_cells),
    )
    limits = kernels.Limits(0.0, lo * lo, hi * hi, hi)
    near = _near(match, left_cells | right_cells)
    left, right = kernels.draw_far(tissue, grids, limits, near, (n, seed))
    return _distinct(left, right)


def _near(match: PairMatch | None, members: BoolArray) -> kernels.Near:
    if match is None:
        none = np.zeros(0, np.int32)
        return kernels.Near(none, none, np.zeros((0, 0), np.float32), 1)
    values = np.asarray(match.covariates, np.float64)
    if values.ndim != 2 or len(values) != len(members):
        raise SpatialFormerError(
            f"Covariates of shape {values.shape} were given for {len(members):,} cells."
        )
    if not np.isfinite(values[members]).all():
        raise SpatialFormerError("A covariate is not finite.")
    if match.candidates < 1:
        raise SpatialFormerError(f"candidates is {match.candidates}, it must be at least 1.")
    scale = values[members].std(0)
    # A constant column says nothing and must not divide by zero.
    scaled = values / np.where(scale > 0, scale, 1.0)
    return kernels.Near(
        np.require(match.left, np.int32, ["C", "W"]),
        np.require(match.right, np.int32, ["C", "W"]),
        np.ascontiguousarray(np.where(members[:, None], scaled, 0.0), np.float32),
        match.candidates,
    )


def _distinct(left: IntArray, right: IntArray) -> tuple[IntArray, IntArray]:
    found = left >= 0
    left, right = left[found], right[found]
    key = np.minimum(left, right).astype(np.int64) << 32 | np.maximum(left, right)
    _, first = np.unique(key, return_index=True)
    first.sort()
    return left[first], right[first]
