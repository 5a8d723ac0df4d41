"""What a comparison of gene pairs is asked to do."""

from __future__ import annotations

from typing import TypedDict

from pydantic import Field

from spatialformer_core.config import FrozenModel
from spatialformer_core.stats import CellUnitKind


class GenePairSettings(FrozenModel):
    """Settings of a comparison, whatever the cells come from.

    Attributes
    ----------
    groups
        Group and reference; None compares every group with all the others (two groups: with each
        other).
    unit
        Replicate unit; ``auto`` takes the largest with at least 6 units of 10 cells per group.
    n_pairs
        Highly variable pairs that are tested; chosen without a look at the groups.
    min_cells
        Cells in which a pair must co-occur to be considered, groups disregarded.
    min_copies
        Copies of each gene that count as "both genes are there".
    depth_bins
        Quantile bins of transcripts per cell that shares are adjusted for.
    n_described
        Pairs per comparison, strongest first, for which it is worked out what their two genes tell
        about the group without them.
    per_cell_test
        Whether scanpy's test over cells, the published way, stands beside.
    """

    groups: tuple[str, str] | None = None
    unit: CellUnitKind = "auto"
    n_pairs: int = Field(default=2000, ge=1, le=20_000)
    min_cells: int = Field(default=10, ge=2)
    min_copies: int = Field(default=3, ge=1, le=100)
    depth_bins: int = Field(default=10, ge=1, le=100)
    n_described: int = Field(default=100, ge=0, le=2000)
    per_cell_test: bool = True


class GenePairArguments(TypedDict, total=False):
    """`GenePairSettings` as keyword arguments."""

    groups: tuple[str, str] | None
    unit: CellUnitKind
    n_pairs: int
    min_cells: int
    depth_bins: int
    n_described: int
    per_cell_test: bool
