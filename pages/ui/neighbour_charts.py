"""The figures of predicted neighbours. Plotly, themed by Streamlit, saved as SVG by their menu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.charts import DIVERGING, KEPT, LEGEND, NEUTRAL

TRUE, MODEL, WEIGHTED = "true", "spatialformer", "spatialformer_weighted"
NAMES = {
    TRUE: "tissue",
    MODEL: "model, best",
    "spatialformer_weighted": "model, weighted",
    "type_pair_prior_weighted": "type pairs, weighted",
    "type_pair_prior": "type pairs, best",
    "expression_cosine": "similar expression",
    "same_type": "same type",
    "type_frequency": "type frequency",
}
_LIMIT = 3.0
"""Of the colour scale: 8 times more or less than expected."""

_TICKS = ((-3, "≤ ⅛"), (-2, "¼"), (-1, "½"), (0, "1"), (1, "2"), (2, "4"), (3, "≥ 8"))
_MARKS = {
    MODEL: (KEPT, "diamond"),
    "spatialformer_weighted": ("#56B4E9", "diamond-open"),
    "type_pair_prior_weighted": ("#D55E00", "square"),
    "type_pair_prior": ("#D55E00", "square-open"),
    "expression_cosine": ("#8C6BB1", "triangle-up"),
    "same_type": ("#E69F00", "cross"),
    "type_frequency": (NEUTRAL, "circle-open"),
}
_CELL_PX, _PANEL_HEAD_PX = 21, 150


def grid(pairs: pd.DataFrame, source: str, types: Sequence[str], column: str) -> pd.DataFrame:
    """Return one number of every pair of types: query types in rows, neighbours in columns."""
    own = pairs[pairs["source"] == source]
    wide = own.pivot(index="type", columns="neighbour_type", values=column)
    return wide.reindex(index=list(types), columns=list(types))


def heatmaps(
    pairs: pd.DataFrame, sources: Sequence[str], types: Sequence[str], least: float
) -> go.Figure:
    """Return observed over expected (log2) side by side, all on one colour scale.

    Parameters
    ----------
    pairs
        Of one set of candidates: ``source type neighbour_type observed expected ratio low high``.
    sources
        ``true`` and methods, from left to right.
    types
        Rows and columns.
    least
        Pairs of types with fewer expected neighbours in the first of the sources stay blank.
    """
    titles = [NAMES.get(source, source) for source in sources]
    figure = make_subplots(
        cols=len(sources), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.02
    )
    known = grid(pairs, sources[0], types, "expected") >= least
    for place, source in enumerate(sources, start=1):
        ratio, *rest = (
            grid(pairs, source, types, name)
            for name in ("ratio", "low", "high", "observed", "expected")
        )
        with np.errstate(divide="ignore"):
            value = np.log2(ratio.where(known).to_numpy(np.float64))
        figure.add_heatmap(
            z=np.clip(value, -_LIMIT, _LIMIT),
            x=list(types),
            y=list(types),
            coloraxis="coloraxis",
            customdata=np.dstack([ratio, *rest]),
            hovertemplate=f"<b>%{{y}} asks, %{{x}} is near</b><br>{titles[place - 1]}: "
            "%{customdata[0]:.2f} × expected (95 % %{customdata[1]:.2f}–%{customdata[2]:.2f})<br>"
            "%{customdata[3]:,.0f} neighbours, %{customdata[4]:,.0f} expected<extra></extra>",
            col=place,
            row=1,
        )
    values, labels = zip(*_TICKS, strict=True)
    bar = {"title": {"text": "× expected", "side": "right"}, "thickness": 12}
    bar |= {"tickvals": values, "ticktext": labels}
    figure.update_xaxes(type="category", tickangle=-50, automargin=True, showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, showgrid=False)
    figure.update_layout(
        height=_PANEL_HEAD_PX + _CELL_PX * max(len(types), 6),
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        coloraxis={"colorscale": DIVERGING, "cmin": -_LIMIT, "cmax": _LIMIT, "colorbar": bar},
        hovermode="closest",
    )
    return figure


def ratio_map(ratio: pd.DataFrame, what: str) -> go.Figure:
    """Return one table of ratios as a heat map, on the colours of `heatmaps`.

    Parameters
    ----------
    ratio
        Groups in rows, types in columns.
    what
        Of what they are ratios, for the colour bar.
    """
    with np.errstate(divide="ignore"):
        value = np.log2(ratio.to_numpy(np.float64))
    ticks, labels = zip(*_TICKS, strict=True)
    figure = go.Figure(
        go.Heatmap(
            z=np.clip(value, -_LIMIT, _LIMIT),
            x=[str(name) for name in ratio.columns],
            y=[str(name) for name in ratio.index],
            customdata=ratio.to_numpy(),
            colorscale=DIVERGING,
            zmin=-_LIMIT,
            zmax=_LIMIT,
            colorbar={
                "title": {"text": what, "side": "right"},
                "thickness": 12,
                "tickvals": ticks,
                "ticktext": labels,
            },
            hovertemplate=f"<b>%{{y}}</b><br>%{{x}}: %{{customdata:.2f}} {what}<extra></extra>",
        )
    )
    figure.update_xaxes(type="category", tickangle=-40, automargin=True, showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, showgrid=False)
    height, margin = 140 + 24 * max(len(ratio), 5), {"l": 8, "r": 8, "t": 12, "b": 8}
    figure.update_layout(height=height, margin=margin)
    return figure


def by_type(types: pd.DataFrame, metric: str, title: str, methods: Sequence[str]) -> go.Figure:
    """Return one metric per query type, a mark per method, with intervals of the model.

    Parameters
    ----------
    types
        Of one set of candidates: ``method type metric value low high n_queries``.
    """
    rows = types[(types["metric"] == metric) & (types["type"] != "all") & types["value"].notna()]
    order = (
        rows[rows["method"] == methods[0]]
        .sort_values(["value", "type"], ascending=[metric.startswith("jsd"), True])["type"]
        .tolist()
    )
    figure = go.Figure()
    for method in methods:
        own = rows[rows["method"] == method].set_index("type").reindex(order)
        colour, symbol = _MARKS.get(method, (NEUTRAL, "circle"))
        error = None
        if method == methods[0]:
            above, below = own["high"] - own["value"], own["value"] - own["low"]
            error = {"array": above, "arrayminus": below, "thickness": 1.2, "width": 3}
        name = NAMES.get(method, method)
        figure.add_scatter(
            x=own["value"],
            y=order,
            mode="markers",
            name=name,
            error_x=error,
            marker={"color": colour, "symbol": symbol, "size": 10 if error else 8},
            customdata=np.column_stack([own["n_queries"], own["low"], own["high"]]),
            hovertemplate=f"<b>%{{y}}</b><br>{name}: %{{x:.3f}} (95 % %{{customdata[1]:.3f}}–"
            "%{customdata[2]:.3f})<br>%{customdata[0]:,} query cells<extra></extra>",
        )
    figure.update_layout(
        height=110 + 24 * max(len(order), 4),
        margin={"l": 8, "r": 16, "t": 34, "b": 44},
        legend=LEGEND,
        xaxis={"title": {"text": title}, "rangemode": "tozero"},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True},
        hovermode="closest",
    )
    return figure
