"""Plain towers on log counts as teachers of a run, fitted on the corpus's training cells."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.baselines import principal_components
from spatialformer_core.evaluation.pairs import PairSource
from spatialformer_core.evaluation.splits import TRAIN
from spatialformer_core.evaluation.tower_mlp import NAME, TowerMlp, TowerSettings
from spatialformer_core.progress import Progress
from spatialformer_core.trainer import Teacher, TeacherRecipe
from spatialformer_core.trainer.niche import count_matrix

_FIRST_SEED = 100
"""Teachers share no seed with the baselines that a model is compared with."""
_SURE = 1e-7


def plain_towers(corpus: Corpus, recipe: TeacherRecipe, seed: int, progress: Progress) -> Teacher:
    """Fit the towers of a recipe; the mean of their logits teaches.

    Raises
    ------
    SpatialFormerError
        If the corpus has several slides: the towers are fitted on one.
    """
    if len(corpus.shards) != 1:
        raise SpatialFormerError(
            f"Plain towers teach on one slide, the corpus has {len(corpus.shards)}.",
            where=str(corpus.path),
            fix="Name a two-tower checkpoint as teacher.",
        )
    shard, train = corpus.shards[0], corpus.split == TRAIN
    cells = corpus.cells(np.arange(corpus.n_cells))
    counts = count_matrix(cells, len(corpus.vocabulary))
    components = principal_components(counts, train, seed)
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    xy_um = shard.xy_um.astype(np.float64)
    source = PairSource(xy_um, shard.graph, corpus.radius_um, None, depth)
    towers = []
    for number in range(recipe.towers):
        progress(0.0, 1.0, f"Teacher {number + 1} of {recipe.towers}")
        towers.append(
            TowerMlp(
                counts,
                components,
                source,
                train,
                seed=_FIRST_SEED + seed * recipe.towers + number,
                settings=TowerSettings(pairs=recipe.pairs),
            )
        )

    def probability(left: LongArray, right: LongArray) -> DoubleArray:
        said = [np.clip(tower.predict(left, right), _SURE, 1 - _SURE) for tower in towers]
        return np.asarray(expit(np.mean(logit(said), axis=0)))

    facts = {"name": NAME, "towers": recipe.towers, "pairs_each": recipe.pairs}
    return Teacher(probability, _hints(towers, train) if recipe.hints else None, facts)


def _hints(towers: list[TowerMlp], train: np.ndarray) -> FloatArray:
    """Return the towers' embeddings of every cell, mean 0 and variance 1 over training cells."""
    raw = np.concatenate([tower.embedding for tower in towers], axis=1)
    spread = raw[train].std(0) + 1e-6
    hints: FloatArray = ((raw - raw[train].mean(0)) / spread).astype(np.float32)
    return hints
