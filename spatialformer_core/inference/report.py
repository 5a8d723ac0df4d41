"""What a co-localisation says in words, and its tables as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.inference.colocalise import (
    CELLS,
    MODEL,
    PRIOR,
    REACH,
    WEIGHTED,
    Colocalisation,
    ColocaliseSettings,
)
from spatialformer_core.inference.type_tables import ALL, TRUE

if TYPE_CHECKING:
    import pandas as pd

_MIN_EXPECTED = 20
_MIN_PAIRS = 3
NO_TYPE = "(none)"
JSD = (
    "Jensen-Shannon distance, natural logarithm: 0 for equal composition, 0.833 for types that "
    "never meet"
)
NO_PRIOR = (
    "A prior of type pairs is not shown: it needs cells elsewhere whose neighbours are known and "
    "that are not asked about."
)
NO_TRUTH = (
    "These cells have no coordinates: predictions have no truth beside them here. What they are "
    "worth shows on tissue of the same kind."
)


def typed(names: tuple[str, ...], codes: LongArray) -> tuple[tuple[str, ...], LongArray]:
    """Return the types that occur; cells without one (code -1) become a type of their own."""
    every = (*names, NO_TYPE)
    present, place = np.unique(np.where(codes < 0, len(names), codes), return_inverse=True)
    return tuple(every[i] for i in present), place.ravel().astype(np.int64)


def joined_tables(result: Colocalisation) -> dict[str, pd.DataFrame]:
    """Return ``pairs``, ``types`` and ``differences`` with the set of candidates first."""
    import pandas as pd

    out = {}
    for name in ("pairs", "types", "differences"):
        frames = []
        for scope, tables in result.tables.items():
            frame = getattr(tables, name).copy()
            frame.insert(0, "candidates", scope)
            frames.append(frame)
        out[name] = pd.concat(frames, ignore_index=True)
    return out


def colocalisation_facts(result: Colocalisation, settings: ColocaliseSettings) -> dict[str, Any]:
    """Return verdict, headline figures and how everything was counted, JSON."""
    has_truth = CELLS not in result.tables
    facts: dict[str, Any] = {
        "n_queries": result.n_queries,
        "n_candidates": result.n_eligible,
        "methods": list(result.methods),
        "settings": settings.model_dump(mode="json"),
        "has_truth": has_truth,
        "jsd": JSD,
        "notes": [],
        "verdict": NO_TRUTH,
    }
    if not has_truth:
        return facts
    facts["headline"] = {scope: _headline(result, scope) for scope in result.tables}
    facts["agreement"] = {scope: _agreement(result, scope) for scope in result.tables}
    facts["n_blocks"] = result.tables[REACH].n_blocks
    facts["intervals"] = f"95 %, resampling {settings.block_um:g} um blocks of query cells"
    if PRIOR not in result.methods:
        facts["notes"].append(NO_PRIOR)
    if not facts["n_blocks"]:
        facts["notes"].append("The query cells lie in one block: there are no intervals.")
    facts["verdict"] = _verdict(facts, result, settings)
    return facts


def _headline(result: Colocalisation, scope: str) -> dict[str, dict[str, Any]]:
    """Return value and interval of each method and metric over all query cells."""
    table = result.tables[scope].types
    found: dict[str, dict[str, Any]] = {}
    for row in table[table["type"] == ALL].to_dict("records"):
        numbers = {key: _number(row[key]) for key in ("value", "low", "high")}
        found.setdefault(row["method"], {})[row["metric"]] = numbers
    return found


def _agreement(result: Colocalisation, scope: str) -> dict[str, Any]:
    """Return how well each method ranks pairs of types by observed over expected (Spearman)."""
    from scipy.stats import spearmanr

    table = result.tables[scope].pairs.set_index(["type", "neighbour_type"])
    true = table[table["source"] == TRUE]
    enough = true[true["expected"] >= _MIN_EXPECTED].index
    found: dict[str, Any] = {"n_type_pairs": len(enough), "min_expected": _MIN_EXPECTED}
    for method in result.methods:
        own = table[table["source"] == method]["ratio"].reindex(enough)
        known = own.notna()
        varies = known.sum() >= _MIN_PAIRS and np.ptp(own[known].round(9)) > 0
        # Ratios that are all alike rank nothing.
        value = spearmanr(own[known], true["ratio"].reindex(enough)[known])[0] if varies else 0.0
        found[method] = _number(value)
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _verdict(facts: dict[str, Any], result: Colocalisation, settings: ColocaliseSettings) -> str:
    head = facts["headline"][REACH]
    trivial = [m for m in result.methods if m not in (MODEL, WEIGHTED)]
    if head[MODEL]["recall"]["value"] is None or head[MODEL]["jsd"]["value"] is None:
        return "No query cell has a neighbour or a prediction: nothing can be said."
    what = (
        f"the {settings.selection.k} best candidates of each cell"
        if settings.selection.threshold is None
        else f"the candidates of a score of at least {settings.selection.threshold:g}"
    )
    best = max(trivial, key=lambda m: head[m]["recall"]["value"])
    nearest = min(trivial, key=lambda m: head[m]["jsd"]["value"])
    return (
        f"Among the cells within {settings.candidates.reach_um:g} um, {what} hold "
        f"{head[MODEL]['recall']['value']:.1%} of its true neighbours, by the best trivial answer "
        f"({best}) {head[best]['recall']['value']:.1%}: {_difference(result, best, 'recall')}. "
        f"Their types lie {head[MODEL]['jsd']['value']:.3f} (JSD) from those of the true ones, by "
        f"the best trivial answer ({nearest}) {head[nearest]['jsd']['value']:.3f}: "
        f"{_difference(result, nearest, 'jsd')}. Which types lie together more than expected it "
        f"ranks as the tissue does to {_shown(facts['agreement'][REACH])}."
    )


def _shown(agreement: dict[str, Any]) -> str:
    """Return the agreement of the model and of the best trivial answer in words."""
    rest = [m for m in agreement if m not in (MODEL, WEIGHTED, "n_type_pairs", "min_expected")]
    best = max(rest, key=lambda m: agreement[m] or 0.0)
    values = [f"{agreement[m] or 0.0:.2f}" for m in (MODEL, WEIGHTED, best)]
    return (
        f"{values[0]} (Spearman; all candidates weighted by score: {values[1]}; the best trivial "
        f"answer, {best}: {values[2]})"
    )


def _difference(result: Colocalisation, method: str, metric: str) -> str:
    table = result.tables[REACH].differences
    row = table[(table["method"] == method) & (table["metric"] == metric)].iloc[0]
    text = f"difference {row['difference']:+.3f}"
    if not np.isfinite(row["low"]):
        return text
    return f"{text} ({row['low']:+.3f} to {row['high']:+.3f})"
