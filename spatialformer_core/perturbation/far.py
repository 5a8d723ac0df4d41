"""Far pairs: the same two types, not neighbours, alike in depth and crowding.

A deterministic network gives every gene some effect, so an effect in near pairs alone says
nothing about tissue. Every near pair gets a far pair of the same types that resembles it in the
four covariates below and belongs to the same replicate unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from spatialformer_core.arrays import DoubleArray, Graph, LongArray
from spatialformer_core.cell_graph import PairMatch, far_pairs
from spatialformer_core.perturbation.request import MIN_PAIRS_PER_UNIT
from spatialformer_core.perturbation.tissue import PairTable, Tissue, concatenate, make_pairs

COVARIATES = ("log depth left", "log depth right", "log degree left", "log degree right")

_OUTSIDE_DRAWS = 30_000
_NEIGHBORS = 25


@dataclass(frozen=True, slots=True)
class FarPairs:
    """Far pairs and the unit of each.

    Attributes
    ----------
    pairs, unit
        The pairs and the number of the unit of each, shape ``(n,)``.
    source
        ``outside``: both cells outside all regions and nearest to the pairs of the same unit.
        ``within``: one cell of a near pair stays, the other is replaced by a similar one of its
        type farther away, inside the regions or not.
    imbalance
        Standardised difference near minus far of each covariate after matching.
    """

    pairs: PairTable
    unit: LongArray
    source: str
    imbalance: dict[str, float]


@dataclass(frozen=True, slots=True)
class Slides:
    """The slides of a screen with their neighbour graphs.

    Attributes
    ----------
    tissues, graphs
        Aligned; graphs link all cells within the near radius.
    """

    tissues: Sequence[Tissue]
    graphs: Sequence[Graph]

    def features(self, number: int) -> DoubleArray:
        """Return log depth and log degree of all cells of a slide, shape ``(n, 2)``."""
        degree = self.graphs[number].degree
        return np.column_stack([np.log1p(self.tissues[number].depth), np.log1p(degree)])

    def covariates(self, pairs: PairTable) -> DoubleArray:
        """Return the `COVARIATES` of pairs, shape ``(n, 4)``."""
        out = np.zeros((len(pairs), 4))
        for number in range(len(self.tissues)):
            here = np.flatnonzero(pairs.slide == number)
            features = self.features(number)
            out[here, 0::2] = features[pairs.left[here]]
            out[here, 1::2] = features[pairs.right[here]]
        # Columns: depth left, depth right, degree left, degree right.
        return out


def matched_far_pairs(
    slides: Slides,
    near: PairTable,
    unit: LongArray,
    far_um: tuple[float, float],
    seed: int,
    *,
    outside: bool = False,
) -> FarPairs:
    """Return far pairs matched to near pairs, unit by unit, each used once.

    Taken from around the near pairs themselves, so that both kinds lie in the same zones of the
    tissue.

    Parameters
    ----------
    slides
        The tissue.
    near, unit
        Near pairs and the unit of each, shape ``(n,)``, none negative.
    far_um
        Distance from, to.
    seed
        Decides the draws.
    outside
        Take them from outside all regions, if that gives every unit at least 10.
    """
    n_units = int(unit.max()) + 1
    if outside and any(tissue.regions for tissue in slides.tissues):
        found = _outside(slides, near, unit, far_um, seed)
        if np.bincount(found.unit, minlength=n_units).min() >= MIN_PAIRS_PER_UNIT:
            return found
    return _within(slides, near, unit, far_um, seed)


def _outside(
    slides: Slides, near: PairTable, unit: LongArray, far_um: tuple[float, float], seed: int
) -> FarPairs:
    parts, units = [], [np.zeros(0, np.int64)]
    for number, tissue in enumerate(slides.tissues):
        here = near.slide == number
        if not here.any():
            continue
        outside = ~tissue.in_any_region
        left, right = far_pairs(
            tissue.xy_um,
            tissue.left & outside,
            tissue.right & outside,
            ring_um=far_um,
            n=_OUTSIDE_DRAWS,
            seed=seed,
        )
        _, nearest = cKDTree(near.mid_um[here]).query(tissue.xy_um)
        owner = unit[here][nearest]
        # A cell in the far pairs of two units would make their means depend on each other.
        own = owner[left] == owner[right]
        parts.append(make_pairs(tissue, number, left[own], right[own], -1))
        units.append(owner[left[own]])
    candidates, of_candidate = concatenate(parts), np.concatenate(units)
    rng = np.random.default_rng(seed)
    near_x, far_x = slides.covariates(near), slides.covariates(candidates)
    rows = [np.zeros(0, np.int64)]
    for number in np.unique(unit):
        mine, pool = np.flatnonzero(unit == number), np.flatnonzero(of_candidate == number)
        rows.append(pool[match(near_x[mine], far_x[pool], rng)])
    chosen = np.concatenate(rows)
    return FarPairs(
        candidates.take(chosen), of_candidate[chosen], "outside", imbalance(near_x, far_x[chosen])
    )


def _within(
    slides: Slides, near: PairTable, unit: LongArray, far_um: tuple[float, float], seed: int
) -> FarPairs:
    parts, units = [], [np.zeros(0, np.int64)]
    for number, tissue in enumerate(slides.tissues):
        features = slides.features(number).astype(np.float32)
        for one in np.unique(unit[near.slide == number]):
            mine = near.take((near.slide == number) & (unit == one))
            left, right = far_pairs(
                tissue.xy_um,
                tissue.left,
                tissue.right,
                ring_um=far_um,
                n=len(mine),
                seed=seed + int(one),
                match=PairMatch(mine.left.astype(np.int32), mine.right.astype(np.int32), features),
            )
            parts.append(make_pairs(tissue, number, left, right, -1))
            units.append(np.full(len(left), one, np.int64))
    pairs = concatenate(parts)
    return FarPairs(
        pairs,
        np.concatenate(units),
        "within",
        imbalance(slides.covariates(near), slides.covariates(pairs)),
    )


def match(near: DoubleArray, far: DoubleArray, rng: np.random.Generator) -> LongArray:
    """Return one far row for each near row, the closest still free; fewer if none is close.

    Parameters
    ----------
    near, far
        Covariates, shapes ``(n, k)`` and ``(m, k)``; scaled by the spread of the near rows.
    rng
        Decides who chooses first.
    """
    if not len(near) or not len(far):
        return np.zeros(0, np.int64)
    spread = np.maximum(near.std(axis=0), 0.1)
    n_options = min(_NEIGHBORS, len(far))
    _, options = cKDTree(far / spread).query(near / spread, k=n_options)
    options = options.reshape(len(near), n_options)
    free = np.ones(len(far), np.bool_)
    chosen = []
    for row in rng.permutation(len(near)):
        still = options[row][free[options[row]]]
        if len(still):
            chosen.append(still[0])
            free[still[0]] = False
    return np.array(sorted(chosen), np.int64)


def imbalance(near: DoubleArray, far: DoubleArray) -> dict[str, float]:
    """Return the difference near minus far of each covariate in standard deviations."""
    if not len(far) or not len(near):
        return {}
    spread = np.maximum(near.std(axis=0), 1e-9)
    difference = (near.mean(axis=0) - far.mean(axis=0)) / spread
    return {name: round(float(v), 4) for name, v in zip(COVARIATES, difference, strict=True)}
