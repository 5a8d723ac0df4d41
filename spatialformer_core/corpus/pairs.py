"""Batches of labelled cell pairs, stateless by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import LongArray
from spatialformer_core.cell_graph import BALANCED, POSITIVE, Kind, PairSampler, epoch_order
from spatialformer_core.corpus.corpus import Corpus
from spatialformer_core.corpus.shard import SPLIT_CODES, Split
from spatialformer_core.errors import SpatialFormerError


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Labelled pairs; both cells of a pair are of one slide and one split.

    Attributes
    ----------
    left_cells, right_cells
        Rows of the corpus, shape ``(n,)``.
    label
        1 for neighbours, 0 for others, int8, shape ``(n,)``.
    kind
        0 neighbours, 1 easy, 2 hard negative, int8, shape ``(n,)``.
    slide
        Index of the slide, shape ``(n,)``.
    """

    left_cells: LongArray
    right_cells: LongArray
    label: NDArray[np.int8]
    kind: NDArray[np.int8]
    slide: LongArray

    def take(self, index: LongArray | slice) -> PairBatch:
        """Return some of the pairs, in the given order."""
        return PairBatch(
            self.left_cells[index],
            self.right_cells[index],
            self.label[index],
            self.kind[index],
            self.slide[index],
        )


class PairBatches:
    """All batches of a run: ``batch(step)`` depends on the seed and the step, on nothing else.

    Consecutive pairs come in groups around one cell (see `PairSampler`), so a batch holds fewer
    distinct cells than ``2 * batch_size``: encode ``np.unique`` of its rows once. With several
    processes, process ``r`` of ``w`` takes the steps ``r, r + w, r + 2 w ...``.

    Parameters
    ----------
    corpus
        Gives the cells.
    split
        Whose cells are drawn; gap cells never are.
    batch_size
        Pairs per batch, a multiple of the number of kinds.
    seed
        Decides every batch.
    kinds
        What is drawn around one cell.
    hard_um
        Distances of the ring of hard negatives.
    slides
        Indices of the slides that are drawn from; None for all.

    Attributes
    ----------
    n_anchors
        Cells around which groups are drawn, over all slides; each is visited once per epoch.
    anchors_per_slide
        The same per slide of the corpus, shape ``(n_slides,)``.
    skipped_slides
        Slides without an anchor in this split.

    Raises
    ------
    SpatialFormerError
        If no slide of the corpus has an anchor, or the batch size does not fit the kinds.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        kinds: Sequence[Kind] = BALANCED,
        hard_um: tuple[float, float] = (80.0, 150.0),
        slides: Sequence[int] | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % len(kinds):
            raise SpatialFormerError(
                f"A batch of {batch_size} pairs does not hold whole groups of {len(kinds)}.",
                fix=f"Use a multiple of {len(kinds)}.",
            )
        self.corpus = corpus
        self.batch_size = batch_size
        self.seed = seed
        self._samplers: list[PairSampler] = []
        self._slides: list[int] = []
        self.skipped_slides: list[str] = []
        reason = "The corpus holds no slide."
        for number in range(len(corpus.shards)) if slides is None else slides:
            shard = corpus.shards[number]
            cells = np.asarray(shard.split) == SPLIT_CODES[split]
            try:
                sampler = PairSampler(
                    shard.graph,
                    shard.xy_um,
                    cells,
                    radius_um=corpus.radius_um,
                    hard_um=hard_um,
                    kinds=kinds,
                )
            except SpatialFormerError as error:
                reason = error.message
                self.skipped_slides.append(shard.info.slide_id)
                continue
            self._samplers.append(sampler)
            self._slides.append(number)
        if not self._samplers:
            raise SpatialFormerError(
                f"No pairs can be drawn from the {split} split. {reason}", where=str(corpus.path)
            )
        self._first = np.zeros(len(self._samplers) + 1, np.int64)
        np.cumsum([len(sampler.anchors) for sampler in self._samplers], out=self._first[1:])
        self._kinds = self._samplers[0].kinds
        self.anchors_per_slide = np.zeros(len(corpus.shards), np.int64)
        self.anchors_per_slide[self._slides] = np.diff(self._first)

    @property
    def n_anchors(self) -> int:
        """Cells around which groups are drawn, over all slides."""
        return int(self._first[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every anchor was visited, at least 1."""
        return max(1, self.n_anchors * len(self._kinds) // self.batch_size)

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step.

        Raises
        ------
        SpatialFormerError
            If the step is negative.
        """
        if step < 0:
            raise SpatialFormerError(f"Step {step} does not exist.")
        index = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        n_kinds = len(self._kinds)
        # One anchor per group of pairs; a batch holds whole groups.
        anchors = self._anchors(index[::n_kinds] // n_kinds)
        kind = np.tile(self._kinds, len(anchors))
        parts = np.searchsorted(self._first, anchors, side="right") - 1
        anchor, part = np.repeat(anchors, n_kinds), np.repeat(parts, n_kinds)
        left, right = np.empty(len(index), np.int64), np.empty(len(index), np.int64)
        slide = np.empty(len(index), np.int64)
        for number in np.unique(parts):
            here = np.flatnonzero(part == number)
            sampler = self._samplers[number]
            cells = sampler.anchors[anchor[here] - self._first[number]]
            pairs = sampler.draw(cells, index[here], kind[here], seed=self.seed)
            slide[here] = self._slides[number]
            offset = self.corpus.offsets[self._slides[number]]
            left[here], right[here] = pairs.left + offset, pairs.right + offset
        return PairBatch(left, right, (kind == POSITIVE).astype(np.int8), kind, slide)

    def _anchors(self, group: LongArray) -> LongArray:
        epoch, within = np.divmod(group, self.n_anchors)
        anchor = np.empty(len(group), np.int64)
        for one in np.unique(epoch):
            here = epoch == one
            anchor[here] = epoch_order(within[here], self.n_anchors, seed=self.seed, epoch=int(one))
        return anchor
