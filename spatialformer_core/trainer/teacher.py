"""Learning from another scorer: its opinion of a pair softens the pair's label.

A label says only whether two cells happened to lie together; a good scorer's probability says how
likely that was, which is worth more per pair where pairs are dear (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import make_scorer
from spatialformer_core.model import Checkpoint
from spatialformer_core.trainer.niche import NicheValues
from spatialformer_core.trainer.sampling import Draw, StepCells

_SURE = 1e-7


@dataclass(frozen=True)
class Teacher:
    """A scorer that was fitted on the training cells of the corpus, or on none of its cells.

    Attributes
    ----------
    probability
        From aligned rows of the corpus, both ``(n,)``, how probably each pair are neighbours.
    hints
        What it says of every single cell, to be predicted beside the niche, shape
        ``(n_cells, k)``; None: nothing.
    facts
        Who it is, for the provenance.
    """

    probability: Callable[[LongArray, LongArray], DoubleArray]
    hints: FloatArray | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def checkpoint_teacher(checkpoint: Checkpoint, corpus: Corpus) -> Teacher:
    """Return a two-tower checkpoint as teacher; every training cell is encoded once, here.

    Raises
    ------
    SpatialFormerError
        If it has another vocabulary, or is a cross-encoder, which would cost a pass per pair.
    """
    if checkpoint.config.architecture != "two-tower":
        raise SpatialFormerError(
            f"The teacher {checkpoint.name!r} is a {checkpoint.config.architecture}.",
            fix="Only two towers can teach: they encode each cell once.",
        )
    if checkpoint.vocabulary.fingerprint != corpus.vocabulary.fingerprint:
        raise SpatialFormerError(
            f"The teacher {checkpoint.name!r} has another vocabulary than the corpus.",
            fix="Take a checkpoint that was trained on the same corpus.",
        )
    scorer, rows = make_scorer(checkpoint), corpus.rows("train")
    encoded = scorer.encode(corpus.cells(rows))
    place = np.full(corpus.n_cells, -1, np.int64)
    place[rows] = np.arange(len(rows))

    def probability(left: LongArray, right: LongArray) -> DoubleArray:
        a, b = (encoded.take(place[side]) for side in (left, right))
        return np.asarray(expit(scorer.score(a, b).astype(np.float64)))

    return Teacher(probability, facts={"name": checkpoint.name, "id": checkpoint.id})


def mean_teacher(teachers: Sequence[Teacher]) -> Teacher:
    """Return a teacher whose logits are the mean of several."""
    if len(teachers) == 1:
        return teachers[0]

    def probability(left: LongArray, right: LongArray) -> DoubleArray:
        said = [np.clip(one.probability(left, right), _SURE, 1 - _SURE) for one in teachers]
        return np.asarray(expit(np.mean(logit(said), axis=0)))

    return Teacher(probability, facts={"mean_of": [one.facts for one in teachers]})


def taught_draw(draw: Draw, teacher: Teacher, share: float) -> Draw:
    """Return a draw whose labels are the teacher's probabilities to this share."""

    def taught(number: int) -> StepCells:
        cells = draw(number)
        said = teacher.probability(cells.rows[cells.left], cells.rows[cells.right])
        label = ((1 - share) * cells.label + share * said).astype(np.float32)
        return replace(cells, label=label)

    return taught


def with_hints(niche: NicheValues, teacher: Teacher) -> NicheValues:
    """Add what a teacher says of single cells to the niche targets."""
    if teacher.hints is None:
        return niche
    hints = teacher.hints.astype(np.float32)
    return NicheValues(
        np.hstack([niche.values, hints]), np.hstack([niche.known, np.ones_like(hints)])
    )
