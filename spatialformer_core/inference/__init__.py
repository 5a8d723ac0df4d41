"""Embeddings of genes, cells and pairs; scores of pairs of cells; predicted neighbours by type."""

from __future__ import annotations

from spatialformer_core.inference.candidates import (
    Candidates,
    CandidateSettings,
    CandidateSource,
    RetrievedCandidates,
    SampledCandidates,
    SpatialCandidates,
)
from spatialformer_core.inference.colocalise import (
    Colocalisation,
    ColocaliseSettings,
    Subject,
    colocalise,
    type_pair_prior,
)
from spatialformer_core.inference.embed import (
    EmbedSettings,
    GeneEmbedding,
    Level,
    Meta,
    Precision,
    cls_states,
    gene_means,
    gene_states,
    pair_states,
    with_meta,
)
from spatialformer_core.inference.inputs import ModelInput, Panel, model_input
from spatialformer_core.inference.neighbours import (
    Neighbours,
    Selection,
    drawn_queries,
    predicted_neighbours,
)
from spatialformer_core.inference.panel import MIN_COVERAGE, require_coverage
from spatialformer_core.inference.protocol import Encoded, PairScorer
from spatialformer_core.inference.report import colocalisation_facts, joined_tables, typed
from spatialformer_core.inference.scorers import (
    CrossEncoderScorer,
    EncodedTokens,
    EncodedTower,
    TwoTowerScorer,
    encode_cells,
    make_scorer,
    scorer_of,
)
from spatialformer_core.inference.type_tables import TypeTables

__all__ = [
    "MIN_COVERAGE",
    "CandidateSettings",
    "CandidateSource",
    "Candidates",
    "Colocalisation",
    "ColocaliseSettings",
    "CrossEncoderScorer",
    "EmbedSettings",
    "Encoded",
    "EncodedTokens",
    "EncodedTower",
    "GeneEmbedding",
    "Level",
    "Meta",
    "ModelInput",
    "Neighbours",
    "PairScorer",
    "Panel",
    "Precision",
    "RetrievedCandidates",
    "SampledCandidates",
    "Selection",
    "SpatialCandidates",
    "Subject",
    "TwoTowerScorer",
    "TypeTables",
    "cls_states",
    "colocalisation_facts",
    "colocalise",
    "drawn_queries",
    "encode_cells",
    "gene_means",
    "gene_states",
    "joined_tables",
    "make_scorer",
    "model_input",
    "pair_states",
    "predicted_neighbours",
    "require_coverage",
    "scorer_of",
    "type_pair_prior",
    "typed",
    "with_meta",
]
