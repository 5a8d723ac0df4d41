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
    lines += [f"- {key}: {value}" for key, value in report["provenance"].items()]
    return "\n".join(lines) + "\n"


def figure(report: dict[str, Any]) -> bytes:
    """Return AUROC with intervals per method, one panel per table, as SVG."""
    import io

    from matplotlib.figure import Figure

    tables = _tables(report)
    canvas = Figure(figsize=(4.2 * max(len(tables), 1), 3.2), layout="constrained")
    for number, ((radius_um, negatives), rows) in enumerate(tables.items()):
        axes = canvas.add_subplot(1, len(tables), number + 1)
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


def _cell(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    if row["low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.3f}-{row['high']:.3f})"
