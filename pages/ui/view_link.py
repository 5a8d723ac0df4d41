"""A link to one view of a slide: place, colours and genes, each checked before it is used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui.session import linked
from spatialformer_core.service.view import MAX_GENES
from spatialformer_core.service.view_colours import VALUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service import SlideMeta

PARTS = ("x", "y", "zoom", "colour", "genes", "range")
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


def value_range() -> list[float] | None:
    """Return the values that the link's colours span, lowest and highest; None without two."""
    try:
        low, high = (float(part) for part in (linked("range") or "").split(","))
    except ValueError:
        return None
    return [low, high] if math.isfinite(low) and math.isfinite(high) and low < high else None


def colour(meta: SlideMeta, genes: Sequence[str]) -> tuple[str, str] | None:
    """Return kind and name of the link's colour (``("gene", symbol)``) if the slide has it.

    A job's result (``("result", "job/column")``) is checked where its name is looked up.
    """
    kind, _, name = (linked("colour") or "").partition(":")
    if kind == "pair":
        pair = name.split(",")
        return (kind, name) if len(set(pair)) == 2 and set(pair) <= set(genes) else None
    if kind == "result" and name:
        return kind, name
    known: Sequence[str] = {"group": meta.group_keys, "gene": genes, "value": tuple(VALUES)}.get(
        kind, ()
    )
    return (kind, name) if name in known else None


def genes_of(panel: Sequence[str]) -> list[str]:
    """Return the genes of the link that are on the panel, each once, at most `MAX_GENES`."""
    known = set(panel)
    asked = dict.fromkeys((linked("genes") or "").split(","))
    return [gene for gene in asked if gene in known][:MAX_GENES]
