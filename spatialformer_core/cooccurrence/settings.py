"""How co-occurring genes are found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spatialformer_core.config import FrozenModel


class CooccurrenceSettings(FrozenModel):
    """Which genes count as co-occurring in a cell (paper section 4.3).

    Attributes
    ----------
    radius_um
        Largest distance of linked transcripts.
    min_copies
        Copies that each gene of a pair needs in one community.
    dims
        2 as in the paper, 3 as a sensitivity run; results of the two are never mixed.
    n_seeds
        Searches for communities that vote, each with another order of visits; 1 is a single one
        in a fixed order.
    seed
        Of the orders of visits; without effect on a single search.
    """

    radius_um: float = Field(default=5.0, gt=0, le=50)
    min_copies: int = Field(default=3, ge=1, le=100)
    dims: Literal[2, 3] = 2
    n_seeds: int = Field(default=1, ge=1, le=101)
    seed: int = Field(default=0, ge=0, lt=2**31)
