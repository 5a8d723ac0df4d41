"""From predicted and true neighbours to tables of cell types, with intervals over blocks.

Everything reported is a function of sums over query cells. The sums are taken per spatial block
once; a resample of blocks is then a weighting of these sums, the same for all methods, so that
methods can be compared resample by resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.stats import resampled_rows

if TYPE_CHECKING:
    import pandas as pd

TRUE = "true"
ALL = "all"
_LEVEL = (0.025, 0.975)
_MIN_BLOCKS = 2
METRICS = ("recall", "recall_as_neighbour", "jsd", "jsd_of_type")
_BIASED = ("jsd_of_type",)

Sums = dict[str, DoubleArray]


@dataclass(frozen=True, slots=True)
class QueryTables:
    """What was found around each query cell, by type.

    Attributes
    ----------
    type_names
        The ``t`` types.
    query_type
        Type of each query cell, shape ``(q,)``.
    block
        Spatial block of each query cell, from 0, shape ``(q,)``; None allows no intervals.
    share
        Composition of its candidates, shape ``(q, t)``, rows summing to 1.
    true
        True neighbours by type, shape ``(q, t)``; None where nobody knows them.
    predicted
        Predicted neighbours by method and type, shape ``(q, t)``.
    hits
        True neighbours among the predicted, likewise.
    """

    type_names: tuple[str, ...]
    query_type: LongArray
    block: LongArray | None
    share: DoubleArray
    true: DoubleArray | None
    predicted: dict[str, DoubleArray]
    hits: dict[str, DoubleArray]


@dataclass(frozen=True, slots=True)
class TypeTables:
    """The tables of one set of candidates.

    Attributes
    ----------
    pairs
        ``source type neighbour_type observed expected ratio low high n_queries``: observed over
        expected of every ordered pair of types, for each method and for the true neighbours.
    types
        ``method type metric value low high n_queries``; type ``all`` is over all query cells.
    differences
        ``method metric difference low high``: the first method minus this one, on the same cells.
    n_blocks
        Blocks that were resampled; 0 without intervals.
    """

    pairs: pd.DataFrame
    types: pd.DataFrame
    differences: pd.DataFrame
    n_blocks: int


def type_tables(tables: QueryTables, *, n_resamples: int = 300, seed: int = 0) -> TypeTables:
    """Return tables with 95 % intervals from resampling blocks of query cells.

    Parameters
    ----------
    tables
        Per query cell. The first method of ``predicted`` is compared with the others.
    n_resamples, seed
        Of the bootstrap.

    Notes
    -----
    ``recall``: true neighbours of query cells of a type that are among the predicted.
    ``recall_as_neighbour``: the same for the true neighbours of that type. ``jsd``: mean over
    query cells of the Jensen-Shannon distance (natural logarithm, at most 0.833) between the types
    of predicted and of true neighbours. ``jsd_of_type``: that distance between the pooled
    neighbours of all query cells of a type; it has no interval, for resampled compositions lie
    farther apart than the whole ones whatever the model does. ``expected``: the neighbours of each
    query cell shared out like the composition of its candidates.
    """
    import pandas as pd

    by_block = _block_sums(tables)
    total = {name: values.sum(0) for name, values in by_block.items()}
    n_blocks = len(next(iter(by_block.values()))) if tables.block is not None else 0
    draws = _resampled(by_block, n_resamples, seed) if n_blocks >= _MIN_BLOCKS else None
    methods = list(tables.predicted)
    sources = [*([TRUE] if tables.true is not None else []), *methods]
    pair_rows = [row for source in sources for row in _pair_rows(source, tables, total, draws)]
    found = {m: _metrics(total, m) for m in methods} if tables.true is not None else {}
    drawn = {m: _metrics(draws, m) for m in found} if draws is not None else {}
    type_rows = [row for m in found for row in _type_rows(m, tables, found[m], drawn.get(m))]
    return TypeTables(
        pairs=pd.DataFrame(pair_rows),
        types=pd.DataFrame(type_rows, columns=_TYPE_COLUMNS),
        differences=pd.DataFrame(_differences(found, drawn), columns=_DIFFERENCE_COLUMNS),
        n_blocks=n_blocks if draws is not None else 0,
    )


_TYPE_COLUMNS = ["method", "type", "metric", "value", "low", "high", "n_queries"]
_DIFFERENCE_COLUMNS = ["method", "metric", "difference", "low", "high"]


def _block_sums(tables: QueryTables) -> Sums:
    """Return every sum by block and type of the query cell, arrays ``(blocks, t, ...)``."""
    n_types, n_queries = len(tables.type_names), len(tables.query_type)
    block = np.zeros(n_queries, np.int64) if tables.block is None else tables.block
    n_blocks = int(block.max()) + 1 if n_queries else 1
    place = block * n_types + tables.query_type
    shape = (n_blocks * n_types, n_queries)
    adder = sparse.csr_matrix((np.ones(n_queries), (place, np.arange(n_queries))), shape=shape)
    columns: Sums = {"n": np.ones((n_queries, 1))}
    sources = dict(tables.predicted)
    if tables.true is not None:
        sources[TRUE] = tables.true
    for name, mass in sources.items():
        columns[f"{name}.observed"] = mass
        columns[f"{name}.expected"] = mass.sum(1, keepdims=True) * tables.share
    if tables.true is not None:
        for name, mass in tables.predicted.items():
            columns[f"{name}.hits"] = tables.hits[name]
            distance = query_jsd(mass, tables.true)
            known = np.isfinite(distance)
            columns[f"{name}.jsd"] = np.where(known, distance, 0.0)[:, None]
            columns[f"{name}.jsd_n"] = known[:, None].astype(np.float64)
    return {
        name: np.asarray(adder @ values).reshape(n_blocks, n_types, -1)
        for name, values in columns.items()
    }


def query_jsd(one: DoubleArray, other: DoubleArray) -> DoubleArray:
    """Return the Jensen-Shannon distance of aligned rows, NaN where one is empty, ``(..., )``."""
    known = (one.sum(-1) > 0) & (other.sum(-1) > 0)
    out = np.full(known.shape, np.nan)
    if known.any():
        # Rounding may leave a divergence of -1e-17, whose root is no number.
        with np.errstate(invalid="ignore"):
            out[known] = np.nan_to_num(jensenshannon(one[known], other[known], axis=-1))
    return out


def _resampled(by_block: Sums, n_resamples: int, seed: int) -> Sums:
    n_blocks = len(next(iter(by_block.values())))
    times = np.stack(
        [
            np.bincount(rows, minlength=n_blocks).astype(np.float64)
            for rows in resampled_rows(np.arange(n_blocks), n_resamples, seed)
        ]
    )
    return {name: np.tensordot(times, values, 1) for name, values in by_block.items()}


def _ratio(sums: Sums, source: str) -> DoubleArray:
    return _over(sums[f"{source}.observed"], sums[f"{source}.expected"])


def _over(one: DoubleArray, other: DoubleArray) -> DoubleArray:
    out = np.full(np.broadcast_shapes(one.shape, other.shape), np.nan)
    np.divide(one, other, out=out, where=other > 0)
    return out


def _metrics(sums: Sums, method: str) -> dict[str, DoubleArray]:
    """Return each metric by type with the one over all types last, shape ``(..., t + 1)``."""
    true, hits = sums[f"{TRUE}.observed"], sums[f"{method}.hits"]
    jsd, jsd_n = (sums[f"{method}.{name}"][..., 0] for name in ("jsd", "jsd_n"))
    pooled = query_jsd(sums[f"{method}.observed"], true)
    known = np.isfinite(pooled)
    mean = _over(np.where(known, pooled, 0.0).sum(-1), known.sum(-1).astype(float))
    return {
        "recall": _over(_with_all(hits.sum(-1)), _with_all(true.sum(-1))),
        "recall_as_neighbour": _over(_with_all(hits.sum(-2)), _with_all(true.sum(-2))),
        "jsd": _over(_with_all(jsd), _with_all(jsd_n)),
        "jsd_of_type": np.concatenate([pooled, mean[..., None]], -1),
    }


def _with_all(values: DoubleArray) -> DoubleArray:
    return np.concatenate([values, values.sum(-1, keepdims=True)], -1)


def _interval(draws: DoubleArray | None, shape: tuple[int, ...]) -> tuple[DoubleArray, DoubleArray]:
    """Return the bounds along the first axis; NaN where most resamples are undefined."""
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    if draws is not None:
        usable = np.isfinite(draws).mean(0) > 1 / 2
        if usable.any():
            bounds = np.nanquantile(draws[:, usable], _LEVEL, axis=0)
            low[usable], high[usable] = bounds
    return low, high


def _pair_rows(
    source: str, tables: QueryTables, total: Sums, draws: Sums | None
) -> list[dict[str, Any]]:
    ratio = _ratio(total, source)
    low, high = _interval(None if draws is None else _ratio(draws, source), ratio.shape)
    observed, expected = total[f"{source}.observed"], total[f"{source}.expected"]
    return [
        {
            "source": source,
            "type": one,
            "neighbour_type": other,
            "observed": observed[i, j],
            "expected": expected[i, j],
            "ratio": ratio[i, j],
            "low": low[i, j],
            "high": high[i, j],
            "n_queries": int(total["n"][i, 0]),
        }
        for i, one in enumerate(tables.type_names)
        for j, other in enumerate(tables.type_names)
    ]


def _type_rows(
    method: str,
    tables: QueryTables,
    found: dict[str, DoubleArray],
    drawn: dict[str, DoubleArray] | None,
) -> list[tuple[Any, ...]]:
    rows = []
    counts = np.bincount(tables.query_type, minlength=len(tables.type_names))
    names = (*tables.type_names, ALL)
    for metric in METRICS:
        draws = None if drawn is None or metric in _BIASED else drawn[metric]
        low, high = _interval(draws, found[metric].shape)
        for i, name in enumerate(names):
            n = int(counts.sum() if name == ALL and i == len(counts) else counts[i])
            rows.append((method, name, metric, found[metric][i], low[i], high[i], n))
    return rows


def _differences(
    found: dict[str, dict[str, DoubleArray]], drawn: dict[str, dict[str, DoubleArray]]
) -> list[tuple[Any, ...]]:
    rows = []
    first, *others = found or [""]
    for other in others:
        for metric in METRICS:
            value = found[first][metric][-1] - found[other][metric][-1]
            draws = None
            if drawn and metric not in _BIASED:
                draws = drawn[first][metric][..., -1] - drawn[other][metric][..., -1]
            low, high = _interval(draws, ())
            rows.append((other, metric, float(value), float(low), float(high)))
    return rows
