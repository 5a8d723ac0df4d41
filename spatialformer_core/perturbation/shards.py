"""The cell pairs of a screen cut into shards: what each holds, what it leaves, how they merge.

A shard's sums depend on the shard alone and are merged in the order of the shards, so a table is
the same bit for bit whether the shards were made in one process, in several or after a restart.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.perturbation.engine import (
    Effects,
    EncodedPair,
    Knocking,
    effects_of,
    encoded_pairs,
    exact_logits,
)
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.plan import GenePairIndex, ScreenPlan
from spatialformer_core.perturbation.screened import (
    Approximation,
    approximate,
    complete,
    only,
    recall,
    recall_sample,
)
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally
from spatialformer_core.perturbation.tissue import PairTable, concatenate

EXACT, FIRST, SECOND = "exact", "proposals", "candidates"
"""What is made of a shard: all gene pairs exactly; approximately; the proposed ones exactly."""

_TALLY, _KNOWN, _FACTS = "tally.npz", "known.npz", "facts.json"
_ARRAYS = ("n_pairs", "sums", "rank")


@dataclass(frozen=True, slots=True)
class OrderedPairs:
    """Near and far pairs together: they share cells, and so encodings.

    Attributes
    ----------
    pairs
        By slide, replicate unit and left cell.
    unit, side
        Of each pair, shape ``(n,)``.
    """

    pairs: PairTable
    unit: LongArray
    side: LongArray


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive cell pairs of one slide: rows ``start ... stop`` of `OrderedPairs`."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its result folder."""
        return f"shard-{self.number:05d}"

    @property
    def rows(self) -> LongArray:
        """Its rows."""
        return np.arange(self.start, self.stop)


@dataclass(slots=True)
class Tallies:
    """Sums of raw effects and, where there are controls, of effects less their controls."""

    raw: Tally
    controlled: Tally | None

    @classmethod
    def empty(cls, index: GenePairIndex, n_units: int, *, controls: bool) -> Tallies:
        """Return sums over nothing."""
        made = [Tally(index, n_units) for _ in range(1 + controls)]
        return cls(made[0], made[1] if controls else None)

    @property
    def each(self) -> dict[str, Tally]:
        """Those that exist, by name."""
        both = {"raw": self.raw, "controlled": self.controlled}
        return {name: tally for name, tally in both.items() if tally is not None}

    def merge(self, other: Tallies, units: LongArray) -> None:
        """Add what a shard has counted; ``units`` says which of these units it had."""
        for name, tally in self.each.items():
            tally.merge(other.each[name], units)

    def put(self, other: Tallies, slots: LongArray) -> None:
        """Replace the sums of some gene pairs by those over them alone."""
        for name, tally in self.each.items():
            tally.put(other.each[name], slots)

    def add(self, effects: Effects, side: int, unit: int) -> None:
        """Add all gene pairs of one oriented cell pair."""
        self.raw.add(effects, side, unit)
        if self.controlled is not None:
            self.controlled.add(effects.controlled(), side, unit)


def _nobody() -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Work:
    """All that shards of one screen need, the same in every process that makes some.

    Attributes
    ----------
    plan
        What is compared; slides with tokens.
    evaluator
        Scores pairs.
    how
        What is knocked out.
    same_type, seed
        From the request.
    on_pair
        Called after each cell pair.
    """

    plan: ScreenPlan
    evaluator: Evaluator
    how: Knocking
    same_type: bool
    seed: int
    on_pair: Callable[[], None] = _nobody
    ordered: OrderedPairs = field(init=False)

    def __post_init__(self) -> None:
        self.ordered = ordered_pairs(self.plan)

    @property
    def controls(self) -> bool:
        """Whether knock-outs have controls."""
        return self.how.control_seed is not None


def ordered_pairs(plan: ScreenPlan) -> OrderedPairs:
    """Return near and far pairs of a plan by slide, unit and left cell."""
    pairs = concatenate([plan.near, plan.far.pairs])
    unit = np.concatenate([plan.near_unit, plan.far.unit])
    side = np.repeat([NEAR, FAR], [len(plan.near), len(plan.far.pairs)])
    order = np.lexsort((pairs.left, unit, pairs.slide))
    return OrderedPairs(pairs.take(order), unit[order], side[order])


def cut(pairs: OrderedPairs, cost: DoubleArray, per_shard: float) -> list[Shard]:
    """Return shards of consecutive pairs of one slide, each of about the given cost.

    Parameters
    ----------
    cost
        Of each pair, shape ``(n,)``.
    per_shard
        Cost after which a shard ends.
    """
    slide = pairs.pairs.slide
    begin = np.cumsum(cost) - cost
    number = np.floor(begin / per_shard).astype(np.int64)
    edges = np.flatnonzero((np.diff(number) != 0) | (np.diff(slide) != 0)) + 1
    bounds = [0, *edges.tolist(), len(slide)]
    return [Shard(k, a, b) for k, (a, b) in enumerate(itertools.pairwise(bounds))]


def plan_key(work: Work) -> str:
    """Return a hash of the cell pairs and gene pairs of a screen."""
    digest = hashlib.sha256()
    ordered, index = work.ordered, work.plan.index
    for array in (
        ordered.pairs.slide,
        ordered.pairs.left,
        ordered.pairs.right,
        ordered.unit,
        ordered.side,
        index.left,
        index.right,
        index.n_units,
    ):
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Made:
    """What one shard leaves.

    Attributes
    ----------
    units
        Units that its pairs belong to; its sums are over these, in this order.
    tallies
        The sums.
    facts
        Encodings, evaluations, and the recall of cell pairs that were evaluated fully.
    known
        Exact logits of each pair as flat places and values; empty but after proposals.
    """

    units: LongArray
    tallies: Tallies
    facts: dict[str, Any]
    known: tuple[tuple[LongArray, DoubleArray], ...] = ()


def make(
    work: Work, stage: str, shard: Shard, slots: LongArray | None = None, first: Made | None = None
) -> Made:
    """Return the sums of one shard.

    Parameters
    ----------
    work
        The screen.
    stage
        `EXACT`, `FIRST` or `SECOND`.
    shard
        Which pairs.
    slots, first
        For `SECOND`: the proposed gene pairs, and what `FIRST` left of this shard.

    Raises
    ------
    Cancelled
        If the user cancels.
    """
    units = np.unique(work.ordered.unit[shard.rows])
    index = work.plan.index if slots is None else only(work.plan.index, slots)
    tallies = Tallies.empty(index, len(units), controls=work.controls)
    before = (work.evaluator.encodings, work.evaluator.evaluations)
    sample = set(recall_sample(len(work.ordered.unit), work.seed).tolist())
    recalls: list[dict[str, Any]] = []
    known: list[tuple[LongArray, DoubleArray]] = []
    for row, pair in _encoded(work, shard):
        if stage == EXACT:
            effects = effects_of(pair, exact_logits(work.evaluator, pair))
        elif stage == FIRST:
            effects, exact = _proposed(work, pair, recalls if row in sample else None)
            known.append(exact)
        else:
            exact_before = _restored(pair, (first or _nothing()).known[row - shard.start])
            effects = effects_of(
                pair,
                complete(work.evaluator, pair, exact_before, index, both_ways=work.same_type),
            )
        unit = int(np.searchsorted(units, work.ordered.unit[row]))
        side = int(work.ordered.side[row])
        tallies.add(effects, side, unit)
        if work.same_type:
            tallies.add(effects.mirrored(), side, unit)
        work.on_pair()
    facts = {
        "encodings": work.evaluator.encodings - before[0],
        "evaluations": work.evaluator.evaluations - before[1],
        "recall": recalls,
    }
    return Made(units, tallies, facts, tuple(known))


def _nothing() -> Made:
    message = "the proposals of this shard were not made"
    raise ValueError(message)


def _encoded(work: Work, shard: Shard) -> Iterator[tuple[int, EncodedPair]]:
    pairs, rows = work.ordered.pairs, shard.rows
    cells = work.plan.slides.tissues[int(pairs.slide[shard.start])].cells
    if cells is None:
        message = "a slide was given without tokens"
        raise ValueError(message)
    for pair in encoded_pairs(work.evaluator, cells, pairs.left[rows], pairs.right[rows], work.how):
        yield int(rows[pair.number]), pair


def _proposed(
    work: Work, pair: EncodedPair, recalls: list[dict[str, Any]] | None
) -> tuple[Effects, tuple[LongArray, DoubleArray]]:
    found = approximate(work.evaluator, pair)
    effects = effects_of(pair, found.logits)
    if recalls is not None and effects.d_pair.size:
        true = effects_of(pair, exact_logits(work.evaluator, pair))
        recalls.append(recall(true.controlled(), effects.controlled()))
    places = np.flatnonzero(found.known)
    return effects, (places, found.logits.ravel()[places])


def _restored(pair: EncodedPair, exact: tuple[LongArray, DoubleArray]) -> Approximation:
    shape = (pair.left.n_versions, pair.right.n_versions)
    logits, known = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    logits.ravel()[exact[0]], known.ravel()[exact[0]] = exact[1], True
    return Approximation(logits, known)


def save(made: Made, folder: Path) -> None:
    """Write what a shard leaves into an existing folder."""
    arrays = {
        f"{name}.{array}": getattr(tally, array)
        for name, tally in made.tallies.each.items()
        for array in _ARRAYS
    }
    with files.atomic_write(folder / _TALLY) as stream:
        np.savez(stream, units=made.units, **arrays)
    if made.known:
        ends = np.cumsum([0, *(len(places) for places, _ in made.known)])
        places, values = (np.concatenate(part) for part in zip(*made.known, strict=True))
        with files.atomic_write(folder / _KNOWN) as stream:
            np.savez(stream, ends=ends, places=places.astype(np.int32), values=values)
    files.write_json(folder / _FACTS, made.facts)


def load(folder: Path, index: GenePairIndex) -> Made:
    """Read what a shard left; ``index`` holds the gene pairs that it was made for."""
    with np.load(folder / _TALLY, allow_pickle=False) as arrays:
        units = arrays["units"]
        controls = f"controlled.{_ARRAYS[0]}" in arrays
        tallies = Tallies.empty(index, len(units), controls=controls)
        for name, tally in tallies.each.items():
            for array in _ARRAYS:
                setattr(tally, array, arrays[f"{name}.{array}"])
    known: tuple[tuple[LongArray, DoubleArray], ...] = ()
    if (folder / _KNOWN).is_file():
        with np.load(folder / _KNOWN, allow_pickle=False) as arrays:
            ends, places, values = (
                arrays["ends"],
                arrays["places"].astype(np.int64),
                arrays["values"],
            )
        known = tuple((places[a:b], values[a:b]) for a, b in itertools.pairwise(ends))
    return Made(units, tallies, files.read_json(folder / _FACTS), known)
