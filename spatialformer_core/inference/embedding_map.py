"""A map (UMAP) of embeddings, clusters of it, and what surroundings the model expects.

The map and its clusters share one graph of nearest neighbours. Cells that are not on the map take
the label that most of their nearest cells on it have.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.protocol import PairScorer
from spatialformer_core.inference.scorers import EncodedTower
from spatialformer_core.model import SpatialFormer
from spatialformer_core.model.heads import AnyTowerHead
from spatialformer_core.progress import Cancel, Progress, check, never, silent

_NEIGHBOURS = 15
_COMPONENTS = 10
_ITERATIONS = 4
_QUERIES_PER_STEP, _PIECE = 1_024, 16_384
_RARE = 1e-3


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Some cells on a plane, and which of them are alike.

    Attributes
    ----------
    rows
        Cells on the map, ascending, shape ``(m,)``.
    place
        Their coordinates, without unit, shape ``(m, 2)``.
    graph
        How much alike, scipy sparse ``(m, m)``, symmetric.
    """

    rows: LongArray
    place: FloatArray
    graph: Any


def embedding_map(vectors: FloatArray, rows: LongArray, seed: int) -> EmbeddingMap:
    """Return a UMAP of some rows of an embedding; the same seed gives the same map.

    Parameters
    ----------
    vectors
        Of all cells, shape ``(n, dim)``.
    rows
        At least three cells, shape ``(m,)``.
    """
    with warnings.catch_warnings():
        # It tells about its own optional parts and about the thread that a seed costs.
        warnings.simplefilter("ignore")
        import umap

        neighbours = min(_NEIGHBOURS, len(rows) - 1)
        made = umap.UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1)
        place = np.asarray(made.fit_transform(vectors[rows]), np.float32)
    return EmbeddingMap(rows, place, made.graph_)


def map_clusters(found: EmbeddingMap, resolution: float, seed: int) -> LongArray:
    """Return the cluster (Leiden, modularity) of each cell on a map, largest first, ``(m,)``."""
    import igraph

    upper = found.graph.tocoo()
    kept = upper.row < upper.col
    edges = np.stack([upper.row[kept], upper.col[kept]], axis=1)
    graph = igraph.Graph(n=len(found.rows), edges=edges)
    # igraph takes its numbers from one generator of the process.
    igraph.set_random_number_generator(random.Random(seed))  # noqa: S311 - no secret
    try:
        parts = graph.community_leiden(
            objective_function="modularity",
            weights=upper.data[kept].tolist(),
            resolution=resolution,
            n_iterations=_ITERATIONS,
        )
    finally:
        igraph.set_random_number_generator(random)
    return by_size(np.asarray(parts.membership, np.int64))


def by_size(codes: LongArray) -> LongArray:
    """Return codes renumbered from the most frequent to the rarest, ties by the old number."""
    count = np.bincount(codes)
    order = np.argsort(-count, kind="stable")
    new = np.empty(len(count), np.int64)
    new[order] = np.arange(len(count))
    return new[codes]


def spread(vectors: FloatArray, rows: LongArray, codes: LongArray, others: LongArray) -> LongArray:
    """Return labels of cells off the map: what most of the 15 nearest on it have, ``(o,)``.

    Nearest in the ten leading principal components of the cells on the map.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    if not len(others):
        return np.zeros(0, np.int64)
    n_components = min(_COMPONENTS, vectors.shape[1], len(rows))
    reduced = PCA(n_components, random_state=0).fit(vectors[rows])
    judge = KNeighborsClassifier(min(_NEIGHBOURS, len(rows)), algorithm="kd_tree")
    judge.fit(reduced.transform(vectors[rows]), codes)
    return np.asarray(judge.predict(reduced.transform(vectors[others])), np.int64)


@torch.no_grad()
def towers_of(model: SpatialFormer, states: FloatArray) -> EncodedTower:
    """Return what a two-tower model compares of cells whose CLS states are known.

    Raises
    ------
    SpatialFormerError
        If it is no two-tower model.
    """
    if not isinstance(model.pair_head, AnyTowerHead):
        raise SpatialFormerError(
            "What surroundings a model expects needs a two-tower checkpoint; a cross-encoder would "
            "have to read every pair of cells.",
            fix="Choose a two-tower checkpoint, or leave the niches out.",
        )
    parts = [
        model.pair_head.project(torch.from_numpy(states[k : k + _PIECE]).to(model.device))
        for k in range(0, len(states), _PIECE)
    ]
    return EncodedTower(torch.cat(parts).cpu().numpy())


def expected_surroundings(
    scorer: PairScorer,
    encoded: EncodedTower,
    cells: tuple[LongArray, LongArray],
    types: tuple[LongArray, int],
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> DoubleArray:
    """Return of which types the model expects the neighbours of cells to be, shape ``(q, t)``.

    Parameters
    ----------
    encoded
        All cells.
    cells
        Query cells ``(q,)``, and the cells that each is compared with ``(a,)``: a fair sample.
    types
        Type of every cell, and how many types there are.

    Notes
    -----
    Each compared cell counts in proportion to its score, as in ``spatialformer_weighted`` of
    `inference.colocalise`; rows sum to 1.
    """
    queries, anchors = cells
    of_type = np.zeros((len(anchors), types[1]))
    of_type[np.arange(len(anchors)), types[0][anchors]] = 1.0
    right, out = encoded.take(anchors), np.empty((len(queries), types[1]))
    for first in range(0, len(queries), _QUERIES_PER_STEP):
        check(cancel)
        step = slice(first, first + _QUERIES_PER_STEP)
        chance = expit(scorer.score_grid(encoded.take(queries[step]), right).astype(np.float64))
        out[step] = chance @ of_type
        progress(min(step.stop, len(queries)), len(queries), "Expecting neighbours")
    total = out.sum(1, keepdims=True)
    # Where every score is 0 nothing is expected more than anything else.
    shares: DoubleArray = np.where(total > 0, out / np.maximum(total, 1e-300), of_type.mean(0))
    return shares


def niches_of(surroundings: DoubleArray, n_niches: int, seed: int) -> LongArray:
    """Return groups of cells whose expected surroundings are alike (k-means), the largest first.

    Types count by how many times more or less of them are expected than on average, so that the
    frequent ones do not decide alone.
    """
    from sklearn.cluster import KMeans

    ratio = np.log(surroundings + _RARE) - np.log(surroundings.mean(0) + _RARE)
    n_clusters = min(n_niches, len(np.unique(ratio.round(9), axis=0)))
    made = KMeans(n_clusters, n_init=4, random_state=seed).fit(ratio)
    return by_size(np.asarray(made.labels_, np.int64))
