"""Shares of cells with a property, adjusted for strata, and tested between two groups of units.

Whether a cell shows a property often follows from how much was measured in it. The model is
``property = group + stratum`` over all compared cells (least squares on the cells, closed form),
so that strata take no credit for what the groups differ by; each unit's share is then what it
would be if all units had the same mix of strata. Tests are on units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats.ttests import TTest, moderated_t, moderated_two_sample_t
from spatialformer_core.stats.units import MIN_PER_ARM, MIN_UNITS

_HALDANE = 0.5
_LEAST_CELLS = 5
_TESTS_PER_PRIOR, _MAX_PRIORS = 100, 10


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """Cells and cells with the property, per unit, group, stratum and feature.

    Attributes
    ----------
    hits
        Cells with the property, shape ``(units, 2, strata, features)``.
    cells
        Cells at all, the same shape, or 1 feature where all share them.
    """

    hits: DoubleArray
    cells: DoubleArray

    def __post_init__(self) -> None:
        shape = self.hits.shape
        if len(shape) != 4 or shape[1] != 2 or self.cells.shape[:3] != shape[:3]:
            raise SpatialFormerError(
                f"Counts of shapes {shape} and {self.cells.shape} were given, (units, 2, strata, "
                "features) was expected."
            )


def adjusted_shares(counts: UnitCounts, min_cells: int = 1) -> DoubleArray:
    """Return each unit's share with the property, at the mix of strata of all cells.

    Parameters
    ----------
    counts
        The cells.
    min_cells
        Fewer cells of a unit and group give NaN.

    Returns
    -------
    numpy.ndarray
        Shape ``(units, 2, features)``. An adjusted share may lie slightly outside [0, 1].
    """
    group_hits, group_cells = counts.hits.sum(0), counts.cells.sum(0)
    first, second = group_cells
    both = first + second
    weight = _ratio(first * second, both, 0.0)
    share = _ratio(group_hits, np.broadcast_to(group_cells, group_hits.shape), 0.0)
    gap = _ratio(((share[0] - share[1]) * weight).sum(0), weight.sum(0), 0.0)
    level = _ratio(
        group_hits.sum(0) - gap * first, np.broadcast_to(both, group_hits.shape[1:]), 0.0
    )
    usual = _ratio((both * level).sum(0), both.sum(0), np.nan)
    in_unit = counts.cells.sum(2)
    raw = _ratio(counts.hits.sum(2), in_unit, np.nan)
    expected = _ratio(np.einsum("ugsf,sf->ugf", _wide(counts), level), in_unit, np.nan)
    adjusted: DoubleArray = np.where(in_unit >= max(1, min_cells), raw - expected + usual, np.nan)
    return adjusted


def _wide(counts: UnitCounts) -> DoubleArray:
    return np.broadcast_to(counts.cells, counts.hits.shape)


def _ratio(top: DoubleArray, bottom: DoubleArray, otherwise: float) -> DoubleArray:
    bottom = np.broadcast_to(bottom, np.broadcast_shapes(top.shape, bottom.shape))
    out = np.full(bottom.shape, otherwise, np.float64)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


def enough_seen(counts: UnitCounts) -> NDArray[np.bool_]:
    """Tell where the smaller group can speak at all, shape ``(features,)``.

    A rare property that a small group lacks is absent from all of its units alike: no spread, so a
    t-test takes it for a certain difference. Either both groups would be expected to hold 5 cells
    with (and without) the property if they did not differ (Cochran 1954), or the smaller group
    does hold 5 of them. Elsewhere a p-value of 1 is in place, which still counts as a test.
    """
    cells, hits = counts.cells.sum((0, 2)), counts.hits.sum((0, 2))
    total, found = cells.sum(0), hits.sum(0)
    is_rare = found * 2 <= total
    odd = np.where(is_rare, hits, cells - hits)
    smaller = np.broadcast_to(np.argmin(cells, 0), odd.shape[1:])
    expected = _ratio(cells.min(0), total, 0.0) * odd.sum(0)
    seen = np.take_along_axis(odd, smaller[None], 0)[0]
    enough: NDArray[np.bool_] = (expected >= _LEAST_CELLS) | (seen >= _LEAST_CELLS)
    return enough


def compare_shares(
    shares: DoubleArray,
    *,
    paired: bool,
    with_p: bool,
    enough: NDArray[np.bool_],
    scale: DoubleArray | None = None,
) -> TTest:
    """Test the first group's shares against the second's, the replicate being the unit.

    Parameters
    ----------
    shares
        Shape ``(units, 2, features)``, NaN where a unit lacks a group.
    paired
        Whether the groups are compared within units.
    with_p
        False gives effects and intervals only. A feature with fewer than 6 units (or 3 in either
        group of unpaired units) has no p in any case.
    enough
        What `enough_seen` says of the same counts; elsewhere p is 1.
    scale
        Spread that chance alone gives each feature, shape ``(features,)``. Variances are compared
        in its units, and features of a like scale share a prior. It must not depend on the groups.

    Returns
    -------
    TTest
    """
    unit = np.ones(shares.shape[2]) if scale is None else np.where(scale > 0, scale, 1.0)
    first, second = shares[:, 0] / unit, shares[:, 1] / unit
    known = ~np.isnan(first), ~np.isnan(second)
    if paired:
        units = (known[0] & known[1]).sum(0) >= MIN_UNITS
    else:
        units = np.minimum(known[0].sum(0), known[1].sum(0)) >= MIN_PER_ARM
    earned = units & with_p
    # The priors of the variances are fitted on what is tested, not on what has too few units, and
    # apart for rare and frequent features, whose units spread beyond chance to different degrees.
    group = np.where(earned, _classes(unit, earned), -1)
    parts = {
        number: _run(first, second, paired=paired, chosen=group == number)
        for number in np.unique(group)
    }

    def pick(name: str) -> DoubleArray:
        out = np.full(len(unit), np.nan)
        for number, part in parts.items():
            out = np.where(group == number, getattr(part, name), out)
        return out

    nothing = np.full(len(unit), np.nan)
    return TTest(
        mean=pick("mean") * unit,
        low=pick("low") * unit,
        high=pick("high") * unit,
        t=np.where(earned, pick("t"), nothing),
        df=pick("df"),
        p=np.where(earned, np.where(enough, pick("p"), 1.0), nothing),
        n=pick("n").astype(np.int64),
    )


def _classes(scale: DoubleArray, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a class of each feature by its scale, equally many of the chosen ones in each."""
    n_classes = int(np.clip(chosen.sum() // _TESTS_PER_PRIOR, 1, _MAX_PRIORS))
    if n_classes == 1:
        return np.zeros(len(scale), np.int64)
    cuts = np.quantile(scale[chosen], np.linspace(0, 1, n_classes + 1)[1:-1])
    return np.searchsorted(cuts, scale).astype(np.int64)


def _run(
    first: DoubleArray, second: DoubleArray, *, paired: bool, chosen: NDArray[np.bool_]
) -> TTest:
    one, other = np.where(chosen, first, np.nan), np.where(chosen, second, np.nan)
    return moderated_t(one - other) if paired else moderated_two_sample_t(one, other)


def odds_ratio(counts: UnitCounts) -> DoubleArray:
    """Return the odds ratio of all cells of the two groups, shape ``(features,)``.

    Half a cell is added everywhere (Haldane 1956), so that empty cells of the table stay finite.
    """
    hits, cells = counts.hits.sum((0, 2)), counts.cells.sum((0, 2))
    odds = (hits + _HALDANE) / (cells - hits + _HALDANE)
    ratio: DoubleArray = odds[0] / odds[1]
    return ratio
