"""Suite ``colocalisation``: whether two cells are neighbours, from expression alone.

Each query cell of the held-out blocks brings one neighbour and one negative. Every model is shown
beside baselines that were fitted on the training blocks of the same slide, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from spatialformer_core.arrays import BoolArray, CellTokens, DoubleArray, FloatArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.baselines import (
    TOWER_MLP,
    make_baselines,
    principal_components,
)
from spatialformer_core.evaluation.comparison import (
    Predictor,
    by_distance,
    differences,
    number,
    pooled_samples,
)
from spatialformer_core.evaluation.metrics import (
    METRICS,
    Metrics,
    Scored,
    blocks,
    percentiles,
)
from spatialformer_core.evaluation.pairs import (
    HARD_UM,
    Negatives,
    PairSource,
    draw_pairs,
)
from spatialformer_core.evaluation.splits import TEST, TRAIN, VALIDATION, SplitCodes
from spatialformer_core.progress import Cancel, Progress, check, never, silent, staged

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer

_MIN_ASKED_CELLS = 100


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
    tower_pairs
        Pairs that the baseline of two plain towers is trained on; 0 leaves it out.
    seeds
        Draws of pairs (and fits of baselines).
    block_um
        Side of the spatial blocks that the intervals resample.
    by_distance
        Whether each method's mean probability is shown against the distance, 0 to 300 um.
    part
        Which held-out blocks are asked: ``validation`` to choose among models, ``test`` once for
        the one that was chosen.
    """

    radii_um: tuple[float, ...] = (30.0,)
    negatives: tuple[Negatives, ...] = ("easy", "hard", "matched")
    n_queries: int = Field(default=5_000, ge=10)
    n_train_pairs: int = Field(default=60_000, ge=100)
    tower_pairs: int = Field(default=1_000_000, ge=0)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    block_um: float = Field(default=200.0, gt=0)
    by_distance: bool = True
    part: Literal["test", "validation"] = "test"


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

    def held_out(self, settings: ColocalisationSettings) -> BoolArray:
        """Return which cells are asked about, shape ``(n,)``."""
        code = TEST if settings.part == "test" else VALIDATION
        asked: BoolArray = self.kept & (self.split == code)
        return asked


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
    embedded = {name: _HeldOutScores(slide, scorer, settings) for name, scorer in scorers.items()}
    report: dict[str, Any] = {"rows": [], "differences": [], "by_distance": []}
    for place, radius_um in enumerate(settings.radii_um):
        first, last = (0.05 + 0.93 * (place + k) / len(settings.radii_um) for k in (0, 1))
        source = PairSource(
            slide.xy_um, radius_graph(slide.xy_um, radius_um), radius_um, slide.types, depth
        )
        tables = _Tables(slide, source, settings, components, embedded)
        tables.fill(report, staged(progress, first, last), cancel)
    report["provenance"] = _provenance(slide, settings, time.monotonic() - started)
    return report


class _HeldOutScores:
    """A model's encodings of the held-out cells, made once for all tables."""

    def __init__(
        self, slide: EvaluationSlide, scorer: PairScorer, settings: ColocalisationSettings
    ) -> None:
        if slide.cells is None:
            message = "a scorer needs the slide's tokens"
            raise ValueError(message)
        rows = np.flatnonzero(slide.held_out(settings))
        self._scorer = scorer
        self._position = np.full(slide.cells.n_cells, -1, np.int64)
        self._position[rows] = np.arange(len(rows))
        self._encoded = scorer.encode(slide.cells.take(rows))

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return probabilities, shape ``(n,)``."""
        a, b = (self._encoded.take(self._position[side]) for side in (left, right))
        logits = self._scorer.score(a, b)
        return np.asarray(expit(logits.astype(np.float64)))


@dataclass
class _Tables:
    """All tables of one radius; models and the plain towers are the same in each."""

    slide: EvaluationSlide
    source: PairSource
    settings: ColocalisationSettings
    components: FloatArray
    embedded: Mapping[str, _HeldOutScores]
    _towers: dict[int, Any] = field(default_factory=dict)

    def fill(self, report: dict[str, Any], progress: Progress, cancel: Cancel) -> None:
        """Add rows, differences and the curve over distance."""
        settings, radius_um = self.settings, self.source.radius_um
        n_steps = len(settings.negatives) * len(settings.seeds)
        predictors: dict[str, Predictor] = {}
        for place, kind in enumerate(settings.negatives):
            scored: dict[str, list[Scored]] = {}
            for step, seed in enumerate(settings.seeds):
                check(cancel)
                done = place * len(settings.seeds) + step
                progress(done, n_steps, f"{radius_um:g} um, {kind} negatives, seed {seed}")
                found, fitted = self._one_seed(kind, seed)
                if not predictors:
                    predictors = fitted
                for method, value in found.items():
                    scored.setdefault(method, []).append(value)
            samples = {method: pooled_samples(v, settings) for method, v in scored.items()}
            for method, values in scored.items():
                own_samples = samples[method]
                report["rows"] += _rows(
                    method, values, own_samples, self.source, (kind, settings.part)
                )
            for own in self.embedded:
                report["differences"] += differences(own, scored, samples, self.source, kind)
        if settings.by_distance:
            asked = self.slide.held_out(settings)
            report["by_distance"] += by_distance(self.source, asked, predictors, settings.seeds[0])

    def _tower(self, seed: int) -> Any:
        if seed not in self._towers:
            from spatialformer_core.evaluation.tower_mlp import TowerMlp, TowerSettings

            self._towers[seed] = TowerMlp(
                self.slide.counts,
                self.components,
                self.source,
                self.slide.kept & (self.slide.split == TRAIN),
                seed=seed,
                settings=TowerSettings(pairs=self.settings.tower_pairs),
            )
        return self._towers[seed]

    def _one_seed(
        self, kind: Negatives, seed: int
    ) -> tuple[dict[str, Scored], dict[str, Predictor]]:
        slide, settings = self.slide, self.settings
        train_cells = slide.kept & (slide.split == TRAIN)
        test_cells = slide.held_out(settings)
        test = draw_pairs(self.source, test_cells, kind, settings.n_queries, seed)
        train = draw_pairs(
            self.source, train_cells, kind, settings.n_train_pairs // 2, seed + 1_000
        )
        block = blocks(slide.xy_um[test.left], settings.block_um)
        predictors: dict[str, Predictor] = {
            name: model.predict for name, model in self.embedded.items()
        }
        if settings.tower_pairs:
            predictors[TOWER_MLP] = self._tower(seed).predict
        for name, baseline in make_baselines(self.components, slide.types, seed).items():
            baseline.fit(train.left, train.right, train.label)
            predictors[name] = baseline.predict
        found = {
            name: Scored(test.label, predict(test.left, test.right), block)
            for name, predict in predictors.items()
        }
        return found, predictors


def _rows(
    method: str,
    scored: Sequence[Scored],
    samples: Mapping[str, DoubleArray],
    source: PairSource,
    asked: tuple[Negatives, str],
) -> list[dict[str, Any]]:
    kind, part = asked
    per_seed = [Metrics(one).values() for one in scored]
    rows = []
    for metric in METRICS:
        low, high = percentiles(samples[metric])
        rows.append(
            {
                "suite": "colocalisation",
                "task": "neighbours",
                "split": f"{part} blocks",
                "radius_um": source.radius_um,
                "negatives": kind,
                "method": method,
                "metric": metric,
                "value": number(float(np.mean([values[metric] for values in per_seed]))),
                "low": number(low),
                "high": number(high),
                "seeds": len(scored),
                "n": sum(len(one.label) for one in scored),
            }
        )
    return rows


def _check(slide: EvaluationSlide, settings: ColocalisationSettings) -> None:
    n_asked = int(np.sum(slide.held_out(settings)))
    if n_asked < _MIN_ASKED_CELLS:
        raise SpatialFormerError(
            f"The split leaves {n_asked} {settings.part} cells that pass quality control, at least "
            f"{_MIN_ASKED_CELLS} are needed.",
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
