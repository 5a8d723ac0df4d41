"""The result of a prediction of neighbours: what it is worth, pictures by type, tables, arcs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, downloads, neighbour_arcs, neighbour_pictures
from pages.ui.neighbour_charts import NAMES
from pages.ui.session import errors_shown
from pages.ui.text import count, in_um

if TYPE_CHECKING:
    from spatialformer_core.service.colocalise import ColocalisationView

_ARCS = "Arcs on the tissue"
_SCOPES = {"slide": "Whole slide", "reach": "Within reach", "cells": "All cells of the file"}
_TABLES = {
    "pairs": "Observed and predicted over expected, for every ordered pair of types.",
    "types": "Recall and JSD by type of the query cell; type *all*: over all of them.",
    "differences": "The model minus each other answer, on the same cells.",
    "edges": "Single neighbours of up to 200 query cells: predicted, true, or both.",
}
_ROWS = 340


def answers(info: dict[str, Any], scope: str) -> pd.DataFrame:
    """Return recall, JSD and agreement of the model and of every trivial answer, one row each."""
    head, agreement = info["headline"][scope], info["agreement"][scope]
    rows = []
    for method in info["methods"]:
        row: dict[str, Any] = {"answer": NAMES.get(method, method)}
        for metric in ("recall", "jsd"):
            found = head[method][metric]
            row[metric] = found["value"]
            row[f"{metric}_interval"] = _interval(found["low"], found["high"])
        rows.append({**row, "agreement": agreement[method]})
    return pd.DataFrame(rows)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} – {high:.3f}"


def _headline(info: dict[str, Any], scope: str, key: str) -> None:
    frame, agreement = answers(info, scope), info["agreement"][scope]
    small = st.column_config.NumberColumn
    radius_um = info["settings"]["candidates"]["radius_um"]
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "answer": st.column_config.TextColumn("answer", pinned=True),
            "recall": small(
                "recall (share)",
                format="%.3f",
                help=f"Share of the true neighbours (within {radius_um:g} µm) among the predicted.",
            ),
            "recall_interval": "95 %",
            "jsd": small(
                "JSD (0–0.833)",
                format="%.3f",
                help="Jensen-Shannon distance of the types predicted around a cell and the true "
                "ones, mean over cells; lower is better.",
            ),
            "jsd_interval": "95 % ",
            "agreement": small(
                "agreement (Spearman)",
                format="%.2f",
                help="Of observed over expected by pair of types, predicted against the tissue: "
                f"{agreement['n_type_pairs']} pairs of types with at least "
                f"{agreement['min_expected']} expected neighbours. 1: the same order, 0: none.",
            ),
        },
    )
    downloads.table_buttons(frame, f"neighbours-{key}-answers", f"answers-{key}")


def _verdict(info: dict[str, Any]) -> None:
    cards.marks(info["marks"])
    st.info(_in_words(info["verdict"]), icon=":material/gavel:")
    for note in (info["exposure"], *info["notes"]):
        st.caption(note)


def _missing(info: dict[str, Any]) -> None:
    """Say what cells without coordinates cannot be told."""
    cards.figures(
        [
            ("query cells", count(info["n_queries"]), "Cells that were asked about."),
            (
                "candidates each",
                count(min(info["settings"]["candidates"]["n_sample"], info["n_candidates"] - 1)),
                "Cells of the same file that each was asked about, drawn at random.",
            ),
        ]
    )
    st.markdown(
        "**Missing without coordinates:** true neighbours, so no observed column, no recall, no "
        "JSD, no intervals, no prior of type pairs and no map. What is here: which types the "
        "model expects together, over what chance would give."
    )


def _in_words(text: str) -> str:
    """Return a sentence with the answers named as in the pictures."""
    for method in sorted(NAMES, key=len, reverse=True):
        text = text.replace(f"({method})", f"({NAMES[method]})").replace(
            f", {method}:", f", {NAMES[method]}:"
        )
    return in_um(text)


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
    scope = _scope(info, result.pairs, job_id)
    left, right = st.columns([1.45, 1], gap="large")
    with right:
        _verdict(info)
    if info["has_truth"]:
        with left:
            _headline(info, scope, job_id)
    else:
        with left:
            _missing(info)
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
