"""Calls of a scorer in pieces: cancellable, and smaller when the device's memory runs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import CellTokens, DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, check, never

if TYPE_CHECKING:
    from spatialformer_core.inference import Encoded, PairScorer


@dataclass(slots=True)
class Evaluator:
    """Encodes cells and scores pairs of them, never more at once than the device can hold.

    Attributes
    ----------
    scorer
        Gives logits in fp32, averaged over both orders of the two cells.
    cells_per_call, pairs_per_call
        Most cells, and pairs, given to the scorer at once; halved whenever memory runs out. What
        one call takes is also how long a cancelled screen works on.
    cancel
        Polled before every call.
    encodings, evaluations
        Counted so far.
    """

    scorer: PairScorer
    cells_per_call: int = 2_048
    pairs_per_call: int = 1 << 20
    cancel: Cancel = never
    encodings: int = field(default=0, init=False)
    evaluations: int = field(default=0, init=False)

    def encode(self, cells: CellTokens) -> EncodedParts:
        """Encode each cell once.

        Raises
        ------
        SpatialFormerError
            If the device cannot hold a single cell.
        Cancelled
            If the user cancels.
        """
        parts: list[Encoded] = []
        start = 0
        while start < cells.n_cells:
            check(self.cancel)
            rows = np.arange(start, min(start + self.cells_per_call, cells.n_cells))
            try:
                parts.append(self.scorer.encode(cells.take(rows)))
            except RuntimeError as error:
                self.cells_per_call = _halved(len(rows), error)
                continue
            start += len(rows)
        self.encodings += cells.n_cells
        return EncodedParts(parts)

    def grid(self, encoded: EncodedParts, left: LongArray, right: LongArray) -> DoubleArray:
        """Return the logits of every left with every right row, float64, shape ``(L, R)``.

        Raises
        ------
        SpatialFormerError
            If the device cannot hold a single pair.
        Cancelled
            If the user cancels.
        """
        out = np.empty((len(left), len(right)))
        for at, one in encoded.take(left):
            for beside, other in encoded.take(right):
                self._fill(out, (at, beside), one, other)
        self.evaluations += out.size
        return out

    def _fill(
        self, out: DoubleArray, place: tuple[LongArray, LongArray], one: Encoded, other: Encoded
    ) -> None:
        row = 0
        while row < len(one):
            column = 0
            high = max(1, self.pairs_per_call // max(1, len(other)))
            rows = np.arange(row, min(row + high, len(one)))
            while column < len(other):
                check(self.cancel)
                wide = max(1, self.pairs_per_call // len(rows))
                columns = np.arange(column, min(column + wide, len(other)))
                try:
                    grid = self.scorer.score_grid(one.take(rows), other.take(columns))
                except RuntimeError as error:
                    self.pairs_per_call = _halved(len(rows) * len(columns), error)
                    rows = rows[: max(1, min(len(rows), self.pairs_per_call // len(columns)))]
                    column = 0
                    continue
                out[np.ix_(place[0][rows], place[1][columns])] = grid
                column += len(columns)
            row += len(rows)

    def score(self, encoded: EncodedParts, left: LongArray, right: LongArray) -> DoubleArray:
        """Return the logits of aligned rows, float64, shape ``(n,)``.

        Raises
        ------
        SpatialFormerError
            If the device cannot hold a single pair.
        Cancelled
            If the user cancels.
        """
        out = np.empty(len(left))
        start = 0
        while start < len(left):
            check(self.cancel)
            rows = np.arange(start, min(start + self.pairs_per_call, len(left)))
            try:
                for at, one, other in encoded.aligned(left[rows], right[rows]):
                    out[rows[at]] = self.scorer.score(one, other)
            except RuntimeError as error:
                self.pairs_per_call = _halved(len(rows), error)
                continue
            start += len(rows)
        self.evaluations += len(left)
        return out


class EncodedParts:
    """Encodings made in several calls, addressed as one."""

    def __init__(self, parts: list[Encoded]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *(len(part) for part in parts)])

    def take(self, rows: LongArray) -> list[tuple[LongArray, Encoded]]:
        """Return rows, split by call, each with its places in ``rows``."""
        part = np.searchsorted(self._first, rows, side="right") - 1
        taken = []
        for k in np.unique(part):
            at = np.flatnonzero(part == k)
            taken.append((at, self._parts[k].take(rows[at] - self._first[k])))
        return taken

    def aligned(
        self, left: LongArray, right: LongArray
    ) -> list[tuple[LongArray, Encoded, Encoded]]:
        """Return aligned rows, split by call, each with its places."""
        if len(self._parts) == 1:
            (only,) = self._parts
            return [(np.arange(len(left)), only.take(left), only.take(right))]
        parts = [np.searchsorted(self._first, rows, side="right") - 1 for rows in (left, right)]
        found = []
        for k, m in np.unique(np.column_stack(parts), axis=0):
            at = np.flatnonzero((parts[0] == k) & (parts[1] == m))
            one = self._parts[k].take(left[at] - self._first[k])
            found.append((at, one, self._parts[m].take(right[at] - self._first[m])))
        return found


def _halved(size: int, error: RuntimeError) -> int:
    """Return half the size of a call that ran out of memory; raise every other error again."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        raise error
    if size <= 1:
        raise SpatialFormerError(
            "The device has too little memory for one cell pair.",
            fix="Free its memory, or run the screen on the CPU.",
        ) from error
    torch.cuda.empty_cache()
    return size // 2
