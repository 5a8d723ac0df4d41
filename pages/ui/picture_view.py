"""The tissue for browsers without WebGL: a picture drawn on the server, with Plotly's lasso."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import streamlit as st
from shapely import Polygon

from pages.ui.session import owner, services
from pages.ui.viewer import ViewerEvent, drawn_polygon, keep_drawing, parse_event
from pages.ui.viewer.component import HEIGHT_PX

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta
    from spatialformer_core.service.picture import CellPicture

WITHOUT_WEBGL = "_without-webgl"
_SIMPLIFIED_UM = 0.5


@st.cache_data(show_spinner="Drawing the cells", max_entries=8)
def _picture(slide_id: str, version: str, color_by: str, whose: str) -> CellPicture:
    del version  # part of the cache key: a slide written anew is drawn anew
    return services().picture(slide_id, color_by, whose)


def wanted() -> bool:
    """Tell whether the picture replaces the viewer: no WebGL, or the visitor's switch."""
    if st.session_state.get(WITHOUT_WEBGL):
        return True
    return st.toggle(
        "Plain picture",
        key="plain-picture",
        help="Drawn on the server: for browsers and connections that cannot draw the tissue.",
    )


def show(
    meta: SlideMeta, colour: str, rois: Sequence[Mapping[str, Any]], key: str
) -> ViewerEvent | None:
    """Draw the picture; return the region that was drawn in it since the last run."""
    if st.session_state.get(WITHOUT_WEBGL):
        st.caption(
            "This browser offers no WebGL, so the server draws the cells; images, outlines and "
            "single transcripts need a browser with it."
        )
    picture = _picture(meta.slide_id, meta.version, colour, owner())
    chart = st.plotly_chart(
        _figure(picture, rois, drawn_polygon(key, meta.slide_id)),
        key=f"picture-{meta.slide_id}",
        on_select="rerun",
        selection_mode=("lasso", "box"),
        config={"displaylogo": False, "scrollZoom": True},
    )
    ring = ring_of(chart)
    # The chart repeats its selection in every run; a region is reported once.
    sign, seen = json.dumps(ring), f"picture-seen-{meta.slide_id}"
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
        keep_drawing(key, meta.slide_id, event)
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
    axis = {"showgrid": False, "zeroline": False, "ticksuffix": " µm"}
    figure.update_xaxes(range=[x0, x1], constrain="domain", **axis)
    figure.update_yaxes(range=[y1, y0], scaleanchor="x", constrain="domain", **axis)
    figure.update_layout(
        height=HEIGHT_PX,
        dragmode="lasso",
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        uirevision="tissue",
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
