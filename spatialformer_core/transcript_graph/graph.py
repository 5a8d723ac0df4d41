"""Which transcripts lie beside each other, across the borders of cells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, Graph, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.transcript_graph import kernels

MAX_EDGES = 500_000_000
"""Directed edges that a graph may have: 2 GB of neighbours."""

_RUN_TRANSCRIPTS = 50_000
_MAX_BINS_PER_TRANSCRIPT = 4
_MAX_BINS = 1 << 20


@dataclass(frozen=True, slots=True)
class TranscriptGraph:
    """Neighbouring transcripts, numbered by place.

    Transcript ``k`` of the graph is row ``order[k]`` of what was given: numbered along the bins
    of the search, neighbours come out ascending and lie close in memory.

    Attributes
    ----------
    graph
        Symmetric CSR graph over ``n`` transcripts, without self loops.
    order
        Given row of each transcript, shape ``(n,)``.
    xyz_um
        Positions in the order of the graph, ``z = 0`` in two dimensions, shape ``(n, 3)``.
    radius_um
        Largest distance of neighbours.
    slide_start
        First transcript of each slide and the number of all, shape ``(n_slides + 1,)``.
    """

    graph: Graph
    order: LongArray
    xyz_um: DoubleArray
    radius_um: float
    slide_start: LongArray

    @property
    def n(self) -> int:
        """Number of transcripts."""
        return len(self.order)


def transcript_graph(
    xyz_um: NDArray[np.floating],
    *,
    radius_um: float = 3.0,
    dims: int = 3,
    cell: NDArray[np.integer] | None = None,
    max_edges: int = MAX_EDGES,
) -> TranscriptGraph:
    """Link every two transcripts at most ``radius_um`` apart (paper section 4.2).

    Parameters
    ----------
    xyz_um
        Positions, shape ``(n, 2)`` or ``(n, 3)``.
    radius_um
        Largest distance of neighbours (paper: 3 um in three dimensions).
    dims
        3, or 2 to leave depth out.
    cell
        Cell of each transcript, shape ``(n,)``: transcripts of different cells are then not
        linked. By default cells do not matter, as in the paper.
    max_edges
        Refuse a graph with more directed edges than this; each takes four bytes.

    Returns
    -------
    TranscriptGraph
        The same edges as ``scipy.spatial.cKDTree.query_pairs``, whatever the number of threads.

    Raises
    ------
    SpatialFormerError
        If a position is not finite, depth is asked for and missing, the radius is not positive,
        or the graph would have too many edges.
    """
    position = _checked(xyz_um, radius_um, dims)
    owner = np.zeros(len(position), np.int32) if cell is None else np.asarray(cell, np.int32)
    if owner.shape != (len(position),):
        raise SpatialFormerError(f"{owner.size:,} cells for {len(position):,} transcripts.")
    points, order = _points(position, owner, radius_um)
    edges = np.append(np.arange(0, len(order), _RUN_TRANSCRIPTS), len(order))
    degree = np.zeros(len(order), np.int64)
    radius2 = float(radius_um) ** 2

    def run(bounds: tuple[np.int64, np.int64]) -> IntArray:
        first, last = bounds
        return kernels.link(points, radius2, (int(first), int(last)), degree)

    # numba sets its options at run time, where mypy cannot see them. Plain threads over kernels
    # that release the lock: numba's own pool cannot be entered from two threads at once.
    n_threads = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    found: list[IntArray] = []
    total = 0
    with ThreadPoolExecutor(n_threads) as pool:
        for part in pool.map(run, list(pairwise(edges))) if len(order) else ():
            found.append(part)
            total += len(part)
            if total > max_edges:
                pool.shutdown(cancel_futures=True)
                raise SpatialFormerError(
                    f"The graph of {len(order):,} transcripts has more than {max_edges:,} edges.",
                    fix="Take fewer cells or a smaller radius.",
                )
    indptr = np.zeros(len(order) + 1, np.int64)
    np.cumsum(degree, out=indptr[1:])
    indices = np.concatenate(found) if found else np.zeros(0, np.int32)
    start = np.array([0, len(order)], np.int64)
    placed = np.ascontiguousarray(position[order])
    return TranscriptGraph(Graph(indptr, indices), order, placed, float(radius_um), start)


def join(graphs: list[TranscriptGraph]) -> TranscriptGraph:
    """Return the graphs of several slides as one without edges between slides.

    ``order`` then numbers the rows of all slides behind each other.

    Raises
    ------
    SpatialFormerError
        If there is none, or the radii differ.
    """
    if not graphs or len({g.radius_um for g in graphs}) > 1:
        raise SpatialFormerError(f"{len(graphs)} graphs of one radius were expected.")
    start = np.concatenate([[0], np.cumsum([g.n for g in graphs])]).astype(np.int64)
    edge = np.concatenate([[0], np.cumsum([len(g.graph.indices) for g in graphs])])
    indptr = [g.graph.indptr[:-1] + edge[k] for k, g in enumerate(graphs)]
    return TranscriptGraph(
        Graph(
            np.concatenate([*indptr, edge[-1:]]).astype(np.int64),
            np.concatenate(
                [g.graph.indices + np.int32(start[k]) for k, g in enumerate(graphs)]
            ).astype(np.int32),
        ),
        np.concatenate([g.order + start[k] for k, g in enumerate(graphs)]),
        np.concatenate([g.xyz_um for g in graphs]),
        graphs[0].radius_um,
        start,
    )


def _checked(xyz_um: NDArray[np.floating], radius_um: float, dims: int) -> DoubleArray:
    position = np.asarray(xyz_um, np.float64)
    if position.ndim != 2 or position.shape[1] not in {2, 3} or dims not in {2, 3}:
        raise SpatialFormerError(f"Positions of shape {position.shape} for {dims} dimensions.")
    if dims > position.shape[1]:
        raise SpatialFormerError(
            "The transcripts have no z position.", where="dims", fix="Use two dimensions."
        )
    if not (np.isfinite(radius_um) and radius_um > 0):
        raise SpatialFormerError(f"The radius {radius_um} um is not positive.")
    bad = np.flatnonzero(~np.isfinite(position).all(1))
    if len(bad):
        raise SpatialFormerError(
            f"{len(bad):,} transcripts have no finite position, the first is {bad[0]:,}.",
            fix="Remove them or give their position.",
        )
    padded = np.zeros((len(position), 3))
    padded[:, :dims] = position[:, :dims]
    return padded


def _points(
    position: DoubleArray, cell: IntArray, radius_um: float
) -> tuple[kernels.Points, LongArray]:
    """Sort transcripts by square bins that are at least a little wider than the radius."""
    low = position.min(0, initial=np.inf) if len(position) else np.zeros(3)
    extent = position.max(0) - low if len(position) else np.zeros(3)
    # A few far outliers must not blow the grid up; larger bins are slower there, never wrong.
    allowed = _MAX_BINS_PER_TRANSCRIPT * len(position) + _MAX_BINS
    # A little more than the radius, so that rounding hides no bin.
    size = float(radius_um) * (1 + 1e-9)
    while np.prod(np.floor(extent[:2] / size) + 1) > allowed:
        size *= 2
    nx, ny = (int(value) + 1 for value in np.floor(extent[:2] / size))
    column, row = np.floor((position[:, :2] - low[:2]) / size).astype(np.int32).T
    start = np.zeros(nx * ny + 1, np.int64)
    order = np.empty(len(position), np.int64)
    kernels.fill_bins(row.astype(np.int64) * nx + column, start, order)
    x, y, z = (np.ascontiguousarray(axis) for axis in position[order].T)
    by_bin = (cell[order], column[order].copy(), row[order].copy())
    return kernels.Points(x, y, z, *by_bin, start, nx, ny), order
