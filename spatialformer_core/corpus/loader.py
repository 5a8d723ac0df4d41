"""Batches of cell pairs as token sequences, of similar length, resumable from two integers.

The pairs of a run are one stateless stream (see `PairBatches`). A *window* of it is sorted by
length within each kind of pair and cut into batches, each with the same share of every kind; the
batches of a window then come in a shuffled order. So a batch needs little padding, its labels stay
balanced, and batch ``k`` of a seed is the same batch whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from spatialformer_core.arrays import LongArray
from spatialformer_core.cell_graph import BALANCED, Kind, epoch_order
from spatialformer_core.config import FrozenModel
from spatialformer_core.corpus.corpus import Corpus
from spatialformer_core.corpus.pairs import PairBatch, PairBatches
from spatialformer_core.corpus.sequences import PairSequences, pack_pairs, pair_lengths
from spatialformer_core.corpus.shard import Split
from spatialformer_core.errors import SpatialFormerError


class LoaderSettings(FrozenModel):
    """How batches are drawn.

    Attributes
    ----------
    batch_size
        Pairs per batch, a multiple of the number of kinds.
    window
        Batches that are sorted by length together; 1 leaves the stream as it is.
    seed
        Decides every batch.
    kinds, hard_um
        See `PairSampler`.
    """

    batch_size: int = Field(default=64, ge=1)
    window: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)
    kinds: tuple[Kind, ...] = Field(default=BALANCED, min_length=1)
    hard_um: tuple[float, float] = (80.0, 150.0)


class Place(FrozenModel):
    """One process among several.

    Attributes
    ----------
    rank, world_size
        Number of this process, and how many there are.
    by
        ``steps``: process ``r`` takes every ``world_size``-th batch of one stream. ``slides``:
        every process has slides of its own, so that it opens no other.
    """

    rank: int = Field(default=0, ge=0)
    world_size: int = Field(default=1, ge=1)
    by: Literal["steps", "slides"] = "steps"


class PairLoader:
    """The batches of one process.

    Parameters
    ----------
    corpus
        Gives the cells.
    split
        Whose cells are drawn.
    settings
        How.
    place
        Which process this is. All processes have the same number of steps in an epoch.

    Attributes
    ----------
    slides
        Slides that this process draws from, None for all.
    step
        What `__iter__` gives next.

    Raises
    ------
    SpatialFormerError
        If no pairs can be drawn, the batch size does not fit the kinds, the rank lies outside the
        world, or there are fewer slides than processes that want slides of their own.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        settings: LoaderSettings | None = None,
        place: Place | None = None,
    ) -> None:
        self.corpus = corpus
        self.settings = settings or LoaderSettings()
        self.place = place or Place()
        if self.place.rank >= self.place.world_size:
            raise SpatialFormerError(
                f"Rank {self.place.rank} does not exist among {self.place.world_size} processes."
            )
        self.step = 0
        self._window_number = -1
        self._window: tuple[PairSequences, dict[int, int]] | None = None
        per_step = self.settings.batch_size // len(self.settings.kinds)
        self.slides: tuple[int, ...] | None = None
        if self.place.by == "slides":
            # By cells, which the manifest knows: no process has to open another's slides.
            cells = [info.split_cells.get(split, 0) for info in corpus.manifest.slides]
            groups = deal(cells, self.place.world_size)
            self.slides = groups[self.place.rank]
            most = max(sum(cells[slide] for slide in group) for group in groups)
            self._stream = self._pairs(split)
        else:
            self._stream = self._pairs(split)
            most = self._stream.n_anchors
            per_step *= self.place.world_size
        self._steps_per_epoch = -(-most // per_step)

    def _pairs(self, split: Split) -> PairBatches:
        chosen = self.settings
        if chosen.batch_size % len(chosen.kinds):
            raise SpatialFormerError(
                f"A batch of {chosen.batch_size} pairs does not hold whole groups of "
                f"{len(chosen.kinds)}.",
                fix=f"Use a multiple of {len(chosen.kinds)}.",
            )
        return PairBatches(
            self.corpus,
            split,
            chosen.batch_size * chosen.window,
            seed=chosen.seed,
            kinds=chosen.kinds,
            hard_um=chosen.hard_um,
            slides=self.slides,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of each process after which every anchor was visited.

        The same for all processes: those with fewer cells begin their next round earlier.
        """
        return self._steps_per_epoch

    def batch(self, step: int) -> PairSequences:
        """Return a batch of this process.

        Raises
        ------
        SpatialFormerError
            If the step is negative.
        """
        if step < 0:
            raise SpatialFormerError(f"Step {step} does not exist.")
        number = step
        if self.place.by == "steps":
            number = step * self.place.world_size + self.place.rank
        window, slot = divmod(number, self.settings.window)
        if window != self._window_number or self._window is None:
            self._window = self._fill(window)
            self._window_number = window
        sequences, places = self._window
        size = self.settings.batch_size
        start = places[slot] * size
        return sequences.part(start, start + size)

    def _fill(self, window: int) -> tuple[PairSequences, dict[int, int]]:
        """Return this process's batches of a window, and where each slot stands among them."""
        pairs = self._stream.batch(window)
        order = bucket_order(pairs, pair_lengths(self.corpus, pairs), self.settings, window)
        slots = list(range(self.settings.window))
        if self.place.by == "steps":
            first = window * self.settings.window
            world, rank = self.place.world_size, self.place.rank
            slots = [slot for slot in slots if (first + slot) % world == rank]
        own = order[slots].ravel()
        return pack_pairs(self.corpus, pairs.take(own)), {slot: i for i, slot in enumerate(slots)}

    def __iter__(self) -> Iterator[PairSequences]:
        """Yield batches without end, from `step` on."""
        while True:
            batch = self.batch(self.step)
            self.step += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return all that is needed to go on: two integers."""
        return {"seed": self.settings.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Go on where another loader of the same corpus and settings stood.

        Raises
        ------
        SpatialFormerError
            If it had another seed.
        """
        if state["seed"] != self.settings.seed or int(state["step"]) < 0:
            raise SpatialFormerError(
                f"The position {state} does not belong to seed {self.settings.seed}."
            )
        self.step = int(state["step"])
        return self


def bucket_order(
    pairs: PairBatch, lengths: LongArray, settings: LoaderSettings, window: int
) -> LongArray:
    """Return which pairs of a window form each batch, shape ``(window, batch_size)``."""
    n, size = settings.window, settings.batch_size
    if n == 1:
        return np.arange(size)[None]
    by_length = np.lexsort((lengths, pairs.kind))
    parts, start = [], 0
    for count in np.bincount(pairs.kind):
        if count:
            parts.append(by_length[start : start + count].reshape(n, -1))
            start += count
    slot = epoch_order(np.arange(n), n, seed=settings.seed, epoch=window)
    order: LongArray = np.concatenate(parts, axis=1)[slot]
    return order


def deal(cells: Sequence[int], world_size: int) -> list[tuple[int, ...]]:
    """Deal slides to processes, the largest first, always to the one with the least so far.

    Parameters
    ----------
    cells
        Cells of each slide; slides without any are left out.
    world_size
        How many processes there are.

    Raises
    ------
    SpatialFormerError
        If a process would be left without a slide.
    """
    usable = [slide for slide, count in enumerate(cells) if count]
    if len(usable) < world_size:
        raise SpatialFormerError(
            f"{len(usable)} slides cannot be dealt to {world_size} processes.",
            fix='Use by="steps", or fewer processes.',
        )
    groups: list[list[int]] = [[] for _ in range(world_size)]
    load = [0] * world_size
    for slide in sorted(usable, key=lambda i: (-cells[i], i)):
        least = min(range(world_size), key=lambda rank: (load[rank], rank))
        groups[least].append(slide)
        load[least] += cells[slide]
    return [tuple(sorted(group)) for group in groups]
