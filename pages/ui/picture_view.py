"""Cells for browsers without WebGL: a picture drawn on the server, with Plotly's lasso."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import streamlit as st
from shapely import Polygon

from pages.ui import picked, webgl
from pages.ui.session import owner, services
from pages.ui.viewer import ViewerEvent, drawn_polygon, keep_drawing, parse_event
from pages.ui.viewer.component import HEIGHT_PX
from spatialformer_core.service.embedding_view import map_places, open_map
from spatialformer_core.service.picture import LONGEST_PX, cell_picture

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta
    from spatialformer_core.service.picture import CellPicture

_SIMPLIFIED_UM = 0.5


@dataclass(frozen=True, slots=True)
class View:
    """A picture beside others: the map of an embedding, or the tissue that goes with it.

    Attributes
    ----------
    name
        Under which what is drawn in it is kept, see `viewer.cells_viewer`.
    height_px
        Its height.
    job_id
        The embedding whose map it is; None: the tissue.
    """

    name: str
    height_px: int
    job_id: str | None = None

    @property
    def longest_px(self) -> int:
        """Pixels along the longer side: about as many as there is room for."""
        return LONGEST_PX if self.height_px == HEIGHT_PX else LONGEST_PX // 2


@st.cache_data(show_spinner="Drawing the cells", max_entries=8)
def _picture(slide_id: str, version: str, color_by: str, whose: str, view: View) -> CellPicture:
    del version  # part of the cache key: a slide written anew is drawn anew
    slide, picks = services().slide(slide_id), None
    if color_by.startswith("pick:"):
        name, kind, rest = color_by.removeprefix("pick:").split("/", 2)
        picks = picked.find(whose, slide_id, name, slide.meta.n_cells)
        color_by = "none" if kind == "plain" else f"{kind}:{rest}"
    places = map_places(open_map(slide, view.job_id, whose)) if view.job_id else None
    return cell_picture(slide, color_by, view.longest_px, whose, picked=picks, places=places)


def wanted(what_is_lost: str) -> bool:
    """Tell whether the picture replaces the viewer: no WebGL, or the visitor's switch.

    Parameters
    ----------
    what_is_lost
        What needs a browser with WebGL.
    """
    if webgl.missing():
        st.caption(
            f"This browser offers no WebGL, so the server draws the cells; {what_is_lost} need a "
            "browser with it."
        )
        return True
    return st.toggle(
        "Plain picture",
        key="plain-picture",
        help="Drawn on the server: for browsers and connections that cannot draw the cells.",
    )


def show(
    meta: SlideMeta,
    colour: str,
    rois: Sequence[Mapping[str, Any]],
    key: str,
    view: View | None = None,
) -> ViewerEvent | None:
    """Draw the picture; return the region that was drawn in it since the last run.

    Parameters
    ----------
    colour
        As the viewer reads it, ``pick:`` included.
    key
        Key of the viewer whose place it takes.
    view
        None: the slide on its own page.
    """
    view = view or View(meta.slide_id, HEIGHT_PX)
    picture = _picture(meta.slide_id, meta.version, colour, owner(), view)
    chart = st.plotly_chart(
        _figure(picture, rois, drawn_polygon(key, view.name), view),
        key=f"picture-{view.name}",
        on_select="rerun",
        selection_mode=("lasso", "box"),
        config={"displaylogo": False, "scrollZoom": True},
    )
    ring = ring_of(chart)
    # The chart repeats its selection in every run; a region is reported once.
    sign, seen = json.dumps(ring), f"picture-seen-{view.name}"
    if ring is None or st.session_state.get(seen) == sign:
        return None
    st.session_state[seen] = sign
    outline = Polygon(ring).simplify(_SIMPLIFIED_UM)
    if not outline.is_valid or outline.is_empty:
        st.warning("The outline crosses itself. Draw it again as one simple loop.")
        return None
    polygon = [list(point) for point in outline.exterior.coords[:-1]]
    event = parse_event({"kind": "roi", "polygon": polygon})
    if event is not None:
        keep_drawing(key, view.name, event)
    return event


def ring_of(chart: Any) -> list[list[float]] | None:
    """Return the ring (um, open) of Plotly's lasso or box, None without one."""
    selection = chart.get("selection", {}) if isinstance(chart, Mapping) else {}
    for kind in ("lasso", "box"):
        for drawn in selection.get(kind, ())[:1]:
            x, y = drawn.get("x", ()), drawn.get("y", ())
            if kind == "box" and len(x) == len(y) == 2:
                return [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]]
            if kind == "lasso" and len(x) == len(y) >= 3:
                return [list(point) for point in zip(x, y, strict=True)]
    return None


def _figure(
    picture: CellPicture,
    rois: Sequence[Mapping[str, Any]],
    draft: Sequence[tuple[float, float]] | None,
    view: View,
) -> go.Figure:
    x0, y0, x1, y1 = picture.bounds_um
    figure = go.Figure()
    # Plotly takes a selection only where there is a trace of points; these show the extent.
    corners = {"size": 0.1, "opacity": 0}
    figure.add_scatter(
        x=[x0, x1], y=[y0, y1], mode="markers", marker=corners, showlegend=False, hoverinfo="skip"
    )
    for label, colour in picture.legend:
        dot = {"color": colour, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=dot, name=label)
    for roi in rois:
        _outline(figure, roi)
    if draft:
        xs, ys = zip(*draft, draft[0], strict=True)
        dashed = {"color": "#0E7C7B", "width": 2, "dash": "dash"}
        figure.add_scatter(x=xs, y=ys, mode="lines", line=dashed, name="Drawn", showlegend=False)
    figure.add_layout_image(
        source="data:image/png;base64," + base64.b64encode(picture.png).decode("ascii"),
        xref="x",
        yref="y",
        x=x0,
        y=y0,
        sizex=x1 - x0,
        sizey=y1 - y0,
        sizing="stretch",
        layer="below",
    )
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticksuffix": " µm"}
    if view.job_id:
        axis["showticklabels"] = False  # distances on the map have no unit
    figure.update_xaxes(range=[x0, x1], constrain="domain", **axis)
    figure.update_yaxes(range=[y1, y0], scaleanchor="x", constrain="domain", **axis)
    figure.update_layout(
        height=view.height_px,
        dragmode="lasso",
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        uirevision="tissue",
        # The tissue beside a map has the same colours.
        showlegend=not view.job_id,
        legend={"itemclick": False, "itemdoubleclick": False},
    )
    return figure


def _outline(figure: go.Figure, roi: Mapping[str, Any]) -> None:
    properties, geometry = roi["properties"], roi["geometry"]
    many = geometry["type"] == "MultiPolygon"
    for polygon in geometry["coordinates"] if many else [geometry["coordinates"]]:
        for ring in polygon:
            xs, ys = zip(*ring, strict=True)
            line = {"color": properties["color"], "width": 4 if properties["selected"] else 2}
            figure.add_scatter(
                x=xs,
                y=ys,
                mode="lines",
                line=line,
                name=properties["name"],
                hoverinfo="name",
                showlegend=False,
            )
