"""Neighbouring cells, pairs of cells for training, and matched far pairs."""

from spatialformer_core.cell_graph.far import PairMatch, far_pairs
from spatialformer_core.cell_graph.graph import near_pairs, niche_means, radius_graph, restrict
from spatialformer_core.cell_graph.kernels import EASY, HARD, POSITIVE
from spatialformer_core.cell_graph.sampling import (
    BALANCED,
    CellPairs,
    Kind,
    PairSampler,
    epoch_order,
)

__all__ = [
    "BALANCED",
    "EASY",
    "HARD",
    "POSITIVE",
    "CellPairs",
    "Kind",
    "PairMatch",
    "PairSampler",
    "epoch_order",
    "far_pairs",
    "near_pairs",
    "niche_means",
    "radius_graph",
    "restrict",
]
