"""The control of a knock-out: the same knock-out of a random gene of neighbouring rank.

Which gene that is follows from the cell's own tokens, the target and the seed alone: it does not
depend on how cells are numbered, on which side a cell stands or how the work is divided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import CellTokens, LongArray

NEIGHBOURS = 5
"""Ranks above, and ranks below, among which a control gene is drawn."""

Keys = NDArray[np.uint64]


def mixed(values: Keys) -> Keys:
    """Return well-mixed 64-bit keys (the finaliser of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out: Keys = z ^ (z >> np.uint64(31))
    return out


def cell_keys(cells: CellTokens, seed: int) -> Keys:
    """Return one key per cell, from its tokens in rank order and the seed, shape ``(n_cells,)``."""
    position = np.arange(len(cells.tokens)) - np.repeat(cells.indptr[:-1], cells.lengths)
    each = mixed(cells.tokens.astype(np.uint64) | (position.astype(np.uint64) << np.uint64(32)))
    with np.errstate(over="ignore"):
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])
        sums = total[cells.indptr[1:]] - total[cells.indptr[:-1]]
    return mixed(sums ^ mixed(np.full(cells.n_cells, seed, np.uint64)))


def neighbour_positions(position: LongArray, length: LongArray, key: Keys) -> LongArray:
    """Return the position of a random gene of neighbouring rank, -1 where a cell has none.

    Parameters
    ----------
    position, length
        Of single genes, and the number of genes of their cells, shape ``(n,)``.
    key
        Random keys, shape ``(n,)``.
    """
    low = np.maximum(position - NEIGHBOURS, 0)
    others = np.minimum(position + NEIGHBOURS, length - 1) - low
    drawn = low + (key % np.maximum(others, 1).astype(np.uint64)).astype(np.int64)
    return np.where(others > 0, drawn + (drawn >= position), -1)


def neighbour_set(positions: Sequence[int], length: int, key: np.uint64) -> list[int]:
    """Return one gene of neighbouring rank for each gene of a set, none of it and none twice.

    Empty if the cell has too few genes outside the set.
    """
    free = sorted(set(range(length)) - set(positions))
    if len(free) < len(positions):
        return []
    chosen = []
    for number, position in enumerate(positions):
        near = sorted(free, key=lambda p: (abs(p - position), p))[: 2 * NEIGHBOURS]
        draw = int(mixed(np.array([key], np.uint64) ^ np.uint64(number))[0])
        chosen.append(near[draw % len(near)])
        free.remove(chosen[-1])
    return chosen
