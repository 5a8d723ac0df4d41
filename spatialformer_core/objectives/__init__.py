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

__all__ = [
    "GenePairSample",
    "Masked",
    "UncertaintyWeights",
    "binary_loss",
    "linear_lambda",
    "mask_tokens",
    "masked_token_loss",
    "niche_loss",
    "sample_gene_pairs",
]
