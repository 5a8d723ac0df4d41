"""From the records of suite ``screen`` to the rows of its report, and to a page to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from spatialformer_core.evaluation.screens import ALPHA, LINKED, SUITE

TOP = len(LINKED)
"""The planted pairs are at the top if they are the first so many by the size of epsilon."""

_Z95 = 1.959963984540054
_NULLS = {
    "dealt": "expression dealt out anew within types",
    "unplanted": "no planted relation; zones and spillover remain",
}


def suite_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of ``report.json``.

    Parameters
    ----------
    records
        From `run_suite`: what each method found on each tissue.
    """
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(record["method"] for record in records):
        mine = [record for record in records if record["method"] == method]
        found = [record for record in mine if record["kind"] == "planted"]
        if found:
            rows += _planted_rows(method, found)
        for kind in _NULLS:
            null = [record for record in mine if record["kind"] == kind]
            if null:
                rows += _null_rows(method, kind, null)
    return rows


def _planted_rows(method: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for pair in records[0]["pairs"]:
        seen = [record["pairs"][pair] for record in records]
        hits = [bool(one) and one["found"] for one in seen]
        rows.append(_row("planted_pairs", pair, method, "share_of_tissues_found", _share(hits)))
        places = [one["place"] for one in seen if one]
        rows.append(_row("planted_pairs", pair, method, "median_place", _median(places)))
    at_top = [_all_at_top(record) for record in records]
    rows.append(_row("planted_pairs", "all", method, "share_of_tissues_first", _share(at_top)))
    for kind in records[0]["decoys"]:
        for by, name in (("called", "epsilon"), ("called_by_d", "d")):
            tested = sum(record["decoys"][kind]["tested"] for record in records)
            called = sum(record["decoys"][kind][by] for record in records)
            share = called / tested if tested else None
            values = (share, None, None, len(records), tested)
            rows.append(_row("decoys", kind, method, f"share_called_by_{name}", values))
    false = [record["false"] / max(record["called"], 1) for record in records]
    rows.append(_row("false_discoveries", "epsilon", method, "share_of_called", _mean(false)))
    gates = [record["gate"]["auroc"] for record in records if record["gate"]["auroc"] is not None]
    rows.append(_row("gate", "planted", method, "auroc", _mean(gates)))
    opened = [record["gate"]["open"] for record in records]
    rows.append(_row("gate", "planted", method, "share_open", _share(opened)))
    return rows + _recall_rows(method, records)


def _all_at_top(record: dict[str, Any]) -> bool:
    pairs = record["pairs"].values()
    return all(bool(one) and one["place"] <= TOP for one in pairs)


def _recall_rows(method: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    measured = [record["recall"] for record in records if record["recall"]]
    return [
        _row("screened_mode", name, method, "recall", _mean([recall[name] for recall in measured]))
        for name in ("d", "epsilon")
        if measured
    ]


def _null_rows(method: str, kind: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for quantity in ("effect", "interaction"):
        split = f"{_NULLS[kind]}: {quantity}"
        shares = [r[quantity]["rejected"] for r in records if r[quantity]["rejected"] is not None]
        rows.append(_row("null", split, method, "share_below_05", _mean(shares)))
        any_q = _share([record[quantity]["any_q"] for record in records])
        rows.append(_row("null", split, method, "share_of_tissues_with_any_q", any_q))
    opened = _share([record["gate"]["open"] for record in records])
    rows.append(_row("gate", _NULLS[kind], method, "share_open", opened))
    return rows


_Values = tuple[float | None, float | None, float | None, int, int]


def _row(task: str, split: str, method: str, metric: str, values: _Values) -> dict[str, Any]:
    value, low, high, seeds, n = values
    return {
        "suite": SUITE,
        "task": task,
        "split": split,
        "radius_um": None,
        "negatives": None,
        "method": method,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "seeds": seeds,
        "n": n,
    }


def _mean(values: Sequence[float]) -> _Values:
    """Return the mean of shares with its 95 % interval (normal, within 0 to 1) over tissues."""
    if not values:
        return None, None, None, 0, 0
    mean, n = float(np.mean(values)), len(values)
    half = _Z95 * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else None
    if half is None:
        return mean, None, None, n, n
    return mean, max(mean - half, 0.0), min(mean + half, 1.0), n, n


def _share(hits: Iterable[bool]) -> _Values:
    """Return a share of tissues with its 95 % interval (Wilson 1927)."""
    found = list(hits)
    n, share = len(found), float(np.mean(found))
    z2 = _Z95**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * ((share * (1 - share) + z2 / 4) / n) ** 0.5
    return share, max(centre - half, 0.0), min(centre + half, 1.0), n, n


def _median(places: Sequence[int]) -> _Values:
    """Return the median place with the best and the worst."""
    if not places:
        return None, None, None, 0, 0
    return float(np.median(places)), min(places), max(places), len(places), len(places)


def markdown(report: dict[str, Any]) -> str:
    """Return the report as one table per task, methods in columns."""
    lines = [f"# {SUITE}", ""]
    for task in dict.fromkeys(row["task"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["task"] == task]
        methods = list(dict.fromkeys(row["method"] for row in rows))
        values = {(row["split"], row["metric"], row["method"]): row for row in rows}
        lines += [f"## {task}", "", "| | | " + " | ".join(methods) + " |"]
        lines.append("|---" * (len(methods) + 2) + "|")
        for split, metric in dict.fromkeys((row["split"], row["metric"]) for row in rows):
            cells = [_cell(values.get((split, metric, method))) for method in methods]
            lines.append(f"| {split} | {metric} | " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(f"Significant: q < {ALPHA:g}, Benjamini-Hochberg over all tested gene pairs.")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    interval = "" if row["low"] is None else f" ({row['low']:.3g} to {row['high']:.3g})"
    return f"{row['value']:.3g}{interval} [{row['n']:,}]"
