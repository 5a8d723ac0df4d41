"""How good the network is on validation cells: what decides which weights are kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from scipy.stats import rankdata

from spatialformer_core.arrays import FloatArray
from spatialformer_core.cell_graph import EASY, HARD, POSITIVE, Kind
from spatialformer_core.corpus import Corpus, PairBatches
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import scorer_of
from spatialformer_core.trainer.batch import StepBatch, Task, part_rows
from spatialformer_core.trainer.losses import StepModule
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.sampling import StepCells

_KINDS: tuple[Kind, ...] = ("positive", "easy", "hard")
_SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class Quality:
    """Result of one validation.

    Attributes
    ----------
    score
        What the best weights are chosen by; higher is better.
    values
        Its parts by name.
    """

    score: float = -np.inf
    values: dict[str, float] = field(default_factory=dict)


class Measures(Protocol):
    """Fixed questions about validation cells."""

    def measure(self, module: StepModule) -> Quality:
        """Score the network as it is."""


def auroc(positive: FloatArray, negative: FloatArray) -> float:
    """Return the chance that a positive scores above a negative, ties counting half."""
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class Validation:
    """Area under the ROC curve of fixed pairs: per query cell a neighbour and two others.

    The pairs do not depend on the recipe's seed, so runs of several seeds can be compared. The
    score is the mean over random and hard negatives.

    Parameters
    ----------
    corpus, recipe
        Cells, distances and the number of query cells.
    """

    def __init__(self, corpus: Corpus, recipe: TrainRecipe) -> None:
        size = recipe.validation_queries * len(_KINDS)
        batch = PairBatches(
            corpus, "validation", size, seed=_SEED, kinds=_KINDS, hard_um=recipe.pairs.hard_um
        ).batch(0)
        both = np.concatenate([batch.left_cells, batch.right_cells])
        used, place = np.unique(both, return_inverse=True)
        self._cells = corpus.cells(used)
        self._left, self._right = place[:size], place[size:]
        self._kind = batch.kind

    def measure(self, module: StepModule) -> Quality:
        """Score all pairs with the network as it is."""
        model = module.model
        if model.embedding.token.weight.dtype != torch.float32:
            # Scorers work in single precision; a run in another keeps its own weights.
            model = copy.deepcopy(model).float()
        was_training = model.training
        scorer = scorer_of(model, "in training")
        encoded = scorer.encode(self._cells)
        score = scorer.score(encoded.take(self._left), encoded.take(self._right))
        model.train(was_training)
        near, easy, hard = (score[self._kind == kind] for kind in (POSITIVE, EASY, HARD))
        values = {"auroc_easy": auroc(near, easy), "auroc_hard": auroc(near, hard)}
        return Quality(sum(values.values()) / 2, values)


class SingleValidation:
    """Losses on fixed validation cells, for runs without pairs; the score is minus their sum.

    Parameters
    ----------
    task
        Objectives and corpus.
    """

    def __init__(self, task: Task) -> None:
        rows = task.corpus.rows("validation")
        if not len(rows):
            raise SpatialFormerError(
                "The corpus has no validation cells.", where=str(task.corpus.path)
            )
        rng = np.random.default_rng(_SEED)
        n = min(len(rows), task.recipe.validation_queries)
        chosen = np.sort(rng.choice(rows, n, replace=False))
        none, empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        cells = StepCells(chosen, none, none, empty, empty)
        # A seed of its own: the questions are the same in runs of every seed.
        recipe = task.recipe.model_copy(update={"seed": _SEED})
        self._task = Task(recipe, task.corpus, task.niche, lambda number: cells)

    def measure(self, module: StepModule) -> Quality:
        """Compute the losses with the network as it is."""
        was_training = module.training
        module.eval()
        config = module.model.config
        part = part_rows(self._task, config, 0)
        batch = StepBatch(self._task, config, [part], module.model.device)
        with torch.no_grad():
            _, losses = module(batch, dict.fromkeys(self._task.names, 1.0), {})
        module.train(was_training)
        values = {f"loss_{name}": float(loss) for name, loss in losses.items()}
        return Quality(-sum(values.values()), values)


def validation(task: Task) -> Measures:
    """Return the validation that fits the objectives."""
    if task.recipe.objectives.pair:
        return Validation(task.corpus, task.recipe)
    return SingleValidation(task)
