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


_COUNT, _SQUARE = 0, 1 + len(QUANTITIES)
_WIDTH = _SQUARE + len(SPREAD)

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
    sums
        All sums of a slot side by side, 64 bytes, so that one cell pair touches one cache line
        per gene pair: count, the `QUANTITIES`, squares of `SPREAD`; shape
        ``(2, n_units, n_slots, 8)``.
    rank
        Sums of the ranks (from 1) of the left and right gene in near pairs, ``(n_slots, 2)``.
    """

    index: GenePairIndex
    n_units: int
    n_pairs: LongArray = field(init=False)
    sums: DoubleArray = field(init=False)
    rank: DoubleArray = field(init=False)

    def __post_init__(self) -> None:
        self.n_pairs = np.zeros((2, self.n_units), np.int64)
        self.sums = np.zeros((2, self.n_units, len(self.index), _WIDTH))
        self.rank = np.zeros((len(self.index), 2))

    @property
    def count(self) -> DoubleArray:
        """Cell pairs that carried both genes, a view of shape ``(2, n_units, n_slots)``."""
        return self.sums[..., _COUNT]

    def total(self, quantity: str) -> DoubleArray:
        """Return the sums of one of the `QUANTITIES`, a view, ``(2, n_units, n_slots)``."""
        return self.sums[..., 1 + QUANTITIES.index(quantity)]

    def square(self, quantity: str) -> DoubleArray:
        """Return the sums of squares of one of `SPREAD`, a view, ``(2, n_units, n_slots)``."""
        return self.sums[..., _SQUARE + SPREAD.index(quantity)]

    def add(self, effects: Effects, side: int, unit: int) -> None:
        """Add all gene pairs of one oriented cell pair (``side``: 0 near, 1 far)."""
        self.n_pairs[side, unit] += 1
        _add(
            self.index.slot,
            (np.ascontiguousarray(effects.left), np.ascontiguousarray(effects.right)),
            (
                np.ascontiguousarray(effects.d_left),
                np.ascontiguousarray(effects.d_right),
                np.ascontiguousarray(effects.rank_left),
                np.ascontiguousarray(effects.rank_right),
            ),
            (np.ascontiguousarray(effects.d_pair), np.ascontiguousarray(effects.d_probability)),
            # Far pairs have no ranks: an empty table says so to the kernel.
            (self.sums[side, unit], self.rank if side == NEAR else self.rank[:0]),
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
        self.sums[:, units] += other.sums
        self.rank += other.rank

    def put(self, other: Tally, slots: LongArray) -> None:
        """Replace the sums of some gene pairs by those of a tally over them alone."""
        self.sums[:, :, slots] = other.sums
        self.rank[slots] = other.rank

    def mean(self, quantity: str, side: int) -> DoubleArray:
        """Return the mean over ALL cell pairs of each unit, shape ``(n_units, n_slots)``.

        A cell pair in which a gene is absent counts as zero: there is nothing to knock out.
        """
        pairs = np.maximum(self.n_pairs[side], 1)[:, None]
        mean: DoubleArray = self.total(quantity)[side] / pairs
        return mean

    def pooled_variance(self, quantity: str, side: int) -> DoubleArray:
        """Return the variance of the mean over the cell pairs of all units, ``(n_slots,)``."""
        n = max(int(self.n_pairs[side].sum()), 2)
        mean = self.total(quantity)[side].sum(axis=0) / n
        spread = self.square(quantity)[side].sum(axis=0) / n - mean**2
        variance: DoubleArray = np.maximum(spread, 0.0) / (n - 1)
        return variance


# A target occurs once in a cell, so no slot repeats within a cell pair.
@nb.njit(cache=True, nogil=True)
def _add(
    slots: IntArray,
    targets: tuple[LongArray, LongArray],
    single: tuple[DoubleArray, DoubleArray, DoubleArray, DoubleArray],
    pair: tuple[DoubleArray, DoubleArray],
    into: tuple[DoubleArray, DoubleArray],
) -> None:
    """Add one cell pair, the sums in the order that `Tally.sums` states."""
    sums, rank_sums = into
    ranked = len(rank_sums) > 0
    for i in range(len(targets[0])):
        of_left = slots[targets[0][i]]
        one = single[0][i]
        for j in range(len(targets[1])):
            slot = of_left[targets[1][j]]
            if slot < 0:
                continue
            d, other = pair[0][i, j], single[1][j]
            epsilon = d - one - other
            sums[slot, 0] += 1.0
            sums[slot, 1] += d
            sums[slot, 2] += epsilon
            sums[slot, 3] += one
            sums[slot, 4] += other
            sums[slot, 5] += pair[1][i, j]
            sums[slot, 6] += d * d
            sums[slot, 7] += epsilon * epsilon
            if ranked:
                rank_sums[slot, 0] += single[2][i]
                rank_sums[slot, 1] += single[3][j]
