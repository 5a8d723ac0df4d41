"""What the cells of the viewer are coloured by, as the viewer reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import picked, view_link
from pages.ui.session import owner, services
from spatialformer_core.service import view_colours

if TYPE_CHECKING:
    import numpy as np

    from spatialformer_core.service import SlideMeta

GROUP, GENE, PAIR, VALUE, RESULT, PLAIN = (
    "Cell type or group",
    "Gene",
    "Two genes",
    "Quality",
    "Result of a job",
    "Plain",
)
SELECTED = "Selected cells"
_KINDS = {"group": GROUP, "gene": GENE, "pair": PAIR, "value": VALUE, "result": RESULT}


def choose_colour(meta: SlideMeta) -> str:
    """Draw the colour choice; return it as the viewer reads it (``group:KEY``, ``gene:NAME`` ...).

    The other forms are ``pair:GENE,GENE``, ``value:NAME``, ``result:JOB/COLUMN`` and ``none``.
    """
    slide = services().slide(meta.slide_id)
    results = view_colours.result_choices(services().jobs(owner()), slide)
    kinds = [GROUP, GENE, PAIR, VALUE, RESULT, PLAIN]
    selected = st.session_state.get(f"_picked-{meta.slide_id}")
    kinds += [SELECTED] if selected else []
    kinds = [k for k in kinds if (k != GROUP or meta.group_keys) and (k != RESULT or results)]
    linked = view_link.colour(meta, slide.genes) or ("", "")
    left, right = st.columns([1, 1.15])
    first = _KINDS.get(linked[0], kinds[0])
    kind = left.selectbox(
        "Colour cells by",
        kinds,
        index=kinds.index(first) if first in kinds else 0,
        key=f"colour-kind-{meta.slide_id}",
        help="Two genes: which cells have one, the other, both, and in which the two sit together.",
    )
    with right:
        if kind == SELECTED and selected:
            return _selected(meta, selected)
        if kind == RESULT:
            return _result(meta, results, linked[1])
        choose: dict[str, Callable[[SlideMeta, str], str]]
        choose = {GROUP: _group, GENE: _gene, PAIR: _pair, VALUE: _value}
        of_link = linked[1] if _KINDS.get(linked[0]) == kind else ""
        return choose[kind](meta, of_link) if kind in choose else "none"


def _selected(meta: SlideMeta, selected: tuple[str, np.ndarray, str]) -> str:
    """Show what was selected on the page Embedding, in the colours that it has there."""
    colour, cells, by = selected
    # Kept anew: a restarted server has forgotten it.
    picked.keep(owner(), meta.slide_id, cells)
    st.text_input(
        "Selected", f"{cells.sum():,} cells, by {by}", disabled=True, help="On the page Embedding."
    )
    return colour


def _group(meta: SlideMeta, linked: str) -> str:
    keys = list(meta.group_keys)
    shown = linked or meta.default_group
    first = keys.index(shown) if shown in keys else 0
    key = st.selectbox("Grouping", keys, index=first, key=f"colour-group-{meta.slide_id}")
    return f"group:{key}"


def _gene(meta: SlideMeta, linked: str) -> str:
    genes = services().slide(meta.slide_id).genes
    gene = st.selectbox(
        "Gene",
        genes,
        index=genes.index(linked) if linked in genes else None,
        placeholder="Type a gene symbol",
        key=f"colour-gene-{meta.slide_id}",
        help="Counts per cell, 0 in grey. All genes of the slide's panel are listed.",
    )
    return f"gene:{gene}" if gene else "none"


def _pair(meta: SlideMeta, linked: str) -> str:
    genes = st.multiselect(
        "Two genes",
        services().slide(meta.slide_id).genes,
        default=linked.split(",") if linked else [],
        max_selections=2,
        placeholder="Type two gene symbols",
        key=f"colour-pair-{meta.slide_id}",
        help="Where the slide's co-occurrence is measured (page Gene pairs), cells in which the "
        "two genes sit together have a colour of their own.",
    )
    return f"pair:{','.join(genes)}" if len(genes) == 2 else "none"


def _value(meta: SlideMeta, linked: str) -> str:
    names = list(view_colours.VALUES)
    name = st.selectbox(
        "Figure",
        names,
        index=names.index(linked) if linked in names else 0,
        format_func=lambda n: view_colours.VALUES[n][0],
        key=f"colour-value-{meta.slide_id}",
        help="Of every cell. Drag the ends of the legend to change what the colours span.",
    )
    return f"value:{name}"


def _result(meta: SlideMeta, results: list[view_colours.ResultColour], linked: str) -> str:
    labels = {f"{found.job_id}/{found.column}": found.label for found in results}
    names = list(labels)
    name = st.selectbox(
        "Result",
        names,
        index=names.index(linked) if linked in names else 0,
        format_func=labels.__getitem__,
        key=f"colour-result-{meta.slide_id}",
        help="Finished jobs on this slide that say something of every cell.",
    )
    return f"result:{name}"
