"""Predicted neighbours over the tissue: one arc per pair of cells, right, wrong or missed."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pydeck
import streamlit as st

from pages.ui import charts, webgl
from spatialformer_core.service.palette import UNASSIGNED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ARCS, MAX_CELLS = 500, 6_000
KINDS = {
    "right": ("predicted, right", "#009E73"),
    "wrong": ("predicted, wrong", "#D55E00"),
    "missed": ("missed", "#56B4E9"),
}
MARGIN_UM = 60.0
_WIDTH_PX, _HEIGHT_PX = 1100, 560
_CELL_RADIUS_UM = 3.5


def with_kind(edges: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with ``kind``: predicted and true is right, else wrong, else missed."""
    predicted, true = edges["predicted"], edges["true"]
    kind = np.where(predicted & true, "right", np.where(predicted, "wrong", "missed"))
    return edges.assign(kind=kind)


def crowded_first(edges: pd.DataFrame, reach_um: float) -> list[str]:
    """Return the query cells, those with the most others of them within reach first."""
    from scipy.spatial import cKDTree

    cells = edges.drop_duplicates("cell_id")
    tree = cKDTree(cells[["x_um", "y_um"]].to_numpy())
    near = tree.query_ball_point(cells[["x_um", "y_um"]].to_numpy(), reach_um, return_length=True)
    order = np.lexsort((cells["cell_id"].to_numpy().astype(str), -near))
    return [str(cell) for cell in cells["cell_id"].to_numpy()[order]]


def around(edges: pd.DataFrame, cell_id: str, most: int = MAX_ARCS) -> pd.DataFrame:
    """Return the pairs of a query cell and of those nearest to it, whole cells, at most ``most``.

    The pairs of the one cell are always there, up to ``most``, the best score first.
    """
    cells = edges.drop_duplicates("cell_id").set_index("cell_id")
    here = cells.loc[cell_id, ["x_um", "y_um"]].to_numpy(np.float64)
    away = np.hypot(cells["x_um"] - here[0], cells["y_um"] - here[1])
    count = edges.groupby("cell_id").size()
    nearest = away.sort_values(kind="stable").index
    total = count.loc[nearest].cumsum()
    kept = set(nearest[total.to_numpy() <= most]) | {cell_id}
    shown = edges[edges["cell_id"].isin(kept)]
    return shown.sort_values("score", ascending=False).head(most)


def bounds(shown: pd.DataFrame) -> tuple[float, float, float, float]:
    """Return ``(x0, y0, x1, y1)`` in um of the pairs with a margin around them."""
    xs, ys = (np.concatenate([shown[a], shown[f"neighbour_{a}"]]) for a in ("x_um", "y_um"))
    low, high = (np.array([f(xs), f(ys)]) for f in (np.min, np.max))
    return (*(low - MARGIN_UM), *(high + MARGIN_UM))


def draw(shown: pd.DataFrame, cells: pd.DataFrame, colours: Mapping[str, str], key: str) -> None:
    """Draw the arcs over the cells of their surroundings.

    Parameters
    ----------
    shown
        Pairs with ``kind`` and coordinates.
    cells
        ``x_um y_um type`` of the surroundings, at most `MAX_CELLS`.
    colours
        Colour of each type.
    """
    if webgl.missing():
        charts.draw(flat(shown, cells, colours), "neighbours", key, "Single neighbours as lines")
        return
    x0, y0, x1, y1 = bounds(shown)
    zoom = np.log2(min(_WIDTH_PX / (x1 - x0), _HEIGHT_PX / (y1 - y0)))
    # A view that is no map: with one, Streamlit would fetch streets from another server.
    deck = pydeck.Deck(
        map_provider=None,
        views=[pydeck.View(type="OrthographicView", controller=True)],
        initial_view_state=pydeck.ViewState(
            target=[(x0 + x1) / 2, (y0 + y1) / 2, 0], zoom=float(zoom), min_zoom=-6, max_zoom=6
        ),
        layers=[_dots(cells, colours), _arcs(shown), _rings(shown)],
        tooltip={"text": "{text}"},
    )
    st.pydeck_chart(deck, height=_HEIGHT_PX, key=key)


def flat(shown: pd.DataFrame, cells: pd.DataFrame, colours: Mapping[str, str]) -> go.Figure:
    """Return the same seen from above, a line per pair, for browsers without WebGL."""
    figure = go.Figure()
    figure.add_scatter(
        x=cells["x_um"],
        y=cells["y_um"],
        mode="markers",
        name="cell",
        text=cells["type"],
        marker={"color": [colours.get(n, UNASSIGNED) for n in cells["type"]], "size": 5},
        opacity=0.6,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    for kind, (word, colour) in KINDS.items():
        rows = shown[shown["kind"] == kind]
        gap = np.full(len(rows), np.nan)
        x, y = (np.column_stack([rows[a], rows[f"neighbour_{a}"], gap]) for a in ("x_um", "y_um"))
        figure.add_scatter(
            x=x.ravel(),
            y=y.ravel(),
            mode="lines",
            name=word,
            line={"color": colour, "width": 1.5},
            hoverinfo="skip",
        )
        # A line has no middle to point at.
        figure.add_scatter(
            x=x[:, :2].mean(1),
            y=y[:, :2].mean(1),
            mode="markers",
            marker={"color": colour, "size": 4},
            text=[_said(row) for row in rows.itertuples(index=False)],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    asked = shown.drop_duplicates("cell_id")
    ring = {"color": "#78828A", "size": 11, "symbol": "circle-open", "line": {"width": 2}}
    figure.add_scatter(
        x=asked["x_um"], y=asked["y_um"], mode="markers", name="query cell", marker=ring
    )
    axis = {"ticksuffix": " µm", "showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, scaleanchor="x", autorange="reversed")
    figure.update_layout(height=_HEIGHT_PX, margin={"l": 8, "r": 8, "t": 30, "b": 8})
    return figure


def _said(row: Any) -> str:
    return (
        f"{KINDS[str(row.kind)][0]}: {row.type} – {row.neighbour_type}, {row.distance_um:.0f} µm, "
        f"score {row.score:.2f}"
    )


def _dots(cells: pd.DataFrame, colours: Mapping[str, str]) -> pydeck.Layer:
    records = [
        {
            "at": [x, y],
            "colour": [*_rgb(colours.get(name)), 150],
            "text": name,
        }
        for x, y, name in cells[["x_um", "y_um", "type"]].round(1).itertuples(index=False)
    ]
    return pydeck.Layer(
        "ScatterplotLayer",
        data=records,
        get_position="at",
        get_fill_color="colour",
        get_radius=_CELL_RADIUS_UM,
        pickable=True,
    )


def _arcs(shown: pd.DataFrame) -> pydeck.Layer:
    records = []
    # Those that are right are few: they lie on top.
    order = shown["kind"].map({"wrong": 0, "missed": 1, "right": 2}).sort_values(kind="stable")
    for row in shown.loc[order.index].itertuples(index=False):
        colour = KINDS[str(row.kind)][1]
        records.append(
            {
                "source": [row.x_um, row.y_um],
                "target": [row.neighbour_x_um, row.neighbour_y_um],
                "colour": [*_rgb(colour), 210],
                "text": _said(row),
            }
        )
    return pydeck.Layer(
        "ArcLayer",
        data=records,
        get_source_position="source",
        get_target_position="target",
        get_source_color="colour",
        get_target_color="colour",
        get_width=1.6,
        get_height=0.25,
        get_tilt=90,
        pickable=True,
    )


def _rings(shown: pd.DataFrame) -> pydeck.Layer:
    asked = shown.drop_duplicates("cell_id")
    records = [
        {"at": [row.x_um, row.y_um], "text": f"query cell {row.cell_id}: {row.type}"}
        for row in asked.itertuples(index=False)
    ]
    return pydeck.Layer(
        "ScatterplotLayer",
        data=records,
        get_position="at",
        get_radius=1.6 * _CELL_RADIUS_UM,
        filled=True,
        get_fill_color=[255, 255, 255, 40],
        stroked=True,
        get_line_color=[120, 130, 136],
        line_width_min_pixels=2,
        pickable=True,
    )


def _rgb(colour: str | None) -> tuple[int, int, int]:
    value = int((colour or UNASSIGNED)[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def svg(shown: pd.DataFrame, cells: pd.DataFrame, colours: Mapping[str, str]) -> str:
    """Return the same seen from above as SVG, one unit per micrometre, with a scale bar."""
    x0, y0, x1, y1 = bounds(shown)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_CELL_RADIUS_UM}" fill-opacity=".6" '
        f'fill="{colours.get(name, UNASSIGNED)}"><title>{escape(str(name))}</title></circle>'
        for x, y, name in cells[["x_um", "y_um", "type"]].itertuples(index=False)
    ]
    lines = [
        f'<line x1="{row.x_um:.1f}" y1="{row.y_um:.1f}" x2="{row.neighbour_x_um:.1f}" '
        f'y2="{row.neighbour_y_um:.1f}" stroke="{KINDS[str(row.kind)][1]}" stroke-width="1.2"/>'
        for row in shown.itertuples(index=False)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x0:.1f} {y0:.1f} {x1 - x0:.1f} '
            f'{y1 - y0:.1f}" width="1000">',
            *dots,
            *lines,
            *_key((x0, y1), shown["kind"].unique().tolist()),
            "</svg>",
        ]
    )


def _key(corner: tuple[float, float], kinds: Sequence[str]) -> list[str]:
    """Return scale bar (100 um) and legend at the lower left corner."""
    x, y = corner[0] + 15, corner[1] - 15
    text: list[Any] = [
        f'<rect x="{x}" y="{y}" width="100" height="3"/>',
        f'<text x="{x}" y="{y - 5}" font-size="14" font-family="sans-serif">100 µm</text>',
    ]
    for place, kind in enumerate(kind for kind in KINDS if kind in kinds):
        word, colour = KINDS[kind]
        text.append(
            f'<text x="{x + 130 + 150 * place}" y="{y + 3}" font-size="14" fill="{colour}" '
            f'font-family="sans-serif">{word}</text>'
        )
    return text
