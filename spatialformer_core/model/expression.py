"""The expression path: what a cell's counts alone say of it, beside its sequence of tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model.config import ModelConfig
from spatialformer_core.model.layout import Packed

_PER = 100.0
_TOKEN_STD = 0.05
_LIMIT = 10.0
"""A rare gene's level in units of its own spread counts at most so much."""


class ExpressionPath(nn.Module):
    """From the tokens and raw counts of a cell to what is added to its CLS state (two-tower).

    Each token brings its own vector times its level ``log1p(100 count / total)``, divided by the
    spread of that level over the training cells; a further vector is weighed by ``log1p(total)``.
    One residual layer follows. It sees exactly what a plain network on log counts would see, but
    reads it from the tokens that the network is given: a gene that was deleted or hidden is
    missing from the sum and from the total.

    Attributes
    ----------
    scale
        Factor of each token's level, shape ``(n_tokens,)``; 1 until `set_scale` fills it.
    gate
        What each channel of the blocks' CLS state counts beside the path, shape ``(dim,)``. Zero
        at the start: the blocks begin as a small addition to what the path says. None where the
        path stands beside the blocks.
    """

    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.expression_width
        self.gene_dropout = config.gene_dropout
        self.token = nn.Embedding(config.n_tokens, width)
        nn.init.normal_(self.token.weight, std=_TOKEN_STD)
        self.total = nn.Linear(1, width)
        nn.init.normal_(self.total.weight, std=_TOKEN_STD)
        self.norm1 = nn.LayerNorm(width)
        self.layer = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.expression_dropout)
        self.out = nn.Linear(width, config.dim)
        joined = not config.expression_members
        self.gate = nn.Parameter(torch.zeros(config.dim)) if joined else None
        self.register_buffer("scale", torch.ones(config.n_tokens))

    def summed(self, batch: Packed) -> Float[Tensor, "B W"]:
        """Return the weighted sum of each sequence's tokens, in packed order."""
        weight = self.token.weight
        counts = batch.counts.to(weight.dtype)
        lengths = torch.diff(batch.starts, append=batch.starts.new_tensor([len(counts)]))
        owner = torch.repeat_interleave(lengths)
        total = counts.new_zeros(len(lengths)).index_add(0, owner, counts)
        level = torch.log1p(counts * (_PER / total.clamp(min=1))[owner])
        level = (level * self.scale[batch.tokens]).clamp(max=_LIMIT)
        if self.training and self.gene_dropout:
            # A gene left out stands for transcripts that the instrument misses.
            level = level * (torch.rand_like(level) >= self.gene_dropout)
        bags = F.embedding_bag(
            batch.tokens, weight, batch.starts, mode="sum", per_sample_weights=level
        )
        depth: Tensor = self.total(torch.log1p(total)[:, None])
        return bags + depth

    def forward(self, batch: Packed) -> Float[Tensor, "B D"]:
        """Return the path's share of the CLS states, in packed order."""
        x = self.dropout(F.gelu(self.norm1(self.summed(batch))))
        x = x + self.dropout(F.gelu(self.norm2(self.layer(x))))
        out: Tensor = self.out(x)
        return out

    @torch.no_grad()
    def set_scale(self, scale: Float[Tensor, " V"]) -> None:
        """Fill the factor of each token's level.

        Raises
        ------
        SpatialFormerError
            If there is not one positive number per token.
        """
        if scale.shape != self.scale.shape or not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise SpatialFormerError(
                f"The scale of expression wants {len(self.scale)} positive numbers, one per token."
            )
        self.scale.copy_(scale)

    @torch.no_grad()
    def centre(self, levels: Float[Tensor, " V"], depth: float) -> None:
        """Begin with the average cell at the origin: what cells share would drown the rest.

        Parameters
        ----------
        levels
            Mean of ``log1p(100 count / total)`` of each token over the training cells.
        depth
            Mean of ``log1p(total)``.
        """
        shared = (levels * self.scale).clamp(max=_LIMIT).to(self.token.weight.dtype)
        self.total.bias.copy_(-(shared @ self.token.weight + self.total.weight[:, 0] * depth))
