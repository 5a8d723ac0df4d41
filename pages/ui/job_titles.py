"""What a job is called, and where its result is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui.session import services
from pages.ui.text import plural

if TYPE_CHECKING:
    from spatialformer_core.service import Job

KINDS = {
    "ingest": "slide",
    "screen": "perturbation screen",
    "gene-pairs": "gene pairs",
    "spillover": "spillover",
    "change": "change of a slide",
    "types": "cell types",
    "convert": "model",
    "colocalise": "neighbours",
    "embed": "embedding",
    "embedding-groups": "grouping",
    "evaluate": "evaluation",
}


_NAMED = 3


def _slides(params: dict[str, Any]) -> str:
    slides = [str(slide) for slide in params.get("slide_ids") or ()]
    more = f" and {len(slides) - _NAMED} more" if len(slides) > _NAMED else ""
    return ", ".join(slides[:_NAMED]) + more


def _screen(params: dict[str, Any]) -> str:
    regions = len(params.get("roi_ids") or ())
    where = plural(regions, "region") if regions else "whole slide"
    if params.get("versus_roi_ids"):
        where += f" against {plural(len(params['versus_roi_ids']), 'region')}"
    elif params.get("versus_geojson"):
        where = "one side against the other"
    types = f"{params.get('group_left')} – {params.get('group_right')}"
    return f"{types} · {_slides(params)} · {where}"


def _gene_pairs(params: dict[str, Any]) -> str:
    groups = (params.get("settings") or {}).get("groups")
    within = params.get("within")
    what = (
        f"{groups[0]} against {groups[1]}" if groups else f"Gene pairs by {params.get('groupby')}"
    )
    return f"{what} · {_slides(params)}" + (f" · within {within[1]}" if within else "")


def _spillover(params: dict[str, Any]) -> str:
    return f"Spillover by {params.get('groupby')} · {params.get('slide_id')}"


def _cells(params: dict[str, Any]) -> str:
    return str(params.get("slide_id") or "cells of a file")


def _colocalise(params: dict[str, Any]) -> str:
    types = params.get("query_types") or ()
    asked = f" of {', '.join(types[:2])}{' …' if len(types) > 2 else ''}" if types else ""
    regions = len(params.get("roi_ids") or ())
    where = f" · {plural(regions, 'region')}" if regions else ""
    near = f" · {params.get('radius_um', 30):g} µm" if params.get("slide_id") else ""
    return f"Neighbours{asked} · {_cells(params)}{where} · {params.get('checkpoint_id')}{near}"


def _embed(params: dict[str, Any]) -> str:
    masked = " · meta masked" if params.get("meta") == "masked" else ""
    return f"Embedding · {_cells(params)} · {params.get('checkpoint_id')}{masked}"


def _embedding_groups(params: dict[str, Any]) -> str:
    return f"Keeping embedding {params.get('column')}s as {params.get('key')} · {_cells(params)}"


_CHANGES = {
    "labels": "Attaching labels",
    "image": "Attaching an H&E image",
    "names": "Naming cell types",
    "sample": "Describing the sample",
    "drop": "Removing a part",
    "default": "Choosing the first grouping",
    "regions": "Regions as a grouping",
}


def _change(params: dict[str, Any]) -> str:
    what = _CHANGES.get(str(params.get("action")), "Changing")
    return f"{what} · {params.get('slide_id')}"


def _types(params: dict[str, Any]) -> str:
    groupby = params.get("groupby")
    what = f"Marker genes of {groupby}" if groupby else "Clusters and their marker genes"
    return f"{what} · {params.get('slide_id')}"


def _convert(params: dict[str, Any]) -> str:
    return f"Converting into {params.get('name')}"


def _ingest(params: dict[str, Any]) -> str:
    return f"Reading {params.get('name', 'slide')}"


_TITLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "ingest": _ingest,
    "screen": _screen,
    "gene-pairs": _gene_pairs,
    "spillover": _spillover,
    "change": _change,
    "types": _types,
    "convert": _convert,
    "colocalise": _colocalise,
    "embed": _embed,
    "embedding-groups": _embedding_groups,
}


def title(job: Job) -> str:
    """Return what a job does, as a line."""
    name = _TITLES.get(job.kind)
    return name(job.params) if name else f"{KINDS.get(job.kind, job.kind)} {job.id}"


_RESULTS = {
    "screen": ("screen", "pages/perturbation.py", "Open the screen"),
    "gene-pairs": ("pairs", "pages/gene_pairs.py", "Open the gene pairs"),
    "colocalise": ("neighbours", "pages/neighbours.py", "Open the neighbours"),
    "embed": ("embedding", "pages/embedding.py", "Open the embedding"),
}
"""By kind: what the link calls the job, the page, the words."""

_OF_SLIDE = {
    "spillover": "Open the slide's quality control",
    "change": "Open the slide",
    "types": "Open the slide",
    "embedding-groups": "Open the slide",
}


def result_link(job: Job) -> None:
    """Draw the link to the page that shows a job's result, if one does."""
    slide_id = job.params.get("slide_id")
    query: dict[str, str]
    if job.kind == "embed" and not (slide_id and job.params.get("n_umap")):
        return  # a table without a map
    if job.kind in _RESULTS:
        name, page, label = _RESULTS[job.kind]
        query = {name: job.id} | ({"slide": str(slide_id)} if job.kind == "embed" else {})
    elif job.kind in _OF_SLIDE:
        query, page, label = {"slide": str(slide_id)}, "pages/slides.py", _OF_SLIDE[job.kind]
    elif job.kind == "convert":
        query = {"model": str(job.params.get("name"))}
        page, label = "pages/models.py", "Open the model"
    elif job.kind == "ingest":
        named = [m.slide_id for m in services().slides() if m.name == job.params.get("name")]
        if not named:
            st.caption("Its slide was removed since.")
            return
        query, page, label = {"slide": named[0]}, "pages/tissue.py", "Open the tissue"
    else:
        return
    st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=query)
