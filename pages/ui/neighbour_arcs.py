"""Single neighbours on the tissue: where to look, which pairs to show, their picture as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st
from shapely import box

from pages.ui import cards, downloads, neighbour_map, webgl
from pages.ui.neighbour_pictures import type_colours
from pages.ui.session import services
from pages.ui.text import count, percent
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service.colocalise import ColocalisationView

_ALL = "(all types)"


def view(result: ColocalisationView, key: str) -> None:
    """Draw the controls, the arcs and what they show in numbers."""
    edges = neighbour_map.with_kind(result.edges)
    if not len(edges):
        cards.empty("No pair to show", "No query cell has a predicted or true neighbour.", "hub")
        return
    kinds, own, cell_id, most = _controls(edges, result, key)
    shown = neighbour_map.around(own, cell_id, most)
    _numbers(shown, own, result)
    shown = shown[shown["kind"].isin(kinds)]
    if not len(shown):
        st.caption("Choose at least one kind of pairs.")
        return
    cells, colours = _surroundings(result, shown), type_colours(result)
    neighbour_map.draw(shown, cells, colours, f"arcs-map-{key}")
    if not webgl.missing():
        _legend()
    with st.container(horizontal=True, gap="small"):
        name = f"neighbours-{key}-arcs"
        table = shown.reset_index(drop=True)
        downloads.table_buttons(table, name, f"arcs-{key}")
        downloads.file_button(
            "SVG",
            lambda: neighbour_map.svg(shown, cells, colours).encode("utf-8"),
            f"{name}.svg",
            "image/svg+xml",
            f"arcs-svg-{key}",
        )
    webgl.ask_browser()


def _controls(
    edges: pd.DataFrame, result: ColocalisationView, key: str
) -> tuple[list[str], pd.DataFrame, str, int]:
    """Draw what is shown; return kinds of pairs, pairs of the chosen type, cell, and how many."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kinds = st.pills(
            "Pairs",
            list(neighbour_map.KINDS),
            format_func=lambda kind: neighbour_map.KINDS[kind][0],
            selection_mode="multi",
            default=list(neighbour_map.KINDS),
            key=f"arcs-kinds-{key}",
            help="Right and wrong: predicted neighbours that are and are not within the radius. "
            "Missed: true neighbours that were not predicted.",
        )
        of = st.selectbox(
            "Query cells of type",
            [_ALL, *sorted(edges["type"].unique())],
            key=f"arcs-type-{key}",
            width=260,
        )
        own = edges if of == _ALL else edges[edges["type"] == of]
        reach_um = float(result.info["settings"]["candidates"]["reach_um"])
        cell_id = st.selectbox(
            "Around the query cell",
            neighbour_map.crowded_first(own, reach_um),
            key=f"arcs-cell-{of}-{key}",
            width=260,
            help="Where most query cells lie close together comes first. The pairs of the nearest "
            "query cells are added to its own.",
        )
        most = st.slider(
            "Pairs, at most",
            50,
            neighbour_map.MAX_ARCS,
            200,
            50,
            key=f"arcs-most-{key}",
            width=220,
        )
    return list(kinds or []), own, cell_id, int(most)


def _numbers(shown: pd.DataFrame, own: pd.DataFrame, result: ColocalisationView) -> None:
    tally = shown["kind"].value_counts()
    right, wrong, missed = (int(tally.get(kind, 0)) for kind in neighbour_map.KINDS)
    radius_um = result.info["settings"]["candidates"]["radius_um"]
    cells = count(shown["cell_id"].nunique())
    st.caption(
        f"{count(len(shown))} of {count(len(own))} pairs, of {cells} query cells. Here "
        f"{percent(right, right + missed)} of the true neighbours (within {radius_um:g} µm) are "
        f"predicted, and {percent(right, right + wrong)} of the predicted are true."
    )


def _legend() -> None:
    marks = " · ".join(
        f"<span style='color:{colour}'>━━</span> {word}"
        for word, colour in neighbour_map.KINDS.values()
    )
    st.html(
        f"<div style='font-size:.85rem'>{marks} · dots: cells, coloured by type; rings: "
        "query cells; point at one to read it. Drag moves, the wheel zooms.</div>"
    )


def _surroundings(result: ColocalisationView, shown: pd.DataFrame) -> pd.DataFrame:
    """Return place and type of the cells around the pairs, all of them or a sample."""
    slide_id, groupby = result.info["request"].get("slide_id"), result.info["groupby"]
    ends = [
        shown[["x_um", "y_um", "type"]],
        shown[["neighbour_x_um", "neighbour_y_um", "neighbour_type"]].set_axis(
            ["x_um", "y_um", "type"], axis=1
        ),
    ]
    pairs_alone = pd.concat(ends).drop_duplicates()
    if not slide_id:
        return pairs_alone
    try:
        cells = services().cells(slide_id, box(*neighbour_map.bounds(shown)))
    except SpatialFormerError:
        return pairs_alone  # the slide was removed since
    cells = cells.rename(columns={groupby: "type"})[["x_um", "y_um", "type"]]
    if len(cells) > neighbour_map.MAX_CELLS:
        cells = cells.sample(neighbour_map.MAX_CELLS, random_state=0)
    return cells
