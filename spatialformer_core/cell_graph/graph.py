"""Which cells are neighbours, and what their neighbours look like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, FloatArray, Graph, IntArray, LongArray
from spatialformer_core.cell_graph import grid_kernels
from spatialformer_core.errors import SpatialFormerError

_MAX_BINS_PER_CELL = 4
_RUN_CELLS = 20_000


def radius_graph(
    xy_um: NDArray[np.floating],
    radius_um: float,
    *,
    inner_um: float = 0.0,
    cells: BoolArray | None = None,
) -> Graph:
    """Link every two cells whose centres lie at most ``radius_um`` apart.

    Parameters
    ----------
    xy_um
        Cell centres, shape ``(n, 2)``.
    radius_um
        Largest distance of neighbours (paper: 30 um).
    inner_um
        Leave out cells at this distance or nearer; 0 keeps all.
    cells
        Link these cells only, shape ``(n,)``; the others have no neighbours.

    Returns
    -------
    Graph
        Over all ``n`` cells, the same edges as ``scipy.spatial.cKDTree`` gives.

    Raises
    ------
    SpatialFormerError
        If a coordinate is not finite or the radii are not ``0 <= inner < radius``.
    """
    if not (np.isfinite(radius_um) and 0 <= inner_um < radius_um):
        raise SpatialFormerError(
            f"The radii {inner_um} and {radius_um} um are not 0 <= inner < outer."
        )
    xy = check_coordinates(xy_um)
    grid = build_grid(xy, radius_um, cells)
    # Cells at equal coordinates are neighbours, so an inner radius of 0 excludes nothing.
    inner2 = inner_um * inner_um if inner_um > 0 else -1.0
    return _link(grid, inner2, float(radius_um * radius_um), len(xy))


def _link(grid: grid_kernels.Grid, inner2: float, outer2: float, n_cells: int) -> Graph:
    """Link runs of cells in threads; each writes its own rows, so their number changes nothing."""
    n_threads = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    n_runs = max(1, min(n_threads, len(grid.order) // _RUN_CELLS))
    bounds = np.linspace(0, len(grid.order), n_runs + 1).astype(np.int64)
    runs = [(int(first), int(last)) for first, last in pairwise(bounds)]
    indptr = np.zeros(n_cells + 1, np.int64)
    with ThreadPoolExecutor(n_runs) as threads:
        counted = threads.map(
            lambda run: grid_kernels.count_run(grid, run, inner2, outer2, indptr[1:]), runs
        )
        widest = max(counted)
        np.cumsum(indptr, out=indptr)
        rows = grid_kernels.Rows(indptr, np.empty(indptr[-1], np.int32), widest)
        list(threads.map(lambda run: grid_kernels.link_run(grid, run, inner2, outer2, rows), runs))
    return Graph(rows.indptr, rows.indices)


def restrict(graph: Graph, cells: BoolArray) -> Graph:
    """Keep the edges whose both ends are in ``cells``, shape ``(n,)``; cells keep their index."""
    if cells.all():
        return graph
    row = np.repeat(np.arange(graph.n_nodes), graph.degree)
    keep = cells[row] & cells[graph.indices]
    indptr = np.zeros(graph.n_nodes + 1, np.int64)
    np.cumsum(np.bincount(row[keep], minlength=graph.n_nodes), out=indptr[1:])
    return Graph(indptr, graph.indices[keep])


def niche_means(graph: Graph, features: FloatArray) -> tuple[FloatArray, LongArray]:
    """Average the neighbours' features of every cell.

    Parameters
    ----------
    graph
        Neighbours; use ``radius_graph(xy, 80, inner_um=30)`` for a ring.
    features
        Shape ``(n, k)``.

    Returns
    -------
    means, counts
        Shape ``(n, k)``, zeros for a cell without neighbours, and ``(n,)``.
    """
    if features.ndim != 2 or len(features) != graph.n_nodes:
        raise SpatialFormerError(
            f"Features of shape {features.shape} were given for {graph.n_nodes:,} cells."
        )
    indptr, indices = writable(graph)
    values = np.require(features, np.float32, ["C", "W"])
    return grid_kernels.neighbour_means(indptr, indices, values), graph.degree


def near_pairs(
    graph: Graph, left_cells: BoolArray, right_cells: BoolArray
) -> tuple[IntArray, IntArray]:
    """Return each edge between two groups once, oriented ``(left group, right group)``.

    Parameters
    ----------
    graph
        Neighbours.
    left_cells, right_cells
        Membership, shape ``(n,)``; the two may be the same group.
    """
    one, two = graph.edges()
    forward = left_cells[one] & right_cells[two]
    backward = ~forward & left_cells[two] & right_cells[one]
    left = np.where(forward, one, two)
    right = np.where(forward, two, one)
    keep = forward | backward
    return left[keep].astype(np.int32), right[keep].astype(np.int32)


def check_coordinates(xy_um: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return finite coordinates as float64 ``(n, 2)``.

    Raises
    ------
    SpatialFormerError
        If the shape is another one or a value is not finite.
    """
    xy = np.asarray(xy_um, np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise SpatialFormerError(f"Coordinates of shape {xy.shape}, (n, 2) was expected.")
    finite = np.isfinite(xy)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(1))
        raise SpatialFormerError(
            f"{len(bad):,} cells have no finite coordinates, the first is cell {bad[0]:,}.",
            fix="Remove these cells or give their position.",
        )
    return xy


def build_grid(
    xy: NDArray[np.float64], bin_um: float, cells: BoolArray | None = None
) -> grid_kernels.Grid:
    """Group cells by square bins of at least ``bin_um``; ``cells`` selects, shape ``(n,)``."""
    chosen = np.arange(len(xy)) if cells is None else np.flatnonzero(cells)
    points = xy if cells is None else xy[chosen]
    if not len(points):
        empty = np.zeros(0, np.float64)
        start = np.zeros(2, np.int64)
        return grid_kernels.Grid(0.0, 0.0, 1.0, 1, 1, start, np.zeros(0, np.int32), empty, empty)
    low = points.min(0)
    extent = points.max(0) - low
    # A few far outliers must not blow the grid up; larger bins are slower there, never wrong.
    allowed = _MAX_BINS_PER_CELL * len(points) + 1024
    size = float(bin_um)
    while np.prod(np.floor(extent / size) + 1) > allowed:
        size *= 2
    corner = (float(low[0]), float(low[1]))
    return grid_kernels.fill_grid(
        np.require(xy, requirements=["C", "W"]), chosen.astype(np.int32), size, corner
    )


def writable(graph: Graph) -> tuple[LongArray, IntArray]:
    """Return the arrays of a graph as the kernels take them (a read-only map is copied)."""
    return (
        np.require(graph.indptr, np.int64, ["C", "W"]),
        np.require(graph.indices, np.int32, ["C", "W"]),
    )
