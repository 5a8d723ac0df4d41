"""The region panel: save what was drawn, choose, rename, delete, exchange, draw by numbers."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import streamlit as st
from shapely import Polygon

from pages.ui import downloads, place_image, roi_tools
from pages.ui.session import errors_shown, owner, region_owner, remember, rerun, services
from pages.ui.text import plural
from pages.ui.tissue_view import SET, VIEWER, colour_of, free_colour, is_waited_for
from pages.ui.viewer import drawn_from, drawn_polygon, forget_drawing
from spatialformer_core.service.roi_tools import export_csv, sets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pages.ui.viewer import ViewerEvent
    from spatialformer_core.service import Roi, SlideMeta

DRAWN = "(drawn)"
WHOLE = "(slide)"


def _feature(
    slide_id: str, ring: Sequence[Sequence[float]], name: str, colour: str | None = None
) -> str:
    closed = [list(point) for point in (*ring, ring[0])]
    feature: dict[str, Any] = {
        "type": "Feature",
        "properties": {"name": name, "slide_id": slide_id, "unit": name, "color": colour},
        "geometry": {"type": "Polygon", "coordinates": [closed]},
    }
    return json.dumps(feature)


def drawn_polygon_of(slide_id: str) -> Polygon | None:
    """Return what is drawn but not saved, in um; None if nothing is."""
    ring = drawn_polygon(VIEWER, slide_id)
    return Polygon(ring) if ring else None


def choice_key(slide_id: str) -> str:
    """Return the session key of the chosen region."""
    return f"region-{slide_id}"


def _choose(slide_id: str, roi_id: str) -> None:
    # The radio exists already in this run; its value is set before it is made in the next one.
    st.session_state[f"next-{choice_key(slide_id)}"] = roi_id


def chosen_by(event: ViewerEvent | None, slide_id: str) -> str:
    """Carry over a choice made in the viewer, or beside it in the last run.

    Returns
    -------
    str
        The chosen region's id, a set's name behind `SET`, `WHOLE` or `DRAWN`.
    """
    key = choice_key(slide_id)
    waiting = st.session_state.pop(f"next-{key}", None)
    if event is not None and event.kind in ("roi", "select"):
        waiting = DRAWN if event.kind == "roi" else event.roi_id or WHOLE
    if waiting is not None:
        st.session_state[key] = waiting
    return str(st.session_state.get(key, WHOLE))


def show_drawn(slide_id: str) -> None:
    """Choose what was just drawn and draw the page again."""
    _choose(slide_id, DRAWN)
    rerun()


def _save(slide_id: str, ring: Sequence[Sequence[float]], name: str) -> None:
    with errors_shown():
        colour = free_colour(services().rois(slide_id, owner()))
        drawn = _feature(slide_id, ring, name, colour)
        roi = services().save_roi(slide_id, drawn, name, owner())
        _choose(slide_id, roi.roi_id)
        remember(f"Region {name} is saved.")
        forget_drawing(VIEWER, slide_id)
        rerun()


def _reshape(slide_id: str, ring: Sequence[Sequence[float]], roi: Roi) -> None:
    with errors_shown():
        services().reshape_roi(slide_id, roi.roi_id, _feature(slide_id, ring, roi.name), owner())
        _choose(slide_id, roi.roi_id)
        remember(f"Region {roi.name} has its new outline.")
        forget_drawing(VIEWER, slide_id)
        rerun()


def _free_name(rois: Sequence[Roi]) -> str:
    taken = {roi.name for roi in rois}
    return next(name for i in count(1) if (name := f"Region {i}") not in taken)


def _save_drawn(meta: SlideMeta, rois: Sequence[Roi]) -> None:
    ring = drawn_polygon(VIEWER, meta.slide_id)
    if not ring:
        st.caption(
            "Draw with the lasso in the picture, or open *Draw by numbers* below. "
            "A saved region can be screened on the page *Perturbation*."
        )
        return
    origin = drawn_from(VIEWER, meta.slide_id)
    for roi in (roi for roi in rois if roi.roi_id == origin):
        label = f"Give {roi.name} this outline"
        if st.button(label, type="primary", icon=":material/save:", width="stretch"):
            _reshape(meta.slide_id, ring, roi)
    with st.form(f"save-{meta.slide_id}", border=True):
        name = st.text_input(
            "Name of the drawn region",
            value=_free_name(rois),
            max_chars=64,
            help="Each region is one replicate unit of a screen, so give each its own name.",
        )
        if st.form_submit_button("Save region", type="primary", icon=":material/save:"):
            _save(meta.slide_id, ring, name)


def _list(meta: SlideMeta, rois: Sequence[Roi]) -> str:
    names = {WHOLE: "Whole slide"}
    if drawn_polygon(VIEWER, meta.slide_id):
        names[DRAWN] = "Drawn, not saved"
    sets = sets_of(rois)
    names |= {f"{SET}{name}": f"Set: {name}" for name in sets}
    names |= {roi.roi_id: roi.name for roi in rois}
    key = choice_key(meta.slide_id)
    if st.session_state.get(key) not in names:
        st.session_state[key] = WHOLE
    areas = {roi.roi_id: f"{roi.area_um2 / 1e6:.3g} mm²" for roi in rois}
    areas |= {f"{SET}{name}": plural(len(found), "region") for name, found in sets.items()}
    return st.radio(
        "Region shown below",
        list(names),
        key=key,
        format_func=names.__getitem__,
        captions=[areas.get(name, "") for name in names],
    )


def _rename(meta: SlideMeta, roi: Roi, colour: str) -> None:
    roi_tools.colour_picker(meta.slide_id, roi, colour)
    with st.form(f"rename-{roi.roi_id}", border=False):
        name = st.text_input("New name", value=roi.name, max_chars=64)
        if st.form_submit_button("Rename", icon=":material/edit:"):
            with errors_shown():
                services().rename_roi(meta.slide_id, roi.roi_id, name, owner())
                remember(f"Region {roi.name} is now {name}.")
                rerun()
    if st.button("Delete this region", icon=":material/delete:", key=f"delete-{roi.roi_id}"):
        with errors_shown():
            services().delete_roi(meta.slide_id, roi.roi_id, owner())
            _choose(meta.slide_id, WHOLE)
            remember(f"Region {roi.name} is deleted.")
            rerun()


def _import(slide_id: str, text: str) -> None:
    with errors_shown():
        added = services().import_rois(slide_id, text, owner())
        remember(f"{plural(len(added), 'region')} imported.")
        if added:
            _choose(slide_id, added[0].roi_id)
        rerun()


def _exchange(meta: SlideMeta, rois: Sequence[Roi]) -> None:
    with st.expander("Import and export", icon=":material/swap_vert:"):
        if rois:
            whose = owner()
            downloads.file_button(
                f"Export {plural(len(rois), 'region')} (GeoJSON, µm)",
                lambda: services().export_rois(meta.slide_id, whose).encode("utf-8"),
                f"{meta.slide_id}-regions.geojson",
                "application/geo+json",
                f"export-{meta.slide_id}",
            )
            _export_csv(meta)
        with st.form(f"import-{meta.slide_id}", border=False, clear_on_submit=True):
            file = st.file_uploader(
                "GeoJSON, or CSV of Xenium Explorer", type=["geojson", "json", "csv"]
            )
            text = st.text_area(
                "or paste it",
                height=90,
                key=f"paste-{meta.slide_id}",
                help="GeoJSON polygons or Explorer's coordinates (Selection, X, Y), in µm of the "
                "slide.",
            )
            if st.form_submit_button("Import", icon=":material/upload:"):
                pasted = file.getvalue().decode("utf-8", "replace") if file else text
                _import(meta.slide_id, pasted)


def _export_csv(meta: SlideMeta) -> None:
    text, lost = export_csv(services().slide(meta.slide_id), region_owner())
    downloads.file_button(
        "Export for Xenium Explorer (CSV, µm)",
        text.encode("utf-8"),
        f"{meta.slide_id}-regions.csv",
        "text/csv",
        f"export-csv-{meta.slide_id}",
    )
    if lost:
        st.caption(
            f"The CSV has one ring per selection: of {', '.join(lost[:3])} holes are left out and "
            "parts get numbers. GeoJSON keeps everything."
        )


def _by_numbers(meta: SlideMeta) -> None:
    x0, y0, x1, y1 = meta.bounds_um
    with (
        st.expander("Draw by numbers", icon=":material/keyboard:"),
        st.form(f"numbers-{meta.slide_id}", border=False),
    ):
        name = st.text_input("Name", max_chars=64, key=f"numbers-name-{meta.slide_id}")
        left, right = st.columns(2)
        extent = f"The slide spans x {x0:.0f}–{x1:.0f} µm, y {y0:.0f}–{y1:.0f} µm."
        west = left.number_input("x from (µm)", value=float(round(x0)), help=extent)
        east = right.number_input("x to (µm)", value=float(round(x1)), help=extent)
        north = left.number_input("y from (µm)", value=float(round(y0)), help=extent)
        south = right.number_input("y to (µm)", value=float(round(y1)), help=extent)
        if st.form_submit_button("Save rectangle", icon=":material/crop_square:"):
            ring = ((west, north), (east, north), (east, south), (west, south))
            _save(meta.slide_id, ring, name)


def panel(meta: SlideMeta) -> None:
    """Draw the region panel."""
    rois = services().rois(meta.slide_id, owner())
    _save_drawn(meta, rois)
    chosen = _list(meta, rois)
    found = [roi for roi in rois if roi.roi_id == chosen]
    if found:
        with st.popover("Name, colour, delete", icon=":material/more_horiz:", width="stretch"):
            _rename(meta, found[0], colour_of(rois, found[0]))
    if is_waited_for(meta):
        return
    roi_tools.panel(meta, rois)
    _exchange(meta, rois)
    _by_numbers(meta)
    place_image.panel(meta)
