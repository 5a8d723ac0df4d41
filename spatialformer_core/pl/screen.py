"""Figures of a gene-pair screen. Every one says how far it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.pl.canvas import NEUTRAL, STRONG, WEAK, canvas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from spatialformer_core.perturbation import ScreenResult

ALPHA = 0.05
_LABELS, _HEATMAP_GENES, _EDGES, _MAX_POINTS = 12, 30, 40, 20_000


def screen_figures(result: ScreenResult) -> dict[str, Figure]:
    """Return all figures of a screen by name; the map only where cell pairs were kept."""
    figures = {
        "volcano": screen_volcano(result),
        "heatmap": screen_heatmap(result),
        "network": screen_network(result),
        "ranks": screen_ranks(result),
    }
    if result.pairs is not None:
        figures["map"] = screen_map(result)
    return figures


def screen_volcano(result: ScreenResult) -> Figure:
    """Return effect against significance; without p-values, against the interaction."""
    table = shown(result.table)
    figure, axes = canvas(_title(result, "Gene pairs"), _caption(result))
    has_p = bool(table["q"].notna().any())
    y = -np.log10(table["q"].clip(lower=1e-300)) if has_p else table["epsilon"].abs()
    called = table["q"] < ALPHA
    for mask, colour in ((~called, NEUTRAL), (called, STRONG)):
        axes.scatter(
            table.loc[mask, "d_diff"], y[mask], s=8, c=colour, linewidths=0, rasterized=True
        )
    for row in y.nlargest(min(_LABELS, len(y))).index:
        axes.annotate(_pair(table.loc[row]), (table.loc[row, "d_diff"], y[row]), fontsize=6)
    axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    if has_p:
        axes.axhline(-np.log10(ALPHA), color="#cccccc", linewidth=0.8, zorder=0)
    axes.set_xlabel("effect: near minus far change of the contact logit")
    axes.set_ylabel("-log10 q" if has_p else "|interaction| (logit), no p-values")
    return figure


def screen_heatmap(result: ScreenResult) -> Figure:
    """Return the interaction of the genes with the strongest pairs, left by right."""
    table = shown(result.table)
    strong = table["epsilon"].abs()
    rows = _top(strong.groupby(table["gene_left"]).max())
    columns = _top(strong.groupby(table["gene_right"]).max())
    grid = (
        table[table["gene_left"].isin(rows) & table["gene_right"].isin(columns)]
        .pivot(index="gene_left", columns="gene_right", values="epsilon")
        .reindex(index=rows, columns=columns)
        .to_numpy(np.float64)
    )
    size = (2.6 + 0.18 * len(columns), 2.4 + 0.16 * len(rows))
    figure, axes = canvas(_title(result, "Interaction"), _caption(result), size)
    reach = float(np.nanmax(np.abs(grid), initial=1e-12))
    image = axes.imshow(grid, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
    axes.set_yticks(range(len(rows)), rows, fontsize=6)
    axes.set_xlabel(f"gene in {_type(result, 'right')}")
    axes.set_ylabel(f"gene in {_type(result, 'left')}")
    figure.colorbar(image, ax=axes, shrink=0.6, label="epsilon (logit); grey: not tested")
    return figure


def screen_network(result: ScreenResult) -> Figure:
    """Return the strongest pairs as a graph: left genes on the left, right genes on the right."""
    import networkx

    table = shown(result.table)
    called = table[(table["q"] < ALPHA) | (table["epsilon_q"] < ALPHA)]
    chosen = called if len(called) else table
    edges = chosen.loc[chosen["epsilon"].abs().nlargest(_EDGES).index]
    graph = networkx.Graph()
    for row in edges.itertuples():
        graph.add_edge(("left", row.gene_left), ("right", row.gene_right), epsilon=row.epsilon)
    which = "significant" if len(called) else "strongest (no pair is significant)"
    figure, axes = canvas(_title(result, f"Pairs, {which}"), _caption(result), (6.4, 7.0))
    ends = {side: sorted(name for s, name in graph if s == side) for side in ("left", "right")}
    place = {
        (side, name): (x, -(k + 0.5) / len(names))
        for (side, names), x in zip(ends.items(), (0.0, 1.0), strict=True)
        for k, name in enumerate(names)
    }
    reach = max((abs(e) for *_, e in graph.edges(data="epsilon")), default=1.0) or 1.0
    for one, other, epsilon in graph.edges(data="epsilon"):
        (x0, y0), (x1, y1) = place[one], place[other]
        colour = STRONG if epsilon > 0 else WEAK
        axes.plot([x0, x1], [y0, y1], color=colour, linewidth=0.3 + 2.2 * abs(epsilon) / reach)
    for (side, name), (x, y) in place.items():
        left = side == "left"
        axes.text(
            x - 0.02 if left else x + 0.02, y, name, fontsize=7, va="center",
            ha="right" if left else "left",
        )  # fmt: skip
    axes.set_xlim(-0.35, 1.35)
    axes.set_axis_off()
    axes.set_title(
        f"{axes.get_title(loc='left')}\nred: joint (epsilon > 0), blue: redundant (epsilon < 0)",
        fontsize=9,
        loc="left",
    )
    return figure


def screen_ranks(result: ScreenResult) -> Figure:
    """Return strength against the rank of the genes: what only follows the rank is suspect."""
    table = result.table
    figure, axes = canvas(_title(result, "Effect against gene rank"), _caption(result))
    found = result.info["effect_against_rank"]["effect"]
    for side, colour in (("left", WEAK), ("right", STRONG)):
        rho = found[side]
        label = f"{side} gene" + ("" if rho is None else f", rho {rho:.2f}")
        axes.scatter(
            table[f"rank_{side}"], table["d_diff"].abs(), s=6, c=colour, alpha=0.5,
            linewidths=0, label=label, rasterized=True,
        )  # fmt: skip
    axes.set_xlabel("mean rank of the gene in its cell (1 is highest)")
    axes.set_ylabel("|effect| (logit)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def screen_map(result: ScreenResult) -> Figure:
    """Return where the cell pairs lie, near and far, one panel per slide (the first four)."""
    from matplotlib.figure import Figure

    pairs = result.pairs
    if pairs is None:
        message = "this screen was made before cell pairs were kept"
        raise ValueError(message)
    slides = [str(name) for name in pairs["slide_id"].unique()][:4]
    figure = Figure(figsize=(5.2 * len(slides), 5.4), layout="constrained")
    for number, name in enumerate(slides, start=1):
        axes = figure.add_subplot(1, len(slides), number)
        here = pairs[pairs["slide_id"] == name]
        here = here.iloc[:: max(1, len(here) // _MAX_POINTS)]
        for side, colour in (("far", NEUTRAL), ("near", STRONG)):
            one = here[here["side"] == side]
            axes.scatter(
                one["x_um"], one["y_um"], s=3, c=colour, linewidths=0, label=side, rasterized=True
            )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("x (um)")
        axes.set_ylabel("y (um)")
        axes.legend(frameon=False, fontsize=7, markerscale=3)
    figure.supxlabel("\n".join(_caption(result)), fontsize=7, x=0.01, ha="left", color="#444")
    return figure


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the gene pairs that figures show: those marked as spillover are hidden."""
    flagged = table["spillover"].eq(other=True).fillna(value=False).astype(bool)
    return table[~flagged]


def _caption(result: ScreenResult) -> list[str]:
    info = result.info
    hidden = len(result.table) - len(shown(result.table))
    lines = [f"This {info['scope']}." if "describes" in info["scope"] else f"{info['scope']}."]
    lines += [mark for mark in info["marks"] if "One donor" not in mark]
    if info["no_p_reason"]:
        lines.append("No p-values.")
    if hidden:
        lines.append(f"{hidden:,} gene pairs marked as spillover are hidden; the table has them.")
    return [*lines, "What the network relies on, not what causes contact."]


def _title(result: ScreenResult, what: str) -> str:
    return f"{what}: {_type(result, 'left')} and {_type(result, 'right')}"


def _type(result: ScreenResult, side: str) -> str:
    return str(result.info["request"][f"group_{side}"])


def _pair(row: Any) -> str:
    return f"{row['gene_left']}-{row['gene_right']}"


def _top(strength: pd.Series) -> list[str]:
    return [str(name) for name in strength.nlargest(_HEATMAP_GENES).index]
