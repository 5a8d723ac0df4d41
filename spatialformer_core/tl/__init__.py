"""Tools on an AnnData: embeddings, predicted neighbours, co-localisation, gene pairs.

Thin faces: check, hand over plain arrays, write keys. With ``copy=False`` (the default) keys are
written into the object and nothing is returned; with ``copy=True`` a changed copy is returned.
"""

from __future__ import annotations

from spatialformer_core.tl.embedding import embed
from spatialformer_core.tl.gene_groups import gene_pairs
from spatialformer_core.tl.neighbours import colocalise, predict_neighbors

__all__ = ["colocalise", "embed", "gene_pairs", "predict_neighbors"]
