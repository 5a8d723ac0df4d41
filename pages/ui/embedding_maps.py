"""The map of an embedding beside the tissue: one colour, one selection for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from shapely import Polygon

from pages.ui import choices, picked, picture_view, tissue_view, webgl
from pages.ui.routes import mint_token
from pages.ui.session import owner, rerun, services
from pages.ui.text import count
from pages.ui.viewer import (
    ViewerEvent,
    cells_viewer,
    data_address,
    drawn_polygon,
    forget_drawing,
)
from spatialformer_core.service import embedding_view, view_colours

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta
    from spatialformer_core.service.embedding_view import EmbeddingMapView

HEIGHT_PX = 620
MAP, TISSUE = "embedding-map", "embedding-tissue"
_BY_MAP, _BY_TISSUE = "lasso on the map", "lasso on the tissue"
_BY_GROUPS, _BY_REGION = "groups", "region"
_LABELS = {"cluster": "Embedding cluster", "niche": "Niche of expected neighbours"}


@dataclass(frozen=True, slots=True)
class Selection:
    """Cells that were picked: by what, and which, shape ``(n,)`` in slide order."""

    by: str
    cells: np.ndarray


def view_id(kind: str, meta: SlideMeta, job_id: str) -> str:
    """Return the name under which the browser keeps one of the two views."""
    return f"{meta.slide_id}-{job_id}-{kind}"


def choose_colour(meta: SlideMeta, found: EmbeddingMapView) -> tuple[str, str | None]:
    """Draw the colour choice.

    Returns
    -------
    tuple
        The colour as the viewer reads it, and the grouping behind it as
        `embedding_view.label_codes` reads it (None: it is none).
    """
    kinds = [*(_LABELS[name] for name in found.labels), "Gene", "Quality", "Plain"]
    if meta.group_keys:
        kinds.insert(0, "Cell type or group")
    left, right = st.columns(2)
    kind = left.selectbox("Colour both by", kinds, key=f"embedding-colour-{meta.slide_id}")
    with right:
        if kind == "Cell type or group":
            box = f"embedding-group-{meta.slide_id}"
            key = choices.one_grouping(st, "Grouping", meta, key=box)
            return f"group:{key}", f"group:{key}"
        if kind == "Gene":
            panel = services().slide(meta.slide_id).genes
            gene = st.selectbox(
                "Gene",
                panel,
                index=None,
                placeholder="Type a gene symbol",
                key=f"embedding-gene-{meta.slide_id}",
                help="Transcripts per cell, 0 in grey.",
            )
            return (f"gene:{gene}" if gene else "none"), None
        if kind == "Quality":
            name = st.selectbox(
                "Figure",
                list(view_colours.VALUES),
                format_func=lambda n: view_colours.VALUES[n][0],
                key=f"embedding-value-{meta.slide_id}",
            )
            return f"value:{name}", None
    if kind == "Plain":
        return "none", None
    name = next(name for name, label in _LABELS.items() if label == kind)
    return f"result:{found.job_id}/{name}", name


def _by_key(meta: SlideMeta, job_id: str) -> str:
    return f"embedding-by-{meta.slide_id}-{job_id}"


def _latest(key: str, by: str) -> None:
    # What was done last decides; the other ways keep what was chosen in them.
    st.session_state[key] = by


def choose_selection(
    meta: SlideMeta, found: EmbeddingMapView, grouping: str | None
) -> Selection | None:
    """Draw the ways to select that need no mouse; return what is selected by whatever way."""
    slide, by_key = services().slide(meta.slide_id), _by_key(meta, found.job_id)
    left, right, last = st.columns([1.4, 1, 0.6], vertical_alignment="bottom")
    labels = grouping or (found.labels[0] if found.labels else None)
    groups_key = f"embedding-pick-{labels}-{meta.slide_id}-{found.job_id}"
    if labels is not None:
        names, codes = embedding_view.label_codes(found, slide, labels)
        left.multiselect(
            f"Select cells by {labels.removeprefix('group:')}",
            names,
            key=groups_key,
            placeholder="None; or draw with the lasso on either picture",
            on_change=_latest,
            args=(by_key, _BY_GROUPS),
        )
    regions = {roi.roi_id: roi for roi in services().rois(meta.slide_id, owner())}
    region_key = f"embedding-region-{meta.slide_id}"
    if (clicked := st.session_state.pop(f"{region_key}-next", "")) != "":
        # A region that was clicked in the picture; the box below did not exist yet then.
        st.session_state[region_key] = clicked
    right.selectbox(
        "Select a region of the tissue",
        list(regions),
        index=None,
        format_func=lambda i: regions[i].name,
        key=region_key,
        placeholder="None" if regions else "No region is saved yet",
        on_change=_latest,
        args=(by_key, _BY_REGION),
    )
    by = st.session_state.get(by_key)
    if last.button("Clear", icon=":material/deselect:", disabled=by is None, width="stretch"):
        _clear(meta, found.job_id)
    if by == _BY_GROUPS and labels is not None:
        chosen = [names.index(name) for name in st.session_state.get(groups_key) or []]
        return Selection(_BY_GROUPS, np.isin(codes, chosen)) if chosen else None
    if by == _BY_REGION:
        roi = regions.get(str(st.session_state.get(region_key)))
        if roi is None:
            return None
        return Selection(f"region {roi.name}", embedding_view.picked_on_tissue(slide, roi.polygon))
    return _drawn(meta, found, str(by))


def _drawn(meta: SlideMeta, found: EmbeddingMapView, by: str) -> Selection | None:
    kind = {_BY_MAP: MAP, _BY_TISSUE: TISSUE}.get(by)
    ring = drawn_polygon(kind, view_id(kind, meta, found.job_id)) if kind else None
    if not ring:
        return None
    polygon, slide = Polygon(ring).buffer(0), services().slide(meta.slide_id)
    if kind == MAP:
        return Selection(by, embedding_view.picked_on_map(found, slide, polygon))
    return Selection(by, embedding_view.picked_on_tissue(slide, polygon))


def _clear(meta: SlideMeta, job_id: str) -> None:
    st.session_state.pop(_by_key(meta, job_id), None)
    for kind in (MAP, TISSUE):
        forget_drawing(kind, view_id(kind, meta, job_id))
    rerun()


def shaded(colour: str, meta: SlideMeta, selection: Selection | None) -> str:
    """Return a colour in which only the selected cells keep theirs."""
    if selection is None:
        return colour
    name = picked.keep(owner(), meta.slide_id, selection.cells)
    kind, _, rest = colour.partition(":")
    return f"pick:{name}/{kind}/{rest}" if rest else f"pick:{name}/plain/cells"


def draw(meta: SlideMeta, found: EmbeddingMapView, colour: str, region: str | None) -> None:
    """Draw both pictures; a lasso on either selects and draws both anew."""
    token = mint_token(owner(), meta.slide_id)
    is_plain = picture_view.wanted("names of cells and pictures as files")
    rois = {MAP: [], TISSUE: tissue_view.features(meta.slide_id, region)}
    captions = {
        MAP: _about_map(meta, found),
        TISSUE: f"Tissue: all {count(meta.n_cells)} cells; those that fail QC are fainter.",
    }
    events: dict[str, ViewerEvent | None] = {}
    for column, kind in zip(st.columns(2, gap="medium"), (MAP, TISSUE), strict=True):
        name, job_id = view_id(kind, meta, found.job_id), found.job_id if kind == MAP else None
        with column:
            st.caption(captions[kind])
            if is_plain:
                view = picture_view.View(name, HEIGHT_PX, job_id)
                events[kind] = picture_view.show(meta, colour, rois[kind], kind, view)
                continue
            events[kind] = cells_viewer(
                name,
                base=data_address(meta.slide_id, f"map/{job_id}" if job_id else ""),
                token=token,
                color_by=colour,
                rois=rois[kind],
                height_px=HEIGHT_PX,
                key=kind,
            )
    _follow(meta, found.job_id, events)


def _about_map(meta: SlideMeta, found: EmbeddingMapView) -> str:
    n_map, n_kept = len(found.rows), meta.n_cells_kept
    if n_map >= n_kept:
        return f"Map (UMAP): all {count(n_map)} cells that pass QC; distances have no unit."
    return (
        f"Map (UMAP): {count(n_map)} of {count(n_kept)} cells that pass QC, drawn at random; "
        "distances have no unit."
    )


def _follow(meta: SlideMeta, job_id: str, events: dict[str, ViewerEvent | None]) -> None:
    by_key = _by_key(meta, job_id)
    for kind, event in events.items():
        if event is None:
            continue
        if event.kind == "no-webgl":
            webgl.note_missing()
            rerun()
        elif event.kind == "select" and kind == TISSUE:
            st.session_state[f"embedding-region-{meta.slide_id}-next"] = event.roi_id
            _latest(by_key, _BY_REGION)
            rerun()
        elif event.kind in ("roi", "clear"):
            _latest(by_key, _BY_MAP if kind == MAP else _BY_TISSUE)
            rerun()
