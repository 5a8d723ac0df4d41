"""From scores of candidates to predicted neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, LongArray
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.candidates import Candidates, CandidateSource
from spatialformer_core.inference.protocol import Encoded, PairScorer
from spatialformer_core.inference.scorers import EncodedTokens
from spatialformer_core.progress import Cancel, Progress, check, never, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERIES_PER_STEP = 64
MAX_SLOW_PAIRS = 2_000_000
"""Pairs that a cross-encoder is asked about at most: hours on a CPU already."""


class Selection(FrozenModel):
    """Which candidates count as predicted neighbours.

    Attributes
    ----------
    k
        The ``k`` best of each query; a sampled candidate fills as many places as it stands for.
    threshold
        Instead, all candidates whose probability is at least this.
    """

    k: int = Field(default=20, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Predicted neighbours of some cells, ragged.

    Attributes
    ----------
    query, indptr, cell
        As in `Candidates`; the best first within a query.
    probability
        Of being neighbours, shape ``(m,)``. A score in [0, 1], not a calibrated share.
    mass
        How many cells each predicted neighbour stands for, shape ``(m,)``.
    """

    query: LongArray
    indptr: LongArray
    cell: LongArray
    probability: FloatArray
    mass: DoubleArray


def selected_mass(
    score: NDArray[np.floating], candidates: Candidates, selection: Selection
) -> DoubleArray:
    """Return how many predicted neighbours each candidate accounts for, shape ``(m,)``.

    Parameters
    ----------
    score
        Logit of each candidate, shape ``(m,)``.
    """
    if selection.threshold is not None:
        chosen = expit(np.asarray(score, np.float64)) >= selection.threshold
        return np.where(chosen, candidates.weight, 0.0)
    places = np.full(len(candidates.query), float(selection.k))
    return best_mass(score, candidates, places)


def best_mass(
    score: NDArray[np.floating], candidates: Candidates, places: DoubleArray
) -> DoubleArray:
    """Return how many places each candidate takes, shape ``(m,)``.

    The places of a query go to its candidates from the highest score down, each taking as many as
    it stands for. Candidates of equal score share what is left in proportion to what they stand
    for: no order of cells decides.

    Parameters
    ----------
    score
        Of each candidate, shape ``(m,)``.
    places
        Of each query, shape ``(q,)``.
    """
    if not len(score):
        return np.zeros(0)
    row = candidates.row
    order = np.lexsort((-np.asarray(score), row))
    row, sorted_score = row[order], np.asarray(score)[order]
    weight = candidates.weight[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (row[1:] != row[:-1]) | (sorted_score[1:] != sorted_score[:-1])
    first = np.flatnonzero(is_first)
    size = np.add.reduceat(weight, first)
    before = np.cumsum(weight) - weight
    filled = before[first] - before[candidates.indptr[row[first]]]
    share = np.clip(places[row[first]] - filled, 0.0, size) / size
    mass = np.empty(len(order))
    mass[order] = weight * share[np.cumsum(is_first) - 1]
    return mass


def steps(n: int, progress: Progress, cancel: Cancel) -> Iterator[slice]:
    """Yield slices of queries, telling how far it is."""
    for first in range(0, n, _QUERIES_PER_STEP):
        check(cancel)
        yield slice(first, min(first + _QUERIES_PER_STEP, n))
        progress(min(first + _QUERIES_PER_STEP, n), n, "Scoring pairs of cells")


def score_candidates(scorer: PairScorer, encoded: Encoded, candidates: Candidates) -> FloatArray:
    """Return the logit of each candidate, shape ``(m,)``; computed in float32.

    Parameters
    ----------
    encoded
        All cells that candidates and queries name, by their numbers.
    """
    return scorer.score(encoded.take(candidates.left), encoded.take(candidates.cell))


def predicted_neighbours(
    scorer: PairScorer,
    encoded: Encoded,
    source: CandidateSource,
    queries: LongArray,
    selection: Selection,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Neighbours:
    """Return the predicted neighbours of each query cell.

    Parameters
    ----------
    scorer, encoded
        The model and all cells as it encodes them.
    source
        Names the candidates.
    queries
        Cells, shape ``(q,)``.
    selection
        The best ``k``, or all above a threshold.

    Raises
    ------
    Cancelled
        If it was cancelled.
    """
    parts: list[tuple[LongArray, LongArray, FloatArray, DoubleArray]] = []
    for step in steps(len(queries), progress, cancel):
        candidates = source.of(queries[step])
        require_feasible(scorer, encoded, candidates, len(queries))
        score = score_candidates(scorer, encoded, candidates)
        mass = selected_mass(score, candidates, selection)
        order = np.lexsort((candidates.cell, -score, candidates.row))
        order = order[mass[order] > 0]
        count = np.bincount(candidates.row[order], minlength=len(candidates.query))
        probability = expit(score[order]).astype(np.float32)
        parts.append((count, candidates.cell[order], probability, mass[order]))
    indptr = np.zeros(len(queries) + 1, np.int64)
    if not parts:
        none = np.zeros(0, np.int64)
        return Neighbours(queries, indptr, none, np.zeros(0, np.float32), np.zeros(0))
    count, cell, probability, mass = (np.concatenate([p[k] for p in parts]) for k in range(4))
    np.cumsum(count, out=indptr[1:])
    return Neighbours(queries, indptr, cell, probability, mass)


def require_feasible(
    scorer: PairScorer, encoded: Encoded, candidates: Candidates, n_queries: int
) -> None:
    """Refuse what a cross-encoder cannot do in any reasonable time, judged by some queries.

    Raises
    ------
    SpatialFormerError
        If it had to read more than 2 million pairs.
    """
    if not isinstance(encoded, EncodedTokens) or not len(candidates.query):
        return
    n_pairs = len(candidates.cell) / len(candidates.query) * n_queries
    if n_pairs > MAX_SLOW_PAIRS:
        raise SpatialFormerError(
            f"About {n_pairs:,.0f} pairs are too many for a cross-encoder, which reads each pair "
            f"twice; {MAX_SLOW_PAIRS:,} at most.",
            where=scorer.name,
            fix="Ask about fewer query cells or candidates (n_queries, n_ring, n_far, n_sample), "
            "or use a two-tower checkpoint.",
        )


def drawn_queries(may_ask: BoolArray, n_queries: int | None, seed: int) -> LongArray:
    """Return at most ``n_queries`` of the cells, drawn at random, ascending."""
    rows = np.flatnonzero(may_ask).astype(np.int64)
    if n_queries is None or n_queries >= len(rows):
        return rows
    rng = np.random.default_rng((seed, len(rows)))
    return np.sort(rng.choice(rows, n_queries, replace=False))
