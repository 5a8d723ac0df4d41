"""A link to one view of a slide: place, colours and genes, each checked before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui.session import linked
from spatialformer_core.service.view import MAX_GENES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service import SlideMeta

PARTS = ("x", "y", "zoom", "colour", "genes")
_ZOOM = (-12.0, 6.0)


def keep_for(slide_id: str) -> None:
    """Drop a link's view once another slide is looked at; before `look_at` changes the link."""
    if linked("slide") != slide_id:
        for part in PARTS:
            st.query_params.pop(part, None)


def view(meta: SlideMeta) -> dict[str, float] | None:
    """Return the linked place as ``x``, ``y`` (um) and ``zoom``; None if any of it is no such."""
    try:
        x, y, zoom = (float(linked(part) or "nan") for part in ("x", "y", "zoom"))
    except ValueError:
        return None
    x0, y0, x1, y1 = meta.bounds_um
    # Nan and infinity are in no interval.
    on_slide = x0 <= x <= x1 and y0 <= y <= y1
    if not on_slide or not _ZOOM[0] <= zoom <= _ZOOM[1]:
        return None
    return {"x": x, "y": y, "zoom": zoom}


def colour(meta: SlideMeta, genes: Sequence[str]) -> tuple[str, str] | None:
    """Return ``("group", key)`` or ``("gene", symbol)`` of the link if the slide has it."""
    kind, _, name = (linked("colour") or "").partition(":")
    known = {"group": meta.group_keys, "gene": genes}.get(kind, ())
    return (kind, name) if name in known else None


def genes_of(panel: Sequence[str]) -> list[str]:
    """Return the genes of the link that are on the panel, each once, at most `MAX_GENES`."""
    known = set(panel)
    asked = dict.fromkeys((linked("genes") or "").split(","))
    return [gene for gene in asked if gene in known][:MAX_GENES]
