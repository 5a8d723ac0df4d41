"""Where a screen works and what it is compared with: slides, regions, far pairs, another side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui.session import current_slide, owner, services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import screen_desk
from spatialformer_core.service.roi_tools import sets_of

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_SLIDES, _ROIS = "screen-slides", "screen-rois"
_FAR, _REGIONS, _OTHERS = "far pairs of the same tissue", "other regions", "other slides"


def _follow(looked_at: str | None, known: list[str]) -> None:
    """Let the form begin with the slide that was looked at last; keep a choice made since."""
    state = st.session_state
    if looked_at in known and state.get("_screened") != looked_at:
        state["_screened"] = looked_at
        state[_SLIDES] = [looked_at]
    kept = [slide for slide in state.get(_SLIDES, known[:1]) if slide in known]
    if state.get(_SLIDES) != kept:
        state[_SLIDES] = kept


def _label(meta: SlideMeta) -> str:
    return f"{meta.name} ({meta.sample.condition}, donor {meta.sample.donor})"


def _keep(key: str, known: Sequence[str]) -> None:
    """Drop from a choice what is no longer on offer."""
    st.session_state[key] = [value for value in st.session_state.get(key, []) if value in known]


def _regions(chosen: Sequence[str], names: dict[str, str]) -> dict[str, str]:
    """Return what each saved region of the slides is called, by id."""
    several = len(chosen) > 1
    return {
        roi.roi_id: f"{names[slide]} · {roi.name}" if several else str(roi.name)
        for slide in chosen
        for roi in services().rois(slide, owner())
    }


def _sets(chosen: Sequence[str], names: dict[str, str]) -> None:
    """Draw a button for each set of regions; it adds the set's regions to the choice."""
    found = {
        (slide, name): [roi.roi_id for roi in rois]
        for slide in chosen
        for name, rois in sets_of(services().rois(slide, owner())).items()
    }
    if not found:
        return
    with st.container(horizontal=True, gap="small"):
        for (slide, name), roi_ids in found.items():
            of_slide = f"{names[slide]} · " if len(chosen) > 1 else ""
            st.button(
                f"Add the set {of_slide}{name} ({len(roi_ids)})",
                key=f"screen-set-{slide}-{name}",
                on_click=_add,
                args=(roi_ids,),
                help="Each of its regions is a replicate unit.",
            )


def _add(roi_ids: Sequence[str]) -> None:
    st.session_state[_ROIS] = list(dict.fromkeys([*st.session_state.get(_ROIS, []), *roi_ids]))


def _versus_regions(regions: dict[str, str], picked: Sequence[str]) -> dict[str, Any]:
    others = [roi_id for roi_id in regions if roi_id not in picked]
    _keep("screen-versus-rois", others)
    found = st.multiselect(
        "Regions to compare with",
        others,
        format_func=regions.__getitem__,
        key="screen-versus-rois",
        placeholder="Choose regions",
        help="Near pairs there are what the near pairs are compared with. Without regions above, "
        "the first side is all tissue outside these.",
    )
    if not found:
        raise SpatialFormerError(
            "No region to compare with is chosen.",
            fix="Choose one, draw more on the page Tissue, or compare with far pairs.",
        )
    return {"versus_roi_ids": tuple(found)}


def _versus_slides(slides: Sequence[SlideMeta], chosen: list[str]) -> dict[str, Any]:
    others = {m.slide_id: m for m in slides if m.slide_id not in chosen}
    _keep("screen-versus-slides", list(others))
    found = st.multiselect(
        "Slides to compare with",
        list(others),
        format_func=lambda slide_id: _label(others[slide_id]),
        key="screen-versus-slides",
        placeholder="Choose slides",
        help="Healthy against disease: the slides above are one side, these the other. p-values "
        "need 3 donors on each side.",
    )
    if not found:
        raise SpatialFormerError(
            "No slide to compare with is chosen.",
            fix="Choose one that is not among the slides above, or compare with far pairs.",
        )
    return {
        "slide_ids": (*chosen, *found),
        "roi_ids": (),
        "regions_geojson": screen_desk.whole_slides(services(), chosen),
        "versus_geojson": screen_desk.whole_slides(services(), found),
    }


def where(slides: Sequence[SlideMeta]) -> tuple[list[SlideMeta], dict[str, Any]]:
    """Draw the choice of slides and regions; return the slides, and what a request says of them.

    Raises
    ------
    SpatialFormerError
        If another side is wanted and not chosen.
    """
    known = {meta.slide_id: meta for meta in slides}
    names = {slide_id: meta.name for slide_id, meta in known.items()}
    _follow(current_slide(), list(names))
    chosen = st.multiselect(
        "Slides",
        list(names),
        format_func=names.__getitem__,
        key=_SLIDES,
        persist_state="session",
        help="Several slides are screened together; each of their units is a replicate.",
    )
    if not chosen:
        return [], {}
    regions = _regions(chosen, names)
    _keep(_ROIS, list(regions))
    _sets(chosen, names)
    picked = st.multiselect(
        "Regions",
        list(regions),
        format_func=regions.__getitem__,
        key=_ROIS,
        placeholder="Whole slide" if not regions else "Whole slide, or choose regions",
        help="Each region is a replicate unit. None chosen: the whole slide, cut into blocks. "
        "Draw and save regions on the page Tissue.",
    )
    against = st.radio(
        "Compare near pairs with",
        [_FAR, _REGIONS, _OTHERS],
        key="screen-against",
        horizontal=True,
        help="Far pairs: the same two types, too far apart to touch, matched in depth and "
        "crowding. Other regions or slides: near pairs there.",
    )
    values: dict[str, Any] = {"slide_ids": tuple(chosen), "roi_ids": tuple(picked)}
    if against == _REGIONS:
        values |= _versus_regions(regions, picked)
    elif against == _OTHERS:
        values |= _versus_slides(slides, chosen)
    return [known[slide_id] for slide_id in values["slide_ids"]], values
