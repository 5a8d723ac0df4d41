"""Python side of the tissue viewer: a Streamlit component that fetches its own bulk data.

Only small JSON crosses the websocket: which slide, which colours, which regions. Points, codes and
tiles are fetched by the browser from `pages.ui.routes` with the token given here.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from pages.ui.viewer.bundle import PREFIX, bundle_url

HEIGHT_PX = 640
MAX_PAIRS = 60
"""Pairs of points for one image; the browser sets no more."""

MAX_VERTICES = 2000
"""The browser simplifies what is drawn to 500 vertices; more than this is no drawing of ours."""

# The 1 MB bundle comes from our own route under a name made of its content, so that browsers keep
# it for ever; only these lines travel with the page. Cleanup may run before the import finishes.
_LOADER = """
let viewer;
export default function (component) {
  if (viewer) return viewer.default(component);
  let cleanup, gone = false;
  import(new URL('%s', document.baseURI).href).then(
    (module) => { viewer = module; if (!gone) cleanup = module.default(component); },
    () => {
      const note = document.createElement('p');
      note.setAttribute('role', 'alert');
      note.textContent = 'The tissue viewer could not be loaded. Reload the page to try again.';
      component.parentElement.append(note);
    });
  return () => { gone = true; if (cleanup) cleanup(); };
}
"""

Point = tuple[float, float]
Pair = tuple[float, float, float, float]
EventKind = Literal["roi", "clear", "select", "keypoints", "drawn", "no-webgl"]


@dataclass(frozen=True, slots=True)
class ViewerEvent:
    """What the user did in the viewer; returned once, in the script run that follows.

    Attributes
    ----------
    kind
        ``roi``: a region was drawn; ``clear``: the drawn region was discarded; ``select``: a named
        region was clicked (or, with ``roi_id`` None, released); ``keypoints``: pairs of points
        that place an image changed; ``drawn``: the cells are there; ``no-webgl``: the browser
        cannot draw the tissue.
    polygon
        Vertices in um, open ring, empty unless ``kind`` is ``roi``.
    roi_id
        Region of ``select``; with ``roi`` the saved region whose corners were moved, if any.
    image, pairs
        Of ``keypoints``: the image, and ``(x_px, y_px, x_um, y_um)`` of each pair.
    """

    kind: EventKind
    polygon: tuple[Point, ...] = ()
    roi_id: str | None = None
    image: str | None = None
    pairs: tuple[Pair, ...] = ()


@functools.cache
def _component(url: str) -> Any:
    return st.components.v2.component("spatialformer_tissue_viewer", js=_LOADER % url)


def tissue_viewer(
    slide_id: str,
    *,
    token: str,
    color_by: str,
    genes: Sequence[str] = (),
    rois: Sequence[Mapping[str, Any]] = (),
    view: Mapping[str, Any] | None = None,
    key: str,
) -> None:
    """Show a slide; `viewer_event` tells what the user does in it.

    Parameters
    ----------
    slide_id
        Slide to show; the view (position, zoom, layers) is kept for each slide.
    token
        From `pages.ui.routes.mint_token` for this owner and slide.
    color_by
        ``group:KEY`` (``group:cell_type``), ``gene:SYMBOL`` (``gene:CD3E``) or ``none``.
    genes
        Genes whose transcripts are shown, at most `MAX_GENES` of `service.view`.
    rois
        GeoJSON features in um: ``id`` (or property ``id``), properties ``name``, ``color`` and
        ``selected`` (true: highlighted).
    view
        Place to begin with: ``x``, ``y`` (um) and ``zoom`` (pixels per um as a power of two);
        ``range`` (lowest, highest) is what the colours span at first.
    key
        Key of the component; `viewer_event`, `drawn_polygon` and `forget_drawing` take the same.
    """
    data = {
        "base": data_address(slide_id),
        "token": token,
        "colorBy": color_by,
        "genes": list(genes),
        "rois": [dict(roi) for roi in rois],
        "keypoints": st.session_state.get(_points_key(key, slide_id)),
        "images": st.session_state.get(_images_key(key, slide_id)),
        "view": None if view is None else dict(view),
        "height": HEIGHT_PX,
    }
    _show(key, slide_id, data)


def cells_viewer(
    view_id: str,
    *,
    base: str,
    token: str,
    color_by: str,
    rois: Sequence[Mapping[str, Any]] = (),
    height_px: int,
    key: str,
) -> ViewerEvent | None:
    """Show cells beside other things: a small tissue, or the map of an embedding.

    Parameters
    ----------
    view_id
        Names the view: position, settings and what is drawn are kept for it, apart from those of
        the slide on its own page.
    base
        Where the data come from, see `data_address`.
    token, color_by, rois, key
        As in `tissue_viewer`; further colours are those of the routes below ``base``.
    height_px
        Height of the viewer.
    """
    data = {"base": base, "token": token, "colorBy": color_by, "height": height_px}
    shown = {"genes": [], "rois": [dict(roi) for roi in rois], "view": None, "drawn": None}
    event = viewer_event(key, view_id)
    _show(key, view_id, data | shown)
    return event


def data_address(slide_id: str, part: str = "") -> str:
    """Return where the data of a slide, or of a part such as ``map/JOB``, are asked for."""
    return "/".join(filter(None, (PREFIX, "v1", slide_id, part)))


def _show(key: str, view_id: str, data: Mapping[str, Any]) -> None:
    draft = st.session_state.get(_draft_key(key, view_id))
    shown = {"slide": view_id, "draft": draft, "drawn": has_drawn(key, view_id), **data}
    _component(bundle_url())(key=key, data=shown, on_event_change=_ignore)


def viewer_event(key: str, slide_id: str) -> ViewerEvent | None:
    """Return what the user did in a viewer since the last run; None if nothing.

    Ask before the viewer is drawn, so that this run shows already what follows from it.
    """
    state = st.session_state.get(key)
    raw = state.get("event") if isinstance(state, Mapping) else None
    # An event of the slide that was shown before must not become a region of this one.
    if not isinstance(raw, Mapping) or raw.get("slide") != slide_id:
        return None
    # Whatever is done in the viewer is done on cells that are drawn.
    st.session_state[_drawn_key(key, slide_id)] = True
    seq = raw.get("seq")
    seen_key = f"{key}:seen"
    if not isinstance(seq, int | float) or st.session_state.get(seen_key) == seq:
        return None
    st.session_state[seen_key] = seq
    event = parse_event(raw)
    if event is not None and event.kind in ("roi", "clear"):
        polygon = [list(point) for point in event.polygon] or None
        st.session_state[_draft_key(key, slide_id)] = {
            "seq": seq,
            "polygon": polygon,
            "of": event.roi_id,
        }
    if event is not None and event.kind == "keypoints":
        points = {"seq": seq, "image": event.image, "pairs": [list(p) for p in event.pairs]}
        st.session_state[_points_key(key, slide_id)] = points
    return event


def drawn_polygon(key: str, slide_id: str) -> list[Point] | None:
    """Return the region that is drawn but not saved yet (um, open ring), None without one."""
    draft = st.session_state.get(_draft_key(key, slide_id))
    return [(x, y) for x, y in draft["polygon"]] if draft and draft["polygon"] else None


def drawn_from(key: str, slide_id: str) -> str | None:
    """Return the saved region that the drawn one was made from by moving corners."""
    draft = st.session_state.get(_draft_key(key, slide_id))
    return draft.get("of") if draft and draft["polygon"] else None


def keep_drawing(key: str, slide_id: str, event: ViewerEvent) -> None:
    """Hold a region that was drawn elsewhere (on the plain picture) as if drawn in the viewer."""
    polygon = [list(point) for point in event.polygon]
    draft = {"seq": time.time_ns() // 1_000_000, "polygon": polygon, "of": None}
    st.session_state[_draft_key(key, slide_id)] = draft


def forget_drawing(key: str, slide_id: str) -> None:
    """Remove the drawn region from the viewer, for example once it is saved under a name."""
    draft_key = _draft_key(key, slide_id)
    draft = st.session_state.get(draft_key)
    if draft:
        st.session_state[draft_key] = {"seq": draft["seq"], "polygon": None}


def set_points(key: str, slide_id: str) -> tuple[str, list[Pair]] | None:
    """Return the image and the pairs of points that are set for it, None without any."""
    points = st.session_state.get(_points_key(key, slide_id))
    if not points or not points["pairs"]:
        return None
    return points["image"], [(a, b, c, d) for a, b, c, d in points["pairs"]]


def keep_points(key: str, slide_id: str, image: str, pairs: Sequence[Sequence[float]]) -> None:
    """Give the viewer other pairs of points than were set in it; none takes them away."""
    kept = [[float(value) for value in pair] for pair in pairs]
    # Later than anything that the browser may have sent.
    points = {"seq": time.time_ns() // 1_000_000, "image": image, "pairs": kept}
    st.session_state[_points_key(key, slide_id)] = points


def keep_images(key: str, slide_id: str, images: Sequence[Mapping[str, Any]]) -> None:
    """Tell a viewer that has its slide loaded already how the images lie since now."""
    st.session_state[_images_key(key, slide_id)] = [dict(image) for image in images]


def _ignore() -> None:
    """Stand in for the change callback that the component's state needs to exist."""


def has_drawn(key: str, slide_id: str) -> bool:
    """Tell whether the cells of a slide have been seen by this visitor's viewer."""
    return bool(st.session_state.get(_drawn_key(key, slide_id)))


def _drawn_key(key: str, slide_id: str) -> str:
    return f"{key}:drawn:{slide_id}"


def _draft_key(key: str, slide_id: str) -> str:
    return f"{key}:draft:{slide_id}"


def _images_key(key: str, slide_id: str) -> str:
    return f"{key}:images:{slide_id}"


def _points_key(key: str, slide_id: str) -> str:
    return f"{key}:points:{slide_id}"


def parse_event(raw: Mapping[str, Any]) -> ViewerEvent | None:
    """Return the event that a browser sent, None if it is none of ours.

    Whatever a browser sends is checked here for its shape only; `service.save_roi` checks the
    geometry (crossing edges, empty area, place on the slide).
    """
    kind = raw.get("kind")
    if kind == "clear":
        return ViewerEvent("clear")
    if kind in ("drawn", "no-webgl"):
        return ViewerEvent("drawn" if kind == "drawn" else "no-webgl")
    if kind == "select":
        return ViewerEvent("select", roi_id=_text(raw.get("roi_id")))
    if kind == "keypoints":
        return _parse_points(raw)
    polygon = _parse_polygon(raw.get("polygon")) if kind == "roi" else ()
    return ViewerEvent("roi", polygon, _text(raw.get("roi_id"))) if polygon else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _parse_polygon(value: Any) -> tuple[Point, ...]:
    if not isinstance(value, list) or not 3 <= len(value) <= MAX_VERTICES:
        return ()
    points = []
    for vertex in value:
        if not isinstance(vertex, list | tuple) or len(vertex) != 2:
            return ()
        x, y = vertex
        if not (_is_number(x) and _is_number(y)):
            return ()
        points.append((float(x), float(y)))
    return tuple(points)


def _parse_points(raw: Mapping[str, Any]) -> ViewerEvent | None:
    image, pairs = _text(raw.get("image")), raw.get("pairs")
    if image is None or not isinstance(pairs, list) or len(pairs) > MAX_PAIRS:
        return None
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 4 or not all(map(_is_number, pair)):
            return None
    parsed = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in pairs)
    return ViewerEvent("keypoints", image=image, pairs=parsed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
