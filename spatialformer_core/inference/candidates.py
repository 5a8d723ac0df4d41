"""Which cells are asked about as neighbours of a query cell, and how many each stands for.

With coordinates: every cell within the radius, those within reach, and a sample of the cells
beyond it. Without: a sample of all cells, or the cells of the most similar embedding. A sampled
cell stands for several: its weight is the number of cells in its ring over the number drawn, so
that weighted sums are about the whole slide. The draw of a query follows from the seed and its
number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, LongArray
from spatialformer_core.config import FrozenModel


class CandidateSettings(FrozenModel):
    """Which cells are asked about.

    Attributes
    ----------
    radius_um
        Cells at most so far away are the true neighbours.
    reach_um
        All cells within it are candidates.
    n_ring
        At most so many of those between radius and reach, drawn at random; None takes all.
    n_far
        Cells drawn beyond the reach.
    n_sample
        Without coordinates: cells drawn from all, or retrieved by embedding.
    seed
        Of the draws.
    """

    radius_um: float = Field(default=30.0, gt=0)
    reach_um: float = Field(default=300.0, gt=0)
    n_ring: int | None = Field(default=None, ge=1)
    n_far: int = Field(default=300, ge=0)
    n_sample: int = Field(default=2_000, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates of some queries, ragged.

    Attributes
    ----------
    query
        The query cells, shape ``(q,)``.
    indptr
        Where each query's candidates begin, shape ``(q + 1,)``.
    cell
        The candidates, ascending within a ring, shape ``(m,)``.
    weight
        How many cells each stands for, shape ``(m,)``.
    is_near, is_true
        Within reach, and within the radius, shape ``(m,)``; all False without coordinates.
    """

    query: LongArray
    indptr: LongArray
    cell: LongArray
    weight: DoubleArray
    is_near: BoolArray
    is_true: BoolArray

    @property
    def row(self) -> LongArray:
        """Which query each candidate belongs to, from 0, shape ``(m,)``."""
        rows: LongArray = np.repeat(np.arange(len(self.query)), np.diff(self.indptr))
        return rows

    @property
    def left(self) -> LongArray:
        """The query cell of each candidate, shape ``(m,)``."""
        left: LongArray = np.repeat(self.query, np.diff(self.indptr))
        return left

    def only(self, kept: BoolArray) -> Candidates:
        """Return the given candidates, shape ``(m,)``, of all queries."""
        indptr = np.zeros_like(self.indptr)
        np.cumsum(np.bincount(self.row[kept], minlength=len(self.query)), out=indptr[1:])
        return Candidates(
            self.query,
            indptr,
            self.cell[kept],
            self.weight[kept],
            self.is_near[kept],
            self.is_true[kept],
        )


class CandidateSource(Protocol):
    """Names the candidates of query cells."""

    def of(self, queries: LongArray) -> Candidates:
        """Return the candidates of the given cells; a cell is never its own."""


class SpatialCandidates:
    """Candidates by place.

    Parameters
    ----------
    xy_um
        Centroids, shape ``(n, 2)``.
    eligible
        Cells that may be candidates, shape ``(n,)``.
    settings
        Radius, reach and draws.
    """

    def __init__(
        self, xy_um: DoubleArray, eligible: BoolArray, settings: CandidateSettings
    ) -> None:
        self._xy = np.asarray(xy_um, np.float64)
        self._rows = np.flatnonzero(eligible)
        self._tree = cKDTree(self._xy[self._rows])
        self._settings = settings

    def of(self, queries: LongArray) -> Candidates:
        """Return the candidates of the given cells."""
        reach = self._settings.reach_um
        found = self._tree.query_ball_point(self._xy[queries], reach, return_sorted=True)
        parts = [
            self._one(int(query), np.asarray(near, np.int64))
            for query, near in zip(queries, found, strict=True)
        ]
        return _joined(queries, parts)

    def _one(self, query: int, near: LongArray) -> _Part:
        """Return the candidates of one query; ``near`` are places in the eligible cells."""
        settings = self._settings
        rng = np.random.default_rng((settings.seed, query))
        cells = self._rows[near]
        cells = cells[cells != query]
        away = np.hypot(*(self._xy[cells] - self._xy[query]).T)
        is_true = away <= settings.radius_um
        true, ring = cells[is_true], cells[~is_true]
        ring, ring_weight = _drawn(rng, ring, settings.n_ring)
        far, far_weight = self._far(rng, query, near)
        cell = np.concatenate([true, ring, far])
        weight = np.repeat([1.0, ring_weight, far_weight], [len(true), len(ring), len(far)])
        place = np.arange(len(cell))
        return cell, weight, place < len(true) + len(ring), place < len(true)

    def _far(
        self, rng: np.random.Generator, query: int, near: LongArray
    ) -> tuple[LongArray, float]:
        n_all, wanted = len(self._rows), self._settings.n_far
        own = np.searchsorted(self._rows, query)
        if own < n_all and self._rows[own] == query:
            near = np.union1d(near, own)
        n_far = n_all - len(near)
        if not wanted or not n_far:
            return np.zeros(0, np.int64), 0.0
        if wanted >= n_far:
            return np.delete(self._rows, near), 1.0
        # Drawn from all cells; those within reach are thrown back, the others are a fair sample.
        n_drawn = min(n_all, int(np.ceil(wanted * n_all / n_far)))
        drawn = np.sort(rng.choice(n_all, n_drawn, replace=False, shuffle=False))
        kept = drawn[~np.isin(drawn, near, assume_unique=True)]
        if not len(kept):
            kept = np.setdiff1d(np.arange(n_all), near, assume_unique=True)[:1]
        return self._rows[kept], n_far / len(kept)


class SampledCandidates:
    """A sample of all eligible cells, the same number for every query; no place is known."""

    def __init__(self, eligible: BoolArray, settings: CandidateSettings) -> None:
        self._rows = np.flatnonzero(eligible)
        self._settings = settings

    def of(self, queries: LongArray) -> Candidates:
        """Return the candidates of the given cells."""
        parts = []
        for query in queries.tolist():
            rng = np.random.default_rng((self._settings.seed, query))
            others = self._rows[self._rows != query]
            cell, weight = _drawn(rng, others, self._settings.n_sample)
            none = np.zeros(len(cell), np.bool_)
            parts.append((cell, np.full(len(cell), weight), none, none))
        return _joined(queries, parts)


class RetrievedCandidates:
    """The eligible cells of the most similar embedding (cosine); each stands for itself.

    Similar cells are candidates, unlike ones are never asked about: good for finding likely
    neighbours, wrong for observed over expected.

    Parameters
    ----------
    embedding
        Of all cells, shape ``(n, dim)``.
    """

    def __init__(
        self, embedding: FloatArray, eligible: BoolArray, settings: CandidateSettings
    ) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._rows = np.flatnonzero(eligible)
        self._embedding = embedding
        self._n = min(settings.n_sample + 1, len(self._rows))
        self._index = NearestNeighbors(n_neighbors=self._n, metric="cosine", algorithm="brute")
        self._index.fit(embedding[self._rows])

    def of(self, queries: LongArray) -> Candidates:
        """Return the candidates of the given cells."""
        found = self._index.kneighbors(self._embedding[queries], return_distance=False)
        parts = []
        for query, near in zip(queries.tolist(), found, strict=True):
            cell = np.sort(self._rows[near[self._rows[near] != query][: max(1, self._n - 1)]])
            none = np.zeros(len(cell), np.bool_)
            parts.append((cell, np.ones(len(cell)), none, none))
        return _joined(queries, parts)


_Part = tuple[NDArray[np.int64], DoubleArray, BoolArray, BoolArray]


def _drawn(rng: np.random.Generator, cells: LongArray, n: int | None) -> tuple[LongArray, float]:
    """Return ``n`` of the cells, ascending, and how many each stands for."""
    if n is None or n >= len(cells):
        return cells, 1.0
    chosen = np.sort(rng.choice(len(cells), n, replace=False, shuffle=False))
    return cells[chosen], len(cells) / n


def _joined(queries: LongArray, parts: Sequence[_Part]) -> Candidates:
    indptr = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part[0]) for part in parts], out=indptr[1:])
    if not parts:
        none = np.zeros(0, np.bool_)
        return Candidates(queries, indptr, np.zeros(0, np.int64), np.zeros(0), none, none)
    cell, weight, is_near, is_true = (np.concatenate([part[k] for part in parts]) for k in range(4))
    return Candidates(queries, indptr, cell, weight, is_near, is_true)
