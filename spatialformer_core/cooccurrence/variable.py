"""Highly variable gene pairs, chosen without a look at any group.

Presence in a cell is 0 or 1, so the variance of a single pair follows from its frequency and says
nothing. What tells biology from binomial noise is variation that pairs SHARE over cells. A pair's
score is the share of its variance, beyond what depth makes of it, that the leading components of
all pairs (at most 20, those beyond noise) explain: its communality. Independent binomial pairs
have hardly any; a pair that comes and goes with a cell state has much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.cooccurrence.matrix import PairMatrix

N_COMPONENTS = 20
_MAX_CANDIDATES = 20_000
_DIGITS = 9


def depth_bins(depth: NDArray[np.floating], n_bins: int) -> LongArray:
    """Return the quantile bin of each cell's depth, shape ``(n,)``; equal depths share a bin."""
    cuts = np.unique(np.quantile(depth, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.searchsorted(cuts, depth, side="right").astype(np.int64)


def variability(
    matrix: PairMatrix, depth: NDArray[np.floating], *, n_bins: int = 10, min_cells: int = 10
) -> DoubleArray:
    """Return the score of every pair, between 0 and 1, shape ``(n_pairs,)``.

    Parameters
    ----------
    matrix
        The pairs.
    depth
        Transcripts of each cell, shape ``(n_cells,)``.
    n_bins
        Depth bins; expected presence is the pair's share of the cells of a bin of a slide.
    min_cells
        A pair in fewer cells is not scored (NaN): it has no variation to share. Of more than
        20,000 such pairs the most frequent are scored.
    """
    scores = np.full(matrix.n_pairs, np.nan)
    n_cells = np.bincount(matrix.presence.indices, minlength=matrix.n_pairs)
    candidates = np.flatnonzero(n_cells >= min_cells)
    if len(candidates) > _MAX_CANDIDATES:
        order = np.argsort(-n_cells[candidates], kind="stable")
        candidates = np.sort(candidates[order[:_MAX_CANDIDATES]])
    if not len(candidates):
        return scores
    bins = matrix.slide * n_bins + depth_bins(depth, n_bins)
    present = matrix.presence[:, candidates].astype(np.float64)
    _, stratum = np.unique(bins, return_inverse=True)
    members = sparse.csr_matrix(
        (np.ones(len(stratum)), (stratum, np.arange(len(stratum)))),
        shape=(int(stratum.max()) + 1, len(stratum)),
    )
    size = np.asarray(members.sum(1)).ravel()
    share = np.asarray((members @ present).todense()) / size[:, None]
    spread = np.sqrt((size[:, None] * share * (1 - share)).sum(0))
    scores[candidates] = 0.0
    varies = spread > 0
    if not varies.any():
        return scores
    kept = present[:, np.flatnonzero(varies)]
    unit = (kept, share[:, varies], stratum, members, spread[varies])
    scores[candidates[varies]] = _communality(unit)
    return np.round(scores, _DIGITS)


def variable_pairs(
    matrix: PairMatrix,
    depth: NDArray[np.floating],
    *,
    top: int = 2000,
    n_bins: int = 10,
    min_cells: int = 10,
) -> tuple[LongArray, DoubleArray]:
    """Return the columns of the most variable pairs, ascending, and the scores of these.

    Parameters are those of `variability`. Equal scores are decided by frequency, then by name.
    """
    scores = variability(matrix, depth, n_bins=n_bins, min_cells=min_cells)
    n_cells = np.bincount(matrix.presence.indices, minlength=matrix.n_pairs)
    known = np.flatnonzero(~np.isnan(scores))
    order = np.lexsort((known, -n_cells[known], -scores[known]))
    chosen = np.sort(known[order[:top]]).astype(np.int64)
    return chosen, scores[chosen]


def _communality(unit: tuple[Any, DoubleArray, LongArray, Any, DoubleArray]) -> DoubleArray:
    """Return the share of each standardised column that the leading components explain."""
    present, share, stratum, members, spread = unit
    n_cells, n_pairs = present.shape
    back = present.T.tocsr()

    def times(vectors: DoubleArray) -> DoubleArray:
        scaled = (vectors.T / spread).T
        return np.asarray(present @ scaled - (share @ scaled)[stratum])

    def times_back(vectors: DoubleArray) -> DoubleArray:
        found = back @ vectors - share.T @ (members @ vectors)
        return np.asarray((found.T / spread).T)

    smaller = min(n_cells, n_pairs)
    if smaller <= N_COMPONENTS + 1:
        _, values, loadings = np.linalg.svd(times(np.eye(n_pairs)), full_matrices=False)
        values, loadings = values[:N_COMPONENTS], loadings[:N_COMPONENTS]
    else:
        operator = LinearOperator(
            (n_cells, n_pairs), times, times_back, times, rmatmat=times_back, dtype=np.float64
        )
        _, values, loadings = svds(
            operator, N_COMPONENTS, v0=np.ones(smaller), return_singular_vectors="vh"
        )
    # Components of noise alone do not exceed this edge (Marchenko and Pastur 1967).
    kept = values**2 > (1 + np.sqrt(n_pairs / n_cells)) ** 2
    explained: DoubleArray = np.minimum((values[kept, None] ** 2 * loadings[kept] ** 2).sum(0), 1)
    return explained
