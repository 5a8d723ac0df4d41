"""The tissue, what it is coloured by, and the regions on it."""

from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import picture_view, view_link, webgl
from pages.ui.routes import mint_token
from pages.ui.session import owner, services
from pages.ui.viewer import ViewerEvent, has_drawn, tissue_viewer, viewer_event
from spatialformer_core.service.view import MAX_GENES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service import Roi, SlideMeta

VIEWER = "tissue-viewer"
SET = "(set) "
"""Before the name of a set that is chosen; no region's id has a bracket."""

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#B8A100")


def choose_genes(meta: SlideMeta) -> list[str]:
    """Draw the choice of genes whose transcripts are shown in the picture."""
    if not meta.has_transcripts:
        return []
    panel = services().slide(meta.slide_id).genes
    return st.multiselect(
        "Transcripts of",
        panel,
        default=view_link.genes_of(panel),
        max_selections=MAX_GENES,
        placeholder="Type gene symbols",
        key=f"transcripts-{meta.slide_id}",
        help=f"Up to {MAX_GENES} genes: a density map from afar, single transcripts when near.",
    )


def _colours(own: Sequence[str | None]) -> list[str]:
    """Return the colours of regions; those without one take the palette's in turn.

    The others do not count: a region saved with a colour changes nobody else's.
    """
    palette = cycle(PALETTE)
    return [colour or next(palette) for colour in own]


def colour_of(rois: Sequence[Roi], roi: Roi) -> str:
    """Return the colour that a region is drawn in."""
    return _colours([r.color for r in rois])[rois.index(roi)]


def free_colour(rois: Sequence[Roi]) -> str:
    """Return a colour for one region more: the palette's that was taken least."""
    return min(PALETTE, key=_colours([r.color for r in rois]).count)


def features(slide_id: str, selected: str | None) -> list[dict[str, Any]]:
    """Return the slide's regions as the viewer draws them, each with a colour of its own."""
    collection = json.loads(services().export_rois(slide_id, owner()))
    found: list[dict[str, Any]] = collection["features"]
    colours = _colours([feature["properties"].get("color") for feature in found])
    for feature, colour in zip(found, colours, strict=True):
        properties = feature["properties"]
        properties["color"] = colour
        properties["selected"] = selected in {
            feature.get("id", properties.get("id")),
            f"{SET}{properties.get('group')}",
        }
    return found


def is_waited_for(meta: SlideMeta) -> bool:
    """Tell whether the visitor still waits for the cells.

    What a page shows meanwhile makes that longer: the code of the charts alone is as many bytes as
    a million cells, and parsing it stops the viewer.
    """
    if webgl.missing() or st.session_state.get("plain-picture"):
        return False
    return not has_drawn(VIEWER, meta.slide_id)


def _linked(meta: SlideMeta) -> dict[str, Any] | None:
    place, span = view_link.view(meta), view_link.value_range()
    return ((place or {}) | ({"range": span} if span else {})) or None


def event(meta: SlideMeta) -> ViewerEvent | None:
    """Return what was drawn or clicked in the viewer since the last run.

    Ask before anything is drawn, so that this run shows already what follows from it.
    """
    found = viewer_event(VIEWER, meta.slide_id)
    if found is not None and found.kind == "no-webgl":
        webgl.note_missing()
    return found


def show(
    meta: SlideMeta, colour: str, genes: Sequence[str], selected: str | None
) -> ViewerEvent | None:
    """Draw the viewer, or the plain picture; return what was drawn in the picture."""
    regions = features(meta.slide_id, selected)
    if picture_view.wanted("images, outlines and single transcripts"):
        return picture_view.show(meta, colour, regions, VIEWER)
    tissue_viewer(
        meta.slide_id,
        token=mint_token(owner(), meta.slide_id),
        color_by=colour,
        genes=genes,
        view=_linked(meta),
        rois=regions,
        key=VIEWER,
    )
    return None
