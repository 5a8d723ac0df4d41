"""The pictures of a screen: volcano, heat map, network, map of the cell pairs, effect by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.ui import charts, screen_charts
from pages.ui.session import errors_shown, services
from spatialformer_core.service import screen_desk

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenView

Q_LEVEL = 0.05
_STRONGEST = 20
_PICTURES = ("Volcano", "Heat map", "Network", "Map", "Ranks")
_AXES = {
    "significance": ("Significance", "−log10 q", "log_q"),
    "interaction": ("Interaction", "interaction beyond the single genes (logit)", "epsilon"),
    "width": ("Interval width", "width of the 95 % interval (logit)", "width"),
}


def has_p(frame: pd.DataFrame) -> bool:
    """Tell whether the screen has p-values at all."""
    return "q" in frame and bool(frame["q"].notna().any())


def _highlight(frame: pd.DataFrame) -> pd.Series:
    if has_p(frame):
        return frame["q"] < Q_LEVEL
    strongest = frame["d_diff"].abs().nlargest(_STRONGEST).index
    return pd.Series(frame.index.isin(strongest), index=frame.index)


def _volcano(frame: pd.DataFrame, key: str) -> None:
    shown = frame.assign(
        log_q=-np.log10(frame["q"].astype(float).clip(lower=1e-300)) if has_p(frame) else np.nan,
        width=frame["d_high"] - frame["d_low"],
    )
    axes = [axis for axis, (_, _, column) in _AXES.items() if shown[column].notna().any()]
    axis = st.segmented_control(
        "Vertical axis",
        axes,
        default=axes[0],
        required=True,
        key=f"axis-{key}",
        format_func=lambda a: _AXES[a][0],
    )
    _, label, column = _AXES[axis or axes[0]]
    figure = charts.effects(shown.dropna(subset=[column]), column, label, _highlight(shown))
    charts.draw(figure, f"screen-volcano-{key}", f"volcano-{key}", "Effect of each gene pair")
    coloured = (
        f"q < {Q_LEVEL}."
        if has_p(frame)
        else f"the {_STRONGEST} strongest effects; without p-values colour is no verdict."
    )
    st.caption(
        f"Coloured: {coloured} Left of zero: without the pair the model expects less contact."
    )


def _heatmap(frame: pd.DataFrame, key: str) -> None:
    shown = {"epsilon": "interaction", "d_diff": "effect"}
    column = st.segmented_control(
        "Colour",
        list(shown),
        default="epsilon",
        required=True,
        format_func=shown.__getitem__,
        key=f"heat-{key}",
    )
    figure = screen_charts.heatmap(frame, column or "epsilon", shown[column or "epsilon"])
    charts.draw(figure, f"screen-heatmap-{key}", f"heatmap-{key}", "Strongest genes of both cells")
    st.caption(
        "Rows: genes of the first cell. Columns: genes of the second. Empty: not tested. Colours "
        "end where 98 % of the values do; the number is at the pointer."
    )


def _network(frame: pd.DataFrame, key: str) -> None:
    called = frame[(frame["q"] < Q_LEVEL) | (frame["epsilon_q"] < Q_LEVEL)]
    figure = screen_charts.network(called if len(called) else frame)
    charts.draw(figure, f"screen-network-{key}", f"network-{key}", "Strongest gene pairs as lines")
    which = "Significant pairs" if len(called) else "No pair is significant: the strongest"
    st.caption(
        f"{which}, by interaction, 40 at most. Left: genes of the first cell. Joint: losing either "
        "gene is enough; redundant: only losing both costs the whole."
    )


@st.cache_data(show_spinner=False, max_entries=16)
def _tissue(slide_id: str, _created: str) -> Any:
    return screen_desk.tissue_outline(services(), slide_id)


def _map(pairs: pd.DataFrame | None, key: str) -> None:
    if pairs is None:
        st.caption("This screen was made before cell pairs were kept.")
        return
    slides = [str(name) for name in pairs["slide_id"].unique()]
    slide = slides[0]
    if len(slides) > 1:
        slide = st.selectbox("Slide", slides, key=f"map-slide-{key}")
    with errors_shown():
        xy = _tissue(slide, services().slide(slide).meta.created)
        figure = screen_charts.pair_map(xy, pairs[pairs["slide_id"] == slide])
        charts.draw(figure, f"screen-map-{key}", f"map-{key}", "Where the cell pairs lie")
        st.caption("Midpoints of the cell pairs, near and compared with, on the slide's cells.")


def picture(kept: pd.DataFrame, result: ScreenView, key: str) -> None:
    """Draw the choice of pictures and the chosen one of the rows that pass the filters."""
    kind = st.segmented_control(
        "Picture", _PICTURES, default=_PICTURES[0], required=True, key=f"picture-{key}"
    )
    if kind == "Map":
        _map(result.pairs, key)
    elif kind == "Ranks":
        found = result.info["effect_against_rank"]["effect"]
        figure = screen_charts.ranks(kept, found)
        charts.draw(figure, f"screen-ranks-{key}", f"ranks-{key}", "Effect against gene rank")
        st.caption("A strong correlation (ρ near −1) says that effects tell ranks, not genes.")
    else:
        draw = {"Heat map": _heatmap, "Network": _network}.get(kind or "", _volcano)
        draw(kept, key)
