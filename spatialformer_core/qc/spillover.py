"""Which genes are counted in a cell type because they spilled over from its neighbours.

A transcript near a border is easily counted for the wrong cell. So the gene of a *source* type is
then detected in another type mostly in cells beside a source cell. Biology does the same: a gene
that contact induces is also found beside the source. Two observations tell them apart, and a gene
is flagged in a type only if both say spillover:

1. *near*: it is detected more often in cells of the type within ``near_um`` of a source cell than
   in those beyond ``far_um``, at equal depth and within the same block of tissue;
2. *edge*: in those near cells its transcripts lie nearer to the border than the cells' other
   transcripts do, compared with the same gene in its source cells (a gene that the cell itself
   makes lies where it lies in other cells). So what spilled over is lost when the outlines are
   eroded by ``erosion_um``, and what contact induced is not.

The replicate of both tests is the block of tissue, never the cell. The first is adjusted over all
genes and types tested; the second chooses between two readings of what the first found, so a gene
that contact induces is taken for spillover with a chance of at most ``alpha``.

What it misses: transcripts of a cell that lies above or below, or that drifted far, lie anywhere
in the other cell, as if contact had induced them. Such a gene depends on distance and is not
flagged; nothing in one section's counts tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import sparse, stats
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.qc.spillover_blocks import Neighbourhood, edge_test, near_test

Csr = Any


class SpilloverSettings(FrozenModel):
    """What counts as spillover.

    Attributes
    ----------
    erosion_um
        Transcripts at least this deep inside their cell count in the eroded matrix.
    near_um, far_um
        A cell is near its source type if a source cell's centre is at most ``near_um`` away, far
        if none is within ``far_um``; cells between are left out.
    block_um
        Side of the blocks of tissue that are the replicates.
    source_share
        The source types of a gene are those in which its share of the transcripts is at least
        this part of the largest share of any type.
    target_share
        A gene is tested in the types where its share is at most this part of the largest; between
        the two the type may well express it.
    min_cells
        Types with fewer analysed cells are neither source nor tested; near and far cells of a
        tested type must reach a third of it each.
    min_detected
        A gene is tested in a type if so many of its near and far cells hold it.
    min_blocks
        Blocks that a test needs.
    alpha, min_odds_ratio, max_edge_ratio
        A gene is flagged if the first test passes this false discovery rate with at least this
        odds ratio, and the second this p-value with at most this edge ratio.
    """

    erosion_um: float = Field(default=1.5, gt=0, le=20)
    near_um: float = Field(default=15.0, gt=0)
    far_um: float = Field(default=30.0, gt=0)
    block_um: float = Field(default=200.0, gt=0)
    source_share: float = Field(default=0.5, gt=0, le=1)
    target_share: float = Field(default=0.25, gt=0, lt=1)
    min_cells: int = Field(default=30, ge=3)
    min_detected: int = Field(default=20, ge=1)
    min_blocks: int = Field(default=6, ge=3)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    min_odds_ratio: float = Field(default=1.5, ge=1)
    max_edge_ratio: float = Field(default=0.9, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> SpilloverSettings:
        if self.near_um > self.far_um or self.target_share > self.source_share:
            message = "near_um must not exceed far_um, nor target_share source_share"
            raise ValueError(message)
        return self


@dataclass(frozen=True, slots=True)
class SpilloverCells:
    """The cells of a slide; all cells, since those that fail QC spill over as well.

    Attributes
    ----------
    counts, deep
        All transcripts and those deep inside their cells, CSR ``(n, n_genes)``; ``deep`` is None
        where there are no outlines, and no gene can then be flagged.
    xy_um
        Centres, shape ``(n, 2)``.
    codes
        Type of each cell, -1 = none, shape ``(n,)``.
    analysed
        Cells that pass QC; only these are tested, shape ``(n,)``.
    n_types
        Number of types.
    """

    counts: Csr
    deep: Csr | None
    xy_um: DoubleArray
    codes: NDArray[np.integer]
    analysed: BoolArray
    n_types: int


COLUMNS = {
    "gene": "column of the gene",
    "type": "code of the type in which it may be spillover",
    "n_near": "analysed cells of the type near a source cell",
    "n_far": "analysed cells of the type far from every source cell",
    "rate_near": "share of the near cells that hold the gene",
    "rate_far": "share of the far cells that hold the gene",
    "odds_ratio": "odds of near against far at equal depth (Mantel-Haenszel over depth bins)",
    "rate_near_eroded": "share of the near cells that hold it deep inside",
    "rate_far_eroded": "share of the far cells that hold it deep inside",
    "p": "one-sided p of near against far, replicate = block",
    "q": "Benjamini-Hochberg over all genes and types tested",
    "edge_ratio": "deep copies of the gene in near cells, observed over expected",
    "p_edge": "one-sided p of the edge ratio, replicate = block",
    "depends_on_distance": "the first test: spillover or contact",
    "flagged": "spillover: both tests say so",
}
"""Columns of `spillover_table` besides ``source`` and what they mean."""


@dataclass(frozen=True, slots=True)
class SpilloverTable:
    """One row per gene and type tested, by type, then gene.

    Attributes
    ----------
    columns
        `COLUMNS`, each of shape ``(n_tested,)``.
    sources
        Source types (codes) of each gene; empty for a gene that no type expresses.
    """

    columns: dict[str, NDArray[Any]]
    sources: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.columns["gene"])


def spillover_table(cells: SpilloverCells, settings: SpilloverSettings) -> SpilloverTable:
    """Test every gene in every type that hardly expresses it.

    Parameters
    ----------
    cells
        The slide.
    settings
        What counts as spillover.

    Raises
    ------
    SpatialFormerError
        If the arrays disagree, or fewer than two types have enough analysed cells.
    """
    large = _large_types(cells, settings)
    shares = type_shares(cells)
    top = shares[:, large].max(axis=1)
    expressed = large & (top > 0)[:, None]
    is_source = (shares >= settings.source_share * top[:, None]) & expressed
    is_target = (shares <= settings.target_share * top[:, None]) & expressed
    distance = _nearest(cells, is_source.any(axis=0))
    placement = None if cells.deep is None else _Placement.of(cells)
    parts = []
    for code in np.flatnonzero(large):
        rows = np.flatnonzero(cells.analysed & (cells.codes == code))
        group = _Group.of(cells, rows, placement)
        common = group.counts.getnnz(axis=0) >= settings.min_detected
        wanted = is_target[:, code] & common
        for source in np.unique(is_source[wanted], axis=0):
            genes = np.flatnonzero(wanted & (is_source == source).all(axis=1))
            away = distance[rows][:, source].min(axis=1)
            found = _test(group, settings, away, genes, source)
            if found is not None:
                parts.append({"type": np.full(len(found["gene"]), code), **found})
    columns = _joined(parts)
    p = columns["p"]
    columns["q"] = stats.false_discovery_control(p) if len(p) else p
    columns["depends_on_distance"] = (columns["q"] <= settings.alpha) & (
        columns["odds_ratio"] >= settings.min_odds_ratio
    )
    columns["flagged"] = (
        columns["depends_on_distance"]
        & (columns["p_edge"] <= settings.alpha)
        & (columns["edge_ratio"] <= settings.max_edge_ratio)
    )
    order = np.lexsort((columns["gene"], columns["type"]))
    ordered = {name: columns[name][order] for name in COLUMNS}
    sources = tuple(tuple(np.flatnonzero(row).tolist()) for row in is_source)
    return SpilloverTable(ordered, sources)


def type_shares(cells: SpilloverCells) -> DoubleArray:
    """Return each gene's share of the transcripts of each type, shape ``(n_genes, n_types)``.

    Of the analysed cells and of deep transcripts where there are any: what spilled over then
    counts least.
    """
    counts = cells.counts if cells.deep is None else cells.deep
    total: DoubleArray = (_member(cells, np.ones(len(cells.codes))) @ counts).toarray().T
    shares: DoubleArray = total / np.maximum(total.sum(axis=0), 1)
    return shares


def _large_types(cells: SpilloverCells, settings: SpilloverSettings) -> BoolArray:
    n = cells.counts.shape[0]
    same = cells.deep is None or cells.deep.shape == cells.counts.shape
    if not (same and len(cells.xy_um) == len(cells.codes) == len(cells.analysed) == n):
        raise SpatialFormerError(f"Counts, places and types of {n:,} cells do not fit together.")
    used = cells.analysed & (cells.codes >= 0)
    large = np.bincount(cells.codes[used], minlength=cells.n_types) >= settings.min_cells
    if large.sum() < 2:
        raise SpatialFormerError(
            f"{large.sum()} cell types have {settings.min_cells} analysed cells; spillover is "
            "between two.",
            fix="Use a coarser grouping.",
        )
    return np.asarray(large)


def _nearest(cells: SpilloverCells, wanted: BoolArray) -> DoubleArray:
    """Return the distance of each cell to the nearest cell of each type, ``(n, n_types)``.

    A cell of the type itself is at distance 0; nobody asks for it, as no source is tested.
    """
    out = np.full((len(cells.xy_um), cells.n_types), np.inf)
    for code in np.flatnonzero(wanted):
        tree = cKDTree(cells.xy_um[cells.codes == code])
        out[:, code] = tree.query(cells.xy_um)[0]
    return out


@dataclass(frozen=True, slots=True)
class _Placement:
    """How deep genes lie in the cells of each type: deep copies found and expected.

    Attributes
    ----------
    share
        Share of each cell's transcripts that lie deep, shape ``(n,)``.
    found, expected
        Shape ``(n_types, n_genes)``.
    """

    share: DoubleArray
    found: DoubleArray
    expected: DoubleArray

    @classmethod
    def of(cls, cells: SpilloverCells) -> _Placement:
        total, deep = (_totals(counts) for counts in (cells.counts, cells.deep))
        share = deep / np.maximum(total, 1)
        return cls(
            share,
            (_member(cells, np.ones(len(share))) @ cells.deep).toarray(),
            (_member(cells, share) @ cells.counts).toarray(),
        )

    def ratio(self, genes: LongArray, source: BoolArray) -> DoubleArray:
        """Return deep copies in the source cells over those expected, 1 where there are none."""
        found, expected = (
            values[source][:, genes].sum(axis=0) for values in (self.found, self.expected)
        )
        ratio = np.ones(len(genes))
        np.divide(found, expected, out=ratio, where=expected > 0)
        return ratio


@dataclass(frozen=True, slots=True)
class _Group:
    """The analysed cells of one type; counts by column, for genes are picked from them."""

    xy_um: DoubleArray
    total: DoubleArray
    counts: Csr
    deep: Csr | None
    share: DoubleArray
    placement: _Placement | None

    @classmethod
    def of(cls, cells: SpilloverCells, rows: LongArray, placement: _Placement | None) -> _Group:
        counts = cells.counts[rows]
        return cls(
            cells.xy_um[rows],
            _totals(counts),
            counts.tocsc(),
            None if cells.deep is None else cells.deep[rows].tocsc(),
            np.zeros(0) if placement is None else placement.share[rows],
            placement,
        )


def _test(
    group: _Group,
    settings: SpilloverSettings,
    away_um: DoubleArray,
    genes: LongArray,
    source: BoolArray,
) -> dict[str, NDArray[Any]] | None:
    """Test the genes of one source in one type; None if there are too few cells near or far."""
    used = np.flatnonzero((away_um <= settings.near_um) | (away_um > settings.far_um))
    near = away_um[used] <= settings.near_um
    least = settings.min_cells / 3
    if near.sum() < least or (~near).sum() < least:
        return None
    here = Neighbourhood.of(group.xy_um[used], near, group.total[used], settings.block_um)
    counts = group.counts[:, genes].tocsr()[used]
    held = counts > 0
    found = near_test(held, here, settings.min_blocks)
    enough = held.getnnz(axis=0) >= settings.min_detected
    tested = enough & ~np.isnan(found["p"])
    unknown = np.full(len(genes), np.nan)
    edge = dict.fromkeys(("rate_near_eroded", "rate_far_eroded", "edge_ratio", "p_edge"), unknown)
    if group.deep is not None and group.placement is not None:
        deep = group.deep[:, genes].tocsr()[used]
        place = group.placement.ratio(genes, source)
        edge = edge_test((counts, deep), group.share[used], place, here)
        edge["rate_near_eroded"] = _rate(deep, near)
        edge["rate_far_eroded"] = _rate(deep, ~near)
    columns = {
        "gene": genes,
        "n_near": np.full(len(genes), near.sum()),
        "n_far": np.full(len(genes), (~near).sum()),
        **found,
        **edge,
    }
    return {name: values[tested] for name, values in columns.items()}


def _member(cells: SpilloverCells, weight: DoubleArray) -> Csr:
    """Return the matrix that sums the analysed cells, with weights, by type."""
    rows = np.flatnonzero(cells.analysed & (cells.codes >= 0))
    place = (np.asarray(cells.codes)[rows], rows)
    return sparse.csr_matrix((weight[rows], place), (cells.n_types, len(cells.codes)))


def _totals(counts: Csr) -> DoubleArray:
    return np.asarray(counts.sum(axis=1), np.float64).ravel()


def _rate(counts: Csr, rows: BoolArray) -> DoubleArray:
    rate: DoubleArray = counts[rows].getnnz(axis=0) / max(rows.sum(), 1)
    return rate


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    whole = {"gene", "type", "n_near", "n_far"}
    return {
        name: np.concatenate([np.zeros(0), *(part[name] for part in parts)]).astype(
            np.int64 if name in whole else np.float64
        )
        for name in COLUMNS
        if name not in {"q", "depends_on_distance", "flagged"}
    }
