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


class AnyTowerHead(nn.Module):
    """What pair heads of two towers have in common: embeddings of cells in, logits out."""

    def project(self, cls: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return the embedding of each cell that pairs are compared by."""
        raise NotImplementedError

    def features(self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, "N H"]:
        """Return the hidden layer for aligned embeddings: what a pair looks like to the head."""
        raise NotImplementedError

    def grid(self, a: Float[Tensor, "L D"], b: Float[Tensor, "R D"]) -> Float[Tensor, "L R"]:
        """Return the logits of every row of ``a`` with every row of ``b``."""
        raise NotImplementedError

    def branch_logits(
        self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]
    ) -> Float[Tensor, "M N"]:
        """Return the logits of each branch that learns for itself."""
        raise NotImplementedError


class TowerPairHead(AnyTowerHead):
    """Symmetric head on the embeddings of two cells (two-tower).

    `project` widens a cell's CLS state once per cell, which costs next to nothing beside its
    tokens. A hidden layer on ``|a - b|``, ``a * b`` and ``a + b`` plus the symmetric bilinear form
    ``a' S b``. The part on ``a + b`` is linear in each cell, so it is computed once per cell.
    """

    def __init__(self, config: ModelConfig, hidden: int = 0) -> None:
        super().__init__()
        dim, hidden = config.dim, hidden or config.pair_hidden
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

    def branch_logits(
        self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]
    ) -> Float[Tensor, "1 N"]:
        """Return the logits as those of the only branch."""
        logits: Tensor = self(a, b)
        return logits[None]

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


class BranchedPairHead(AnyTowerHead):
    """One pair head for the blocks and one for each expression path; the score is their mean.

    A cell's state is the states of all branches behind each other, the blocks' first. Untrained
    blocks take no part.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._first = 0 if config.blocks_trained else 1
        hidden = [0] + [config.expression_pair_hidden] * config.expression_members
        self.heads = nn.ModuleList(TowerPairHead(config, width) for width in hidden)

    def _taking_part(self, *states: Tensor) -> list[tuple[TowerPairHead, list[Tensor]]]:
        split = [state.chunk(len(self.heads), -1) for state in states]
        return [
            (head, [parts[number] for parts in split])
            for number, head in enumerate(self.heads)
            if number >= self._first and isinstance(head, TowerPairHead)
        ]

    def project(self, cls: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Return the embeddings of all branches; zeros for a branch that takes no part."""
        parts = [head.project(part) for head, (part,) in self._taking_part(cls)]
        idle = [torch.zeros_like(parts[0])] * self._first
        return torch.cat([*idle, *parts], -1)

    def branch_logits(
        self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]
    ) -> Float[Tensor, "M N"]:
        """Return each branch's own logits of aligned embeddings."""
        return torch.stack([head(x, y) for head, (x, y) in self._taking_part(a, b)])

    def forward(self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Return the mean logits of aligned embeddings; the same for ``(a, b)`` and ``(b, a)``."""
        return self.branch_logits(a, b).mean(0)

    def features(self, a: Float[Tensor, "N D"], b: Float[Tensor, "N D"]) -> Float[Tensor, "N H"]:
        """Return the hidden layers of all branches for aligned embeddings, behind each other."""
        return torch.cat([head.features(x, y) for head, (x, y) in self._taking_part(a, b)], -1)

    def grid(self, a: Float[Tensor, "L D"], b: Float[Tensor, "R D"]) -> Float[Tensor, "L R"]:
        """Return the mean logits of every row of ``a`` with every row of ``b``."""
        return torch.stack([head.grid(x, y) for head, (x, y) in self._taking_part(a, b)]).mean(0)


class BranchedNicheHead(nn.Module):
    """A niche head for each branch; what they predict stands behind each other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._first = 0 if config.blocks_trained else 1
        self.heads = nn.ModuleList(NicheHead(config) for _ in range(1 + config.expression_members))

    def forward(self, embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        """Return the predicted niche features of each branch that takes part."""
        parts = embedding.chunk(len(self.heads), -1)
        return torch.cat([self.heads[k](parts[k]) for k in range(self._first, len(self.heads))], -1)
