"""Masked tokens: which are hidden, and by what (paper 4.3: 15 %, of these 80/10/10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.vocabulary import MASK, SPECIALS


@dataclass(frozen=True, slots=True)
class Masked:
    """Tokens as the network sees them, and what it has to find.

    Attributes
    ----------
    tokens
        All rows, the chosen ones masked, replaced or kept, shape ``(T,)``.
    positions
        The chosen rows, ascending, shape ``(M,)``.
    targets
        The true tokens at ``positions``, shape ``(M,)``.
    """

    tokens: LongArray
    positions: LongArray
    targets: LongArray


def mask_tokens(
    tokens: LongArray,
    *,
    gene_offset: int,
    n_tokens: int,
    seed: tuple[int, ...],
    fraction: float = 0.15,
) -> Masked:
    """Hide a share of the gene and meta tokens.

    Special tokens are never chosen. Of the chosen ones 80 % become MASK, 10 % a random gene and
    10 % stay. The choice follows from ``seed`` and the place alone, so a resumed run hides the
    same tokens.

    Parameters
    ----------
    tokens
        Token ids, shape ``(T,)``.
    gene_offset, n_tokens
        Random replacements are drawn from ``[gene_offset, n_tokens)``.
    seed
        For example ``(recipe seed, step)``.
    fraction
        Chance of each token that is no special to be chosen.
    """
    rng = np.random.default_rng(seed)
    draw = rng.random((2, len(tokens)))
    chosen = (tokens >= len(SPECIALS)) & (draw[0] < fraction)
    positions = np.flatnonzero(chosen)
    fate = draw[1, positions]
    hidden = tokens.copy()
    hidden[positions[fate < 0.8]] = MASK
    replaced = positions[(fate >= 0.8) & (fate < 0.9)]
    hidden[replaced] = rng.integers(gene_offset, n_tokens, len(replaced))
    return Masked(hidden, positions, tokens[positions])
