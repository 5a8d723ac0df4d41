"""Co-occurring genes inside cells (paper section 4.3).

Transcripts of a cell at most 5 um apart are linked, Louvain communities of this graph are the
neighbourhoods, and two genes co-occur if each has at least 3 copies in one community.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import GenePairs, IntArray, LongArray
from spatialformer_core.cooccurrence import kernels, pair_kernels
from spatialformer_core.cooccurrence.kernels import Run
from spatialformer_core.cooccurrence.runs import check_genes, in_runs
from spatialformer_core.errors import SpatialFormerError


def cooccurring_pairs(
    xyz_um: NDArray[np.floating],
    gene: NDArray[np.integer],
    indptr: LongArray,
    *,
    n_genes: int,
    radius_um: float = 5.0,
    min_copies: int = 3,
    dims: Literal[2, 3] = 2,
) -> GenePairs:
    """Find the gene pairs that co-occur in each cell.

    The result is deterministic and depends neither on the order of transcripts, cells or genes,
    nor on the number of threads, nor on where the slide lies and how it is turned.

    Parameters
    ----------
    xyz_um
        Transcript positions, grouped by cell, shape ``(m, 2)`` or ``(m, 3)``.
    gene
        Gene column of each transcript, shape ``(m,)``.
    indptr
        Where each cell's transcripts begin, shape ``(n_cells + 1,)``.
    n_genes
        Size of the panel.
    radius_um
        Largest distance of linked transcripts.
    min_copies
        Copies that each of the two genes needs in one community.
    dims
        2 as in the paper, or 3 as a sensitivity run.

    Returns
    -------
    GenePairs
        Ascending within a cell.

    Raises
    ------
    SpatialFormerError
        If shapes or values are not valid, or z is asked for and missing.
    """
    _check(xyz_um, gene, indptr, radius_um, dims)
    check_genes(gene, indptr, n_genes)
    _check_copies(min_copies)

    def work(at: slice, run: Run) -> tuple[LongArray, LongArray]:
        wanted = pair_kernels.can_pair(run, n_genes, min_copies)
        labels = kernels.find_communities(run, float(radius_um), wanted)
        return pair_kernels.find_pairs(labels, run, n_genes, min_copies)

    return _joined(in_runs(work, xyz_um[:, :dims], gene, indptr), n_genes)


def communities(
    xyz_um: NDArray[np.floating],
    gene: NDArray[np.integer],
    indptr: LongArray,
    *,
    radius_um: float = 5.0,
    dims: Literal[2, 3] = 2,
) -> IntArray:
    """Return each transcript's community, numbered from 0 within its cell, shape ``(m,)``.

    Parameters are those of `cooccurring_pairs`. ``gene`` only orders transcripts at equal
    positions.
    """
    _check(xyz_um, gene, indptr, radius_um, dims)
    check_genes(gene, indptr, 1 + int(gene.max(initial=0)))
    labels = np.empty(len(gene), np.int32)

    def work(at: slice, run: Run) -> None:
        every = np.ones(len(run.indptr) - 1, np.bool_)
        labels[at] = kernels.find_communities(run, float(radius_um), every)

    in_runs(work, xyz_um[:, :dims], gene, indptr)
    return labels


def pairs_from_communities(
    labels: IntArray,
    gene: NDArray[np.integer],
    indptr: LongArray,
    *,
    n_genes: int,
    min_copies: int = 3,
) -> GenePairs:
    """Return the pairs of genes with enough copies in one community.

    Parameters
    ----------
    labels
        Community of each transcript within its cell, -1 for none, shape ``(m,)``.
    gene, indptr, n_genes, min_copies
        As in `cooccurring_pairs`.
    """
    check_genes(gene, indptr, n_genes)
    check_labels(labels, gene)
    _check_copies(min_copies)

    def work(at: slice, run: Run) -> tuple[LongArray, LongArray]:
        own = np.array(labels[at], np.int32)
        return pair_kernels.find_pairs(own, run, n_genes, min_copies)

    return _joined(in_runs(work, None, gene, indptr), n_genes)


def check_labels(labels: IntArray, gene: NDArray[np.integer]) -> None:
    """Refuse labels that are not one community per transcript."""
    if labels.shape != gene.shape:
        raise SpatialFormerError(
            f"{labels.size:,} communities were given for {gene.size:,} transcripts."
        )
    if labels.size and not -1 <= int(labels.min()) <= int(labels.max()) < labels.size:
        raise SpatialFormerError("A community's number lies outside the transcripts' range.")


def _joined(parts: list[tuple[LongArray, LongArray]], n_genes: int) -> GenePairs:
    counts = np.concatenate([np.zeros(1, np.int64), *(part[0] for part in parts)])
    codes = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    left, right = np.divmod(codes, n_genes)
    return GenePairs(np.cumsum(counts), left.astype(np.int32), right.astype(np.int32))


def _check(
    xyz_um: NDArray[np.floating],
    gene: NDArray[np.integer],
    indptr: LongArray,
    radius_um: float,
    dims: int,
) -> None:
    if dims not in (2, 3) or xyz_um.ndim != 2 or len(xyz_um) != len(gene):
        raise SpatialFormerError(
            f"Positions of shape {xyz_um.shape} were given for {len(gene):,} transcripts "
            f"in {dims} dimensions."
        )
    if xyz_um.shape[1] < dims:
        raise SpatialFormerError(
            "Co-occurrence in 3 dimensions needs the z position of the transcripts.",
            fix="Use dims=2.",
        )
    if not np.isfinite(xyz_um).all():
        raise SpatialFormerError("A transcript's position is not finite.")
    if not (np.isfinite(radius_um) and radius_um > 0):
        raise SpatialFormerError(f"The radius of {radius_um} um is not positive.")
    if len(indptr) < 1:
        raise SpatialFormerError("The cells' row pointers are empty.")


def _check_copies(min_copies: int) -> None:
    if min_copies < 1:
        raise SpatialFormerError(f"min_copies is {min_copies}, it must be at least 1.")
