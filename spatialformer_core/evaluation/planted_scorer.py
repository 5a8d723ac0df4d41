"""Method ``planted_scorer``: a scorer whose logit is the simulator's planted truth, written down.

What a network would have to learn. A screen with it shows what pairs, units, tests and the
correction can find on a tissue, apart from what a trained network has learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import CellTokens, DoubleArray, FloatArray
from spatialformer_core.inference import Encoded
from spatialformer_core.simulate import planted
from spatialformer_core.vocabulary import Vocabulary

NAME = "planted_scorer"

_JOINT = 2.0
_SINGLE = 1.0
_NOISE_SD = 0.02
_SEED = 20_251_121


@dataclass(frozen=True, slots=True)
class EncodedPresence:
    """Which genes each cell has, shape ``(n, n_genes)``."""

    presence: DoubleArray

    def __len__(self) -> int:
        return len(self.presence)

    def take(self, rows: NDArray[np.integer]) -> EncodedPresence:
        """Return the given rows."""
        return EncodedPresence(self.presence[rows])


class PlantedScorer:
    """``logit(a, b) = a' W b + u . (a + b)`` over the genes that two cells have, W symmetric.

    W joins each planted lock with its key. Genes that change where cells touch, genes of a zone
    and all decoys act alone (u). As in a network no effect is exactly nothing: every gene and
    every gene pair has a small random weight.

    Parameters
    ----------
    vocabulary
        Gives the gene columns.
    linked
        False: no lock is joined with its key.
    """

    name = NAME

    def __init__(self, vocabulary: Vocabulary, *, linked: bool = True) -> None:
        self._offset, n = vocabulary.gene_offset, len(vocabulary.genes)
        column = {gene: k for k, gene in enumerate(vocabulary.genes)}
        rng = np.random.default_rng(_SEED)
        noise = rng.normal(0, _NOISE_SD, (n, n))
        self._pair = (noise + noise.T) / 2
        self._single = rng.normal(0, _NOISE_SD, n)
        alone = [rule.gene for rule in planted.CONTACT_GENES]
        alone += [rule.gene for rule in planted.ZONE_GENES]
        for pair in planted.CONTACT_PAIRS + planted.CONTACT_PAIR_DECOYS:
            left, right = column.get(pair.gene_left), column.get(pair.gene_right)
            if pair.linked and linked and left is not None and right is not None:
                self._pair[left, right] += _JOINT
                self._pair[right, left] += _JOINT
            elif not pair.linked:
                alone += [pair.gene_left, pair.gene_right]
        for gene in alone:
            if gene in column:
                self._single[column[gene]] += _SINGLE

    def encode(self, cells: CellTokens) -> EncodedPresence:
        """Note which genes each cell has."""
        presence = np.zeros((cells.n_cells, len(self._single)))
        row = np.repeat(np.arange(cells.n_cells), cells.lengths)
        gene = cells.tokens - self._offset
        presence[row[gene >= 0], gene[gene >= 0]] = 1.0
        return EncodedPresence(presence)

    def score(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of aligned rows, shape ``(n,)``."""
        a, b = _presence(left), _presence(right)
        logits = ((a @ self._pair) * b).sum(axis=1) + (a + b) @ self._single
        return np.asarray(logits, np.float32)

    def score_grid(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of every left with every right row, shape ``(L, R)``."""
        a, b = _presence(left), _presence(right)
        alone = (a @ self._single)[:, None] + (b @ self._single)[None, :]
        return np.asarray(a @ self._pair @ b.T + alone, np.float32)

    def embed(self, cells: CellTokens) -> FloatArray:
        """Return which genes each cell has, shape ``(n, n_genes)``."""
        return self.encode(cells).presence.astype(np.float32)


def _presence(encoded: Encoded) -> DoubleArray:
    if not isinstance(encoded, EncodedPresence):
        message = f"{type(encoded).__name__} was encoded by another scorer"
        raise TypeError(message)
    return encoded.presence
