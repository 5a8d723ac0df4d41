"""Streaming sums of effects per replicate unit and gene pair: memory without cell pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numba as nb
import numpy as np

from spatialformer_core.arrays import DoubleArray, IntArray, LongArray
from spatialformer_core.perturbation.engine import Effects
from spatialformer_core.perturbation.plan import GenePairIndex

NEAR, FAR = 0, 1

QUANTITIES = ("d", "epsilon", "d_left", "d_right", "probability")
SPREAD = ("d", "epsilon")
"""Quantities of which an interval over cell pairs may be asked."""


_ALL = slice(None)


@dataclass(slots=True)
class Tally:
    """Sums over cell pairs; a cell pair that lacks a gene adds nothing to that gene's pairs.

    Attributes
    ----------
    index
        The gene pairs.
    n_pairs
        Cell pairs seen, shape ``(2, n_units)``: near, far. One-type screens count each cell pair
        once per orientation.
    count
        Cell pairs that carried both genes, shape ``(2, n_units, n_slots)``.
    total
        Sums of the `QUANTITIES`, shape ``(5, 2, n_units, n_slots)``.
    square
        Sums of squares of `SPREAD` over all units, shape ``(2, 2, n_slots)``.
    rank
        Sums of the ranks (from 1) of the left and right gene in near pairs, ``(2, n_slots)``.
    """

    index: GenePairIndex
    n_units: int
    n_pairs: LongArray = field(init=False)
    count: LongArray = field(init=False)
    total: DoubleArray = field(init=False)
    square: DoubleArray = field(init=False)
    rank: DoubleArray = field(init=False)

    def __post_init__(self) -> None:
        shape = (2, self.n_units, len(self.index))
        self.n_pairs = np.zeros(shape[:2], np.int64)
        self.count = np.zeros(shape, np.int64)
        self.total = np.zeros((len(QUANTITIES), *shape))
        self.square = np.zeros((len(SPREAD), 2, len(self.index)))
        self.rank = np.zeros((2, len(self.index)))

    def add(self, effects: Effects, side: int, unit: int) -> None:
        """Add all gene pairs of one oriented cell pair (``side``: 0 near, 1 far)."""
        self.n_pairs[side, unit] += 1
        _add(
            self.index.slot,
            (np.ascontiguousarray(effects.left), np.ascontiguousarray(effects.right)),
            (np.ascontiguousarray(effects.d_left), np.ascontiguousarray(effects.d_right)),
            (np.ascontiguousarray(effects.d_pair), np.ascontiguousarray(effects.d_probability)),
            (self.count[side, unit], self.total[:, side, unit], self.square[:, side]),
        )
        if side == NEAR:
            _add_ranks(
                self.index.slot,
                (np.ascontiguousarray(effects.left), np.ascontiguousarray(effects.right)),
                (np.ascontiguousarray(effects.rank_left), np.ascontiguousarray(effects.rank_right)),
                self.rank,
            )

    def merge(self, other: Tally, units: LongArray | slice = _ALL) -> None:
        """Add what another shard of the same screen has counted.

        Parameters
        ----------
        other
            The shard's sums, over the same gene pairs.
        units
            Which units of this one those of the other are.
        """
        self.n_pairs[:, units] += other.n_pairs
        self.count[:, units] += other.count
        self.total[:, :, units] += other.total
        self.square += other.square
        self.rank += other.rank

    def put(self, other: Tally, slots: LongArray) -> None:
        """Replace the sums of some gene pairs by those of a tally over them alone."""
        self.count[:, :, slots] = other.count
        self.total[:, :, :, slots] = other.total
        self.square[:, :, slots] = other.square
        self.rank[:, slots] = other.rank

    def mean(self, quantity: str, side: int) -> DoubleArray:
        """Return the mean over ALL cell pairs of each unit, shape ``(n_units, n_slots)``.

        A cell pair in which a gene is absent counts as zero: there is nothing to knock out.
        """
        pairs = np.maximum(self.n_pairs[side], 1)[:, None]
        mean: DoubleArray = self.total[QUANTITIES.index(quantity), side] / pairs
        return mean

    def pooled_variance(self, quantity: str, side: int) -> DoubleArray:
        """Return the variance of the mean over the cell pairs of all units, ``(n_slots,)``."""
        number, spread_of = QUANTITIES.index(quantity), SPREAD.index(quantity)
        n = max(int(self.n_pairs[side].sum()), 2)
        mean = self.total[number, side].sum(axis=0) / n
        spread = self.square[spread_of, side] / n - mean**2
        variance: DoubleArray = np.maximum(spread, 0.0) / (n - 1)
        return variance


# A target occurs once in a cell, so no slot repeats within a cell pair.
@nb.njit(cache=True, nogil=True)
def _add(
    slots: IntArray,
    targets: tuple[LongArray, LongArray],
    single: tuple[DoubleArray, DoubleArray],
    pair: tuple[DoubleArray, DoubleArray],
    sums: tuple[LongArray, DoubleArray, DoubleArray],
) -> None:
    """Add one cell pair, the quantities in the order of `QUANTITIES`."""
    count, total, square = sums
    for i in range(len(targets[0])):
        for j in range(len(targets[1])):
            slot = slots[targets[0][i], targets[1][j]]
            if slot < 0:
                continue
            d, one, other = pair[0][i, j], single[0][i], single[1][j]
            epsilon = d - one - other
            count[slot] += 1
            total[0, slot] += d
            total[1, slot] += epsilon
            total[2, slot] += one
            total[3, slot] += other
            total[4, slot] += pair[1][i, j]
            square[0, slot] += d * d
            square[1, slot] += epsilon * epsilon


@nb.njit(cache=True, nogil=True)
def _add_ranks(
    slots: IntArray,
    targets: tuple[LongArray, LongArray],
    ranks: tuple[DoubleArray, DoubleArray],
    sums: DoubleArray,
) -> None:
    for i in range(len(targets[0])):
        for j in range(len(targets[1])):
            slot = slots[targets[0][i], targets[1][j]]
            if slot >= 0:
                sums[0, slot] += ranks[0][i]
                sums[1, slot] += ranks[1][j]
