"""The one interface behind which both architectures score pairs of cells."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import CellTokens, FloatArray


class Encoded(Protocol):
    """Cells in the form that a scorer compares; only that scorer knows what is inside."""

    def __len__(self) -> int:
        """Return the number of cells."""

    def take(self, rows: NDArray[np.integer]) -> Self:
        """Return the given rows, in the given order (repeats allowed)."""


class PairScorer(Protocol):
    """Says for two cells how likely they are neighbours, from expression alone.

    Scores are logits, computed in fp32, the same for ``(a, b)`` and ``(b, a)`` and independent of
    what else is in the batch (<= 1e-5). They rank; one probability cannot fit every mix of
    negatives.
    """

    @property
    def name(self) -> str:
        """Name of the checkpoint."""

    def encode(self, cells: CellTokens) -> Encoded:
        """Encode each cell once."""

    def score(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of aligned rows, shape ``(n,)``."""

    def score_grid(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of every left with every right row, shape ``(L, R)``."""

    def embed(self, cells: CellTokens) -> FloatArray:
        """Return the CLS state of each single cell, shape ``(n, dim)``."""
