"""Which cell types a model puts next to which, beside the truth and beside trivial answers.

Query cells are asked for their neighbours among candidates; the same candidates are ranked by the
model and by baselines that know next to nothing. Where the cells have coordinates, predicted
neighbours stand beside the true ones; dissociated cells have predictions only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field
from scipy.special import expit

from spatialformer_core.arrays import BoolArray, CellTokens, DoubleArray, FloatArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.candidates import (
    Candidates,
    CandidateSettings,
    CandidateSource,
    SampledCandidates,
    SpatialCandidates,
)
from spatialformer_core.inference.neighbours import (
    Selection,
    best_mass,
    drawn_queries,
    require_feasible,
    score_candidates,
    selected_mass,
    steps,
)
from spatialformer_core.inference.protocol import PairScorer
from spatialformer_core.inference.scorers import encode_cells
from spatialformer_core.inference.type_tables import QueryTables, TypeTables, type_tables
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.stats import block_corners

MODEL = "spatialformer"
PRIOR = "type_pair_prior"
WEIGHTED = "spatialformer_weighted"
"""All candidates, each in proportion to its score: what a cell's surroundings are made of."""

SLIDE, REACH, CELLS = "slide", "reach", "cells"
"""Sets of candidates: all cells of the slide (weighted), those within reach, all dissociated."""

_PER_10K = np.float32(10_000)
_MAX_DENSE = 1 << 28


class ColocaliseSettings(FrozenModel):
    """What is asked.

    Attributes
    ----------
    candidates, selection
        Who is asked about, and who counts as predicted.
    n_queries
        Query cells, drawn at random; None asks about all.
    block_um
        Side of the blocks of tissue that the intervals resample.
    n_resamples
        Of the bootstrap.
    n_shown
        Query cells whose single neighbours, predicted and true, are kept to be looked at.
    """

    candidates: CandidateSettings = CandidateSettings()
    selection: Selection = Selection()
    n_queries: int | None = Field(default=2_000, ge=1)
    block_um: float = Field(default=200.0, gt=0)
    n_resamples: int = Field(default=300, ge=1, le=10_000)
    n_shown: int = Field(default=200, ge=0, le=10_000)


@dataclass(frozen=True, slots=True)
class Edges:
    """Single neighbours of some query cells, predicted or true or both.

    Attributes
    ----------
    query, cell
        Rows of the subject, shape ``(m,)``.
    score
        In [0, 1], shape ``(m,)``.
    is_predicted, is_true
        Shape ``(m,)``.
    """

    query: LongArray
    cell: LongArray
    score: DoubleArray
    is_predicted: BoolArray
    is_true: BoolArray


@dataclass(frozen=True, slots=True)
class Subject:
    """The cells of one slide, or dissociated cells; rows in an order that says nothing.

    Attributes
    ----------
    tokens
        Of all ``n`` cells.
    types
        Type of each cell, index into ``type_names``, shape ``(n,)``.
    eligible
        Cells that may be candidates, shape ``(n,)``.
    may_ask
        Cells that may be asked about, shape ``(n,)``.
    xy_um
        Centroids, shape ``(n, 2)``; None for dissociated cells.
    counts
        Raw counts for the cosine of expression, scipy CSR; None leaves that baseline out.
    prior
        Observed over expected neighbours of each pair of types elsewhere (`type_pair_prior`),
        shape ``(t, t)``; None where there is no elsewhere.
    """

    tokens: CellTokens
    types: LongArray
    type_names: tuple[str, ...]
    eligible: BoolArray
    may_ask: BoolArray
    xy_um: DoubleArray | None = None
    counts: Any = None
    prior: DoubleArray | None = None

    def take(self, rows: LongArray) -> Subject:
        """Return the given cells."""
        return replace(
            self,
            tokens=self.tokens.take(rows),
            types=self.types[rows],
            eligible=self.eligible[rows],
            may_ask=self.may_ask[rows],
            xy_um=None if self.xy_um is None else self.xy_um[rows],
            counts=None if self.counts is None else self.counts[rows],
        )


@dataclass(frozen=True, slots=True)
class Colocalisation:
    """Tables per set of candidates (``slide`` and ``reach``, or ``cells``) and how they came."""

    tables: dict[str, TypeTables]
    n_queries: int
    n_eligible: int
    methods: tuple[str, ...]
    edges: Edges


def colocalise(
    subject: Subject,
    scorer: PairScorer,
    settings: ColocaliseSettings | None = None,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Colocalisation:
    """Return observed over expected neighbours by type, recall and JSD.

    Raises
    ------
    SpatialFormerError
        If no cell may be asked about, or a cross-encoder had to read too many pairs.
    Cancelled
        If it was cancelled.
    """
    chosen = settings or ColocaliseSettings()
    rows = np.flatnonzero(subject.eligible | subject.may_ask)
    subject = subject.take(rows)
    queries = drawn_queries(subject.may_ask, chosen.n_queries, chosen.candidates.seed)
    if not len(queries) or int(subject.eligible.sum()) < 2:
        raise SpatialFormerError("There are no cells to ask about.")
    source = _source(subject, chosen.candidates)
    encoded = encode_cells(
        scorer, subject.tokens, progress=staged(progress, 0.0, 0.5), cancel=cancel
    )
    baselines = _Baselines(subject)
    scopes = (SLIDE, REACH) if subject.xy_um is not None else (CELLS,)
    gathered: dict[str, list[_Step]] = {scope: [] for scope in scopes}
    shown: list[Edges] = []
    for step in steps(len(queries), staged(progress, 0.5, 0.95), cancel):
        candidates = source.of(queries[step])
        require_feasible(scorer, encoded, candidates, len(queries))
        scores: dict[str, Any] = {MODEL: score_candidates(scorer, encoded, candidates)}
        scores |= baselines.scores(candidates)
        for scope in scopes:
            gathered[scope].append(_step(subject, candidates, scores, scope, chosen.selection))
        if step.start < chosen.n_shown:
            n_shown = chosen.n_shown - step.start
            shown.append(_edges(candidates, scores[MODEL], scopes[-1], chosen.selection, n_shown))
    progress(0.95, 1.0, "Tables with intervals")
    block = _blocks(subject, queries, chosen.block_um)
    tables = {
        scope: type_tables(
            _joined(subject, queries, block, parts),
            n_resamples=chosen.n_resamples,
            seed=chosen.candidates.seed,
        )
        for scope, parts in gathered.items()
    }
    progress(1.0, 1.0, "Done")
    methods = tuple(gathered[scopes[0]][0].predicted)
    edges = _joined_edges(shown, rows)
    return Colocalisation(tables, len(queries), int(subject.eligible.sum()), methods, edges)


def type_pair_prior(
    xy_um: DoubleArray, types: LongArray, n_types: int, cells: BoolArray, radius_um: float
) -> DoubleArray:
    """Return observed over expected neighbours of each pair of types, shape ``(t, t)``.

    Parameters
    ----------
    cells
        Where it is learnt: cells that are never asked about, shape ``(n,)``.

    Notes
    -----
    One neighbour is added to both sides, so that a pair that was never seen is rare, not
    impossible.
    """
    graph = radius_graph(xy_um, radius_um, cells=cells)
    left = np.repeat(types, graph.degree)
    observed = np.zeros((n_types, n_types))
    np.add.at(observed, (left, types[graph.indices]), 1.0)
    share = np.bincount(types[cells], minlength=n_types) / max(1, int(cells.sum()))
    expected = observed.sum(1, keepdims=True) * share
    prior: DoubleArray = (observed + 1) / (expected + 1)
    return prior


def _source(subject: Subject, settings: CandidateSettings) -> CandidateSource:
    if subject.xy_um is None:
        return SampledCandidates(subject.eligible, settings)
    return SpatialCandidates(subject.xy_um, subject.eligible, settings)


def _blocks(subject: Subject, queries: LongArray, block_um: float) -> LongArray | None:
    if subject.xy_um is None:
        return None
    corner = block_corners(subject.xy_um[queries], block_um)
    _, codes = np.unique(corner, axis=0, return_inverse=True)
    return np.asarray(codes.ravel(), np.int64)


class _Baselines:
    """What ranks the same candidates while knowing next to nothing."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._expression = _unit_expression(subject.counts)

    def scores(self, candidates: Candidates) -> dict[str, DoubleArray | FloatArray]:
        types, left, right = self._subject.types, candidates.left, candidates.cell
        found: dict[str, DoubleArray | FloatArray] = {}
        if self._expression is not None:
            found["expression_cosine"] = self._cosine(self._expression, candidates)
        if self._subject.prior is not None:
            found[PRIOR] = self._subject.prior[types[left], types[right]]
        found["same_type"] = (types[left] == types[right]).astype(np.float64)
        # All alike: predicted neighbours are composed like the candidates.
        found["type_frequency"] = np.zeros(len(right))
        return found

    @staticmethod
    def _cosine(expression: FloatArray, candidates: Candidates) -> FloatArray:
        out = np.empty(len(candidates.cell), np.float32)
        for number, query in enumerate(candidates.query):
            part = slice(candidates.indptr[number], candidates.indptr[number + 1])
            out[part] = expression[candidates.cell[part]] @ expression[query]
        return out


def _unit_expression(counts: Any) -> FloatArray | None:
    """Return log-normalised expression of unit length, None where it is too large for memory."""
    if counts is None or counts.shape[0] * counts.shape[1] > _MAX_DENSE:
        return None
    dense = np.asarray(counts.toarray(), np.float32)
    dense = np.log1p(dense / np.maximum(dense.sum(1, keepdims=True), 1) * _PER_10K)
    unit: FloatArray = dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    return unit


@dataclass(frozen=True, slots=True)
class _Step:
    """What some queries gave, arrays ``(q, t)``."""

    share: DoubleArray
    true: DoubleArray
    predicted: dict[str, DoubleArray]
    hits: dict[str, DoubleArray]


def _step(
    subject: Subject,
    candidates: Candidates,
    scores: dict[str, Any],
    scope: str,
    selection: Selection,
) -> _Step:
    kept = candidates.is_near if scope == REACH else np.ones(len(candidates.cell), np.bool_)
    own = candidates.only(kept)
    n_types = len(subject.type_names)
    place = own.row * n_types + subject.types[own.cell]

    def by_type(mass: DoubleArray) -> DoubleArray:
        size = len(own.query) * n_types
        sums: DoubleArray = np.bincount(place, mass, size).astype(np.float64)
        return sums.reshape(len(own.query), n_types)

    total = by_type(own.weight)
    share = total / np.maximum(total.sum(1, keepdims=True), 1e-300)
    predicted = selected_mass(scores[MODEL][kept], own, selection)
    # Above a threshold a baseline names as many neighbours of each cell as the model does.
    places = np.bincount(own.row, predicted, len(own.query)).astype(np.float64)
    if selection.threshold is None:
        places = np.full(len(own.query), float(selection.k))
    chance = expit(scores[MODEL][kept].astype(np.float64))
    mass = {MODEL: predicted, WEIGHTED: _weighted_mass(chance, own, places)}
    if PRIOR in scores:
        mass[f"{PRIOR}_weighted"] = _weighted_mass(scores[PRIOR][kept], own, places)
    baselines = {name: score[kept] for name, score in scores.items() if name != MODEL}
    mass |= {name: best_mass(score, own, places) for name, score in baselines.items()}
    return _Step(
        share,
        by_type(own.is_true.astype(np.float64)),
        {name: by_type(values) for name, values in mass.items()},
        {name: by_type(values * own.is_true) for name, values in mass.items()},
    )


def _weighted_mass(chance: DoubleArray, candidates: Candidates, places: DoubleArray) -> DoubleArray:
    value = chance * candidates.weight
    total = np.bincount(candidates.row, value, len(candidates.query))
    # Scores so low that all of them are 0 leave nothing to share out.
    share = np.divide(places, total, out=np.zeros_like(places), where=total > 0)
    mass: DoubleArray = value * share[candidates.row]
    return mass


def _joined(
    subject: Subject, queries: LongArray, block: LongArray | None, parts: list[_Step]
) -> QueryTables:
    methods = list(parts[0].predicted)
    known = subject.xy_um is not None
    return QueryTables(
        type_names=subject.type_names,
        query_type=subject.types[queries],
        block=block,
        share=np.concatenate([part.share for part in parts]),
        true=np.concatenate([part.true for part in parts]) if known else None,
        predicted={m: np.concatenate([part.predicted[m] for part in parts]) for m in methods},
        hits={m: np.concatenate([part.hits[m] for part in parts]) for m in methods},
    )


def _edges(
    candidates: Candidates, score: FloatArray, scope: str, selection: Selection, n_shown: int
) -> Edges:
    """Return the predicted and true neighbours of the first queries, single cells all."""
    kept = candidates.is_near if scope == REACH else np.ones(len(score), np.bool_)
    own, logit = candidates.only(kept), score[kept]
    is_predicted = selected_mass(logit, own, selection) > 0
    chosen = (is_predicted | own.is_true) & (own.row < n_shown)
    return Edges(
        own.left[chosen],
        own.cell[chosen],
        expit(logit[chosen].astype(np.float64)),
        is_predicted[chosen],
        own.is_true[chosen],
    )


def _joined_edges(parts: list[Edges], rows: LongArray) -> Edges:
    none = np.zeros(0, np.bool_)
    parts = [Edges(rows[:0], rows[:0], np.zeros(0), none, none), *parts]
    return Edges(
        rows[np.concatenate([part.query for part in parts])],
        rows[np.concatenate([part.cell for part in parts])],
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.is_predicted for part in parts]),
        np.concatenate([part.is_true for part in parts]),
    )
