"""The figures of the pages. Plotly, themed by Streamlit, downloadable as SVG from their menu."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.ui import webgl

KEPT, FAILED, NEUTRAL = "#0E9488", "#C3CDD2", "#8A99A3"
UP, DOWN = "#C2571A", "#2F6DB5"
DIVERGING = [[0.0, DOWN], [0.5, "#DDE3E6"], [1.0, UP]]
LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
NAMED = 8
"""Points of a volcano that are named at most."""

_ROW_PX, _HEAD_PX = 23, 64


def draw(figure: go.Figure, name: str, key: str, alt: str) -> None:
    """Draw a figure; its menu saves it as SVG under ``name``."""
    if webgl.missing():
        figure = _without_webgl(figure)
    config = {
        "displaylogo": False,
        "toImageButtonOptions": {"format": "svg", "filename": name},
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
    st.plotly_chart(figure, key=key, config=config, alt=alt)


def _without_webgl(figure: go.Figure) -> go.Figure:
    """Return a figure whose points are drawn as SVG: slower where there are many, but seen."""
    spec = figure.to_dict()
    for trace in spec["data"]:
        if trace["type"] == "scattergl":
            trace["type"] = "scatter"
    return go.Figure(spec)


def layout(figure: go.Figure, height: int, **more: Any) -> go.Figure:
    """Give a figure its height in pixels and the margins of all; return it."""
    margin = {"l": 8, "r": 16, "t": 34, "b": 48}
    figure.update_layout(height=height, margin=margin, hovermode="closest", **more)
    return figure


def _rows(figure: go.Figure, n_rows: int, x_title: str) -> go.Figure:
    figure.update_layout(
        height=_HEAD_PX + 34 + _ROW_PX * max(n_rows, 3),
        margin={"l": 8, "r": 16, "t": 34, "b": 44},
        legend={**LEGEND, "traceorder": "normal"},
        xaxis={"title": {"text": x_title, "standoff": 8}, "zeroline": False},
        yaxis={
            # Clusters are called 0, 1, ...: as numbers, other names among them would be left out.
            "type": "category",
            "automargin": True,
            "autorange": "reversed",
            "ticks": "",
            "showgrid": False,
        },
        bargap=0.28,
    )
    return figure


def retention(table: pd.DataFrame) -> go.Figure:
    """Return kept against failed cells per type.

    Parameters
    ----------
    table
        Columns ``group``, ``cells``, ``kept``; one row per type.
    """
    failed = table["cells"] - table["kept"]
    share = 100 * table["kept"] / table["cells"].clip(lower=1)
    custom = np.column_stack([table["cells"], share])
    figure = go.Figure()
    for name, values, colour in (("kept", table["kept"], KEPT), ("below", failed, FAILED)):
        figure.add_bar(
            y=table["group"],
            x=values,
            name="passes QC" if name == "kept" else "below the thresholds (still shown)",
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            customdata=custom,
            hovertemplate="<b>%{y}</b><br>%{x:,} of %{customdata[0]:,} cells<br>"
            "%{customdata[1]:.0f} % kept<extra></extra>",
        )
    figure.update_layout(barmode="stack")
    return _rows(figure, len(table), "cells")


def composition(table: pd.DataFrame, name: str, *, beside: bool) -> go.Figure:
    """Return the share of each type in a region beside its share on the whole slide.

    Parameters
    ----------
    table
        Columns ``group``, ``share_roi``, ``share_slide`` (0-1), largest first.
    name
        Name of the region.
    beside
        Whether the whole slide is drawn beside it.
    """
    figure = go.Figure()
    series = [(name, "share_roi", KEPT), ("whole slide", "share_slide", FAILED)]
    for label, column, colour in series if beside else series[:1]:
        figure.add_bar(
            y=table["group"],
            x=100 * table[column],
            name=label,
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="<b>%{y}</b><br>%{x:.1f} % of cells<extra>" + label + "</extra>",
        )
    figure.update_layout(barmode="group", bargroupgap=0.05, showlegend=True)
    return _rows(figure, round((1.35 if beside else 1.0) * len(table)), "% of cells")


def _scatter(figure: go.Figure, rows: pd.DataFrame, x: str, y: str, style: dict[str, Any]) -> None:
    labels = rows["gene_left"] + " – " + rows["gene_right"]
    figure.add_scattergl(
        x=rows[x],
        y=rows[y],
        mode="markers",
        name=style["name"],
        marker={"color": style["color"], "size": style["size"], "opacity": style["opacity"]},
        customdata=np.column_stack([labels, rows["n_pairs"], rows["n_units"]]),
        hovertemplate="<b>%{customdata[0]}</b><br>effect %{x:.3g}<br>"
        + style["y_label"]
        + " %{y:.3g}"
        "<br>%{customdata[1]} cell pairs, %{customdata[2]} units<extra></extra>",
    )


def name_points(figure: go.Figure, points: pd.DataFrame, extent: tuple[float, float]) -> None:
    """Write names above points, but none whose name would lie over one before it.

    Parameters
    ----------
    points
        Columns ``x y name``, the most important first.
    extent
        Of the axes, in their units.
    """
    width, height = (size or 1.0 for size in extent)
    placed: list[tuple[float, float]] = []
    for x, y, name in points[["x", "y", "name"]].itertuples(index=False):
        here = (float(x) / width, float(y) / height)
        if any(abs(here[0] - a) < 0.3 and abs(here[1] - b) < 0.06 for a, b in placed):
            continue
        placed.append(here)
        font = {"size": 11}
        figure.add_annotation(x=x, y=y, text=name, showarrow=False, yshift=10, font=font)


def spread(values: pd.Series) -> float:
    """Return how far values reach, 0 without any."""
    return float(np.ptp(values)) if len(values) else 0.0


def effects(table: pd.DataFrame, y: str, y_label: str, highlight: pd.Series) -> go.Figure:
    """Return the volcano: near-minus-far effect against ``y``, highlighted pairs coloured.

    Parameters
    ----------
    table
        The screen's table with ``d_diff`` and the column ``y``.
    y
        Column of the vertical axis.
    y_label
        Its name with unit.
    highlight
        Which rows stand out, boolean, aligned with ``table``.
    """
    figure = go.Figure()
    rest, chosen = table[~highlight], table[highlight]
    groups = (
        (rest, "other pairs", NEUTRAL, 5, 0.35),
        (chosen[chosen["d_diff"] < 0], "joint loss lowers contact", DOWN, 8, 0.9),
        (chosen[chosen["d_diff"] >= 0], "joint loss raises contact", UP, 8, 0.9),
    )
    for rows, name, colour, size, opacity in groups:
        if len(rows):
            style = {"name": name, "color": colour, "size": size, "opacity": opacity}
            _scatter(figure, rows, "d_diff", y, {**style, "y_label": y_label})
    named = chosen.loc[chosen["d_diff"].abs().nlargest(NAMED).index]
    labels = named["gene_left"] + " – " + named["gene_right"]
    points = pd.DataFrame({"x": named["d_diff"], "y": named[y], "name": labels})
    name_points(figure, points, (spread(table["d_diff"]), spread(table[y])))
    figure.add_vline(x=0, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    title = "effect, near minus far (change of the contact logit)"
    return layout(
        figure,
        440,
        legend=LEGEND,
        xaxis={"title": {"text": title}, "exponentformat": "power"},
        yaxis={"title": {"text": y_label}, "exponentformat": "power"},
    )
