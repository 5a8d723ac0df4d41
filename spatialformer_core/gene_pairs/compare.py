"""From cells and groups to the table of differential gene pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.cooccurrence import (
    N_STRATA,
    BothGenes,
    both_genes,
    depth_bins,
    variable_pairs,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.gene_pairs.cells import Grouping, PairCells
from spatialformer_core.gene_pairs.published import per_cell_test
from spatialformer_core.gene_pairs.report import COLUMNS
from spatialformer_core.gene_pairs.settings import GenePairSettings
from spatialformer_core.gene_pairs.specificity import what_genes_tell
from spatialformer_core.gene_pairs.words import REST, describe
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.stats import (
    MIN_PER_UNIT,
    CellUnits,
    Placed,
    TTest,
    UnitCounts,
    adjusted_shares,
    benjamini_hochberg,
    choose_cell_units,
    compare_shares,
    enough_seen,
    odds_ratio,
)

if TYPE_CHECKING:
    import pandas as pd

MIN_BOTH = 5
"""Cells with enough copies of both genes that a unit needs, in a group, to tell closeness."""


@dataclass(frozen=True, slots=True)
class GenePairResult:
    """A finished comparison.

    Attributes
    ----------
    table
        One row per comparison and tested pair, `report.COLUMNS`.
    info
        Units, words, counts: what ``gene_pairs.json`` holds.
    genes
        Of each gene of a tested pair: cells that express it and mean count.
    """

    table: pd.DataFrame
    info: dict[str, Any]
    genes: pd.DataFrame


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all comparisons share: the tested pairs and what their genes' copies say."""

    cells: PairCells
    columns: LongArray
    scores: DoubleArray
    bins: LongArray
    both: BothGenes


@dataclass(frozen=True, slots=True)
class Contrast:
    """One comparison: ``side`` is 0 for the group, 1 for the reference, -1 for neither."""

    group: str
    reference: str
    side: NDArray[np.int8]


def planned_units(
    grouping: Grouping, placed: Placed, settings: GenePairSettings
) -> list[tuple[Contrast, CellUnits]]:
    """Return the comparisons that would be made, and in which replicate units.

    Raises
    ------
    SpatialFormerError
        If a group does not exist or has fewer than 10 cells.
    """
    return [
        (contrast, choose_cell_units(contrast.side, placed, settings.unit))
        for contrast in _contrasts(grouping, settings)
    ]


def compare_groups(
    cells: PairCells,
    grouping: Grouping,
    settings: GenePairSettings,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> GenePairResult:
    """Test which of the highly variable pairs differ between groups of cells.

    Parameters
    ----------
    cells
        All cells that pass quality control, also those without any pair.
    grouping
        Their groups.
    settings
        What to do.

    Raises
    ------
    SpatialFormerError
        If a group does not exist or has fewer than 10 cells, or no pair is frequent enough.
    Cancelled
        If the user cancels.
    """
    contrasts = list(_contrasts(grouping, settings))
    progress(0.0, 1.0, "Choosing the variable pairs")
    frame = _frame(cells, settings)
    tables, used = [], []
    for number, contrast in enumerate(contrasts):
        check(cancel)
        share = 0.2 + 0.75 * number / len(contrasts)
        progress(share, 1.0, f"{contrast.group} against {contrast.reference}")
        units = choose_cell_units(contrast.side, cells.placed, settings.unit)
        tables.append(_compare(frame, contrast, units, settings))
        used.append((contrast.group, contrast.reference, units))
    table = _joined(tables)
    info = describe(table, used, grouping, settings, cells)
    progress(1.0, 1.0, "Done")
    return GenePairResult(table, info, _genes(frame))


def _contrasts(grouping: Grouping, settings: GenePairSettings) -> Iterator[Contrast]:
    names = grouping.categories
    sizes = np.bincount(grouping.codes[grouping.codes >= 0], minlength=len(names))
    present = [name for name, size in zip(names, sizes, strict=True) if size >= MIN_PER_UNIT]
    chosen = settings.groups
    if chosen is None and len(present) < 2:
        raise SpatialFormerError(
            f"Grouping {grouping.key[:40]!r} has {len(present)} group(s) of at least "
            f"{MIN_PER_UNIT} cells; two are needed.",
            fix="Choose another grouping.",
        )
    if chosen is None and len(present) == 2:
        chosen = (present[0], present[1])
    if chosen is None:
        for name in present:
            is_group = grouping.codes == names.index(name)
            side = np.where(is_group, 0, np.where(grouping.codes >= 0, 1, -1))
            yield Contrast(name, REST, side.astype(np.int8))
        return
    if chosen[0] == chosen[1]:
        raise SpatialFormerError("A group cannot be compared with itself.")
    for name in chosen:
        if name not in present:
            raise SpatialFormerError(
                f"There is no group {name[:60]!r} of at least {MIN_PER_UNIT} cells.",
                where=grouping.key[:40],
                fix=f"Groups: {', '.join(present[:60]) or 'none'}.",
            )
    one, other = (grouping.codes == names.index(name) for name in chosen)
    side = np.where(one, 0, np.where(other, 1, -1))
    yield Contrast(chosen[0], chosen[1], side.astype(np.int8))


def _frame(cells: PairCells, settings: GenePairSettings) -> _Frame:
    bins = depth_bins(cells.depth, settings.depth_bins)
    columns, scores = variable_pairs(
        cells.matrix,
        cells.depth,
        top=settings.n_pairs,
        n_bins=settings.depth_bins,
        min_cells=settings.min_cells,
    )
    if not len(columns):
        raise SpatialFormerError(
            f"No gene pair co-occurs in {settings.min_cells} cells.",
            fix="Lower the least number of cells, or give more tissue.",
        )
    chosen = PairCells(cells.matrix.take_pairs(columns), cells.counts, cells.depth, cells.placed)
    both = both_genes(chosen.matrix, cells.counts, settings.min_copies)
    return _Frame(chosen, columns, scores, bins, both)


def _compare(
    frame: _Frame, contrast: Contrast, units: CellUnits, settings: GenePairSettings
) -> pd.DataFrame:
    import pandas as pd

    matrix, side = frame.cells.matrix, contrast.side
    counts = _unit_counts(frame, side, units, settings.depth_bins)
    with_p = units.no_p_reason is None
    adjusted = adjusted_shares(counts, MIN_PER_UNIT)
    test = compare_shares(
        adjusted,
        paired=units.paired,
        with_p=with_p,
        enough=enough_seen(counts),
        scale=_binomial_spread(counts),
    )
    near = _both_counts(frame, side, units)
    closeness = _closeness(near, units)
    hits, size = (array.sum((0, 2)) for array in (counts.hits, counts.cells))
    n_both = near.cells.sum((0, 2))
    shares = hits / np.maximum(size, 1)
    mean = _group_means(adjusted, paired=units.paired)
    table = pd.DataFrame(
        {
            "pair": matrix.names,
            "gene_left": np.array(matrix.genes, dtype=object)[matrix.left],
            "gene_right": np.array(matrix.genes, dtype=object)[matrix.right],
            "group": contrast.group,
            "reference": contrast.reference,
            "cells_group": size[0].astype(np.int64),
            "cells_reference": size[1].astype(np.int64),
            "cells_with_pair": hits.sum(0).astype(np.int64),
            "share_group": shares[0],
            "share_reference": shares[1],
            "odds_ratio": odds_ratio(counts),
            "adjusted_group": mean[0],
            "adjusted_reference": mean[1],
            **_named("", test),
            **_named("closeness_", closeness),
            "both_group": n_both[0].astype(np.int64),
            "both_reference": n_both[1].astype(np.int64),
            "r_min": frame.both.r_min,
            "r_sum": frame.both.r_sum,
            "variability": frame.scores,
        }
    )
    first = _strongest(table, settings.n_described, with_p=with_p)
    for name, values in what_genes_tell(frame.cells, first, side, settings.min_copies).items():
        column = np.full(len(table), np.nan)
        column[first] = values
        table[name] = column
    if settings.per_cell_test:
        for name, values in per_cell_test(matrix, side).items():
            table[name] = values
    return table.reindex(columns=list(COLUMNS))


def _closeness(near: UnitCounts, units: CellUnits) -> TTest:
    return compare_shares(
        adjusted_shares(near, MIN_BOTH),
        paired=units.paired,
        with_p=units.no_p_reason is None,
        enough=enough_seen(near),
        scale=_binomial_spread(near),
    )


def _unit_counts(
    frame: _Frame, side: NDArray[np.int8], units: CellUnits, n_bins: int
) -> UnitCounts:
    matrix, n_units = frame.cells.matrix, len(units.names)
    used = np.flatnonzero(units.of_cell >= 0)
    row = (units.of_cell[used] * 2 + side[used]) * n_bins + frame.bins[used]
    members = sparse.csr_matrix(
        (np.ones(len(used)), (row, used)), shape=(n_units * 2 * n_bins, matrix.n_cells)
    )
    shape = (n_units, 2, n_bins)
    hits = np.asarray((members @ matrix.presence).todense(), np.float64).reshape(*shape, -1)
    if matrix.testable.all():
        size: DoubleArray = np.asarray(members.sum(1), np.float64).reshape(*shape, 1)
    else:
        slide = sparse.csr_matrix(
            (np.ones(matrix.n_cells), (np.arange(matrix.n_cells), matrix.slide)),
            shape=(matrix.n_cells, len(matrix.testable)),
        )
        in_slide: DoubleArray = np.asarray((members @ slide).todense(), np.float64)
        size = (in_slide @ matrix.testable).reshape(*shape, -1)
    return UnitCounts(hits, np.broadcast_to(size, hits.shape))


def _both_counts(frame: _Frame, side: NDArray[np.int8], units: CellUnits) -> UnitCounts:
    """Count, among cells with enough copies of both genes, those in which they are close."""
    both, n_pairs = frame.both, frame.cells.matrix.n_pairs
    unit = units.of_cell[both.cell]
    used = unit >= 0
    shape = (len(units.names), 2, N_STRATA, n_pairs)
    row = (unit[used] * 2 + side[both.cell[used]]) * N_STRATA + both.stratum[used]
    code = row * n_pairs + both.pair[used]
    size = int(np.prod(shape))
    cells: DoubleArray = np.bincount(code, minlength=size).astype(np.float64)
    hits: DoubleArray = np.bincount(code, both.close[used], size).astype(np.float64)
    return UnitCounts(hits.reshape(shape), cells.reshape(shape))


def _binomial_spread(counts: UnitCounts) -> DoubleArray:
    """Return the binomial spread of each feature over all cells, the groups disregarded."""
    share = counts.hits.sum((0, 1, 2)) / np.maximum(counts.cells.sum((0, 1, 2)), 1)
    spread: DoubleArray = np.sqrt(share * (1 - share))
    return spread


def _group_means(adjusted: DoubleArray, *, paired: bool) -> DoubleArray:
    """Return the mean of units of each group, of the units that enter the effect."""
    known = ~np.isnan(adjusted)
    if paired:
        known = np.broadcast_to(known.all(1, keepdims=True), adjusted.shape)
    n = known.sum(0)
    total = np.where(known, adjusted, 0.0).sum(0)
    means: DoubleArray = np.full(n.shape, np.nan)
    np.divide(total, n, out=means, where=n > 0)
    return means


def _named(prefix: str, test: TTest) -> dict[str, Any]:
    effect = f"{prefix}gain" if prefix else "effect"
    names = {effect: test.mean, f"{prefix}low": test.low, f"{prefix}high": test.high}
    if not prefix:
        names |= {"t": test.t, "df": test.df}
    return names | {f"{prefix}p": test.p, f"{prefix}q": test.p, f"{prefix}n_units": test.n}


def _strongest(table: pd.DataFrame, n: int, *, with_p: bool) -> LongArray:
    strength = table["p"].to_numpy() if with_p else -table["effect"].abs().to_numpy()
    order = np.lexsort((np.arange(len(table)), strength))
    return np.sort(order[:n]).astype(np.int64)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Adjust over everything that was tested and sort: groups as given, strongest pairs first."""
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    for prefix in ("", "closeness_"):
        table[f"{prefix}q"] = benjamini_hochberg(table[f"{prefix}p"].to_numpy())
    order = {group: number for number, group in enumerate(table["group"].unique())}
    keys = (table["pair"], -table["effect"].abs(), table["p"], table["group"].map(order))
    return table.iloc[np.lexsort(keys)].reset_index(drop=True)


def _genes(frame: _Frame) -> pd.DataFrame:
    import pandas as pd

    matrix, counts = frame.cells.matrix, frame.cells.counts.tocsc()
    used = np.unique(np.concatenate([matrix.left, matrix.right]))
    n_cells = np.diff(counts.indptr)[used]
    mean = np.asarray(counts[:, used].sum(0)).ravel() / max(1, counts.shape[0])
    names = [matrix.genes[gene] for gene in used]
    return pd.DataFrame({"gene": names, "cells": n_cells, "mean_count": mean})
