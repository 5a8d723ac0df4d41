"""What the network is trained for."""

from __future__ import annotations

from spatialformer_core.objectives.cooccurrence import GenePairSample, sample_gene_pairs
from spatialformer_core.objectives.losses import (
    UncertaintyWeights,
    binary_loss,
    linear_lambda,
    masked_token_loss,
    niche_loss,
)
from spatialformer_core.objectives.masking import Masked, mask_tokens
from spatialformer_core.objectives.self_check import (
    MaskedScore,
    compare_layouts,
    masked_token_score,
)

__all__ = [
    "GenePairSample",
    "Masked",
    "MaskedScore",
    "UncertaintyWeights",
    "binary_loss",
    "compare_layouts",
    "linear_lambda",
    "mask_tokens",
    "masked_token_loss",
    "masked_token_score",
    "niche_loss",
    "sample_gene_pairs",
]
