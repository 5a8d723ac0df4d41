"""Reports of benchmark suites: ``report.json``, a table to read, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spatialformer_core import files

REPORT, TABLE, FIGURE = "report.json", "report.md", "report.svg"

ROW_KEYS = (
    "suite",
    "task",
    "split",
    "radius_um",
    "negatives",
    "method",
    "metric",
    "value",
    "low",
    "high",
    "seeds",
    "n",
)


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``report.svg`` into a folder."""
    files.write_json(folder / REPORT, report)
    with files.atomic_write(folder / TABLE, "w") as stream:
        stream.write(markdown(report))
    with files.atomic_write(folder / FIGURE) as stream:
        stream.write(figure(report))


def markdown(report: dict[str, Any]) -> str:
    """Return one table per radius and kind of negatives, methods by AUROC, best first."""
    lines = [f"# {report['rows'][0]['suite'] if report['rows'] else 'report'}", ""]
    for (radius_um, negatives), rows in _tables(report).items():
        metrics = list(dict.fromkeys(row["metric"] for row in rows))
        values = {(row["method"], row["metric"]): row for row in rows}
        methods = sorted(
            {row["method"] for row in rows},
            key=lambda m: -(values[(m, "auroc")]["value"] or 0.0),
        )
        first = rows[0]
        lines += [
            f"## {radius_um:g} um, {negatives} negatives ({first['split']}, n = {first['n']:,}, "
            f"{first['seeds']} seeds)",
            "",
            "| method | " + " | ".join(metrics) + " |",
            "|---" * (len(metrics) + 1) + "|",
        ]
        for method in methods:
            cells = [_cell(values[(method, metric)]) for metric in metrics]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
        lines += _differences(report, radius_um, negatives)
    lines += [f"- {key}: {value}" for key, value in report["provenance"].items()]
    return "\n".join(lines) + "\n"


def _differences(report: dict[str, Any], radius_um: float, negatives: str) -> list[str]:
    """Return the lead over every other method, AUROC on the same pairs."""
    rows = [
        row
        for row in report.get("differences", [])
        if (row["radius_um"], row["negatives"], row["metric"]) == (radius_um, negatives, "auroc")
    ]
    if not rows:
        return []
    owners = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for own in owners:
        ahead = "ahead of" if len(owners) == 1 else f"{own} ahead of"
        lines += [f"| {ahead} | AUROC difference on the same pairs (95 %) |", "|---|---|"]
        lines += [
            f"| {row['against']} | {_cell(row, '+.3f')} |" for row in rows if row["method"] == own
        ]
        lines.append("")
    return lines


def figure(report: dict[str, Any]) -> bytes:
    """Return AUROC with intervals per method, one panel per table, as SVG."""
    import io

    from matplotlib.figure import Figure

    tables, curves = _tables(report), _curves(report)
    n_rows = 2 if curves else 1
    n_columns = max(len(tables), len(curves), 1)
    canvas = Figure(figsize=(4.2 * n_columns, 3.2 * n_rows), layout="constrained")
    for number, (radius_um, methods) in enumerate(curves.items()):
        axes = canvas.add_subplot(n_rows, n_columns, n_columns + number + 1)
        for method, points in methods.items():
            own = method.startswith("spatialformer")
            axes.plot(*zip(*points, strict=True), label=method, lw=2.2 if own else 1.1)
        axes.axvline(radius_um, color="#b0b7c3", lw=1, ls=":")
        axes.set_xlabel("distance of the two cells (um)")
        axes.set_ylabel("mean probability")
        axes.set_title(f"neighbours within {radius_um:g} um", fontsize=10)
        axes.legend(fontsize=6, frameon=False)
    for number, ((radius_um, negatives), rows) in enumerate(tables.items()):
        axes = canvas.add_subplot(n_rows, n_columns, number + 1)
        auroc = [row for row in rows if row["metric"] == "auroc" and row["value"] is not None]
        auroc.sort(key=lambda row: row["value"])
        for place, row in enumerate(auroc):
            axes.plot([row["low"], row["high"]], [place, place], color="#7a869a", lw=2)
            own = row["method"].startswith("spatialformer")
            axes.plot(row["value"], place, "o", color="#c2410c" if own else "#1f4e79")
        axes.set_yticks(range(len(auroc)), [row["method"] for row in auroc])
        axes.axvline(0.5, color="#b0b7c3", lw=1, ls=":")
        axes.set_title(f"{radius_um:g} um, {negatives} negatives", fontsize=10)
        axes.set_xlabel("AUROC (95 % interval)")
    stream = io.BytesIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _tables(report: dict[str, Any]) -> dict[tuple[float, str], list[dict[str, Any]]]:
    found: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in report["rows"]:
        found.setdefault((row["radius_um"], row["negatives"]), []).append(row)
    return found


def _curves(
    report: dict[str, Any],
) -> dict[float, dict[str, list[tuple[float, float]]]]:
    found: dict[float, dict[str, list[tuple[float, float]]]] = {}
    for row in report.get("by_distance", []):
        points = found.setdefault(row["radius_um"], {}).setdefault(row["method"], [])
        points.append((row["distance_um"], row["mean_probability"]))
    return found


def _cell(row: dict[str, Any], form: str = ".3f") -> str:
    if row["value"] is None:
        return "-"
    value = format(row["value"], form)
    if row["low"] is None:
        return value
    between = " to " if form.startswith("+") else "-"
    return f"{value} ({format(row['low'], form)}{between}{format(row['high'], form)})"
