"""A screen's gene pairs ranked beside liana's scores of the same pairs in the same cells.

liana's CellPhoneDB, CellChat and spatial (bivariate Moran) scores look at expression alone and ask
nobody what two cells are to each other. Every tested gene pair is scored, not only known ligands
and receptors: the left gene in the left type, the right gene in the right type.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.perturbation import ligand_receptor
from spatialformer_core.progress import Cancel, check, never

if TYPE_CHECKING:
    import pandas as pd

METHODS: dict[str, str] = {
    "effect": "size of the screen's effect, |d_diff|",
    "interaction": "size of the screen's interaction, |epsilon|",
    "cellphonedb": "liana's CellPhoneDB score: mean of the two genes' means in their types",
    "cellchat": "liana's CellChat score: product of the two genes' trimmed means, saturating",
    "moran": "liana's global bivariate Moran's R over the same cells; both orders of two genes "
    "have nearly the same",
}
"""What the columns ``rank_*`` rank by, 1 is strongest; liana's own values stand beside."""

EXTRA = "liana is not installed; install the extra [baselines]"
TOO_FEW = "too few cells of one of the types, or too few gene pairs, for liana"
_LIANA = ("cellphonedb", "cellchat", "moran")
_SIDES = ("left", "right")
_MIN_CELLS, _MIN_PAIRS = 5, 3
_NEIGHBOURS = 100
_MEMBERS = 1e7
"""Cells times gene pairs that Moran's R is computed for at once: some 300 MB."""


@dataclass(frozen=True, slots=True)
class ScreenedCells:
    """The cells of a screen's near pairs.

    Attributes
    ----------
    counts
        CSR of shape ``(n_cells, n_genes)``.
    genes
        Names of its columns.
    xy_um
        Positions, shape ``(n_cells, 2)``; slides lie far apart.
    is_left
        Which are of the left type; with one type all are.
    """

    counts: Any
    genes: tuple[str, ...]
    xy_um: DoubleArray
    is_left: BoolArray


def is_installed() -> bool:
    """Tell whether liana can be used."""
    try:
        return importlib.util.find_spec("liana") is not None
    except ValueError:
        return False


def reason_without(cells: ScreenedCells, table: pd.DataFrame, *, same_type: bool) -> str | None:
    """Return why liana cannot score a screen; None if it can."""
    if not is_installed():
        return EXTRA
    n_left = int(cells.is_left.sum())
    smallest = n_left if same_type else min(n_left, len(cells.is_left) - n_left)
    known = table["gene_left"].isin(cells.genes) & table["gene_right"].isin(cells.genes)
    return TOO_FEW if smallest < _MIN_CELLS or known.sum() < _MIN_PAIRS else None


def liana_ranks(
    table: pd.DataFrame,
    cells: ScreenedCells,
    *,
    same_type: bool,
    radius_um: float,
    cancel: Cancel = never,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return gene pairs with their ranks by the screen and by liana.

    Parameters
    ----------
    table
        A screen's table; marked ligand-receptor pairs (`ligand_receptor.mark`) are kept as such.
        Gene sets, which liana cannot score, are left out.
    cells
        The cells, from `reason_without` known to suffice.
    same_type
        Whether both cells are of one type.
    radius_um
        Bandwidth of Moran's R: the distance within which cells count as neighbours.
    cancel
        Asked between the parts.

    Returns
    -------
    ranks
        ``gene_left gene_right is_ligand_receptor``, a column per liana score, ``rank_*`` for each
        of `METHODS` (ties share their mean rank), ``scope``; strongest interaction first.
    facts
        What ``screen.json`` says: rank correlation of every two methods, and of known pairs their
        median place and how far they stand above pairs of like expression and rank.
    """
    import pandas as pd

    known = table["gene_left"].isin(cells.genes) & table["gene_right"].isin(cells.genes)
    rows = table[known].reset_index(drop=True)
    data = _anndata(cells, same_type=same_type)
    pairs = rows[["gene_left", "gene_right"]].set_axis(["ligand", "receptor"], axis=1)
    scores = {
        "cellphonedb": _by_type(data, pairs, "cellphonedb", "lr_means", same_type=same_type),
        "cellchat": _by_type(data, pairs, "cellchat", "lr_probs", same_type=same_type),
    }
    check(cancel)
    # Only now: where liana finds positions it weighs its other scores by how close types lie.
    data.obsm["spatial"] = np.asarray(cells.xy_um, np.float64)
    scores["moran"] = _moran(data, pairs, radius_um, cancel)
    strengths = {
        # Sizes, as liana's are: t ranks by the spread between units as well.
        "effect": rows["d_diff"].abs().to_numpy(np.float64),
        "interaction": rows["epsilon"].abs().to_numpy(np.float64),
        **scores,
    }
    ranks = pd.DataFrame({name: _ranked(value) for name, value in strengths.items()})
    out = pd.concat(
        [
            rows[["gene_left", "gene_right", "is_ligand_receptor"]],
            pd.DataFrame(scores),
            ranks.add_prefix("rank_"),
            rows[["scope"]],
        ],
        axis=1,
    )
    facts = _facts(rows, strengths, len(cells.is_left), same_type=same_type)
    facts["left_out"] = int((~known).sum())
    # Its trimmed mean of a gene is 0 where fewer than a quarter of the cells express it.
    facts["cellchat_zero"] = int((scores["cellchat"] == 0).sum())
    return out.sort_values("rank_interaction", ignore_index=True, kind="stable"), facts


def _anndata(cells: ScreenedCells, *, same_type: bool) -> Any:
    """Return the cells as liana wants them: log of counts per median depth, float32 CSR."""
    import anndata
    import pandas as pd
    from scipy import sparse

    counts = sparse.csr_matrix(cells.counts, dtype=np.float32)
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    scale = np.median(depth[depth > 0]) / np.maximum(depth, 1)
    values = sparse.csr_matrix(sparse.diags(scale.astype(np.float32)) @ counts)
    np.log1p(values.data, out=values.data)
    side = np.where(cells.is_left | same_type, *_SIDES)
    obs = pd.DataFrame(
        {"side": pd.Categorical(side)}, index=[f"cell-{k}" for k in range(len(side))]
    )
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=list(cells.genes)))


def _by_type(
    data: Any, pairs: pd.DataFrame, method: str, score: str, *, same_type: bool
) -> DoubleArray:
    """Return one of liana's scores for each gene pair, left type to right type."""
    import liana
    import pandas as pd

    source, target = _SIDES[0], _SIDES[0] if same_type else _SIDES[1]
    found = _quietly(
        getattr(liana.mt, method),
        data,
        groupby="side",
        groupby_pairs=pd.DataFrame({"source": [source], "target": [target]}),
        resource=pairs.drop_duplicates(),
        expr_prop=0.0,
        min_cells=1,
        return_all_lrs=True,
        use_raw=False,
        # Ranks go by the score: with two types a permutation of labels asks another question.
        n_perms=None,
        inplace=False,
        verbose=False,
    )
    # In both directions the pair is asked for by its own order of genes.
    by_pair = found.set_index(["ligand", "receptor"])[score].to_dict()
    keys = zip(pairs["ligand"], pairs["receptor"], strict=True)
    return np.array([by_pair.get(key, np.nan) for key in keys], np.float64)


def _moran(data: Any, pairs: pd.DataFrame, radius_um: float, cancel: Cancel) -> DoubleArray:
    """Return liana's global bivariate Moran's R of each gene pair."""
    import liana

    most = min(_NEIGHBOURS, data.n_obs - 1)
    liana.ut.spatial_neighbors(data, bandwidth=radius_um, cutoff=0.1, max_neighbours=most)
    step = max(1, int(_MEMBERS / data.n_obs))
    by_pair: dict[tuple[str, str], float] = {}
    for start in range(0, len(pairs), step):
        check(cancel)
        found = _quietly(
            liana.mt.bivariate,
            data,
            resource=pairs.iloc[start : start + step],
            local_name=None,
            global_name="morans",
            n_perms=None,
            nz_prop=0.0,
            remove_self_interactions=False,
            complex_sep=None,
            x_name="ligand",
            y_name="receptor",
            use_raw=False,
        )
        keys = zip(found["ligand"], found["receptor"], strict=True)
        by_pair |= dict(zip(keys, found["morans"].astype(float), strict=True))
    keys = zip(pairs["ligand"], pairs["receptor"], strict=True)
    return np.array([by_pair.get(key, np.nan) for key in keys], np.float64)


def _quietly(function: Callable[..., pd.DataFrame], data: Any, **options: Any) -> pd.DataFrame:
    """Call liana; it writes into views of the data and into numpy matrices, and warns of both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(data, **options)


def _ranked(strength: DoubleArray) -> DoubleArray:
    import pandas as pd

    return np.asarray(pd.Series(strength).rank(ascending=False), np.float64)


def _facts(
    rows: pd.DataFrame, strengths: dict[str, DoubleArray], n_cells: int, *, same_type: bool
) -> dict[str, Any]:
    known = rows["is_ligand_receptor"].eq(other=True).fillna(value=False).to_numpy(np.bool_)
    facts: dict[str, Any] = {
        "version": importlib.metadata.version("liana"),
        "cells": n_cells,
        "gene_pairs": len(rows),
        "methods": METHODS,
        "rank_correlation": [
            {"one": a, "other": b, "rho": _spearman(strengths[a], strengths[b])}
            for a, b in combinations(METHODS, 2)
        ],
        "known_pairs": int(known.sum()),
        "known": [],
    }
    if known.any():
        facts["known"] = [
            {
                "method": name,
                "median_place": round(float(np.nanmedian(_ranked(value)[known]) / len(rows)), 4),
                **ligand_receptor.against_like_pairs(rows, value, known, same_type=same_type),
            }
            for name, value in strengths.items()
        ]
    facts["sentence"] = _sentence(facts)
    return facts


def _spearman(one: DoubleArray, other: DoubleArray) -> float | None:
    from scipy import stats

    both = ~(np.isnan(one) | np.isnan(other))
    if both.sum() < _MIN_PAIRS or not np.ptp(one[both]) or not np.ptp(other[both]):
        return None
    return round(float(stats.spearmanr(one[both], other[both]).statistic), 4)


def _sentence(facts: dict[str, Any]) -> str:
    rho = {
        entry["other"]: entry["rho"]
        for entry in facts["rank_correlation"]
        if entry["one"] == "interaction"
    }
    told = ", ".join(
        f"{name} {'–' if rho[name] is None else format(rho[name], '.2f')}" for name in _LIANA
    )
    return (
        f"liana {facts['version']} on the {facts['cells']:,} cells of the near pairs, "
        f"{facts['gene_pairs']:,} gene pairs: the interaction's ranks correlate (rho) with "
        f"{told}. liana scores expression; agreement is neither expected nor a proof."
    )
