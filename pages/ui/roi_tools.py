"""More to do with saved regions: join, cut, put into sets, copy to another slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui.session import errors_shown, region_owner, remember, rerun, services
from pages.ui.text import plural
from spatialformer_core.service import roi_tools

if TYPE_CHECKING:
    from spatialformer_core.service import Roi, SlideMeta

_OPERATIONS: dict[str, roi_tools.Operation] = {
    "Join": "union",
    "Subtract": "subtract",
    "Overlap": "intersect",
}
_SET, _COPY = "Make a set", "Copy to a slide"
_HELP = {
    "Join": "One region of all chosen ones; those stay.",
    "Subtract": "The first region without the others; those stay.",
    "Overlap": "What all chosen regions share; those stay.",
    _SET: "Regions of one kind, all granulomas for example. Each stays a replicate of its own; a "
    "set is composed, compared and screened as a whole.",
    _COPY: "To a serial section: with the same coordinates, shifted, or by keypoints.",
}
_MOVES: dict[roi_tools.Move, str] = {
    "same": "The same coordinates",
    "centre": "Shifted: the middles of the tissues match",
    "file": "By keypoints or a matrix (CSV)",
}


def colour_picker(slide_id: str, roi: Roi, shown: str) -> None:
    """Draw the choice of a region's colour."""
    chosen = st.color_picker("Colour", value=roi.color or shown, key=f"colour-{roi.roi_id}")
    if chosen.lower() not in {(roi.color or "").lower(), shown.lower()}:
        with errors_shown():
            roi_tools.colour_roi(services().slide(slide_id), roi.roi_id, chosen, region_owner())
            rerun()


def panel(meta: SlideMeta, rois: Sequence[Roi]) -> None:
    """Draw what can be done with several regions."""
    if not rois:
        return
    names = {roi.roi_id: roi.name for roi in rois}
    with st.expander("Join, cut, sets, copies", icon=":material/join_full:"):
        key = f"tool-{meta.slide_id}"
        kinds = [*(list(_OPERATIONS) if len(rois) > 1 else []), _SET]
        kinds += [_COPY] if len(services().slides()) > 1 else []
        kind = st.selectbox("What to do", kinds, key=key, help="\n\n".join(_help(kinds)))
        chosen = st.multiselect(
            "Regions",
            list(names),
            format_func=names.__getitem__,
            key=f"{key}-rois",
            placeholder="Choose regions",
            help="In the order chosen: Subtract takes the others from the first.",
        )
        st.caption(_HELP[kind])
        if kind in _OPERATIONS:
            _combine(meta, chosen, kind, [names[i] for i in chosen])
        elif kind == _SET:
            _set(meta, chosen, rois)
        else:
            _copy(meta, chosen)


def _help(kinds: Sequence[str]) -> list[str]:
    return [f"**{kind}**: {_HELP[kind]}" for kind in kinds]


def _combine(meta: SlideMeta, chosen: list[str], kind: str, names: list[str]) -> None:
    with st.form(f"combine-{meta.slide_id}", border=False):
        proposed = " + ".join(names)[:60] if kind == "Join" else f"{kind} {len(names)}"
        name = st.text_input("Name of the new region", value=proposed, max_chars=64)
        if st.form_submit_button(kind, icon=":material/join_full:", disabled=len(chosen) < 2):
            with errors_shown():
                slide, limits = services().slide(meta.slide_id), services().config.limits
                roi = roi_tools.combine(
                    slide,
                    chosen,
                    _OPERATIONS[kind],
                    name=name,
                    limits=limits,
                    owner=region_owner(),
                )
                remember(f"Region {roi.name} is saved ({roi.area_um2 / 1e6:.3g} mm²).")
                rerun()


def _set(meta: SlideMeta, chosen: list[str], rois: Sequence[Roi]) -> None:
    known = [f"{name} ({len(found)})" for name, found in roi_tools.sets_of(rois).items()]
    with st.form(f"set-{meta.slide_id}", border=False):
        name = st.text_input("Name of the set", max_chars=64, placeholder="Granulomas")
        if known:
            st.caption(f"There are: {', '.join(known)}.")
        put, out = st.columns(2)
        into = put.form_submit_button("Put in", icon=":material/folder:", disabled=not chosen)
        leave = out.form_submit_button("Take out", disabled=not chosen)
        if into or leave:
            with errors_shown():
                slide = services().slide(meta.slide_id)
                label = name if into else None
                found = roi_tools.put_into_set(slide, chosen, label, region_owner())
                where = f"in the set {label}" if into else "in no set"
                remember(f"{plural(len(found), 'region')} now {where}.")
                rerun()


def _copy(meta: SlideMeta, chosen: list[str]) -> None:
    others = {m.slide_id: m.name for m in services().slides() if m.slide_id != meta.slide_id}
    target = st.selectbox(
        "To slide", list(others), format_func=others.__getitem__, key=f"copy-to-{meta.slide_id}"
    )
    move = st.selectbox(
        "How", list(_MOVES), format_func=_MOVES.__getitem__, key=f"copy-how-{meta.slide_id}"
    )
    file = None
    if move == "file":
        file = st.file_uploader(
            "Alignment",
            type=["csv"],
            key=f"copy-file-{meta.slide_id}",
            help="Keypoints with the columns fixedX, fixedY (µm of the other slide), alignmentX, "
            "alignmentY (µm of this one), or a 3 x 3 matrix between them.",
        )
    if st.button("Copy", icon=":material/content_copy:", disabled=not chosen):
        with errors_shown():
            text = file.getvalue().decode("utf-8", "replace") if file else None
            slides = services().slide(meta.slide_id), services().slide(target)
            limits = services().config.limits
            made = roi_tools.copy_rois(
                *slides, chosen, limits, move=move, file=text, owner=region_owner()
            )
            n = plural(len(made.rois), "region")
            st.success(f"{n} copied to {others[target]}. {made.said}")
            for warning in made.warnings:
                st.warning(warning)
