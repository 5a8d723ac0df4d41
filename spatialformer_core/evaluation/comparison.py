"""Methods side by side: differences with intervals, and scores over distance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.evaluation.metrics import Metrics, Scored, block_samples, percentiles
from spatialformer_core.evaluation.pairs import Negatives, PairSource

if TYPE_CHECKING:
    from spatialformer_core.evaluation.colocalisation import ColocalisationSettings

Predictor = Callable[[LongArray, LongArray], DoubleArray]
"""Gives aligned pairs of cells a probability of being neighbours."""

_COMPARED = ("auroc", "auprc")
_FARTHEST_UM, _BIN_UM, _PER_BIN = 300.0, 10.0, 1_000
_TREE_CELLS = 8_000


def pooled_samples(
    scored: Sequence[Scored], settings: ColocalisationSettings
) -> dict[str, DoubleArray]:
    """Resample all seeds' pairs together, block by block: one interval for their mean."""
    pooled = Scored(
        np.concatenate([one.label for one in scored]),
        np.concatenate([one.probability for one in scored]),
        np.concatenate([one.block for one in scored]),
    )
    return block_samples(pooled, settings.seeds[0])


def differences(
    own: str,
    scored: Mapping[str, Sequence[Scored]],
    samples: Mapping[str, Mapping[str, DoubleArray]],
    source: PairSource,
    kind: Negatives,
) -> list[dict[str, Any]]:
    """Return how far a model is ahead of every other method on the same pairs.

    Returns
    -------
    list of dict
        ``radius_um negatives method against metric value low high``; an interval that excludes 0
        tells a difference from the accident of which blocks were tested.
    """
    rows = []
    for other in scored:
        if other == own:
            continue
        for metric in _COMPARED:
            mine, theirs = (
                float(np.mean([Metrics(one).values()[metric] for one in scored[method]]))
                for method in (own, other)
            )
            low, high = percentiles(samples[own][metric] - samples[other][metric])
            rows.append(
                {
                    "radius_um": source.radius_um,
                    "negatives": kind,
                    "method": own,
                    "against": other,
                    "metric": metric,
                    "value": number(mine - theirs),
                    "low": number(low),
                    "high": number(high),
                }
            )
    return rows


def by_distance(
    source: PairSource, cells: BoolArray, predictors: Mapping[str, Predictor], seed: int
) -> list[dict[str, Any]]:
    """Return each method's mean probability for pairs of test cells by their distance.

    Parameters
    ----------
    cells
        The test cells, shape ``(n,)``.
    predictors
        Methods, as fitted for the first kind of negatives and the first seed.

    Returns
    -------
    list of dict
        ``radius_um method distance_um (middle of the bin) n mean_probability``.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(cells)
    if len(rows) > _TREE_CELLS:
        rows = np.sort(rng.choice(rows, _TREE_CELLS, replace=False))
    close = cKDTree(source.xy_um[rows]).query_pairs(_FARTHEST_UM, output_type="ndarray")
    close = rows[close[np.lexsort((close[:, 1], close[:, 0]))]]
    apart = np.hypot(*(source.xy_um[close[:, 0]] - source.xy_um[close[:, 1]]).T)
    number_of = np.minimum(apart // _BIN_UM, _FARTHEST_UM // _BIN_UM - 1).astype(np.int64)
    # The first of each bin in random order: equally many pairs at every distance.
    order = rng.permutation(len(close))
    chosen = np.concatenate(
        [order[np.flatnonzero(number_of[order] == one)[:_PER_BIN]] for one in np.unique(number_of)]
        or [np.zeros(0, np.int64)]
    )
    left, right = (close[chosen, side].astype(np.int64) for side in (0, 1))
    found = []
    for method, predict in predictors.items():
        probability = predict(left, right)
        for one in np.unique(number_of[chosen]):
            here = number_of[chosen] == one
            found.append(
                {
                    "radius_um": source.radius_um,
                    "method": method,
                    "distance_um": float((one + 0.5) * _BIN_UM),
                    "n": int(here.sum()),
                    "mean_probability": number(float(probability[here].mean())),
                }
            )
    return found


def number(value: float) -> float | None:
    """Return a value as a report holds it: rounded, None where it is undefined."""
    return round(value, 6) if np.isfinite(value) else None
