"""What co-occurrence follows from the counts alone.

A gene with many copies has three of them in some community wherever they lie. The null keeps the
positions, the communities and each cell's counts, and permutes which transcript is which gene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import (
    DoubleArray,
    FloatArray,
    GenePairs,
    IntArray,
    LongArray,
)
from spatialformer_core.cooccurrence import pair_kernels
from spatialformer_core.cooccurrence.kernels import Run
from spatialformer_core.cooccurrence.pairs import check_labels, pairs_from_communities
from spatialformer_core.cooccurrence.runs import check_genes, in_runs
from spatialformer_core.errors import SpatialFormerError

_LEAST_EXPECTED = 5.0


@dataclass(frozen=True, slots=True)
class PairNull:
    """Observed co-occurrence beside what permuted labels give.

    Attributes
    ----------
    left, right
        Gene pairs seen in the data or in any permutation, ascending, shape ``(n,)``.
    observed
        Cells in which the pair co-occurs, shape ``(n,)``.
    expected
        The same under permutation, on average, shape ``(n,)``.
    sd
        Standard deviation of that number, cells being independent, shape ``(n,)``.
    z
        ``(observed - expected) / sd``; NaN where the null does not vary or expects fewer than 5
        cells, for which neither its estimate nor the normal approximation is good enough; shape
        ``(n,)``.
    pairs
        The observed pairs of each cell.
    share
        For each entry of ``pairs``, in which share of permutations that pair co-occurs in that
        cell too: near 1, the counts alone make it.
    """

    left: IntArray
    right: IntArray
    observed: LongArray
    expected: DoubleArray
    sd: DoubleArray
    z: DoubleArray
    pairs: GenePairs
    share: FloatArray


def permuted_pairs(
    labels: IntArray,
    gene: NDArray[np.integer],
    indptr: LongArray,
    *,
    n_genes: int,
    min_copies: int = 3,
    n_permutations: int = 100,
    seed: int = 0,
) -> PairNull:
    """Compare co-occurrence with permuted gene labels over fixed positions.

    Communities depend on positions only, so they are found once (`communities`).

    Parameters
    ----------
    labels
        Community of each transcript, shape ``(m,)``.
    gene, indptr, n_genes, min_copies
        As in `cooccurring_pairs`.
    n_permutations
        Permutations of each cell, at least 2.
    seed
        Decides the permutations, together with each cell's own genes.

    Raises
    ------
    SpatialFormerError
        If shapes or values are not valid.
    """
    if n_permutations < 2:
        raise SpatialFormerError(f"{n_permutations} permutations were asked for, 2 is the least.")
    check_genes(gene, indptr, n_genes)
    check_labels(labels, gene)
    pairs = pairs_from_communities(labels, gene, indptr, n_genes=n_genes, min_copies=min_copies)
    observed = pairs.left.astype(np.int64) * n_genes + pairs.right

    def work(at: slice, run: Run) -> tuple[LongArray, LongArray, FloatArray]:
        own = np.array(labels[at], np.int32)
        job = (n_permutations, seed)
        return pair_kernels.permute_pairs(own, run, n_genes, min_copies, job)

    parts = in_runs(work, None, gene, indptr)
    counts = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    codes = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    share = np.concatenate([np.zeros(0, np.float32), *(part[2] for part in parts)])
    distinct, at = np.unique(np.concatenate([observed, codes]), return_inverse=True)
    seen, null = at[: len(observed)], at[len(observed) :]
    p = share.astype(np.float64)
    # p is itself estimated from so many draws; the factor makes p (1 - p) unbiased.
    variance = p * (1 - p) * (n_permutations / (n_permutations - 1))
    expected: DoubleArray = np.bincount(null, p, minlength=len(distinct)).astype(np.float64)
    sd = np.sqrt(np.bincount(null, weights=variance, minlength=len(distinct)))
    n_observed = np.bincount(seen, minlength=len(distinct))
    z = np.full(len(distinct), np.nan)
    np.divide(n_observed - expected, sd, out=z, where=(sd > 0) & (expected >= _LEAST_EXPECTED))
    return PairNull(
        left=(distinct // n_genes).astype(np.int32),
        right=(distinct % n_genes).astype(np.int32),
        observed=n_observed,
        expected=expected,
        sd=sd,
        z=z,
        pairs=pairs,
        share=_shares(pairs, seen, (counts, null, share)),
    )


def _shares(
    pairs: GenePairs, seen: LongArray, null: tuple[LongArray, LongArray, FloatArray]
) -> FloatArray:
    """Look up each observed pair of each cell among that cell's permuted pairs."""
    counts, code, share = null
    width = 1 + max(int(seen.max(initial=0)), int(code.max(initial=0)))
    # Both lists are ascending by (cell, pair), so one sorted search serves all cells.
    known = np.repeat(np.arange(len(counts)), counts) * width + code
    wanted = np.repeat(np.arange(pairs.n_cells), np.diff(pairs.indptr)) * width + seen
    out = np.zeros(len(wanted), np.float32)
    if not len(known):
        return out
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = known[at] == wanted
    out[found] = share[at[found]]
    return out
