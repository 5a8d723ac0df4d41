"""The tissue, what it is coloured by, and the regions on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import picture_view, view_link
from pages.ui.routes import mint_token
from pages.ui.session import owner, rerun, services
from pages.ui.viewer import ViewerEvent, tissue_viewer
from spatialformer_core.service.view import MAX_GENES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service import SlideMeta

VIEWER = "tissue-viewer"

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#B8A100")


def choose_slide(slides: Sequence[SlideMeta], wanted: str | None) -> SlideMeta:
    """Draw the slide choice; the one of the link comes first."""
    by_id = {meta.slide_id: meta for meta in slides}
    ids = list(by_id)
    chosen = st.selectbox(
        "Slide",
        ids,
        index=ids.index(wanted) if wanted in by_id else 0,
        format_func=lambda i: by_id[i].name,
        help="Slides are registered on the page *Slides*.",
    )
    return by_id[chosen]


def choose_colour(meta: SlideMeta) -> str:
    """Draw the colour choice; return it as the viewer reads it (``group:KEY``, ``gene:NAME``)."""
    kinds = [*(["Cell type"] if meta.group_keys else []), "Gene", "Plain"]
    genes = services().slide(meta.slide_id).genes
    linked, name = view_link.colour(meta, genes) or (None, None)
    left, right = st.columns([1.1, 1])
    kind = left.segmented_control(
        "Colour cells by",
        kinds,
        default="Gene" if linked == "gene" else kinds[0],
        required=True,
        key=f"colour-kind-{meta.slide_id}",
        width="stretch",
    )
    if kind == "Cell type":
        keys = list(meta.group_keys)
        shown = name if linked == "group" else meta.default_group
        first = keys.index(shown) if shown in keys else 0
        key = right.selectbox("Grouping", keys, index=first, key=f"colour-group-{meta.slide_id}")
        return f"group:{key}"
    if kind == "Gene":
        gene = right.selectbox(
            "Gene",
            genes,
            index=genes.index(name) if linked == "gene" and name else None,
            placeholder="Type a gene symbol",
            key=f"colour-gene-{meta.slide_id}",
            help="Counts per cell, 0 in grey. All genes of the slide's panel are listed.",
        )
        return f"gene:{gene}" if gene else "none"
    return "none"


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


def features(slide_id: str, selected: str | None) -> list[dict[str, Any]]:
    """Return the slide's regions as the viewer draws them, each with a colour of its own."""
    collection = json.loads(services().export_rois(slide_id, owner()))
    found: list[dict[str, Any]] = collection["features"]
    for i, feature in enumerate(found):
        properties = feature["properties"]
        properties["color"] = properties.get("color") or PALETTE[i % len(PALETTE)]
        properties["selected"] = feature.get("id", properties.get("id")) == selected
    return found


def show(
    meta: SlideMeta, colour: str, genes: Sequence[str], selected: str | None
) -> ViewerEvent | None:
    """Draw the viewer, or the plain picture; return what the visitor did in it."""
    regions = features(meta.slide_id, selected)
    if picture_view.wanted():
        return picture_view.show(meta, colour, regions, VIEWER)
    event = tissue_viewer(
        meta.slide_id,
        token=mint_token(owner(), meta.slide_id),
        color_by=colour,
        genes=genes,
        view=view_link.view(meta),
        rois=regions,
        key=VIEWER,
    )
    if event is not None and event.kind == "no-webgl":
        st.session_state[picture_view.WITHOUT_WEBGL] = True
        rerun()
    return event
