"""What a screen costs, and which mode it takes. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.engine import chunks
from spatialformer_core.perturbation.facts import Architecture, ModelFacts, Rates
from spatialformer_core.perturbation.plan import ScreenPlan
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.screened import RANK, ROUND_SHARE, ROUNDS, recall_sample
from spatialformer_core.perturbation.shards import OrderedPairs, Shard, cut, ordered_pairs

Mode = Literal["exact", "screened"]

PATIENCE_S = 1_800.0
"""A cross-encoder on a CPU is screened where the exact way would last longer."""

_PER_SHARD = {"two-tower": 8e6, "cross-encoder": 1e5}
"""Evaluations of a shard: some seconds to minutes, so that little is lost if one is."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of a screen.

    Attributes
    ----------
    encodings, evaluations
        Single-cell encodings, and evaluations of cell pairs (logits averaged over both orders).
        Of a screened run the most that there can be.
    shards
        How the pairs are divided.
    """

    encodings: int
    evaluations: int
    shards: tuple[Shard, ...]

    def seconds(self, rates: Rates) -> float:
        """Return how long it takes at the given speed."""
        return self.encodings / rates.encodings_per_s + self.evaluations / rates.evaluations_per_s

    def forwards(self, architecture: Architecture) -> int:
        """Return passes through the network's blocks: per cell, or two per pair."""
        return self.encodings if architecture == "two-tower" else 2 * self.evaluations


def cost_of(
    plan: ScreenPlan,
    request: ScreenRequest,
    mode: Mode,
    architecture: Architecture,
    n_shards: int | None = None,
) -> Cost:
    """Return what a screen costs.

    Parameters
    ----------
    plan
        Its pairs; presence of the targets that are knocked out.
    request, mode, architecture
        How it is carried out.
    n_shards
        About how many shards; None: by size.
    """
    ordered = ordered_pairs(plan)
    left, right = (_targets(plan, ordered, side) for side in ("left", "right"))
    separate = request.control != "none" and bool(request.genes or request.knockout_sets)
    exact = (left + 1.0) * (right + 1.0)
    if separate:
        # Controls that are no targets themselves meet each other in a block of their own.
        exact *= np.where(left + right > 0, 2, 1)
    each = exact
    if mode == "screened":
        factor = 2 if separate else 1
        lines = (1 + RANK) * (factor * (left + right) + 1)
        lines += np.ceil(ROUNDS * ROUND_SHARE * (factor * left + 1) * (factor * right + 1))
        wanted = request.candidates * (1 if request.control == "none" else 2)
        each = np.minimum(lines + wanted, exact)
        each[recall_sample(len(each), request.seed)] += exact[
            recall_sample(len(each), request.seed)
        ]
    size = _PER_SHARD[architecture] if n_shards is None else each.sum() / n_shards * (1 + 1e-9)
    shards = cut(ordered, each, size)
    passes = 1 if mode == "exact" else 2
    encodings = passes * _encodings(plan, ordered, shards, 2 if separate else 1)
    return Cost(encodings, int(each.sum()), tuple(shards))


def _targets(plan: ScreenPlan, ordered: OrderedPairs, side: str) -> DoubleArray:
    out = np.zeros(len(ordered.unit))
    for number, tissue in enumerate(plan.slides.tissues):
        here = ordered.pairs.slide == number
        out[here] = np.diff(tissue.presence.indptr)[getattr(ordered.pairs, side)[here]]
    return out


def _encodings(
    plan: ScreenPlan, ordered: OrderedPairs, shards: Sequence[Shard], factor: int
) -> int:
    total = 0
    for shard in shards:
        tissue = plan.slides.tissues[int(ordered.pairs.slide[shard.start])]
        versions: LongArray = 1 + factor * np.diff(tissue.presence.indptr).astype(np.int64)
        left, right = ordered.pairs.left[shard.rows], ordered.pairs.right[shard.rows]
        for start, stop in chunks(versions, left, right):
            held = np.unique(np.concatenate([left[start:stop], right[start:stop]]))
            total += int(versions[held].sum())
    return total


def choose_mode(plan: ScreenPlan, request: ScreenRequest, model: ModelFacts) -> Mode:
    """Return the mode of a screen.

    Raises
    ------
    SpatialFormerError
        If a screened run is wanted of a two-tower checkpoint, which would be slower than exact.
    """
    if model.architecture == "two-tower":
        if request.mode == "screened":
            raise SpatialFormerError(
                "A two-tower checkpoint is screened exactly: its encodings are shared by all gene "
                "pairs, so proposals would save nothing.",
                fix="Use the mode exact or auto.",
            )
        return "exact"
    if request.mode != "auto":
        return request.mode
    if model.on_gpu or model.rates is None:
        return "exact"
    exact = cost_of(plan, request, "exact", model.architecture).seconds(model.rates)
    return "screened" if exact > PATIENCE_S else "exact"
