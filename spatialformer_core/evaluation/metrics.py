"""Weighted metrics of binary scores, fast enough to be resampled hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray

METRICS = (
    "auroc",
    "auprc",
    "f1",
    "recall",
    "specificity",
    "mcc",
    "balanced_accuracy",
    "ece",
)
_BINS = 10
_RESAMPLES = 300


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored pairs.

    Attributes
    ----------
    label
        True for neighbours, shape ``(n,)``.
    probability
        Score in [0, 1]; a pair counts as predicted from 0.5 on, shape ``(n,)``.
    block
        Spatial block of the query cell, from 0, shape ``(n,)``.
    """

    label: BoolArray
    probability: DoubleArray
    block: LongArray


class Metrics:
    """All `METRICS` of one set of scored pairs under any weighting of its blocks.

    Ranks are worked out once; each weighting then costs a few sums.
    """

    def __init__(self, scored: Scored) -> None:
        self._label = scored.label.astype(np.float64)
        self._predicted = (scored.probability >= 0.5).astype(np.float64)
        self._block = scored.block
        values, self._level = np.unique(scored.probability, return_inverse=True)
        self._n_levels = len(values)
        self._bin = np.clip((scored.probability * _BINS).astype(np.int64), 0, _BINS - 1)
        self._probability = scored.probability

    def values(self, block_weight: DoubleArray | None = None) -> dict[str, float]:
        """Return every metric; NaN where it is undefined (one class only, no prediction)."""
        weight = np.ones(len(self._label)) if block_weight is None else block_weight[self._block]
        positive, negative = weight * self._label, weight * (1 - self._label)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                **self._ranking(positive, negative),
                **self._decisions(positive, negative),
                "ece": self._ece(weight),
            }

    def _ranking(self, positive: DoubleArray, negative: DoubleArray) -> dict[str, float]:
        up = np.bincount(self._level, weights=positive, minlength=self._n_levels)
        down = np.bincount(self._level, weights=negative, minlength=self._n_levels)
        below = np.cumsum(down) - down
        area = np.sum(up * (below + down / 2)) / (up.sum() * down.sum())
        hits, found = np.cumsum(up[::-1]), np.cumsum((up + down)[::-1])
        precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
        average = np.sum(np.diff(hits, prepend=0.0) * precision) / up.sum()
        return {"auroc": float(area), "auprc": float(average)}

    def _decisions(self, positive: DoubleArray, negative: DoubleArray) -> dict[str, float]:
        true_pos = np.sum(positive * self._predicted)
        false_pos = np.sum(negative * self._predicted)
        false_neg, true_neg = positive.sum() - true_pos, negative.sum() - false_pos
        recall = true_pos / (true_pos + false_neg)
        specificity = true_neg / (true_neg + false_pos)
        margins = (
            (true_pos + false_pos)
            * (true_pos + false_neg)
            * (true_neg + false_pos)
            * (true_neg + false_neg)
        )
        product = true_pos * true_neg - false_pos * false_neg
        return {
            "f1": float(2 * true_pos / (2 * true_pos + false_pos + false_neg)),
            "recall": float(recall),
            "specificity": float(specificity),
            # By convention 0 where one row or column of the table is empty.
            "mcc": float(product / np.sqrt(margins)) if margins > 0 else 0.0,
            "balanced_accuracy": float((recall + specificity) / 2),
        }

    def _ece(self, weight: DoubleArray) -> float:
        mass = np.bincount(self._bin, weights=weight, minlength=_BINS)
        gap = weight * (self._probability - self._label)
        gaps = np.bincount(self._bin, weights=gap, minlength=_BINS)
        return float(np.abs(gaps).sum() / mass.sum())


def block_samples(scored: Scored, seed: int, resamples: int = _RESAMPLES) -> dict[str, DoubleArray]:
    """Return every metric under resampling of spatial blocks, arrays of ``resamples`` values.

    Methods that scored the same pairs are resampled alike by the same seed, so that their
    differences can be taken value by value.
    """
    rng = np.random.default_rng(seed)
    metrics, n_blocks = Metrics(scored), int(scored.block.max()) + 1
    drawn = [
        metrics.values(
            np.bincount(rng.integers(n_blocks, size=n_blocks), minlength=n_blocks).astype(float)
        )
        for _ in range(resamples)
    ]
    return {name: np.array([values[name] for values in drawn]) for name in METRICS}


def block_interval(
    scored: Scored, seed: int, resamples: int = _RESAMPLES
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals from resampling spatial blocks with replacement.

    Cells of one block resemble each other, so resampling cells would give too short intervals.
    """
    samples = block_samples(scored, seed, resamples)
    return {name: percentiles(values) for name, values in samples.items()}


def percentiles(values: DoubleArray) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of the finite values, NaN without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)


def blocks(xy_um: NDArray[np.floating], block_um: float) -> LongArray:
    """Return the square block of each point, numbered from 0, shape ``(n,)``."""
    corner = np.floor(np.asarray(xy_um, np.float64) / block_um).astype(np.int64)
    _, codes = np.unique(corner, axis=0, return_inverse=True)
    return np.asarray(codes.ravel(), np.int64)
