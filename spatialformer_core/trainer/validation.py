"""How well the validation cells' pairs are told apart: what decides which weights are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from spatialformer_core.arrays import FloatArray
from spatialformer_core.cell_graph import EASY, HARD, POSITIVE, Kind
from spatialformer_core.corpus import Corpus, PairBatches
from spatialformer_core.inference import scorer_of
from spatialformer_core.model import SpatialFormer
from spatialformer_core.trainer.recipe import TrainRecipe

_KINDS: tuple[Kind, ...] = ("positive", "easy", "hard")
_SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class Quality:
    """Area under the ROC curve of neighbours against each kind of other pairs."""

    easy: float
    hard: float

    @property
    def mean(self) -> float:
        """What the best weights are chosen by."""
        return (self.easy + self.hard) / 2


def auroc(positive: FloatArray, negative: FloatArray) -> float:
    """Return the chance that a positive scores above a negative, ties counting half."""
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class Validation:
    """Fixed pairs of validation cells: per query cell a neighbour, an easy and a hard negative.

    The pairs do not depend on the recipe's seed, so runs of several seeds can be compared.

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

    def measure(self, model: SpatialFormer) -> Quality:
        """Score all pairs with the network as it is."""
        was_training = model.training
        scorer = scorer_of(model, "in training")
        encoded = scorer.encode(self._cells)
        score = scorer.score(encoded.take(self._left), encoded.take(self._right))
        model.train(was_training)
        near, easy, hard = (score[self._kind == kind] for kind in (POSITIVE, EASY, HARD))
        return Quality(auroc(near, easy), auroc(near, hard))
