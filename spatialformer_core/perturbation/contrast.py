"""From sums per unit to the table: near minus far, its interval, and p only where it is earned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.perturbation.published_test import published_test
from spatialformer_core.perturbation.report import COLUMNS
from spatialformer_core.perturbation.request import ScreenTest
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally
from spatialformer_core.perturbation.tissue import SPILLED, UNDECIDED, SpilloverCodes
from spatialformer_core.stats import (
    VariancePrior,
    benjamini_hochberg,
    moderated_t,
    moderated_two_sample_t,
    one_sample_t,
)

if TYPE_CHECKING:
    import pandas as pd

_NORMAL_QUANTILE = 1.959963984540054
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Contrast:
    """One quantity, near minus far, for every tested gene pair; all shapes ``(n_slots,)``.

    Attributes
    ----------
    estimate, low, high
        Mean of units and its 95 % interval.
    t, df, p, q
        Moderated test; NaN where there is none.
    """

    estimate: DoubleArray
    low: DoubleArray
    high: DoubleArray
    t: DoubleArray
    df: DoubleArray
    p: DoubleArray
    q: DoubleArray


def contrast(tally: Tally, quantity: str, *, with_p: bool) -> Contrast:
    """Return near minus far of one quantity, the replicate being the unit.

    With one unit the interval is over its cell pairs (normal); it describes those pairs only.

    Parameters
    ----------
    tally
        The sums.
    quantity
        ``d`` or ``epsilon``.
    with_p
        Whether p-values have been earned: enough units and an open gate.
    """
    near, far = sides(tally, quantity)
    estimate: DoubleArray = near.mean(axis=0) - far.mean(axis=0)
    nothing = np.full(len(estimate), np.nan)
    if not is_paired(tally) and len(near) + len(far) > 2:
        prior = None if with_p else VariancePrior(0.0, 0.0)
        test = moderated_two_sample_t(near, far, prior=prior)
        if with_p:
            q = benjamini_hochberg(test.p)
            return Contrast(estimate, test.low, test.high, test.t, test.df, test.p, q)
        return Contrast(estimate, test.low, test.high, nothing, test.df, nothing, nothing)
    units = near - far
    if with_p:
        test = moderated_t(units)
        q = benjamini_hochberg(test.p)
        return Contrast(estimate, test.low, test.high, test.t, test.df, test.p, q)
    if len(units) > 1:
        plain = one_sample_t(units)
        return Contrast(estimate, plain.low, plain.high, nothing, plain.df, nothing, nothing)
    variance = sum(tally.pooled_variance(quantity, side) for side in (NEAR, FAR))
    half = _NORMAL_QUANTILE * np.sqrt(variance)
    return Contrast(estimate, estimate - half, estimate + half, nothing, nothing, nothing, nothing)


def is_paired(tally: Tally) -> bool:
    """Return whether every unit holds cell pairs of both sides."""
    return bool((tally.n_pairs > 0).all())


def sides(tally: Tally, quantity: str) -> tuple[DoubleArray, DoubleArray]:
    """Return the means of the units that hold near, and of those that hold far pairs.

    Row for row the same units where units are paired, shapes ``(n_units, n_slots)``.
    """
    near, far = (tally.mean(quantity, side)[tally.n_pairs[side] > 0] for side in (NEAR, FAR))
    return near, far


def _units_agree(tally: Tally) -> DoubleArray:
    if not is_paired(tally):
        return np.full(len(tally.index), np.nan)
    near, far = sides(tally, "d")
    units = near - far
    same: DoubleArray = (np.sign(units) == np.sign(units.mean(axis=0))).mean(axis=0)
    return same


def _kind(effect: Contrast, interaction: Contrast) -> list[str]:
    """Return what a significant interaction is called, empty elsewhere."""
    called = interaction.q < _ALPHA
    joint = called & (interaction.estimate > 0) & (effect.estimate < 0)
    redundant = called & (interaction.estimate < 0)
    names = np.select([joint, redundant, called], ["joint requirement", "redundancy", "other"], "")
    return [str(name) for name in names]


def _further(tally: Tally, effect: Contrast, interaction: Contrast) -> dict[str, Any]:
    """Return the columns behind those of the frozen format; some are filled in later."""
    return {
        "epsilon_low": interaction.low,
        "epsilon_high": interaction.high,
        "epsilon_t": interaction.t,
        "epsilon_df": interaction.df,
        "kind": _kind(effect, interaction),
        "units_agree": _units_agree(tally),
        "ligand": "",
        "n_checkpoints": 1,
        "agree": np.full(np.shape(interaction.low), np.nan),
        "scope": "",
    }


def build_table(
    tally: Tally,
    genes: tuple[str, ...],
    *,
    with_p: bool,
    co_occurs: BoolArray | None,
    in_sample: BoolArray | None,
    spillover: SpilloverCodes | None = None,
    test: ScreenTest = "units",
) -> pd.DataFrame:
    """Return the table of a screen, `report.COLUMNS`, best first.

    Parameters
    ----------
    tally
        The sums.
    genes
        Names of the gene columns.
    with_p
        Whether p-values are reported.
    co_occurs, in_sample
        Flags per tested gene pair, None where not known; shape ``(n_slots,)``.
    spillover
        Code per tested gene pair (`SPILLED`, `UNDECIDED` or 0); what is undecided stays empty.
    test
        ``published`` puts the published test's t, df, p and q in the place of those over units;
        the interaction then has none.
    """
    import pandas as pd

    index, names = tally.index, np.array(genes, dtype=object)
    over_units = with_p and test == "units"
    effect = contrast(tally, "d", with_p=over_units)
    interaction = contrast(tally, "epsilon", with_p=over_units)
    if with_p and test == "published":
        other, _ = published_test(tally)
        effect = replace(effect, t=other.t, df=other.df, p=other.p, q=other.q)
    n_near = tally.count[NEAR].sum(axis=0).astype(np.int64)
    ranks = (tally.rank / np.maximum(n_near, 1)[:, None]).T
    ranks[:, n_near == 0] = np.nan
    near, far = sides(tally, "d")
    singles = [
        one.mean(axis=0) - other.mean(axis=0)
        for one, other in (sides(tally, name) for name in ("d_left", "d_right"))
    ]
    unknown = pd.array([pd.NA] * len(index), dtype="boolean")
    table = pd.DataFrame(
        {
            "gene_left": names[index.left],
            "gene_right": names[index.right],
            "n_pairs": n_near,
            "n_units": index.n_units,
            "d_near": near.mean(axis=0),
            "d_far": far.mean(axis=0),
            "d_diff": effect.estimate,
            "d_low": effect.low,
            "d_high": effect.high,
            "t": effect.t,
            "df": effect.df,
            "p": effect.p,
            "q": effect.q,
            "epsilon": interaction.estimate,
            "epsilon_p": interaction.p,
            "epsilon_q": interaction.q,
            "d_left": singles[0],
            "d_right": singles[1],
            "rank_left": ranks[0],
            "rank_right": ranks[1],
            "is_ligand_receptor": unknown,
            "co_occurs": unknown if co_occurs is None else pd.array(co_occurs, dtype="boolean"),
            "spillover": unknown if spillover is None else _with_gaps(spillover),
            "in_sample": unknown if in_sample is None else pd.array(in_sample, dtype="boolean"),
            **_further(tally, effect, interaction),
        },
        columns=list(COLUMNS),
    )
    return _sorted(table, with_p=with_p)


def _with_gaps(codes: SpilloverCodes) -> Any:
    import pandas as pd

    flags = pd.array(codes == SPILLED, dtype="boolean")
    flags[codes == UNDECIDED] = pd.NA
    return flags


def _sorted(table: pd.DataFrame, *, with_p: bool) -> pd.DataFrame:
    strength = table["p"] if with_p else -table["epsilon"].abs()
    order = np.lexsort((table["gene_right"].astype(str), table["gene_left"].astype(str), strength))
    return table.iloc[order].reset_index(drop=True)
