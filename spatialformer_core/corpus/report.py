"""What a corpus holds, per tissue and condition: a report for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.corpus.corpus import Corpus
from spatialformer_core.corpus.sequences import OVERHEAD
from spatialformer_core.corpus.shard import Shard

RADII_UM = (20.0, 30.0, 40.0)
_QUANTILES = (0.05, 0.5, 0.95)
_MAX_NAMED = 20


def corpus_report(corpus: Corpus, radii_um: Sequence[float] = RADII_UM) -> dict[str, Any]:
    """Describe a corpus.

    Parameters
    ----------
    corpus
        Every cell of it counts, whatever its split.
    radii_um
        Radii at which neighbours are counted.

    Returns
    -------
    dict
        ``groups``: one row per tissue and condition, and one for all. Genes are those with a
        token in some cell; transcripts are counts of the matrix, known and unknown genes apart.
        ``rank_*`` are places in a cell's ranking as a share of its length (0 first, 1 last), of
        genes that co-occur with another one in that cell and of its other genes.
        ``slides``: what each slide left out.
    """
    labels = [(s.info.sample.tissue, s.info.sample.condition) for s in corpus.shards]
    groups = []
    for label in sorted(set(labels)):
        members = [s for s, own in zip(corpus.shards, labels, strict=True) if own == label]
        groups.append({"tissue": label[0], "condition": label[1]} | _row(members, radii_um))
    if len(groups) > 1:
        everything = _row(corpus.shards, radii_um)
        groups.append({"tissue": "all", "condition": "all"} | everything)
    manifest = corpus.manifest
    return {
        "groups": groups,
        "slides": [_slide(shard) for shard in corpus.shards],
        "n_tokens": len(corpus.vocabulary),
        "vocabulary": corpus.vocabulary.fingerprint,
        "settings": manifest.settings.model_dump(mode="json"),
        "simulated": manifest.simulated,
    }


def _slide(shard: Shard) -> dict[str, Any]:
    info = shard.info
    told = ("unknown_genes", "merged_genes")
    names = {name: list(getattr(info, name)) for name in told}
    counted = ("unknown_counts", "total_counts", "empty_cells", "truncated_cells")
    return {
        "slide_id": info.slide_id,
        **info.sample.model_dump(),
        "simulated": info.simulated,
        "cells": info.n_cells,
        "split_cells": info.split_cells,
        "mapped_genes": info.mapped_genes,
        "has_cooccurrence": info.has_cooccurrence,
        **{name: getattr(info, name) for name in counted},
        **names,
    }


def _row(shards: Sequence[Shard], radii_um: Sequence[float]) -> dict[str, Any]:
    lengths = np.concatenate([np.diff(shard.indptr) for shard in shards])
    tokens = [np.unique(shard.tokens) for shard in shards]
    unknown = sum(shard.info.unknown_counts for shard in shards)
    total = sum(shard.info.total_counts for shard in shards)
    with_pairs = [shard for shard in shards if shard.info.has_cooccurrence]
    pairs = [np.diff(shard.pair_indptr) for shard in with_pairs]
    together, others = _ranks(with_pairs)
    row: dict[str, Any] = {
        "slides": len(shards),
        "donors": len({shard.info.sample.donor for shard in shards}),
        "cells": len(lengths),
        "genes": len(np.unique(np.concatenate(tokens))),
        "unknown_genes": len({name for s in shards for name in s.info.unknown_genes}),
        "transcripts": total,
        "transcripts_unknown": unknown,
        **_spread("genes_per_cell", lengths),
        **_spread("pair_length", OVERHEAD + 2 * lengths),
        **_spread("gene_pairs_per_cell", np.concatenate([np.zeros(0, np.int64), *pairs])),
        "cells_without_gene_pairs": int(sum((p == 0).sum() for p in pairs)),
        "rank_cooccurring": together,
        "rank_other": others,
    }
    for radius in radii_um:
        degrees = [_degree(shard, radius) for shard in shards]
        row |= _spread(f"degree_{radius:g}_um", np.concatenate(degrees))
    return row


def _degree(shard: Shard, radius_um: float) -> LongArray:
    return radius_graph(shard.xy_um, radius_um).degree


def _spread(name: str, values: NDArray[Any]) -> dict[str, float | None]:
    """Return mean and quantiles, None where there is nothing."""
    if not len(values):
        return {f"{name}_{what}": None for what in ("mean", "p05", "p50", "p95")}
    quantiles = np.quantile(values, _QUANTILES)
    numbers = (float(values.mean()), *(float(q) for q in quantiles))
    names = ("mean", "p05", "p50", "p95")
    return {f"{name}_{what}": round(x, 3) for what, x in zip(names, numbers, strict=True)}


def _ranks(shards: Sequence[Shard]) -> tuple[float | None, float | None]:
    """Return the mean rank of genes that co-occur, and of the others, over cells with both."""
    sums = np.zeros(2)
    counts = np.zeros(2, np.int64)
    for shard in shards:
        lengths = np.diff(shard.indptr)
        cell = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(cell)) - np.repeat(shard.indptr[:-1], lengths)
        share = place / np.maximum(lengths[cell] - 1, 1)
        is_in = np.zeros(len(cell), np.bool_)
        owner = np.repeat(np.arange(len(lengths)), np.diff(shard.pair_indptr))
        for side in (shard.pair_left, shard.pair_right):
            is_in[shard.indptr[owner] + side] = True
        some = np.bincount(cell, is_in, len(lengths))
        both = ((some > 0) & (some < lengths))[cell]
        for i, chosen in enumerate((is_in & both, ~is_in & both)):
            sums[i] += share[chosen].sum()
            counts[i] += chosen.sum()
    if not counts.all():
        return None, None
    first, second = (float(x) for x in np.round(sums / counts, 4))
    return first, second


def write_report(report: dict[str, Any], out: Path) -> Path:
    """Write ``report.json``, ``report.md`` and ``groups.parquet`` into a folder that appears.

    Raises
    ------
    SpatialFormerError
        If ``out`` exists.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with files.atomic_directory(out) as folder:
        files.write_json(folder / "report.json", report)
        with files.atomic_write(folder / "report.md", "w") as stream:
            stream.write(to_markdown(report))
        with files.atomic_write(folder / "groups.parquet") as stream:
            parquet.write_table(pa.Table.from_pylist(report["groups"]), stream)
    return out


def to_markdown(report: dict[str, Any]) -> str:
    """Return the report as a page."""
    groups = report["groups"]
    heads = [f"{g['tissue']}, {g['condition']}" for g in groups]
    lines = ["# Corpus", ""]
    if report["simulated"]:
        lines += ["**Holds simulated tissue.**", ""]
    lines += [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(groups)}"]
    for key in groups[0]:
        if key not in {"tissue", "condition"}:
            values = " | ".join(_number(group[key]) for group in groups)
            lines.append(f"| {key.replace('_', ' ')} | {values} |")
    lines += ["", "## Slides", ""]
    lines += ["| slide | donor | cells | unknown genes | share of counts | merged genes |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for s in report["slides"]:
        share = s["unknown_counts"] / s["total_counts"] if s["total_counts"] else 0.0
        numbers = f"{s['cells']:,} | {len(s['unknown_genes'])} | {share:.2%}"
        lines.append(f"| {s['slide_id']} | {s['donor']} | {numbers} | {len(s['merged_genes'])} |")
    unknown = sorted({name for s in report["slides"] for name in s["unknown_genes"]})
    if unknown:
        rest = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        lines += ["", f"Unknown genes: {', '.join(unknown[:_MAX_NAMED])}{rest}."]
    lines += [
        "",
        "Ranks: 0 is a cell's first gene, 1 its last; over cells that have both kinds of genes.",
    ]
    settings = ", ".join(f"{k} {v}" for k, v in report["settings"]["cooccurrence"].items())
    lines += ["", f"Co-occurrence: {settings}. Tokens: {report['n_tokens']:,}.", ""]
    return "\n".join(lines)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
