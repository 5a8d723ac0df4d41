"""From sums per unit to the table: near minus far, its interval, and p only where it is earned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.perturbation.report import COLUMNS
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally
from spatialformer_core.perturbation.tissue import SPILLED, UNDECIDED, SpilloverCodes
from spatialformer_core.stats import benjamini_hochberg, moderated_t, one_sample_t

if TYPE_CHECKING:
    import pandas as pd

_NORMAL_QUANTILE = 1.959963984540054


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
    units = tally.mean(quantity, NEAR) - tally.mean(quantity, FAR)
    estimate: DoubleArray = units.mean(axis=0)
    nothing = np.full(len(estimate), np.nan)
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


def build_table(
    tally: Tally,
    genes: tuple[str, ...],
    *,
    with_p: bool,
    co_occurs: BoolArray | None,
    in_sample: BoolArray | None,
    spillover: SpilloverCodes | None = None,
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
    """
    import pandas as pd

    index, names = tally.index, np.array(genes, dtype=object)
    effect = contrast(tally, "d", with_p=with_p)
    interaction = contrast(tally, "epsilon", with_p=with_p)
    n_near = tally.count[NEAR].sum(axis=0)
    ranks = tally.rank / np.maximum(n_near, 1)
    ranks[:, n_near == 0] = np.nan
    singles = [
        (tally.mean(name, NEAR) - tally.mean(name, FAR)).mean(axis=0)
        for name in ("d_left", "d_right")
    ]
    unknown = pd.array([pd.NA] * len(index), dtype="boolean")
    table = pd.DataFrame(
        {
            "gene_left": names[index.left],
            "gene_right": names[index.right],
            "n_pairs": n_near,
            "n_units": index.n_units,
            "d_near": tally.mean("d", NEAR).mean(axis=0),
            "d_far": tally.mean("d", FAR).mean(axis=0),
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
