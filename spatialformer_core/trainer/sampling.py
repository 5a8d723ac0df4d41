"""What a part of a step sees: cells drawn around anchor cells, and the pairs among them.

Every draw follows from the recipe's seed and the number of the part in the run, so a run can be
taken up anywhere, by any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from spatialformer_core.arrays import FloatArray, LongArray
from spatialformer_core.cell_graph import BALANCED, EASY, HARD, POSITIVE, Kind, epoch_order
from spatialformer_core.corpus import Corpus, PairBatches
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.trainer.recipe import TrainRecipe

_EASY_PER_POSITIVE = 2
_SHUFFLE_STREAM = 3


@dataclass(frozen=True, slots=True)
class StepCells:
    """Cells of one part and the labelled pairs among them.

    Attributes
    ----------
    rows
        Rows of the corpus, shape ``(n,)``.
    left, right
        Places in ``rows``, shape ``(p,)``.
    label
        1.0 for neighbours, shape ``(p,)``.
    weight
        Weight of each pair in the loss; sums to 1, half of it on neighbours, shape ``(p,)``.
    """

    rows: LongArray
    left: LongArray
    right: LongArray
    label: FloatArray
    weight: FloatArray


Draw = Callable[[int], StepCells]
"""Returns the cells of a part by its number in the run."""


@dataclass(frozen=True, slots=True)
class Distances:
    """Up to where cells are neighbours, and where hard negatives lie, in micrometres.

    At most ``hard_per_positive`` hard pairs are taken per near pair; 0: all.
    """

    radius_um: float
    hard_um: tuple[float, float]
    hard_per_positive: int = 0


def pairs_among(
    xy_um: FloatArray, distances: Distances, rng: np.random.Generator
) -> tuple[LongArray, LongArray]:
    """Return every near and every hard pair among cells, and random easy ones.

    Returns
    -------
    pairs, kinds
        Rows of ``xy_um``, shape ``(p, 2)``, and `POSITIVE`, `EASY` or `HARD`, shape ``(p,)``.
    """
    low, high = distances.hard_um
    close = cKDTree(xy_um).query_pairs(max(high, distances.radius_um), output_type="ndarray")
    # The tree's own order is not promised to stay the same.
    close = close[np.lexsort((close[:, 1], close[:, 0]))]
    apart = _apart(xy_um, close)
    near = close[apart <= distances.radius_um]
    hard = close[(apart >= low) & (apart <= high)]
    most = distances.hard_per_positive * max(len(near), 1)
    if most and len(hard) > most:
        hard = hard[np.sort(rng.choice(len(hard), most, replace=False))]
    n_easy = _EASY_PER_POSITIVE * max(len(near), 1)
    easy = rng.integers(len(xy_um), size=(2 * n_easy, 2))
    easy = easy[_apart(xy_um, easy) > distances.radius_um][:n_easy]
    kinds = np.repeat([POSITIVE, HARD, EASY], [len(near), len(hard), len(easy)])
    return np.concatenate([near, hard, easy]), kinds


def _apart(xy_um: FloatArray, pairs: LongArray) -> FloatArray:
    apart: FloatArray = np.hypot(*(xy_um[pairs[:, 0]] - xy_um[pairs[:, 1]]).T)
    return apart


def pair_weights(kinds: LongArray, hard_share: float) -> FloatArray:
    """Weigh pairs by kind: half for neighbours, ``hard_share`` of the rest for hard negatives.

    A kind that a step lacks leaves its weight to the others.
    """
    wanted = np.zeros(3)
    wanted[[POSITIVE, HARD, EASY]] = 0.5, 0.5 * hard_share, 0.5 * (1 - hard_share)
    counts = np.bincount(kinds, minlength=3)
    wanted = np.where(counts > 0, wanted, 0.0)
    each = wanted / max(wanted.sum(), 1e-12) / np.maximum(counts, 1)
    weight: FloatArray = each[kinds].astype(np.float32)
    return weight


def even_weights(pairs: LongArray, kinds: LongArray, hard_share: float, n_cells: int) -> FloatArray:
    """Weigh pairs as `pair_weights` does, every cell the same within a kind.

    A pair counts for either of its cells by one over the number of that cell's pairs of the kind.
    Without this a cell counts by how many pairs it has: dense tissue by the square of its density.
    """
    weight = np.zeros(len(kinds))
    for kind in np.unique(kinds):
        here = np.flatnonzero(kinds == kind)
        number = np.bincount(pairs[here].ravel(), minlength=n_cells)
        weight[here] = (1.0 / number[pairs[here]]).sum(axis=1)
        weight[here] *= len(here) / weight[here].sum()
    even: FloatArray = (weight * pair_weights(kinds, hard_share)).astype(np.float32)
    return even


def tower_draw(corpus: Corpus, recipe: TrainRecipe) -> Draw:
    """Return the draw of a two-tower run.

    Around each anchor come some neighbours and a cell of the hard ring; then all near and all hard
    pairs among these cells are used, whoever they were drawn for: encoding is dear, pairs are
    cheap.
    """
    neighbors: list[Kind] = ["positive"] * recipe.neighbors_per_seed
    around: tuple[Kind, ...] = (*neighbors, "hard")
    batches = PairBatches(
        corpus,
        "train",
        recipe.seeds_per_part * len(around),
        seed=recipe.seed,
        kinds=around,
        hard_um=recipe.pairs.hard_um,
    )
    distances = Distances(corpus.radius_um, recipe.pairs.hard_um, recipe.pairs.hard_per_positive)
    xy_um = np.concatenate([shard.xy_um for shard in corpus.shards])

    def draw(number: int) -> StepCells:
        rng = np.random.default_rng((recipe.seed, number))
        batch = batches.batch(number)
        rows = np.unique(np.concatenate([batch.left_cells, batch.right_cells]))
        slide = corpus.slide_of(rows)
        pairs, kinds = [], []
        for one in np.unique(slide):
            own = np.flatnonzero(slide == one)
            found, kind = pairs_among(xy_um[rows[own]], distances, rng)
            pairs.append(own[found])
            kinds.append(kind)
        pair, kind = np.concatenate(pairs), np.concatenate(kinds)
        label = (kind == POSITIVE).astype(np.float32)
        weight = pair_weights(kind, recipe.pairs.hard_share)
        if recipe.pairs.even:
            weight = even_weights(pair, kind, recipe.pairs.hard_share, len(rows))
        return StepCells(rows, pair[:, 0], pair[:, 1], label, weight)

    return draw


def cross_draw(corpus: Corpus, recipe: TrainRecipe) -> Draw:
    """Return the draw of a cross-encoder run: around each anchor two neighbours, two negatives.

    Either cell of a pair comes first with the same chance. The record lists all left cells, then
    all right cells.
    """
    batches = PairBatches(
        corpus,
        "train",
        recipe.seeds_per_part * len(BALANCED),
        seed=recipe.seed,
        hard_um=recipe.pairs.hard_um,
    )

    def draw(number: int) -> StepCells:
        rng = np.random.default_rng((recipe.seed, number))
        batch = batches.batch(number)
        n = len(batch.label)
        swap = rng.random(n) < 0.5
        left = np.where(swap, batch.right_cells, batch.left_cells)
        right = np.where(swap, batch.left_cells, batch.right_cells)
        weight = pair_weights(batch.kind.astype(np.int64), recipe.pairs.hard_share)
        place = np.arange(n)
        label = batch.label.astype(np.float32)
        return StepCells(np.concatenate([left, right]), place, place + n, label, weight)

    return draw


def shuffled_draw(draw: Draw, seed: int) -> Draw:
    """Return a draw whose labels, with their weights, are dealt out among its pairs at random."""

    def shuffled(number: int) -> StepCells:
        cells = draw(number)
        order = np.random.default_rng((seed, number, _SHUFFLE_STREAM)).permutation(len(cells.label))
        return replace(cells, label=cells.label[order], weight=cells.weight[order])

    return shuffled


def single_draw(corpus: Corpus, recipe: TrainRecipe) -> Draw:
    """Return the draw of a run on single cells: every training cell once per epoch, no pairs."""
    train = corpus.rows("train")
    if not len(train):
        raise SpatialFormerError("The corpus has no training cells.", where=str(corpus.path))
    size = recipe.seeds_per_part
    none = np.zeros(0, np.int64)

    def draw(number: int) -> StepCells:
        index = number * size + np.arange(size, dtype=np.int64)
        epoch, within = np.divmod(index, len(train))
        rows = np.empty(size, np.int64)
        for one in np.unique(epoch):
            here = epoch == one
            place = epoch_order(within[here], len(train), seed=recipe.seed, epoch=int(one))
            rows[here] = train[place]
        empty = np.zeros(0, np.float32)
        return StepCells(rows, none, none, empty, empty)

    return draw
