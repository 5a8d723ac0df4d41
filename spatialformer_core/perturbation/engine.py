"""Exact knock-outs of every gene of one cell with every gene of its neighbour.

With two towers a knock-out changes only its own cell's embedding: all L1 x L2 gene-pair
knock-outs of a cell pair are exact from L1 + L2 + 2 encodings and L1 x L2 evaluations of the head
(design reference, co-localisation, last paragraph). The same code serves a cross-encoder, whose
``encode`` only keeps tokens: exact as well, and slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from spatialformer_core.arrays import CellTokens, DoubleArray, LongArray
from spatialformer_core.config import Knockout
from spatialformer_core.perturbation.evaluator import EncodedParts, Evaluator
from spatialformer_core.perturbation.knockouts import CellKnockouts, knock_out, n_versions
from spatialformer_core.perturbation.targets import Targets, every_token
from spatialformer_core.progress import Cancel, check, never

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer

MAX_VARIANTS = 40_000
"""Encodings held at once; bounds memory whatever the number of pairs."""


@dataclass(frozen=True, slots=True)
class Effects:
    """All knock-outs of one cell pair; every value is a change of the logit.

    Attributes
    ----------
    number
        Which pair of those given.
    left, right
        Targets of the two cells in rank order, shapes ``(L,)`` and ``(R,)``.
    rank_left, rank_right
        Their ranks (from 1; of a set the mean), same shapes.
    reference
        Logit with nothing knocked out.
    d_left, d_right
        Of one target alone, shapes ``(L,)`` and ``(R,)``.
    d_pair
        Of both, shape ``(L, R)``.
    d_probability
        Change of the probability by both, shape ``(L, R)``.
    control
        The same for the control of each knock-out; None if there are no controls.
    """

    number: int
    left: LongArray
    right: LongArray
    rank_left: DoubleArray
    rank_right: DoubleArray
    reference: float
    d_left: DoubleArray
    d_right: DoubleArray
    d_pair: DoubleArray
    d_probability: DoubleArray
    control: Effects | None = None

    @property
    def interaction(self) -> DoubleArray:
        """What the pair does beyond its two genes alone (epsilon), shape ``(L, R)``."""
        return self.d_pair - self.d_left[:, None] - self.d_right[None, :]

    def controlled(self) -> Effects:
        """Return the effects less those of their controls."""
        if self.control is None:
            return self
        return replace(
            self,
            d_left=self.d_left - self.control.d_left,
            d_right=self.d_right - self.control.d_right,
            d_pair=self.d_pair - self.control.d_pair,
            d_probability=self.d_probability - self.control.d_probability,
            control=None,
        )

    def mirrored(self) -> Effects:
        """Return the same pair with left and right exchanged."""
        return Effects(
            self.number,
            self.right,
            self.left,
            self.rank_right,
            self.rank_left,
            self.reference,
            self.d_right,
            self.d_left,
            self.d_pair.T,
            self.d_probability.T,
            None if self.control is None else self.control.mirrored(),
        )


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A cell pair whose knock-outs are encoded.

    Attributes
    ----------
    number
        Which pair of those given.
    encoded
        Holds the versions of both cells.
    left, right
        Which version is what.
    """

    number: int
    encoded: EncodedParts
    left: CellKnockouts
    right: CellKnockouts


@dataclass(frozen=True, slots=True)
class Knocking:
    """What is knocked out, and how.

    Attributes
    ----------
    knockout
        ``delete`` or ``mask``.
    targets
        Genes and gene sets; None takes every token, numbered as itself.
    control_seed
        Decides the control genes; None: no controls.
    """

    knockout: Knockout = "delete"
    targets: Targets | None = None
    control_seed: int | None = None


def exact_effects(
    scorer: PairScorer | Evaluator,
    cells: CellTokens,
    left: LongArray,
    right: LongArray,
    *,
    how: Knocking | None = None,
    cancel: Cancel = never,
) -> Iterator[Effects]:
    """Yield the effects of all gene pairs of each cell pair, in the given order.

    Pairs that share a cell should stand close together: encodings are shared among the pairs of
    a chunk of at most `MAX_VARIANTS` encodings.

    Parameters
    ----------
    scorer
        Gives logits averaged over both orders of the two cells.
    cells
        Tokens of all cells.
    left, right
        Row numbers of the two cells of each pair, shape ``(n,)``.
    how
        What to knock out; every gene by deletion if None.

    Raises
    ------
    Cancelled
        If the user cancels; polled before each cell pair and each call of the scorer.
    """
    evaluator = scorer if isinstance(scorer, Evaluator) else Evaluator(scorer, cancel=cancel)
    for pair in encoded_pairs(evaluator, cells, left, right, how or Knocking()):
        yield effects_of(pair, exact_logits(evaluator, pair))


def encoded_pairs(
    evaluator: Evaluator,
    cells: CellTokens,
    left: LongArray,
    right: LongArray,
    how: Knocking,
) -> Iterator[EncodedPair]:
    """Yield each cell pair with all its versions encoded, in the given order."""
    targets = how.targets or every_token(cells)
    controls = how.control_seed is not None
    cost = n_versions(cells, targets, controls=controls)
    for start, stop in chunks(cost, left, right):
        rows = np.unique(np.concatenate([left[start:stop], right[start:stop]]))
        made = knock_out(cells.take(rows), targets, how.knockout, how.control_seed)
        encoded = evaluator.encode(made.versions)
        for number in range(start, stop):
            check(evaluator.cancel)
            a, b = (int(np.searchsorted(rows, side[number])) for side in (left, right))
            yield EncodedPair(number, encoded, made.of_cell[a], made.of_cell[b])


def exact_logits(evaluator: Evaluator, pair: EncodedPair) -> DoubleArray:
    """Return the logits of all versions that an effect or its control needs; others are NaN."""
    left, right = pair.left, pair.right
    logits = np.full((left.n_versions, right.n_versions), np.nan)
    n_left, n_right = 1 + len(left.target), 1 + len(right.target)
    blocks = [(np.arange(n_left), np.arange(n_right))]
    if left.n_versions > n_left or right.n_versions > n_right:
        # Versions that are controls only: no target meets them.
        beyond = (np.arange(n_left, left.n_versions), np.arange(n_right, right.n_versions))
        blocks.append((np.append(0, beyond[0]), np.append(0, beyond[1])))
    for rows, columns in blocks:
        grid = evaluator.grid(pair.encoded, left.rows[rows], right.rows[columns])
        logits[np.ix_(rows, columns)] = grid
    return logits


def effects_of(pair: EncodedPair, logits: DoubleArray) -> Effects:
    """Return effects and control effects from the logits of versions (NaN where not known)."""
    left, right = pair.left, pair.right
    one, other = np.arange(1, 1 + len(left.target)), np.arange(1, 1 + len(right.target))
    control = None
    if left.control is not None and right.control is not None:
        control = _effects(pair, logits, left.control, right.control)
    return replace(_effects(pair, logits, one, other), control=control)


def _effects(pair: EncodedPair, logits: DoubleArray, one: LongArray, other: LongArray) -> Effects:
    reference = float(logits[0, 0])
    both = logits[np.ix_(one, other)]
    return Effects(
        pair.number,
        pair.left.target,
        pair.right.target,
        pair.left.rank,
        pair.right.rank,
        reference,
        logits[one, 0] - reference,
        logits[0, other] - reference,
        both - reference,
        expit(both) - expit(reference),
    )


def chunks(cost: LongArray, left: LongArray, right: LongArray) -> Iterator[tuple[int, int]]:
    """Cut the pairs where the cells of a chunk would need more than `MAX_VARIANTS` encodings."""
    start, held, seen = 0, 0, set[int]()
    for number, ends in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        new = {cell for cell in ends if cell not in seen}
        needed = sum(int(cost[cell]) for cell in new)
        if seen and held + needed > MAX_VARIANTS:
            yield start, number
            start, held, seen, new = number, 0, set(), set(ends)
            needed = sum(int(cost[cell]) for cell in new)
        held += needed
        seen |= new
    if start < len(left):
        yield start, len(left)
