"""Cutting a slide into runs of cells and giving them to threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from spatialformer_core.arrays import LongArray
from spatialformer_core.cooccurrence.order_kernels import Run, canonical_order
from spatialformer_core.errors import SpatialFormerError

_RUN_TRANSCRIPTS = 50_000
_MAX_CELL = 60_000

Result = TypeVar("Result")
Compartments = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Molecules:
    """Transcripts grouped by cell. Memory maps stay on disk: runs of cells are read in turn.

    Attributes
    ----------
    xyz_um
        Positions, shape ``(m, 2)`` or ``(m, 3)``.
    gene
        Gene column of each transcript, shape ``(m,)``.
    indptr
        Where each cell's transcripts begin, shape ``(n_cells + 1,)``.
    n_genes
        Size of the panel.
    compartment
        Part of the cell that each transcript lies in (0 cytoplasm, 1 nucleus), shape ``(m,)``.
    cells
        The cells to look at, rows of ``indptr``, shape ``(n_chosen,)``; None for all. Results
        are in this order.

    Raises
    ------
    SpatialFormerError
        If shapes disagree or a value lies outside its range.
    """

    xyz_um: NDArray[np.floating]
    gene: NDArray[np.integer]
    indptr: LongArray
    n_genes: int
    compartment: NDArray[np.integer] | NDArray[np.bool_] | None = None
    cells: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        m, indptr, gene = len(self.gene), self.indptr, self.gene
        if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != m or (np.diff(indptr) < 0).any():
            raise SpatialFormerError(f"The cells' row pointers do not cover the {m:,} transcripts.")
        if self.xyz_um.ndim != 2 or len(self.xyz_um) != m or self.xyz_um.shape[1] not in (2, 3):
            raise SpatialFormerError(
                f"Positions of shape {self.xyz_um.shape} were given for {m:,} transcripts."
            )
        if m and (gene.min() < 0 or int(gene.max()) >= self.n_genes):
            raise SpatialFormerError(
                f"A transcript's gene lies outside the panel of {self.n_genes:,} genes."
            )
        if self.compartment is not None and self.compartment.shape != (m,):
            raise SpatialFormerError(
                f"{self.compartment.size:,} compartments were given for {m:,} transcripts."
            )
        rows = self.rows
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(indptr) - 1:
            raise SpatialFormerError(f"A chosen cell is none of the {len(indptr) - 1:,} cells.")

    @property
    def rows(self) -> NDArray[np.integer]:
        """The cells to look at."""
        return np.arange(len(self.indptr) - 1) if self.cells is None else self.cells


class Part(NamedTuple):
    """A run of cells with its transcripts in canonical order."""

    run: Run
    compartment: Compartments
    source: LongArray  # which transcript of the slide each one is


def in_runs(work: Callable[[Part], Result], molecules: Molecules, dims: int) -> Iterator[Result]:
    """Yield ``work`` of runs of cells, in order, done by as many threads as numba may use.

    A run is copied (to the kernels' types) when its turn comes, so memory maps stay on disk.
    Plain threads over kernels that release the lock: numba's own thread pool cannot be entered
    from two threads at once, which a web server would do.

    Raises
    ------
    SpatialFormerError
        If z is asked for and missing, a position is not finite, or a cell has more transcripts
        than any cell has.
    """
    if molecules.xyz_um.shape[1] < dims:
        raise SpatialFormerError(
            "Co-occurrence in 3 dimensions needs the z position of the transcripts.",
            fix="Use dims=2.",
        )
    rows = molecules.rows
    sizes = np.diff(molecules.indptr)[rows]
    if len(sizes) and sizes.max() > _MAX_CELL:
        raise SpatialFormerError(
            f"Cell {int(rows[sizes.argmax()]):,} has {int(sizes.max()):,} transcripts, "
            f"{_MAX_CELL:,} is the most that one cell may have.",
            fix="Check that transcripts outside the cells are not assigned to one cell.",
        )
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    marks = np.arange(0, ends[-1], _RUN_TRANSCRIPTS)
    edges = np.unique(np.append(np.searchsorted(ends, marks), [0, len(rows)]))

    def one(bounds: tuple[int, int]) -> Result:
        return work(_part(molecules, rows[bounds[0] : bounds[1]], dims))

    # numba sets its options at run time, where mypy cannot see them.
    n_threads = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if n_threads == 1:
        yield from map(one, pairwise(edges))
        return
    with ThreadPoolExecutor(n_threads) as pool:
        yield from pool.map(one, pairwise(edges))


def _part(molecules: Molecules, rows: NDArray[np.integer], dims: int) -> Part:
    first = molecules.indptr[rows]
    sizes = molecules.indptr[rows + 1] - first
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=indptr[1:])
    source = np.repeat(first - indptr[:-1], sizes) + np.arange(indptr[-1])
    place = np.zeros((len(source), 3))
    place[:, :dims] = molecules.xyz_um[source, :dims]
    if not np.isfinite(place).all():
        raise SpatialFormerError("A transcript's position is not finite.")
    gene = np.array(molecules.gene[source], np.int32)
    order = canonical_order(Run(place, gene, indptr))
    compartment = np.zeros(len(source), np.uint8)
    if molecules.compartment is not None:
        compartment[:] = molecules.compartment[source[order]]
    return Part(Run(place[order], gene[order], indptr), compartment, source[order])
