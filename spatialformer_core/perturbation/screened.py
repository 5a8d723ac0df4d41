"""Screens of cross-encoders: exact single knock-outs, a low-rank approximation of what pairs add.

The interaction of the genes of two cells is close to a matrix of low rank, so two of its rows and
columns, chosen by adaptive cross approximation (Bebendorf 2000), tell the others approximately.
The entries that look strongest are then evaluated in a few rounds, and after each
what the crosses missed is completed anew from all that is known of it (alternating least squares),
so that the neighbours of a miss come up, too. Nothing approximate is reported: it proposes gene
pairs, which are evaluated exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.perturbation.contrast import contrast
from spatialformer_core.perturbation.engine import Effects, EncodedPair
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.plan import GenePairIndex
from spatialformer_core.perturbation.tally import Tally

RANK = 2
"""Rows and columns of the first approximation."""

ROUNDS, ROUND_SHARE = 4, 1 / 90
"""Rounds in which the entries that look strongest are evaluated, and how many of all in each."""

_COMPLETION_RANK, _RIDGE, _SWEEPS = 2, 0.1, 10
_CLOSE = 0.02
"""No further round where the last one was foretold with so small an error."""

TOP, WITHIN = 100, 300
"""Recall is the share of a cell pair's strongest 100 that are among the 300 proposed first."""

RECALL_PAIRS = 20
"""Cell pairs, at most, that a screened run evaluates fully to measure its recall."""

_NOISE = 1e-6


@dataclass(frozen=True, slots=True)
class Approximation:
    """Logits of all versions of two cells.

    Attributes
    ----------
    logits
        Shape ``(n_left, n_right)``, the whole cells first.
    known
        Which of them are exact, same shape.
    """

    logits: DoubleArray
    known: BoolArray


def approximate(evaluator: Evaluator, pair: EncodedPair) -> Approximation:
    """Return the logits of all knock-outs of a cell pair, most of them approximately."""
    state = _Known(evaluator, pair)
    state.ask_row(0)
    state.ask_column(0)
    additive = state.logits[:, :1] + state.logits[:1] - state.logits[0, 0]
    beyond = _refined(state, additive, _crosses(state, additive))
    return Approximation(np.where(state.known, state.logits, additive + beyond), state.known)


def _crosses(state: _Known, additive: DoubleArray) -> DoubleArray:
    """Return the interaction of all versions, of rank two, from two of its rows and columns."""
    logits = state.logits
    along = logits[:, 0] - logits[0, 0]
    beyond = np.zeros_like(logits)
    unused = np.abs(along)
    unused[0] = -1.0
    row, pivots = int(np.argmax(unused)), 0
    # A row without interaction says nothing of the others: as many again may be tried.
    for _ in range(2 * RANK):
        if pivots == RANK or unused.max() < 0:
            break
        unused[row] = -1.0
        state.ask_row(row)
        rest = logits[row] - additive[row] - beyond[row]
        column = int(np.argmax(np.abs(rest)))
        if abs(rest[column]) < _NOISE:
            row = int(np.argmax(unused))
            continue
        state.ask_column(column)
        along = logits[:, column] - additive[:, column] - beyond[:, column]
        beyond += np.outer(along, rest / rest[column])
        row, pivots = int(np.argmax(np.where(unused < 0, -1.0, np.abs(along)))), pivots + 1
    return beyond


def _refined(state: _Known, additive: DoubleArray, beyond: DoubleArray) -> DoubleArray:
    """Return the interaction, better known where it is strong."""
    size = round(beyond.size * ROUND_SHARE)
    guess: DoubleArray = beyond
    for _ in range(ROUNDS):
        strength = np.where(state.known, -1.0, np.abs(guess)).ravel()
        strongest = np.argsort(-strength, kind="stable")[:size]
        places = np.unravel_index(strongest[strength[strongest] >= _NOISE], guess.shape)
        if not len(places[0]):
            break
        foretold = guess[places]
        state.ask(*places)
        exact = state.logits - additive
        missed = np.square(exact[places] - foretold).mean()
        if missed <= _CLOSE**2 * np.square(exact[places]).mean():
            break
        guess = beyond + completed(exact - beyond, state.known)
    return guess


def completed(values: DoubleArray, known: BoolArray) -> DoubleArray:
    """Return a matrix of low rank that fits what is known of one, near 0 where little is known.

    Parameters
    ----------
    values, known
        The matrix, and which of its entries are known; shape ``(L, R)``.
    """
    rank = min(_COMPLETION_RANK, *values.shape)
    scale = float(np.sqrt(np.square(values[known]).mean())) if known.any() else 0.0
    if scale == 0.0:
        return np.zeros_like(values)
    filled = np.where(known, values / scale, 0.0)
    weight = known.astype(np.float64)
    left, sizes, right = np.linalg.svd(filled, full_matrices=False)
    rows = np.asarray(left[:, :rank] * np.sqrt(sizes[:rank]), np.float64)
    columns = np.asarray(right[:rank].T * np.sqrt(sizes[:rank]), np.float64)
    for _ in range(_SWEEPS):
        rows = _solved(columns, weight, filled)
        columns = _solved(rows, weight.T, filled.T)
    fitted: DoubleArray = rows @ columns.T * scale
    return fitted


def _solved(factor: DoubleArray, weight: DoubleArray, values: DoubleArray) -> DoubleArray:
    """Return the other factor that fits best, shrunk a little."""
    rank = factor.shape[1]
    squares = (factor[:, :, None] * factor[:, None, :]).reshape(len(factor), -1)
    left = (weight @ squares).reshape(-1, rank, rank) + _RIDGE * np.eye(rank)
    solved = np.linalg.solve(left, (values @ factor)[..., None])[..., 0]
    return np.asarray(solved, np.float64)


class _Known:
    """Exact logits of some versions, each asked for once."""

    def __init__(self, evaluator: Evaluator, pair: EncodedPair) -> None:
        self._evaluator, self._pair = evaluator, pair
        shape = (pair.left.n_versions, pair.right.n_versions)
        self.logits, self.known = np.zeros(shape), np.zeros(shape, np.bool_)

    def ask_row(self, row: int) -> None:
        columns = np.flatnonzero(~self.known[row])
        self.ask(np.full(len(columns), row), columns)

    def ask_column(self, column: int) -> None:
        rows = np.flatnonzero(~self.known[:, column])
        self.ask(rows, np.full(len(rows), column))

    def ask(self, rows: LongArray, columns: LongArray) -> None:
        one, other = self._pair.left.rows[rows], self._pair.right.rows[columns]
        self.logits[rows, columns] = self._evaluator.score(self._pair.encoded, one, other)
        self.known[rows, columns] = True


def complete(
    evaluator: Evaluator,
    pair: EncodedPair,
    known: Approximation,
    index: GenePairIndex,
    *,
    both_ways: bool,
) -> DoubleArray:
    """Return exact logits of what some gene pairs and their controls need; others are NaN.

    Parameters
    ----------
    known
        What is known exactly of this cell pair.
    index
        The gene pairs.
    both_ways
        Whether either gene may stand on either side (both cells are of one type).
    """
    left, right = pair.left, pair.right
    slots = index.slot[left.target[:, None], right.target[None, :]] >= 0
    if both_ways:
        slots |= index.slot[right.target[None, :], left.target[:, None]] >= 0
    row, column = np.nonzero(slots)
    wanted = np.zeros(known.known.shape, np.bool_)
    wanted[row + 1, column + 1] = True
    if left.control is not None and right.control is not None:
        wanted[left.control[row], right.control[column]] = True
    state = _Known(evaluator, pair)
    state.logits[:] = np.where(known.known, known.logits, np.nan)
    state.ask(*np.nonzero(wanted & ~known.known))
    return state.logits


def recall(exact: Effects, proposed: Effects) -> dict[str, Any]:
    """Return which share of a cell pair's strongest gene pairs the approximation finds.

    The strongest 100 within the 300 that come first; in small cells the strongest tenth within
    three tenths.
    """
    top = max(1, min(TOP, exact.d_pair.size // 10))
    found: dict[str, Any] = {"top": top, "within": top * WITHIN // TOP}
    for name, true, guess in (
        ("d", exact.d_pair, proposed.d_pair),
        ("epsilon", exact.interaction, proposed.interaction),
    ):
        best = np.argsort(-np.abs(true), axis=None, kind="stable")[:top]
        first = np.argsort(-np.abs(guess), axis=None, kind="stable")[: found["within"]]
        found[name] = float(np.isin(best, first).mean())
        found[f"{name}_error"] = float(np.abs(true - guess).max())
    return found


def measured_recall(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean recall and largest error over the cell pairs that were evaluated fully."""
    return {
        "cell_pairs": len(found),
        "top": max(one["top"] for one in found),
        "within": max(one["within"] for one in found),
        "d": float(np.mean([one["d"] for one in found])),
        "epsilon": float(np.mean([one["epsilon"] for one in found])),
        "lowest": min(min(one["d"], one["epsilon"]) for one in found),
        "largest_error": max(max(one["d_error"], one["epsilon_error"]) for one in found),
    }


def recall_sample(n_pairs: int, seed: int) -> LongArray:
    """Return the cell pairs that are evaluated fully: one in a hundred, 5 to `RECALL_PAIRS`."""
    size = min(n_pairs, RECALL_PAIRS, max(5, n_pairs // 100))
    chosen: LongArray = np.sort(np.random.default_rng(seed).choice(n_pairs, size, replace=False))
    return chosen


def propose(tally: Tally, candidates: int, *, with_p: bool) -> LongArray:
    """Return the slots to evaluate exactly: the strongest by effect and by interaction in turn."""
    orders = []
    for quantity in ("d", "epsilon"):
        found = contrast(tally, quantity, with_p=with_p)
        strength = -np.log(np.maximum(found.p, 1e-300)) if with_p else np.abs(found.estimate)
        # Equal p-values happen where effects are equal; the larger effect goes first.
        orders.append(np.lexsort((-np.abs(found.estimate), -np.nan_to_num(strength, nan=-1.0))))
    merged = np.column_stack(orders).ravel()
    _, first = np.unique(merged, return_index=True)
    return np.sort(merged[np.sort(first)][:candidates])


def only(index: GenePairIndex, slots: LongArray) -> GenePairIndex:
    """Return an index of some gene pairs alone, numbered from 0."""
    slot = np.full_like(index.slot, -1)
    slot[index.left[slots], index.right[slots]] = np.arange(len(slots))
    return GenePairIndex(index.left[slots], index.right[slots], slot, index.n_units[slots])
