"""Suite ``colocalisation``: whether two cells are neighbours, from expression alone.

Each query cell of the held-out blocks brings one neighbour and one negative. Every model is shown
beside baselines that were fitted on the training blocks of the same slide, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from spatialformer_core.arrays import BoolArray, CellTokens, DoubleArray, FloatArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.baselines import make_baselines, principal_components
from spatialformer_core.evaluation.metrics import (
    METRICS,
    Metrics,
    Scored,
    block_interval,
    blocks,
)
from spatialformer_core.evaluation.pairs import (
    HARD_UM,
    LabelledPairs,
    Negatives,
    PairSource,
    draw_pairs,
)
from spatialformer_core.evaluation.splits import TEST, TRAIN, SplitCodes
from spatialformer_core.progress import Cancel, Progress, check, never, silent

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer

_MIN_TEST_CELLS = 100


class ColocalisationSettings(FrozenModel):
    """What the suite measures.

    Attributes
    ----------
    radii_um, negatives
        Every combination is one table.
    n_queries
        Query cells per seed, at most.
    n_train_pairs
        Pairs that baselines are fitted on, per table.
    seeds
        Draws of pairs (and fits of baselines).
    block_um
        Side of the spatial blocks that the intervals resample.
    """

    radii_um: tuple[float, ...] = (30.0,)
    negatives: tuple[Negatives, ...] = ("easy", "hard", "matched")
    n_queries: int = Field(default=5_000, ge=10)
    n_train_pairs: int = Field(default=60_000, ge=100)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    block_um: float = Field(default=200.0, gt=0)


@dataclass(frozen=True, slots=True)
class EvaluationSlide:
    """One slide as the suite sees it.

    Attributes
    ----------
    slide_id
        Its name in the report.
    xy_um
        Centroids, shape ``(n, 2)``.
    counts
        Raw counts, scipy CSR ``(n, genes)``.
    kept
        Cells that pass quality control, shape ``(n,)``.
    split
        Split codes, shape ``(n,)``.
    types
        Type codes, -1 for none, or None, shape ``(n,)``.
    cells
        Tokens of all cells for the scorers; None if only baselines run.
    """

    slide_id: str
    xy_um: DoubleArray
    counts: Any
    kept: BoolArray
    split: SplitCodes
    types: NDArray[np.integer] | None
    cells: CellTokens | None


def run(
    slide: EvaluationSlide,
    scorers: Mapping[str, PairScorer],
    settings: ColocalisationSettings,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Return the report: ``rows`` and ``provenance``.

    Parameters
    ----------
    slide
        The slide with its split.
    scorers
        Models by method name (``spatialformer``); may be empty.
    settings
        What to measure.

    Raises
    ------
    SpatialFormerError
        If the split leaves too few test cells, or matched negatives are asked for without types.
    """
    _check(slide, settings)
    started = time.monotonic()
    depth = np.asarray(slide.counts.sum(axis=1), np.float64).ravel()
    check(cancel)
    progress(0.0, 1.0, "Principal components of the training blocks")
    components = principal_components(
        slide.counts, slide.kept & (slide.split == TRAIN), settings.seeds[0]
    )
    embedded = {name: _TestScores(slide, scorer) for name, scorer in scorers.items()}
    rows: list[dict[str, Any]] = []
    tables = [(r, kind) for r in settings.radii_um for kind in settings.negatives]
    for number, (radius_um, kind) in enumerate(tables):
        graph = radius_graph(slide.xy_um, radius_um)
        source = PairSource(slide.xy_um, graph, radius_um, slide.types, depth)
        scored: dict[str, list[Scored]] = {}
        for step, seed in enumerate(settings.seeds):
            check(cancel)
            share = (number + step / len(settings.seeds)) / len(tables)
            progress(0.05 + 0.93 * share, 1.0, f"{radius_um:g} um, {kind} negatives, seed {seed}")
            one = _one_seed(slide, source, (kind, seed), settings, (components, embedded))
            for method, value in one.items():
                scored.setdefault(method, []).append(value)
        for method, values in scored.items():
            rows += _rows(method, values, radius_um, kind, settings)
    return {"rows": rows, "provenance": _provenance(slide, settings, time.monotonic() - started)}


class _TestScores:
    """A model's encodings of the test cells, made once for all tables."""

    def __init__(self, slide: EvaluationSlide, scorer: PairScorer) -> None:
        if slide.cells is None:
            message = "a scorer needs the slide's tokens"
            raise ValueError(message)
        rows = np.flatnonzero(slide.kept & (slide.split == TEST))
        self._scorer = scorer
        self._position = np.full(slide.cells.n_cells, -1, np.int64)
        self._position[rows] = np.arange(len(rows))
        self._encoded = scorer.encode(slide.cells.take(rows))

    def predict(self, pairs: LabelledPairs) -> DoubleArray:
        """Return probabilities, shape ``(n,)``."""
        left = self._encoded.take(self._position[pairs.left])
        right = self._encoded.take(self._position[pairs.right])
        logits = self._scorer.score(left, right)
        return np.asarray(expit(logits.astype(np.float64)))


def _one_seed(
    slide: EvaluationSlide,
    source: PairSource,
    draw: tuple[Negatives, int],
    settings: ColocalisationSettings,
    models: tuple[FloatArray, Mapping[str, _TestScores]],
) -> dict[str, Scored]:
    kind, seed = draw
    components, embedded = models
    test_cells = slide.kept & (slide.split == TEST)
    train_cells = slide.kept & (slide.split == TRAIN)
    test = draw_pairs(source, test_cells, kind, settings.n_queries, seed)
    train = draw_pairs(source, train_cells, kind, settings.n_train_pairs // 2, seed + 1_000)
    block = blocks(slide.xy_um[test.left], settings.block_um)
    found = {
        name: Scored(test.label, model.predict(test), block) for name, model in embedded.items()
    }
    for name, baseline in make_baselines(components, slide.types, seed).items():
        baseline.fit(train.left, train.right, train.label)
        found[name] = Scored(test.label, baseline.predict(test.left, test.right), block)
    return found


def _rows(
    method: str,
    scored: Sequence[Scored],
    radius_um: float,
    kind: Negatives,
    settings: ColocalisationSettings,
) -> list[dict[str, Any]]:
    per_seed = [Metrics(one).values() for one in scored]
    # All seeds' pairs are resampled together, block by block: one interval for their mean.
    pooled = Scored(
        np.concatenate([one.label for one in scored]),
        np.concatenate([one.probability for one in scored]),
        np.concatenate([one.block for one in scored]),
    )
    intervals = block_interval(pooled, settings.seeds[0])
    return [
        {
            "suite": "colocalisation",
            "task": "neighbours",
            "split": "test blocks",
            "radius_um": radius_um,
            "negatives": kind,
            "method": method,
            "metric": metric,
            "value": _number(float(np.mean([values[metric] for values in per_seed]))),
            "low": _number(intervals[metric][0]),
            "high": _number(intervals[metric][1]),
            "seeds": len(scored),
            "n": len(pooled.label),
        }
        for metric in METRICS
    ]


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _check(slide: EvaluationSlide, settings: ColocalisationSettings) -> None:
    n_test = int(np.sum(slide.kept & (slide.split == TEST)))
    if n_test < _MIN_TEST_CELLS:
        raise SpatialFormerError(
            f"The split leaves {n_test} test cells that pass quality control, at least "
            f"{_MIN_TEST_CELLS} are needed.",
            where=slide.slide_id,
            fix="Hold out more tissue.",
        )
    if "matched" in settings.negatives and slide.types is None:
        raise SpatialFormerError(
            "Matched negatives need cell types, and none were given.",
            where=slide.slide_id,
            fix="Name a grouping, or leave 'matched' out.",
        )


def _provenance(
    slide: EvaluationSlide, settings: ColocalisationSettings, seconds: float
) -> dict[str, Any]:
    codes, counts = np.unique(slide.split[slide.kept], return_counts=True)
    return {
        "slide": slide.slide_id,
        "settings": settings.model_dump(mode="json"),
        "cells_per_split_code": {str(int(c)): int(n) for c, n in zip(codes, counts, strict=True)},
        "intervals": f"95 %, resampling {settings.block_um:g} um blocks of query cells",
        "baselines": "fitted on pairs of the training blocks with the same kind of negatives",
        "matched_negatives": f"{HARD_UM[0]:g}-{HARD_UM[1]:g} um, the neighbour's type and depth",
        "threshold": "a probability of 0.5",
        "seconds": round(seconds, 1),
    }
