"""The result of a prediction of neighbours: what it is worth, pictures by type, tables, arcs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, downloads, neighbour_arcs, neighbour_pictures
from pages.ui.neighbour_charts import MODEL, NAMES, WEIGHTED
from pages.ui.session import errors_shown
from pages.ui.text import count, number

if TYPE_CHECKING:
    from spatialformer_core.service.colocalise import ColocalisationView

_MODELS = (MODEL, WEIGHTED)
_ARCS = "Arcs on the tissue"
_SCOPES = {"slide": "Whole slide", "reach": "Within reach", "cells": "All cells of the file"}
_TABLES = {
    "pairs": "Observed and predicted over expected, for every ordered pair of types.",
    "types": "Recall and JSD by type of the query cell; type *all*: over all of them.",
    "differences": "The model minus each other answer, on the same cells.",
    "edges": "Single neighbours of up to 200 query cells: predicted, true, or both.",
}
_ROWS = 340


def _trivial(info: dict[str, Any]) -> list[str]:
    return [method for method in info["methods"] if method not in _MODELS]


def _headline(info: dict[str, Any], scope: str) -> None:
    head, agreement = info["headline"][scope], info["agreement"][scope]

    def best(metric: str, method: str) -> tuple[str, str]:
        value = head[method][metric]
        span = f" (95 % {number(value['low'])}–{number(value['high'])})" if value["low"] else ""
        return number(value["value"]), span

    trivial = _trivial(info)
    recall_of = {m: head[m]["recall"]["value"] or 0.0 for m in trivial}
    jsd_of = {m: head[m]["jsd"]["value"] or 1.0 for m in trivial}
    seen, near = max(recall_of, key=recall_of.__getitem__), min(jsd_of, key=jsd_of.__getitem__)
    ranked = {m: agreement[m] or 0.0 for m in trivial}
    same = max(ranked, key=ranked.__getitem__)
    recall, jsd = best("recall", MODEL), min(best("jsd", m) for m in _MODELS)
    cards.figures(
        [
            ("query cells", count(info["n_queries"]), "Cells that were asked about."),
            (
                "recall",
                recall[0],
                f"Share of true neighbours among the predicted ones{recall[1]}. The best trivial "
                f"answer, {NAMES[seen]}: {number(recall_of[seen])}.",
            ),
            (
                "JSD",
                jsd[0],
                f"Distance of predicted and true types around a cell, 0–0.833{jsd[1]}; lower is "
                f"better. The best trivial answer, {NAMES[near]}: {number(jsd_of[near])}.",
            ),
            (
                "agreement",
                number(max(agreement[m] or 0.0 for m in _MODELS)),
                "Spearman correlation of observed over expected, predicted against the tissue, "
                f"over {agreement['n_type_pairs']} pairs of types with at least "
                f"{agreement['min_expected']} expected neighbours. The best trivial answer, "
                f"{NAMES[same]}: {number(ranked[same])}.",
            ),
        ]
    )


def _verdict(info: dict[str, Any]) -> None:
    cards.marks(info["marks"])
    st.info(info["verdict"], icon=":material/gavel:")
    for note in (info["exposure"], *info["notes"]):
        st.caption(note)


def _scope(info: dict[str, Any], pairs: pd.DataFrame, key: str) -> str:
    known = [scope for scope in _SCOPES if scope in set(pairs["candidates"])]
    if len(known) == 1:
        return known[0]
    reach = info["settings"]["candidates"]["reach_um"]
    chosen: str | None = st.segmented_control(
        "Candidates",
        known,
        format_func=lambda s: f"{_SCOPES[s]} ({reach:g} µm)" if s == "reach" else _SCOPES[s],
        default=known[0],
        required=True,
        key=f"neighbours-scope-{key}",
        help=f"Whole slide: all cells within {reach:g} µm and a sample beyond, each of which "
        "stands for many: do these types lie together at all? Within reach: can the model tell "
        "the next cells from those a little farther off?",
    )
    return chosen or known[0]


def _tables(view: ColocalisationView, job_id: str) -> None:
    st.markdown("**Tables**")
    frames = {name: getattr(view, name) for name in _TABLES}
    shown = [name for name, frame in frames.items() if len(frame)]
    for tab, name in zip(st.tabs([f"{n} ({len(frames[n]):,})" for n in shown]), shown, strict=True):
        with tab:
            st.caption(_TABLES[name])
            st.dataframe(frames[name], hide_index=True, height=_ROWS)
            downloads.table_buttons(
                frames[name], f"neighbours-{job_id}-{name}", f"neighbours-{job_id}-{name}"
            )
    text = json.dumps(view.info, indent=1, ensure_ascii=False).encode("utf-8")
    name = f"neighbours-{job_id}.json"
    downloads.file_button("Facts (JSON)", text, name, "application/json", f"facts-{job_id}")
    st.caption(
        "Tables hold every type, method and set of candidates, whatever is shown above. The camera "
        "in a picture's menu saves it as SVG."
    )


def view(result: ColocalisationView, job_id: str) -> None:
    """Draw one result; the downloads hold all rows and columns, whatever is shown."""
    info = result.info
    _verdict(info)
    scope = _scope(info, result.pairs, job_id)
    if info["has_truth"]:
        _headline(info, scope)
    names = [*neighbour_pictures.known(info), *([_ARCS] if info["has_truth"] else [])]
    kind = st.segmented_control(
        "Picture", names, default=names[0], required=True, key=f"neighbours-picture-{job_id}"
    )
    with errors_shown():
        if kind == _ARCS:
            neighbour_arcs.view(result, job_id)
        else:
            neighbour_pictures.view(result, scope, str(kind), job_id)
    _tables(result, job_id)
