"""Benchmark pairs: a query cell, one neighbour, one cell that is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, Graph, LongArray
from spatialformer_core.cell_graph import PairSampler

Negatives = Literal["easy", "hard", "matched"]

HARD_UM = (80.0, 150.0)


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Pairs with their truth; each query cell occurs once per label.

    Attributes
    ----------
    left, right
        Query cell and the other, shape ``(n,)``.
    label
        True for neighbours, shape ``(n,)``.
    """

    left: LongArray
    right: LongArray
    label: BoolArray


@dataclass(frozen=True, slots=True)
class PairSource:
    """The cells that pairs are drawn from.

    Attributes
    ----------
    xy_um
        Centroids of the slide, shape ``(n, 2)``.
    graph
        Cells linked within ``radius_um``.
    radius_um
        What counts as neighbours.
    types
        Type codes, or None.
    depth
        Transcripts per cell, shape ``(n,)``.
    """

    xy_um: DoubleArray
    graph: Graph
    radius_um: float
    types: NDArray[np.integer] | None
    depth: DoubleArray


def draw_pairs(
    source: PairSource, cells: BoolArray, negatives: Negatives, n_queries: int, seed: int
) -> LabelledPairs:
    """Return one neighbour and one negative for each of some query cells.

    Parameters
    ----------
    source
        The slide.
    cells
        Cells that may take part (one split, quality control passed); no pair leaves them.
    negatives
        ``easy``: anywhere beyond the radius. ``hard``: 80-150 um away. ``matched``: 80-150 um
        away, of the neighbour's type and as close to its depth as there is one.
    n_queries
        At most so many query cells, each once.
    seed
        Decides the draw.

    Raises
    ------
    SpatialFormerError
        If no cell has both a neighbour and a negative.
    """
    second: Literal["easy", "hard"] = "easy" if negatives == "easy" else "hard"
    sampler = PairSampler(
        source.graph,
        source.xy_um,
        cells,
        radius_um=source.radius_um,
        hard_um=HARD_UM,
        kinds=("positive", second),
    )
    rng = np.random.default_rng(seed)
    query = rng.permutation(sampler.anchors)[:n_queries]
    anchors = np.repeat(query, 2).astype(np.int32)
    kind = np.tile(sampler.kinds, len(query)).astype(np.int8)
    drawn = sampler.draw(anchors, np.arange(len(anchors)), kind, seed=seed)
    # The sampler swaps half of its pairs; here the query stands left, so that it can be followed.
    other = np.where(drawn.left == anchors, drawn.right, drawn.left).astype(np.int64)
    pairs = LabelledPairs(anchors.astype(np.int64), other, drawn.label.astype(np.bool_))
    return _matched(source, cells, pairs, seed) if negatives == "matched" else pairs


def _matched(
    source: PairSource, cells: BoolArray, pairs: LabelledPairs, seed: int
) -> LabelledPairs:
    """Exchange each negative for one of the neighbour's type and depth; drop queries without."""
    if source.types is None:
        message = "matched negatives need cell types"
        raise ValueError(message)
    # Positives and negatives alternate and share their query cell: row 2k with row 2k + 1.
    query, neighbour, other = pairs.left[0::2], pairs.right[0::2], pairs.right[1::2].copy()
    rows = np.flatnonzero(cells)
    ring = cKDTree(source.xy_um[rows]).query_ball_point(source.xy_um[query], HARD_UM[1])
    rng = np.random.default_rng(seed)
    found = np.zeros(len(query), np.bool_)
    for k, members in enumerate(ring):
        near = rows[np.sort(np.asarray(members, np.int64))]
        away = np.hypot(*(source.xy_um[near] - source.xy_um[query[k]]).T)
        alike = near[(away > HARD_UM[0]) & (source.types[near] == source.types[neighbour[k]])]
        if len(alike):
            difference = np.abs(
                np.log1p(source.depth[alike]) - np.log1p(source.depth[neighbour[k]])
            )
            best = np.flatnonzero(difference == difference.min())
            other[k], found[k] = alike[rng.choice(best)], True
    left = np.repeat(query[found], 2)
    right = np.column_stack([neighbour[found], other[found]]).ravel()
    return LabelledPairs(left, right, np.tile([True, False], int(found.sum())))
