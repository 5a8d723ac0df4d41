"""How deep inside its cell a transcript lies, and counts of deep transcripts alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba as nb
import numpy as np
from numba.core import config
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
from spatialformer_core.errors import SpatialFormerError

_RUN_TRANSCRIPTS = 100_000


@nb.njit(cache=True, nogil=True)
def _segment_distance2(ring: DoubleArray, k: int, x: float, y: float) -> float:
    ax, ay = ring[k, 0], ring[k, 1]
    following = k + 1 if k + 1 < len(ring) else 0
    ex, ey = ring[following, 0] - ax, ring[following, 1] - ay
    length2 = ex * ex + ey * ey
    along = 0.0
    if length2 > 0:
        along = min(max(((x - ax) * ex + (y - ay) * ey) / length2, 0.0), 1.0)
    dx, dy = x - ax - along * ex, y - ay - along * ey
    return float(dx * dx + dy * dy)


@nb.njit(cache=True, nogil=True)
def _depth(ring: DoubleArray, x: float, y: float) -> float:
    """Return the distance to a closed outline, negative outside (even-odd rule)."""
    nearest, inside = np.inf, False
    for k in range(len(ring)):
        nearest = min(nearest, _segment_distance2(ring, k, x, y))
        ax, ay = ring[k, 0], ring[k, 1]
        following = k + 1 if k + 1 < len(ring) else 0
        bx, by = ring[following, 0], ring[following, 1]
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            inside = not inside
    return float(np.sqrt(nearest) if inside else -np.sqrt(nearest))


@nb.njit(cache=True, nogil=True)
def _depths(
    position: DoubleArray, pointers: LongArray, vertices: DoubleArray, rings: LongArray
) -> FloatArray:
    """Return the depth of a run of cells' transcripts, NaN for a cell without an outline."""
    out = np.full(len(position), np.nan, np.float32)
    for cell in range(len(pointers) - 1):
        ring = vertices[rings[cell] : rings[cell + 1]]
        if len(ring) < 3:
            continue
        for i in range(pointers[cell], pointers[cell + 1]):
            out[i] = _depth(ring, position[i, 0], position[i, 1])
    return out


def depth_in_cells(
    xy_um: NDArray[np.floating],
    indptr: LongArray,
    vertices_um: NDArray[np.floating],
    outline_indptr: LongArray,
) -> FloatArray:
    """Return how far inside the outline of its cell each transcript lies.

    Give the outlines of nuclei instead of cells, and a depth of 0 or more means: in the nucleus.

    Parameters
    ----------
    xy_um
        Positions sorted by cell, shape ``(m, 2)`` or ``(m, 3)``; depth in the section is ignored.
    indptr
        Row pointers of the transcripts, shape ``(n_cells + 1,)``.
    vertices_um, outline_indptr
        One outline per cell, closed or not: vertices ``(v, 2)`` and row pointers
        ``(n_cells + 1,)``; a cell with fewer than three vertices has none.

    Returns
    -------
    numpy.ndarray
        Distance to the outline in um, negative outside, NaN without an outline, shape ``(m,)``.

    Raises
    ------
    SpatialFormerError
        If transcripts and outlines belong to another number of cells.
    """
    if len(indptr) != len(outline_indptr) or indptr[-1] != len(xy_um):
        raise SpatialFormerError(
            f"Outlines of {len(outline_indptr) - 1:,} cells for the transcripts of "
            f"{len(indptr) - 1:,} cells."
        )
    marks = np.arange(0, len(xy_um), _RUN_TRANSCRIPTS)
    edges = np.unique(np.append(np.searchsorted(indptr, marks), [0, len(indptr) - 1]))

    def one(bounds: tuple[np.int64, np.int64]) -> FloatArray:
        first, last = bounds
        # Copied (to the kernel's types) run by run, so memory maps stay on disk.
        start, ring = int(indptr[first]), int(outline_indptr[first])
        return _depths(
            np.array(xy_um[start : int(indptr[last]), :2], np.float64),
            np.array(indptr[first : last + 1], np.int64) - start,
            np.array(vertices_um[ring : int(outline_indptr[last])], np.float64),
            np.array(outline_indptr[first : last + 1], np.int64) - ring,
        )

    # numba sets its options at run time, where mypy cannot see them. Plain threads over kernels
    # that release the lock: numba's own pool cannot be entered from two threads at once.
    n_threads = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(n_threads) as pool:
        parts = list(pool.map(one, pairwise(edges)))
    return np.concatenate([np.zeros(0, np.float32), *parts])


def counts_within(
    indptr: LongArray, gene: NDArray[np.integer], n_genes: int, kept: NDArray[np.bool_]
) -> Any:
    """Count some of the transcripts, for example those at least ``erosion_um`` deep.

    Parameters
    ----------
    indptr, gene
        Transcripts sorted by cell: row pointers ``(n_cells + 1,)``, gene columns ``(m,)``.
    n_genes
        Columns of the matrix.
    kept
        Which transcripts count, shape ``(m,)``.

    Returns
    -------
    scipy.sparse.csr_matrix
        int32 counts, cells x genes.

    Raises
    ------
    SpatialFormerError
        If the arrays differ in length or a gene lies outside the panel.
    """
    from scipy import sparse

    if not len(gene) == len(kept) == indptr[-1]:
        raise SpatialFormerError(
            f"{len(gene):,} genes and {len(kept):,} marks for {indptr[-1]:,} transcripts."
        )
    if len(gene) and (gene.min() < 0 or int(gene.max()) >= n_genes):
        raise SpatialFormerError(
            f"A transcript's gene lies outside the panel of {n_genes:,} genes."
        )
    before = np.concatenate([[0], np.cumsum(kept)])
    column = np.asarray(gene)[kept].astype(np.int32)
    ones = np.ones(len(column), np.int32)
    counts = sparse.csr_matrix(
        (ones, column, before[np.asarray(indptr)]), shape=(len(indptr) - 1, n_genes)
    )
    counts.sum_duplicates()
    return counts
