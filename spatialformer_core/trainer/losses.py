"""The forward pass and the losses of one training step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatialformer_core.model import SpatialFormer
from spatialformer_core.model.heads import AnyTowerHead, BranchedNicheHead, BranchedPairHead
from spatialformer_core.objectives import (
    UncertaintyWeights,
    binary_loss,
    masked_token_loss,
    niche_loss,
)
from spatialformer_core.trainer.batch import COOCCURRENCE, MASKED, NICHE, PAIR, StepBatch


class StepModule(nn.Module):
    """Network and task weights as one module, so that DDP and autocast see a single forward.

    Parameters
    ----------
    model
        The network.
    tasks
        Names of the losses that are trained; heads of the others take no gradient.
    """

    def __init__(self, model: SpatialFormer, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.weights = UncertaintyWeights(tasks)
        heads = {
            MASKED: model.token_head,
            COOCCURRENCE: model.cooccurrence_head,
            PAIR: model.pair_head,
            NICHE: model.niche_head,
        }
        for task, head in heads.items():
            if head is not None and task not in tasks:
                head.requires_grad_(requires_grad=False)
        self._reads_genes = MASKED in tasks or COOCCURRENCE in tasks
        if not model.config.blocks_trained:
            _freeze_blocks(model)

    def forward(
        self, batch: StepBatch, shares: Mapping[str, float], lambdas: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted total and the loss of each objective.

        Parameters
        ----------
        batch
            This process's share of the step.
        shares
            Per loss this process's number of terms times the number of processes, divided by the
            terms of all: the mean over processes of the scaled losses is the loss of the step.
        lambdas
            Outer weights.
        """
        losses = {name: loss * shares[name] for name, loss in self._losses(batch).items()}
        return self.weights(losses, lambdas), losses

    def _losses(self, batch: StepBatch) -> dict[str, Tensor]:
        model = self.model
        # Pairs and niche ask for CLS alone, at a fraction of the last layer's work.
        hidden = model.hidden(batch.packed) if self._reads_genes else None
        if hidden is None:
            cls = model.cls(batch.packed)
        else:
            cls = model.states(hidden[batch.packed.starts], batch.packed)
        cls = cls[batch.to_caller]
        if isinstance(model.pair_head, AnyTowerHead):
            cls = model.pair_head.project(cls)
        tasks = self.weights.log_variance
        losses = {}
        if PAIR in tasks:
            losses[PAIR] = self._pair_loss(cls, batch)
        if MASKED in tasks and hidden is not None:
            logits = model.token_head(hidden[batch.positions])
            losses[MASKED] = masked_token_loss(_full(logits), batch.targets)
        if COOCCURRENCE in tasks and hidden is not None:
            left, right = batch.genes.unbind(1)
            logits = model.cooccurrence_head(hidden, left, right)
            losses[COOCCURRENCE] = binary_loss(*_alike(logits, batch.gene_label))
        if NICHE in tasks and model.niche_head is not None:
            if batch.niche is None or batch.niche_known is None:
                raise RuntimeError("the niche loss is on, but its targets were not computed")
            predicted = model.niche_head(cls)
            # Every branch predicts all targets.
            times = predicted.shape[1] // batch.niche.shape[1]
            target, known = (
                v.to(predicted.dtype).repeat(1, times) for v in (batch.niche, batch.niche_known)
            )
            losses[NICHE] = niche_loss(predicted, target, known)
        return losses

    def _pair_loss(self, cls: Tensor, batch: StepBatch) -> Tensor:
        head = self.model.pair_head
        if isinstance(head, AnyTowerHead):
            # Branches learn each for itself: their errors stay different, and the mean gains.
            logits = head.branch_logits(cls[batch.left], cls[batch.right])
        else:
            logits = head(cls)[None]
        logits, label = _alike(logits, batch.label)
        weight = batch.weight.to(logits.dtype).expand_as(logits)
        label = label.expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, label, weight, reduction="sum")
        return loss / len(logits)


def _freeze_blocks(model: SpatialFormer) -> None:
    """Take what the expression path alone does not use out of the training."""
    model.embedding.requires_grad_(requires_grad=False)
    model.blocks.requires_grad_(requires_grad=False)
    if model.expression is not None and model.expression.gate is not None:
        model.expression.gate.requires_grad = False
    for head in (model.pair_head, model.niche_head):
        if isinstance(head, BranchedPairHead | BranchedNicheHead):
            of_blocks = next(iter(head.heads))
            of_blocks.requires_grad_(requires_grad=False)


def _full(logits: Tensor) -> Tensor:
    """Bring half-precision logits to float32: losses are computed in full precision."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _alike(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    logits = _full(logits)
    return logits, label.to(logits.dtype)
