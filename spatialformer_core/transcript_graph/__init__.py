"""Transcripts as a graph: who lies beside whom, and a vector per gene learnt from that.

The graph and the sampler need numba only; ``network`` and ``fit`` import torch and
torch-geometric and are imported by the training alone.
"""

from spatialformer_core.transcript_graph.embedding import (
    GeneEmbedding,
    load_gene_embedding,
    save_gene_embedding,
)
from spatialformer_core.transcript_graph.graph import TranscriptGraph, join, transcript_graph
from spatialformer_core.transcript_graph.sampling import (
    TranscriptPairs,
    TwoHops,
    draw_pairs,
    sample_two_hops,
)

__all__ = [
    "GeneEmbedding",
    "TranscriptGraph",
    "TranscriptPairs",
    "TwoHops",
    "draw_pairs",
    "join",
    "load_gene_embedding",
    "sample_two_hops",
    "save_gene_embedding",
    "transcript_graph",
]
