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

from spatialformer_core.arrays import CellTokens, DoubleArray, IntArray, LongArray
from spatialformer_core.config import Knockout
from spatialformer_core.progress import Cancel, check, never
from spatialformer_core.vocabulary import MASK

if TYPE_CHECKING:
    from spatialformer_core.inference import Encoded, PairScorer

MAX_VARIANTS = 40_000
"""Encodings held at once; bounds memory whatever the number of pairs."""

_ENCODE_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class Effects:
    """All knock-outs of one cell pair; every value is a change of the logit.

    Attributes
    ----------
    number
        Which pair of those given.
    left, right
        Tokens (genes) of the two cells in rank order, shapes ``(L,)`` and ``(R,)``.
    reference
        Logit with nothing knocked out.
    d_left, d_right
        Of one gene alone, shapes ``(L,)`` and ``(R,)``.
    d_pair
        Of both genes, shape ``(L, R)``.
    """

    number: int
    left: IntArray
    right: IntArray
    reference: float
    d_left: DoubleArray
    d_right: DoubleArray
    d_pair: DoubleArray

    @property
    def interaction(self) -> DoubleArray:
        """What the pair does beyond its two genes alone (epsilon), shape ``(L, R)``."""
        return self.d_pair - self.d_left[:, None] - self.d_right[None, :]

    def mirrored(self) -> Effects:
        """Return the same pair with left and right exchanged."""
        return Effects(
            self.number,
            self.right,
            self.left,
            self.reference,
            self.d_right,
            self.d_left,
            self.d_pair.T,
        )


def variants(cells: CellTokens, rows: LongArray, knockout: Knockout) -> CellTokens:
    """Return each cell whole and once for each of its genes with that gene knocked out.

    Parameters
    ----------
    cells
        Tokens.
    rows
        Which cells.
    knockout
        ``delete`` removes the token, ``mask`` puts the mask token in its place.

    Returns
    -------
    CellTokens
        Cell after cell: whole, then without its 1st, 2nd, ... gene; ``sum(L + 1)`` rows.
    """
    lengths = cells.lengths[rows]
    repeated = cells.take(np.repeat(rows, lengths + 1))
    first = np.cumsum(lengths + 1) - (lengths + 1)
    positions = np.arange(repeated.n_cells) - np.repeat(first, lengths + 1) - 1
    if knockout == "delete":
        return repeated.without(positions)
    hit = positions >= 0
    places = repeated.indptr[:-1][hit] + positions[hit]
    tokens, counts = repeated.tokens.copy(), repeated.counts.copy()
    # A masked gene keeps its place in the ranking but tells neither name nor magnitude.
    tokens[places], counts[places] = MASK, 0
    return replace(repeated, tokens=tokens, counts=counts)


def exact_effects(
    scorer: PairScorer,
    cells: CellTokens,
    left: LongArray,
    right: LongArray,
    *,
    knockout: Knockout = "delete",
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

    Raises
    ------
    Cancelled
        If the user cancels; polled before each cell pair and each batch of encodings.
    """
    for start, stop in _chunks(cells.lengths, left, right):
        rows = np.unique(np.concatenate([left[start:stop], right[start:stop]]))
        encoded = _encode(scorer, variants(cells, rows, knockout), cancel)
        lengths = cells.lengths[rows]
        first = np.cumsum(lengths + 1) - (lengths + 1)
        for number in range(start, stop):
            check(cancel)
            a, b = (int(np.searchsorted(rows, side[number])) for side in (left, right))
            grid = _grid(
                scorer,
                encoded,
                np.arange(first[a], first[a] + lengths[a] + 1),
                np.arange(first[b], first[b] + lengths[b] + 1),
            )
            change = grid - grid[0, 0]
            yield Effects(
                number,
                cells.row(int(rows[a])),
                cells.row(int(rows[b])),
                float(grid[0, 0]),
                change[1:, 0],
                change[0, 1:],
                change[1:, 1:],
            )


class _Parts:
    """Encodings made in several batches, addressed as one."""

    def __init__(self, parts: list[Encoded]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *(len(part) for part in parts)])

    def take(self, rows: LongArray) -> list[Encoded]:
        """Return consecutive rows, split where they cross a batch."""
        taken = []
        for k, part in enumerate(self._parts):
            inside = rows[(rows >= self._first[k]) & (rows < self._first[k + 1])]
            if len(inside):
                taken.append(part.take(inside - self._first[k]))
        return taken


def _encode(scorer: PairScorer, cells: CellTokens, cancel: Cancel) -> _Parts:
    parts = []
    for start in range(0, cells.n_cells, _ENCODE_ROWS):
        check(cancel)
        stop = min(start + _ENCODE_ROWS, cells.n_cells)
        parts.append(scorer.encode(cells.take(np.arange(start, stop))))
    return _Parts(parts)


def _grid(scorer: PairScorer, encoded: _Parts, left: LongArray, right: LongArray) -> DoubleArray:
    """Return logits of every left with every right variant, float64, shape ``(L+1, R+1)``."""
    columns = encoded.take(right)
    return np.concatenate(
        [
            np.concatenate([scorer.score_grid(row, column) for column in columns], axis=1)
            for row in encoded.take(left)
        ],
        axis=0,
    ).astype(np.float64)


def _chunks(lengths: LongArray, left: LongArray, right: LongArray) -> Iterator[tuple[int, int]]:
    """Cut the pairs where the cells of a chunk would need more than `MAX_VARIANTS` encodings."""
    start, held, seen = 0, 0, set[int]()
    for number, ends in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        new = {cell for cell in ends if cell not in seen}
        cost = sum(int(lengths[cell]) + 1 for cell in new)
        if seen and held + cost > MAX_VARIANTS:
            yield start, number
            start, held, seen, new = number, 0, set(), set(ends)
            cost = sum(int(lengths[cell]) + 1 for cell in new)
        held += cost
        seen |= new
    if start < len(left):
        yield start, len(left)
