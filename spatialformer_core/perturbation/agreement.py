"""What several checkpoints agree on: the same screen, the same cell pairs, other networks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

MIN_CHECKPOINTS = 3
"""With fewer, agreement is told in the facts and not called one in the table."""

_KEY = ["gene_left", "gene_right"]
_VALUES = {"effect": "d_diff", "interaction": "epsilon"}


def add_agreement(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table with ``n_checkpoints`` and ``agree``, and how the checkpoints agree.

    Parameters
    ----------
    table
        Of the first checkpoint.
    others
        Tables of the same screen with other checkpoints, by name.

    Returns
    -------
    table
        ``n_checkpoints`` counts those that tested the gene pair; ``agree`` is the share of them
        whose effect has the sign that most of them give it, from 0.5 to 1, where at least three
        tested it.
    facts
        Rank correlation of effects and interactions for each two checkpoints (over the gene pairs
        that both tested), and the share of gene pairs on whose sign all agree.
    """
    tables = {"": table, **others}
    joined = table[_KEY].copy()
    for number, other in enumerate(tables.values()):
        names = {column: f"{what}{number}" for what, column in _VALUES.items()}
        joined = joined.merge(
            other[[*_KEY, *_VALUES.values()]].rename(columns=names), on=_KEY, how="left"
        )
    out = table.copy()
    values = {
        what: joined[[f"{what}{k}" for k in range(len(tables))]].to_numpy(np.float64)
        for what in _VALUES
    }
    known = ~np.isnan(values["effect"])
    n = known.sum(axis=1)
    out["n_checkpoints"] = n
    out["agree"] = np.where(n >= MIN_CHECKPOINTS, _same_sign(values["effect"]), np.nan)
    return out, {"checkpoints": list(others), **_facts(values)}


def _same_sign(values: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Return the share of known values with the sign that most of them have, shape ``(n,)``."""
    up, down = (values > 0).sum(axis=1), (values < 0).sum(axis=1)
    known = np.maximum((~np.isnan(values)).sum(axis=1), 1)
    return np.maximum(up, down) / known


def _facts(values: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for what, table in values.items():
        both = table[~np.isnan(table).any(axis=1)]
        correlations = []
        for one, other in combinations(range(table.shape[1]), 2):
            pair = table[:, [one, other]]
            pair = pair[~np.isnan(pair).any(axis=1)]
            if len(pair) > 2 and (np.ptp(pair, axis=0) > 0).all():
                correlations.append(round(float(stats.spearmanr(*pair.T).statistic), 4))
        out[what] = {
            "rank_correlation": correlations,
            "least": min(correlations, default=None),
            "gene_pairs_of_all": len(both),
            "same_sign_in_all": round(float((_same_sign(both) == 1).mean()), 4)
            if len(both)
            else None,
        }
    out["enough"] = len(values["effect"]) > 0 and values["effect"].shape[1] >= MIN_CHECKPOINTS
    return out
