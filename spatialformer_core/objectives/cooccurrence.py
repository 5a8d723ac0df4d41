"""Which gene pairs of a batch the co-occurrence task looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialformer_core.arrays import CellTokens, FloatArray, GenePairs, LongArray

_MAX_DRAWS = 20


@dataclass(frozen=True, slots=True)
class GenePairSample:
    """Pairs of genes of the same cell, half of them co-occurring.

    Attributes
    ----------
    cell
        Row of the cell, shape ``(n,)``.
    left, right
        Places of the two genes in the cell's ranked genes, ``left != right``, shape ``(n,)``.
    label
        1.0 where they co-occur, shape ``(n,)``.
    """

    cell: LongArray
    left: LongArray
    right: LongArray
    label: FloatArray


def _negatives(
    cells: CellTokens, taken: LongArray, n: int, width: int, rng: np.random.Generator
) -> tuple[LongArray, LongArray, LongArray]:
    """Draw pairs that do not co-occur, every pair of every cell that has any with equal chance.

    A cell without a co-occurring pair, or of a slide without transcripts, is not asked: there a
    pair that "does not co-occur" would tell cells apart instead of pairs.
    """
    has_pair = np.zeros(cells.n_cells, np.bool_)
    has_pair[taken // width**2] = True
    pairs = np.where(has_pair, cells.lengths * (cells.lengths - 1) // 2, 0)
    share = np.cumsum(pairs)
    found: list[tuple[LongArray, LongArray, LongArray]] = []
    n_found = 0
    for _ in range(_MAX_DRAWS if share[-1] else 0):
        cell = np.searchsorted(share, rng.integers(share[-1], size=n), side="right")
        lengths = cells.lengths[cell]
        left = rng.integers(lengths)
        right = (left + 1 + rng.integers(lengths - 1)) % lengths
        key = (cell * width + np.minimum(left, right)) * width + np.maximum(left, right)
        free = ~np.isin(key, taken)
        found.append((cell[free], left[free], right[free]))
        n_found += int(free.sum())
        if n_found >= n:
            break
    empty = np.zeros(0, np.int64)
    parts = [np.concatenate([empty, *columns])[:n] for columns in zip(*found, strict=True)]
    return (parts[0], parts[1], parts[2]) if parts else (empty, empty, empty)


def sample_gene_pairs(
    cells: CellTokens, pairs: GenePairs, seed: tuple[int, ...], max_positives: int = 4096
) -> GenePairSample:
    """Sample as many gene pairs that co-occur as pairs that do not, over a whole batch.

    Parameters
    ----------
    cells
        The batch.
    pairs
        Co-occurring pairs of the same cells, as places in the cell's ranked genes.
    seed
        For example ``(recipe seed, step)``; the sample follows from it alone.
    max_positives
        At most so many co-occurring pairs are taken, at random.
    """
    rng = np.random.default_rng(seed)
    cell = np.repeat(np.arange(pairs.n_cells), np.diff(pairs.indptr))
    left, right = pairs.left.astype(np.int64), pairs.right.astype(np.int64)
    width = int(cells.lengths.max(initial=0)) + 1
    taken = (cell * width + np.minimum(left, right)) * width + np.maximum(left, right)
    if len(cell) > max_positives:
        kept = np.sort(rng.choice(len(cell), max_positives, replace=False))
        cell, left, right = cell[kept], left[kept], right[kept]
    other, a, b = _negatives(cells, taken, len(cell), width, rng)
    label = np.zeros(len(cell) + len(other), np.float32)
    label[: len(cell)] = 1.0
    return GenePairSample(
        np.concatenate([cell, other]),
        np.concatenate([left, a]),
        np.concatenate([right, b]),
        label,
    )
