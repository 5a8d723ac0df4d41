"""Two regions, or two sets of regions, of one slide beside each other: composition and genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.roi_tools import inside
from spatialformer_core.service.tissue import composition

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.io.records import Csr
    from spatialformer_core.slides import Roi, Slide

PER = 10_000
"""Counts of a region are told per so many counts."""

MIN_COUNTS = 20
"""A gene with fewer counts in both sides together is not compared."""

_PSEUDO = 1.0
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class RegionContrast:
    """What differs between two sides.

    Attributes
    ----------
    composition
        ``group cells_a cells_b share_a share_b difference ratio``; shares 0 to 1, ratio of a to b.
    genes
        ``gene per_10k_a per_10k_b log2_ratio detected_a detected_b`` and, with replicates on both
        sides, ``low high t df p q``; furthest from no difference first.
    cells_a, cells_b
        Cells that pass QC (of the chosen group) on each side.
    units_a, units_b
        Regions with enough cells to count as replicates.
    why_no_p
        Why there is no p-value; None where there is one.
    n_left_out
        Genes with too few counts to compare.
    """

    composition: pd.DataFrame
    genes: pd.DataFrame
    cells_a: int
    cells_b: int
    units_a: int
    units_b: int
    why_no_p: str | None
    n_left_out: int


def compare_regions(
    slide: Slide,
    a: Sequence[Roi],
    b: Sequence[Roi],
    groupby: str,
    within: str | None = None,
) -> RegionContrast:
    """Compare the cells of some regions with those of others.

    Genes are compared by pooled counts of the cells that pass QC. The replicate is the region,
    never the cell: with `stats.MIN_PER_ARM` regions on each side there is a moderated t-test over
    regions, adjusted over all genes compared; with fewer there are effects and no p-value.

    Parameters
    ----------
    a, b
        Regions of each side; no cell may lie in both sides.
    groupby
        Grouping of the composition.
    within
        Compare the genes of the cells of this group only: a region's genes differ also because
        its mix of types does.

    Raises
    ------
    SpatialFormerError
        If a side holds no cell, the sides overlap, or there is no such group.
    """
    masks = [inside(slide, side) for side in (a, b)]
    sides = [np.any(side, axis=0) for side in masks]
    if (both := int((sides[0] & sides[1]).sum())) > 0:
        raise SpatialFormerError(
            f"{both:,} cells lie in both regions.", fix="Subtract one region from the other first."
        )
    kept = _kept(slide, groupby, within)
    shown = _composition(slide, sides, groupby)
    counts = [int((side & kept).sum()) for side in sides]
    for name, n in zip("ab", counts, strict=True):
        if not n:
            what = f"cell of group {within!r}" if within else "cell that passes QC"
            raise SpatialFormerError(f"Side {name.upper()} holds no {what}.", fix="Choose another.")
    units = [[mask & kept for mask in side] for side in masks]
    genes, n_units, why, left_out = _genes(slide, [side & kept for side in sides], units)
    return RegionContrast(
        composition=shown,
        genes=genes,
        cells_a=counts[0],
        cells_b=counts[1],
        units_a=n_units[0],
        units_b=n_units[1],
        why_no_p=why,
        n_left_out=left_out,
    )


def _kept(slide: Slide, groupby: str, within: str | None) -> BoolArray:
    kept = np.asarray(slide.passes_qc, np.bool_)
    if within is None:
        return kept
    groups = slide.group(groupby)
    if within not in groups.categories:
        raise SpatialFormerError(f"There is no group {within[:60]!r}.", where=groupby[:40])
    chosen: BoolArray = kept & (np.asarray(groups.codes) == groups.categories.index(within))
    return chosen


def _composition(slide: Slide, sides: Sequence[BoolArray], groupby: str) -> pd.DataFrame:
    one, other = (
        composition(slide, side, groupby).set_index("group")[["cells", "share"]] for side in sides
    )
    table = one.join(other, how="outer", lsuffix="_a", rsuffix="_b").fillna(0.0).reset_index()
    table["difference"] = table["share_a"] - table["share_b"]
    table["ratio"] = table["share_a"] / table["share_b"].where(table["share_b"] > 0)
    table = table.astype({"cells_a": "int64", "cells_b": "int64"})
    order = table["difference"].abs().sort_values(ascending=False, kind="stable").index
    names = ["group", "cells_a", "cells_b", "share_a", "share_b", "difference", "ratio"]
    return table.loc[order, names].reset_index(drop=True)


def _genes(
    slide: Slide, sides: Sequence[BoolArray], units: Sequence[Sequence[BoolArray]]
) -> tuple[pd.DataFrame, tuple[int, int], str | None, int]:
    import pandas as pd

    from spatialformer_core.stats import MIN_PER_ARM, MIN_PER_UNIT

    pooled = np.stack([_summed(slide, side) for side in sides])
    enough = pooled.sum(axis=0) >= MIN_COUNTS
    levels = _per_10k(pooled)[:, enough]
    detected = np.stack([_detected(slide, side) for side in sides])[:, enough]
    columns: dict[str, Any] = {
        "gene": np.array(slide.genes, dtype=object)[enough],
        "per_10k_a": levels[0],
        "per_10k_b": levels[1],
        "log2_ratio": np.log2((levels[0] + _PSEUDO) / (levels[1] + _PSEUDO)),
        "detected_a": detected[0],
        "detected_b": detected[1],
    }
    large = [[mask for mask in side if mask.sum() >= MIN_PER_UNIT] for side in units]
    n_units = (len(large[0]), len(large[1]))
    why = None
    if any(np.sum(side, axis=0).max() > 1 for side in units):
        why = "Regions of one side share cells, so they are no replicates of each other."
    elif min(n_units) < MIN_PER_ARM:
        why = (
            f"{n_units[0]} and {n_units[1]} regions with at least {MIN_PER_UNIT} cells: a p-value "
            f"needs {MIN_PER_ARM} on each side, for the region is the replicate and not the cell."
        )
    else:
        columns |= _tested(slide, large, enough)
    table = pd.DataFrame(columns)
    key = table["p"].fillna(1.0) if "p" in table else -table["log2_ratio"].abs()
    order = key.sort_values(kind="stable").index
    return table.loc[order].reset_index(drop=True), n_units, why, int((~enough).sum())


def _tested(
    slide: Slide, units: Sequence[Sequence[BoolArray]], enough: BoolArray
) -> dict[str, DoubleArray]:
    from spatialformer_core.stats import benjamini_hochberg, moderated_two_sample_t

    logs = [
        np.log2(_per_10k(np.stack([_summed(slide, mask) for mask in side]))[:, enough] + _PSEUDO)
        for side in units
    ]
    test = moderated_two_sample_t(logs[0], logs[1])
    found = {name: getattr(test, name) for name in ("low", "high", "t", "df", "p")}
    return found | {"q": benjamini_hochberg(test.p)}


def _summed(slide: Slide, mask: BoolArray) -> DoubleArray:
    total = np.zeros(len(slide.genes))
    for part in _parts(slide, mask):
        total += np.bincount(part.indices, part.data, minlength=len(total))
    return total


def _detected(slide: Slide, mask: BoolArray) -> DoubleArray:
    cells = np.zeros(len(slide.genes), np.int64)
    for part in _parts(slide, mask):
        cells += np.bincount(part.indices[part.data > 0], minlength=len(cells))
    return cells / max(int(mask.sum()), 1)


def _parts(slide: Slide, mask: BoolArray) -> Iterator[Csr]:
    """Return the counts of some cells piece by piece: half of a large slide would be a gigabyte."""
    rows, counts = np.flatnonzero(mask), slide.counts
    for start in range(0, len(rows), _PIECE):
        yield counts[rows[start : start + _PIECE]]


def _per_10k(summed: DoubleArray) -> DoubleArray:
    levels: DoubleArray = PER * summed / np.maximum(summed.sum(axis=1, keepdims=True), 1.0)
    return levels
