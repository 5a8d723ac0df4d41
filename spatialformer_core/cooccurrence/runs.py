"""Cutting a slide into runs of cells and giving them to threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from spatialformer_core.arrays import LongArray
from spatialformer_core.cooccurrence.kernels import Run
from spatialformer_core.errors import SpatialFormerError

_RUN_TRANSCRIPTS = 100_000

Result = TypeVar("Result")


def check_genes(gene: NDArray[np.integer], indptr: LongArray, n_genes: int) -> None:
    """Refuse transcripts that do not belong to cells and genes.

    Raises
    ------
    SpatialFormerError
        If the pointers do not cover the transcripts or a gene lies outside ``[0, n_genes)``.
    """
    if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(gene) or (np.diff(indptr) < 0).any():
        raise SpatialFormerError(
            f"The cells' row pointers do not cover the {len(gene):,} transcripts."
        )
    if len(gene) and (gene.min() < 0 or int(gene.max()) >= n_genes):
        raise SpatialFormerError(
            f"A transcript's gene lies outside the panel of {n_genes:,} genes."
        )


def in_runs(
    work: Callable[[slice, Run], Result],
    position: NDArray[np.floating] | None,
    gene: NDArray[np.integer],
    indptr: LongArray,
) -> list[Result]:
    """Apply ``work`` to runs of cells, in order, on as many threads as numba may use.

    A run is copied (to the kernels' types) when its turn comes, so memory maps stay on disk.
    Plain threads over kernels that release the lock: numba's own thread pool cannot be entered
    from two threads at once, which a web server would do.

    Parameters
    ----------
    work
        Given the place of a run's transcripts and the run itself.
    position
        Shape ``(m, 2)`` or ``(m, 3)``; None where only genes matter.
    gene, indptr
        Gene of each transcript and where each cell begins.
    """
    marks = np.arange(0, len(gene), _RUN_TRANSCRIPTS)
    edges = np.unique(np.append(np.searchsorted(indptr, marks), [0, len(indptr) - 1]))

    def one(bounds: tuple[int, int]) -> Result:
        first, last = bounds
        at = slice(int(indptr[first]), int(indptr[last]))
        place = np.zeros((at.stop - at.start, 3))
        if position is not None:
            place[:, : position.shape[1]] = position[at]
        pointers = np.array(indptr[first : last + 1], np.int64) - indptr[first]
        return work(at, Run(place, np.array(gene[at], np.int32), pointers))

    # numba sets its options at run time, where mypy cannot see them.
    n_threads = int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if n_threads == 1:
        return [one(bounds) for bounds in pairwise(edges)]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(one, pairwise(edges)))
