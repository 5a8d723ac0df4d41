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
    code = _spherical_k_means(
        scaled.indptr.astype(np.int64),
        scaled.indices.astype(np.int32),
        scaled.data,
        (counts.shape[1], n_clusters),
        rng.random(n_clusters),
    )
    used, code = np.unique(code, return_inverse=True)
    rank = np.argsort(np.argsort(-np.bincount(code, minlength=len(used)), kind="stable"))
    return rank[code].astype(np.int32)


@njit(cache=True)
def _spherical_k_means(
    indptr: LongArray,
    indices: IntArray,
    data: DoubleArray,
    shape: tuple[int, int],
    start: DoubleArray,
) -> IntArray:
    """Return the cluster of each row; rows have unit length. ``start`` draws the first centres."""
    n = len(indptr) - 1
    n_genes, k = shape
    centres = np.zeros((n_genes, k))
    distance = np.full(n, 1.0)
    # Each next centre is drawn in proportion to the distance from those before (k-means++).
    for c in range(k):
        target, chosen = start[c] * distance.sum(), n - 1
        for i in range(n):
            target -= distance[i]
            if target <= 0:
                chosen = i
                break
        for p in range(indptr[chosen], indptr[chosen + 1]):
            centres[indices[p], c] = data[p]
        for i in range(n):
            dot = 0.0
            for p in range(indptr[i], indptr[i + 1]):
                dot += data[p] * centres[indices[p], c]
            distance[i] = min(distance[i], max(1.0 - dot, 0.0))
    code = np.zeros(n, np.int32)
    dots = np.zeros(k)
    for _ in range(_ROUNDS):
        sums = np.zeros((n_genes, k))
        for i in range(n):
            dots[:] = 0
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
