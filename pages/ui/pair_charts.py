"""The figures of gene pairs. Plotly, themed by Streamlit, saved as SVG from their menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pages.ui.charts import DIVERGING, DOWN, LEGEND, NAMED, NEUTRAL, UP, layout, name_points, spread

if TYPE_CHECKING:
    from spatialformer_core.service import PairNetwork

ALPHA = 0.05
_LOWEST = 1e-300
_ROW_PX = 21


def volcano(table: pd.DataFrame) -> go.Figure:
    """Return the effect of each pair of one comparison against its q, or its interval.

    Parameters
    ----------
    table
        Rows of one comparison: ``pair effect low high q cells_with_pair``; pairs with q below
        `ALPHA` are coloured.
    """
    has_q = bool(table["q"].notna().any())
    y = (
        -np.log10(table["q"].clip(lower=_LOWEST))
        if has_q
        else (table["high"] - table["low"]).where(table["high"].notna(), np.nan)
    )
    known = table.assign(y=y)[y.notna()]
    chosen = known["q"] < ALPHA if has_q else pd.Series(data=False, index=known.index)
    figure = go.Figure()
    series = (
        (known[~chosen], "other pairs", NEUTRAL, 5, 0.35),
        (known[chosen & (known["effect"] < 0)], "fewer cells of the group", DOWN, 7, 0.85),
        (known[chosen & (known["effect"] >= 0)], "more cells of the group", UP, 7, 0.85),
    )
    for rows, name, colour, size, opacity in series:
        if len(rows):
            figure.add_scatter(
                x=100 * rows["effect"],
                y=rows["y"],
                mode="markers",
                name=name,
                marker={"color": colour, "size": size, "opacity": opacity},
                customdata=np.column_stack([rows["pair"], rows["cells_with_pair"]]),
                hovertemplate="<b>%{customdata[0]}</b><br>%{x:.2f} points of cells"
                "<br>%{customdata[1]} cells with the pair<extra></extra>",
            )
    named = known[chosen] if has_q else known
    first = named.loc[named["effect"].abs().nlargest(NAMED).index]
    labels = first["pair"].str.replace("|", " – ")
    points = pd.DataFrame({"x": 100 * first["effect"], "y": first["y"], "name": labels})
    name_points(figure, points, (100 * spread(named["effect"]), spread(named["y"])))
    figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    title = "−log10 q" if has_q else "width of the 95 % interval (share of cells)"
    return layout(
        figure,
        440,
        legend=LEGEND,
        xaxis={"title": {"text": "difference of the adjusted share (% of cells)"}},
        yaxis={"title": {"text": title}},
    )


def top_pairs(table: pd.DataFrame, per_group: int) -> list[str]:
    """Return the pairs that each group has most more of, group after group, each once.

    Parameters
    ----------
    table
        All comparisons. A single one has two groups: what it compares, and its reference.
    per_group
        Pairs taken of each group; significant ones where there are p-values.
    """
    if table["group"].nunique() == 1:
        turned = table.assign(group=table["reference"], effect=-table["effect"])
        table = pd.concat([table, turned], ignore_index=True)
    found: dict[str, None] = {}
    for _, rows in table[table["effect"] > 0].groupby("group", sort=False):
        tested = rows[rows["q"] < ALPHA] if rows["q"].notna().any() else rows
        found |= dict.fromkeys(tested.nlargest(per_group, "effect")["pair"])
    return list(found)


def _grid(table: pd.DataFrame, pairs: list[str], column: str) -> pd.DataFrame:
    wide = table.pivot_table(index="pair", columns="group", values=column, sort=False)
    groups = [group for group in table["group"].unique() if group in wide]
    return wide.reindex(index=pairs, columns=groups)


def _two_sides(table: pd.DataFrame) -> pd.DataFrame:
    """Return one comparison as two groups: what it compares side by side."""
    sides = [
        table.assign(
            group=table[side], shown=table[f"adjusted_{side}"], share=table[f"share_{side}"]
        )
        for side in ("group", "reference")
    ]
    return pd.concat(sides, ignore_index=True)


def cells_of(table: pd.DataFrame, pairs: list[str]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return what the heat map shows, raw shares beside it, and its name.

    Several comparisons show differences from the rest; a single one shows both sides' shares.
    """
    if table["group"].nunique() > 1:
        effects, shares = (_grid(table, pairs, c) for c in ("effect", "share_group"))
        return 100 * effects, 100 * shares, "difference (% of cells)"
    both = _two_sides(table)
    return (
        100 * _grid(both, pairs, "shown"),
        100 * _grid(both, pairs, "share"),
        "adjusted share (% of cells)",
    )


def _colours(values: pd.DataFrame, *, signed: bool) -> dict[str, object]:
    largest = float(np.nanmax(np.abs(values.to_numpy()))) if values.notna().any(axis=None) else 1.0
    if signed:
        return {"colorscale": DIVERGING, "cmin": -largest, "cmax": largest}
    return {"colorscale": "Teal", "cmin": 0, "cmax": largest}


def heatmap(table: pd.DataFrame, pairs: list[str]) -> go.Figure:
    """Return the top pairs (rows) by group (columns)."""
    values, _, name = cells_of(table, pairs)
    colours = _colours(values, signed=table["group"].nunique() > 1)
    figure = go.Figure(
        go.Heatmap(
            z=values.to_numpy(),
            x=[str(group) for group in values.columns],
            y=[pair.replace("|", " – ") for pair in pairs],
            colorscale=colours["colorscale"],
            zmin=colours["cmin"],
            zmax=colours["cmax"],
            colorbar={"title": {"text": name, "side": "right"}, "thickness": 12},
            hovertemplate="<b>%{y}</b><br>%{x}: %{z:.2f}<extra></extra>",
        )
    )
    return _by_group(figure, len(pairs))


def flat(table: pd.DataFrame, pairs: list[str]) -> pd.DataFrame:
    """Return what heat map and dots draw: ``pair group value_percent share_percent``."""
    values, shares, _ = cells_of(table, pairs)
    columns = {
        "value_percent": values.stack(future_stack=True),
        "share_percent": shares.stack(future_stack=True),
    }
    return pd.DataFrame(columns).reset_index(names=["pair", "group"])


def dots(table: pd.DataFrame, pairs: list[str]) -> go.Figure:
    """Return the top pairs by group: area is the raw share of cells, colour as the heat map."""
    values, _, name = cells_of(table, pairs)
    drawn = flat(table, pairs)
    largest = float(drawn["share_percent"].max() or 1.0)
    colours = _colours(values, signed=table["group"].nunique() > 1)
    figure = go.Figure(
        go.Scatter(
            x=drawn["group"].astype(str),
            y=drawn["pair"].str.replace("|", " – "),
            mode="markers",
            marker={
                "size": drawn["share_percent"].clip(lower=0).fillna(0),
                "sizemode": "area",
                "sizeref": largest / 17**2,
                "color": drawn["value_percent"],
                "line": {"width": 0},
                "colorbar": {"title": {"text": name, "side": "right"}, "thickness": 12},
                **colours,
            },
            customdata=drawn["share_percent"],
            hovertemplate="<b>%{y}</b><br>%{x}: %{customdata:.1f} % of cells"
            "<br>%{marker.color:.2f}<extra></extra>",
        )
    )
    return _by_group(figure, len(pairs))


def _by_group(figure: go.Figure, n_rows: int) -> go.Figure:
    figure.update_xaxes(type="category", tickangle=-40, automargin=True, showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, showgrid=False)
    return layout(figure, 170 + _ROW_PX * max(n_rows, 6))


def network(found: PairNetwork) -> go.Figure:
    """Return genes as points, pairs as lines: orange where the group has more of them."""
    place = found.nodes.set_index("gene")
    figure = go.Figure()
    edges = found.edges
    for rows, colour, name in (
        (edges[edges["effect"] >= 0], UP, "more cells of the group"),
        (edges[edges["effect"] < 0], DOWN, "fewer cells of the group"),
    ):
        if len(rows):
            a, b = place.loc[rows["gene_left"]], place.loc[rows["gene_right"]]
            gap = np.full(len(rows), np.nan)
            x = np.column_stack([a["x"], b["x"], gap]).ravel()
            y = np.column_stack([a["y"], b["y"], gap]).ravel()
            line = {"color": colour, "width": 1.4}
            figure.add_scatter(
                x=x, y=y, mode="lines", line=line, name=name, opacity=0.55, hoverinfo="skip"
            )
    degree = pd.concat([edges["gene_left"], edges["gene_right"]]).value_counts()
    sizes = 8 + 3 * np.sqrt(degree.reindex(place.index).fillna(0).to_numpy())
    figure.add_scatter(
        x=place["x"],
        y=place["y"],
        mode="markers+text",
        text=place.index,
        textposition="top center",
        textfont={"size": 11},
        name="gene",
        showlegend=False,
        marker={"color": NEUTRAL, "size": sizes},
        customdata=place["cells"],
        hovertemplate="<b>%{text}</b><br>in %{customdata:,} cells<extra></extra>",
    )
    hidden = {"visible": False}
    return layout(figure, 560, xaxis=hidden, yaxis=hidden, legend=LEGEND)
