"""Embeddings of cells and scores of pairs of cells."""

from __future__ import annotations

from spatialformer_core.inference.panel import MIN_COVERAGE, require_coverage
from spatialformer_core.inference.protocol import Encoded, PairScorer
from spatialformer_core.inference.scorers import (
    CrossEncoderScorer,
    EncodedTokens,
    EncodedTower,
    TwoTowerScorer,
    make_scorer,
    scorer_of,
)

__all__ = [
    "MIN_COVERAGE",
    "CrossEncoderScorer",
    "Encoded",
    "EncodedTokens",
    "EncodedTower",
    "PairScorer",
    "TwoTowerScorer",
    "make_scorer",
    "require_coverage",
    "scorer_of",
]
