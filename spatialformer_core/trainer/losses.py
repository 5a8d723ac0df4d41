"""The forward pass and the losses of one training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialformer_core.arrays import CellTokens
from spatialformer_core.corpus import Corpus
from spatialformer_core.model import Rows, SpatialFormer, lay_out, pack
from spatialformer_core.model.heads import TowerPairHead
from spatialformer_core.objectives import (
    GenePairSample,
    binary_loss,
    mask_tokens,
    masked_token_loss,
    niche_loss,
    sample_gene_pairs,
)
from spatialformer_core.trainer.niche import NicheValues
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.sampling import StepCells

MASKED, COOCCURRENCE, PAIR, NICHE = "masked_tokens", "cooccurrence", "pair", "niche"

_MASK_STREAM, _PAIR_STREAM = 1, 2


@dataclass(frozen=True)
class Task:
    """Everything that the losses of a step are computed from.

    Attributes
    ----------
    recipe
        Which objectives are on.
    corpus
        Cells.
    niche
        Niche targets of the corpus, None without that objective.
    """

    recipe: TrainRecipe
    corpus: Corpus
    niche: NicheValues | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the losses that `step_losses` returns."""
        objectives = self.recipe.objectives
        wanted = {
            MASKED: objectives.mask_fraction > 0,
            COOCCURRENCE: objectives.cooccurrence,
            PAIR: True,
            NICHE: self.niche is not None,
        }
        return tuple(name for name, on in wanted.items() if on)


def step_losses(model: SpatialFormer, task: Task, drawn: StepCells, step: int) -> dict[str, Tensor]:
    """Return the loss of each objective on one step's cells.

    Parameters
    ----------
    model
        In training mode.
    task, drawn
        Data and objectives, and what this step sees of them.
    step
        Decides, with the recipe's seed, which tokens are hidden and which gene pairs are asked.
    """
    corpus = task.corpus
    cells = corpus.cells(drawn.rows)
    rows = _lay_out(model, cells, len(drawn.label))
    masked = mask_tokens(
        rows.tokens,
        gene_offset=corpus.vocabulary.gene_offset,
        n_tokens=model.config.n_tokens,
        seed=(task.recipe.seed, step, _MASK_STREAM),
        fraction=task.recipe.objectives.mask_fraction,
    )
    magnitudes = rows.magnitudes.copy()
    # The count of a hidden gene would narrow down which gene it is.
    magnitudes[masked.positions] = 0
    seen = replace(rows, tokens=masked.tokens, magnitudes=magnitudes)
    batch = pack(seen, model.config.conv_kernel).to(model.device)
    hidden = model.hidden(batch)
    cls = hidden[batch.starts][_tensor(np.argsort(batch.order), model)]
    if isinstance(model.pair_head, TowerPairHead):
        cls = model.pair_head.project(cls)
    losses = {PAIR: _pair_loss(model, cls, drawn)}
    if task.recipe.objectives.mask_fraction:
        logits = model.token_head(hidden[_tensor(masked.positions, model)])
        losses[MASKED] = masked_token_loss(logits, _tensor(masked.targets, model))
    if task.recipe.objectives.cooccurrence:
        pairs = corpus.cooccurrence(drawn.rows)
        sample = sample_gene_pairs(cells, pairs, (task.recipe.seed, step, _PAIR_STREAM))
        losses[COOCCURRENCE] = _cooccurrence_loss(model, hidden, rows, sample)
    if task.niche is not None and model.niche_head is not None:
        predicted = model.niche_head(cls)
        values, known = task.niche.values[drawn.rows], task.niche.known[drawn.rows]
        losses[NICHE] = niche_loss(predicted, _tensor(values, model), _tensor(known, model))
    return losses


def _lay_out(model: SpatialFormer, cells: CellTokens, n_pairs: int) -> Rows:
    if isinstance(model.pair_head, TowerPairHead):
        return lay_out(cells, None, model.config.magnitude_bins)
    left, right = cells.take(np.arange(n_pairs)), cells.take(np.arange(n_pairs) + n_pairs)
    return lay_out(left, right, model.config.magnitude_bins)


def _cooccurrence_loss(
    model: SpatialFormer, hidden: Tensor, rows: Rows, sample: GenePairSample
) -> Tensor:
    # Of a pair sequence: all left cells, then all right cells, as the step lists them.
    first = rows.first_gene.T.reshape(-1)[sample.cell]
    logits = model.cooccurrence_head(
        hidden, _tensor(first + sample.left, model), _tensor(first + sample.right, model)
    )
    return binary_loss(logits, _tensor(sample.label, model))


def _tensor(values: np.ndarray[Any, Any], model: SpatialFormer) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(model.device)


def _pair_loss(model: SpatialFormer, cls: Tensor, drawn: StepCells) -> Tensor:
    if isinstance(model.pair_head, TowerPairHead):
        logits = model.pair_head(cls[_tensor(drawn.left, model)], cls[_tensor(drawn.right, model)])
    else:
        logits = model.pair_head(cls)
    label, weight = _tensor(drawn.label, model), _tensor(drawn.weight, model)
    return F.binary_cross_entropy_with_logits(logits, label, weight, reduction="sum")
