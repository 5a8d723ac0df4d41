"""Heads: masked tokens, gene co-occurrence, cell pairs and the niche of a cell."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from spatialformer_core.model.config import ModelConfig

_BILINEAR_START = 0.02


class CooccurrenceHead(nn.Module):
    """Symmetric low-rank interaction of two gene tokens of one cell.

    ``logit(i, j) = sum_r w_r u_ir u_jr + b`` with ``u = E P``. A product, so two genes' effect is
    no sum of gene scores (the published head was), and the same for (i, j) and (j, i).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        rank = config.cooccurrence_rank
        self.project = nn.Linear(config.dim, rank, bias=False)
        self.weight = nn.Parameter(torch.ones(rank) / rank)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        hidden: Float[Tensor, "T D"],
        left: Int[Tensor, " N"],
        right: Int[Tensor, " N"],
    ) -> Float[Tensor, " N"]:
        """Return the logits of the given pairs of packed rows."""
        u: Tensor = self.project(hidden)
        return (u[left] * u[right] * self.weight).sum(-1) + self.bias


class BilinearCooccurrenceHead(nn.Module):
    """Low-rank product of two projections, ``(E P)_i . (E Q)_j``: the 71-slide published head.

    Not symmetric; kept for converted checkpoints only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project_left = nn.Linear(config.dim, config.cooccurrence_rank, bias=False)
        self.project_right = nn.Linear(config.dim, config.cooccurrence_rank, bias=False)

    def forward(
        self,
        hidden: Float[Tensor, "T D"],
        left: Int[Tensor, " N"],
        right: Int[Tensor, " N"],
    ) -> Float[Tensor, " N"]:
        """Return the logits of the given ordered pairs of packed rows."""
        u, v = self.project_left(hidden), self.project_right(hidden)
        logits: Tensor = (u[left] * v[right]).sum(-1)
        return logits


class AdditiveCooccurrenceHead(nn.Module):
    """A sum of two gene scores, ``a . E_i + b . E_j``: the 61-slide published head.

    It can represent no interaction of two genes; kept for converted checkpoints only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scores = nn.Linear(config.dim, 2, bias=False)

    def forward(
        self,
        hidden: Float[Tensor, "T D"],
        left: Int[Tensor, " N"],
        right: Int[Tensor, " N"],
    ) -> Float[Tensor, " N"]:
        """Return the logits of the given ordered pairs of packed rows."""
        scores: Tensor = self.scores(hidden)
        return scores[left, 0] + scores[right, 1]


AnyCooccurrenceHead = CooccurrenceHead | BilinearCooccurrenceHead | AdditiveCooccurrenceHead


def cooccurrence_head(config: ModelConfig) -> AnyCooccurrenceHead:
    """Return the head that the configuration names."""
    if config.cooccurrence_head == "bilinear":
        return BilinearCooccurrenceHead(config)
    if config.cooccurrence_head == "additive":
        return AdditiveCooccurrenceHead(config)
    return CooccurrenceHead(config)


class ClsPairHead(nn.Module):
    """Neighbours or not, from the CLS state of a pair sequence (cross-encoder)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, 1)

    def forward(self, cls: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Return one logit per pair."""
        logits: Tensor = self.linear(cls).squeeze(-1)
        return logits


class TowerPairHead(nn.Module):
    """Symmetric head on the embeddings of two cells (two-tower).

    `project` widens a cell's CLS state once per cell, which costs next to nothing beside its
    tokens. A hidden layer on ``|a - b|``, ``a * b`` and ``a + b`` plus the symmetric bilinear form
    ``a' S b``. The part on ``a + b`` is linear in each cell, so it is computed once per cell.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.pair_hidden
        self.widen = nn.Linear(dim, config.expansion * dim)
        self.narrow = nn.Linear(config.expansion * dim, dim)
        self.difference = nn.Linear(dim, hidden, bias=False)
        self.product = nn.Linear(dim, hidden, bias=False)
        self.sum = nn.Linear(dim, hidden, bias=False)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(hidden, 1)
        self.bilinear = nn.Parameter(torch.eye(dim) * _BILINEAR_START)

    def project(self, cls: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return the embedding of each cell that pairs are compared by."""
        wide = self.dropout(F.gelu(self.widen(cls)))
        embedding: Tensor = cls + self.narrow(wide)
        return embedding

    def _mlp_in(self, a: Tensor, b: Tensor) -> Tensor:
        mixed: Tensor = self.difference((a - b).abs()) + self.product(a * b) + self.sum(a + b)
        return mixed

    def features(self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, "N H"]:
        """Return the hidden layer for aligned embeddings: what a pair looks like to the head."""
        return F.gelu(self._mlp_in(a, b) + self.hidden_bias)

    def _combine(self, mlp_in: Tensor, bilinear: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(mlp_in + self.hidden_bias))
        logits: Tensor = self.out(hidden).squeeze(-1) + bilinear
        return logits

    def _symmetric(self) -> Tensor:
        return (self.bilinear + self.bilinear.t()) / 2

    def forward(self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Return the logits of aligned embeddings; the same for ``(a, b)`` and ``(b, a)``."""
        mlp_in = self._mlp_in(a, b)
        # x (S a) and a (S x) are equal only up to rounding; their mean is equal exactly.
        symmetric = self._symmetric()
        bilinear = ((a @ symmetric) * b + (b @ symmetric) * a).sum(-1) / 2
        return self._combine(mlp_in, bilinear)

    def grid(self, a: Float[Tensor, "L D"], b: Float[Tensor, "R D"]) -> Float[Tensor, "L R"]:
        """Return the logits of every row of ``a`` with every row of ``b``."""
        mlp_in = self.difference((a[:, None] - b[None]).abs())
        mlp_in = mlp_in + self.product(a[:, None] * b[None])
        mlp_in = mlp_in + self.sum(a)[:, None] + self.sum(b)[None]
        return self._combine(mlp_in, a @ self._symmetric() @ b.t())


class NicheHead(nn.Module):
    """From a cell's own embedding, what its surroundings look like (two-tower, training only)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, config.niche_targets)

    def forward(self, embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        """Return the predicted niche features."""
        predicted: Tensor = self.linear(F.gelu(embedding))
        return predicted
