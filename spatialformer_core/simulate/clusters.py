"""Clusters of cells by their counts alone (spherical k-means), as a naive analyst would have them.

They are computed from the simulated counts and know nothing of the true types. Sums run in a
fixed order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from spatialformer_core.arrays import DoubleArray, IntArray, LongArray
from spatialformer_core.simulate.settings import stream

_ROUNDS: Final = 15


def cluster_cells(counts: csr_matrix, n_clusters: int, seed: int) -> IntArray:
    """Return a cluster of each cell, largest first, shape ``(cells,)``.

    Parameters
    ----------
    counts
        Counts, cells x genes.
    n_clusters
        Upper limit of the number of clusters.
    seed
        Seed of the starting points.
    """
    scaled = counts.astype(np.float64)
    total = np.maximum(np.asarray(scaled.sum(axis=1)).ravel(), 1)
    lengths = np.diff(scaled.indptr)
    scaled.data = np.log1p(scaled.data * np.repeat(100 / total, lengths))
    norm = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    scaled.data /= np.repeat(np.maximum(norm, 1e-12), lengths)
    rng = stream(seed, "clusters")
    indptr, indices = scaled.indptr.astype(np.int64), scaled.indices.astype(np.int32)
    centres = _first_centres(indptr, indices, scaled.data, counts.shape[1], rng.random(n_clusters))
    code = _spherical_k_means(indptr, indices, scaled.data, centres)
    used, dense = np.unique(code, return_inverse=True)
    rank = np.argsort(np.argsort(-np.bincount(dense, minlength=len(used)), kind="stable"))
    return rank[dense].astype(np.int32)


@njit(cache=True)
def _first_centres(
    indptr: LongArray, indices: IntArray, data: DoubleArray, n_genes: int, start: DoubleArray
) -> DoubleArray:
    """Return starting centres ``(genes, k)``: rows drawn far from each other (k-means++).

    ``start`` holds one uniform number for each centre.
    """
    n, k = len(indptr) - 1, len(start)
    centres = np.zeros((n_genes, k))
    distance = np.full(n, 1.0)
    for c in range(k):
        chosen = min(int(np.searchsorted(np.cumsum(distance), start[c] * distance.sum())), n - 1)
        for p in range(indptr[chosen], indptr[chosen + 1]):
            centres[indices[p], c] = data[p]
        for i in range(n):
            dot = 0.0
            for p in range(indptr[i], indptr[i + 1]):
                dot += data[p] * centres[indices[p], c]
            distance[i] = min(distance[i], max(1.0 - dot, 0.0))
    return centres


@njit(cache=True)
def _spherical_k_means(
    indptr: LongArray, indices: IntArray, data: DoubleArray, centres: DoubleArray
) -> IntArray:
    """Return the cluster of each row of unit length; ``centres`` ``(genes, k)`` are moved."""
    n, k = len(indptr) - 1, centres.shape[1]
    code = np.zeros(n, np.int32)
    for _ in range(_ROUNDS):
        sums = np.zeros(centres.shape)
        for i in range(n):
            dots = np.zeros(k)
            for p in range(indptr[i], indptr[i + 1]):
                for c in range(k):
                    dots[c] += data[p] * centres[indices[p], c]
            code[i] = np.argmax(dots)
            for p in range(indptr[i], indptr[i + 1]):
                sums[indices[p], code[i]] += data[p]
        for c in range(k):
            length = np.sqrt((sums[:, c] ** 2).sum())
            if length > 0:
                centres[:, c] = sums[:, c] / length
    return code
