"""Low-rank adaptation of the attention weights (Hu et al. 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spatialformer_core.model import SpatialFormer
from spatialformer_core.model.layers import AttentionBlock
from spatialformer_core.trainer.recipe import LoraRecipe


class LoraLinear(nn.Module):
    """A linear layer whose weight stays and to which a low-rank product is added.

    ``y = W x + b + alpha / rank * B A x``; ``B`` is zero at the start, so nothing changes before
    the first step.

    Parameters
    ----------
    base
        The layer; its weights are frozen.
    recipe
        Rank, alpha and dropout.
    """

    def __init__(self, base: nn.Linear, recipe: LoraRecipe) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = recipe.alpha / recipe.rank
        self.dropout = nn.Dropout(recipe.dropout)
        self.down = nn.Parameter(base.weight.new_empty(recipe.rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, recipe.rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with its change."""
        changed = self.dropout(x) @ self.down.t() @ self.up.t()
        out: Tensor = self.base(x) + self.scale * changed
        return out

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return an ordinary layer that computes the same (without dropout)."""
        self.base.weight += self.scale * (self.up @ self.down)
        return self.base


def add_lora(model: SpatialFormer, recipe: LoraRecipe) -> None:
    """Freeze a network and give its attention weights a low-rank change that learns."""
    heads = (model.token_head, model.cooccurrence_head, model.pair_head, model.niche_head)
    model.requires_grad_(requires_grad=False)
    for block in _attention(model):
        block.qkv = LoraLinear(block.qkv, recipe)  # type: ignore[assignment]
    for head in heads:
        if head is not None and recipe.heads:
            head.requires_grad_(requires_grad=True)


def merge_lora(model: SpatialFormer) -> None:
    """Turn the changed layers back into ordinary ones."""
    for block in _attention(model):
        if isinstance(block.qkv, LoraLinear):
            block.qkv = block.qkv.merged()


def _attention(model: SpatialFormer) -> list[AttentionBlock]:
    return [module for module in model.modules() if isinstance(module, AttentionBlock)]
