"""A slide as a card: what it is, how much of it there is, where to go from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards
from pages.ui.text import compact, count, percent, plural

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_PER_ROW = 3


def slide_badges(meta: SlideMeta) -> None:
    """Draw technology, origin and what is missing as labels."""
    labels = [(meta.technology, "blue", "The instrument or format the slide was read from.")]
    if meta.simulated:
        labels.append(cards.simulated_badge())
    if meta.missing:
        gone = "\n".join(f"- {sentence}" for sentence in meta.missing)
        labels.append((plural(len(meta.missing), "caveat"), "gray", gone))
    cards.badges(labels)


def sample_line(meta: SlideMeta) -> str:
    """Return what the slide is, as one line."""
    s = meta.sample
    return (
        f"donor **{s.donor}** · block **{s.block}** · {s.condition} · {s.tissue} · "
        f"{s.species} · {s.assay}"
    )


def key_figures(meta: SlideMeta) -> list[tuple[str, str, str]]:
    """Return the key numbers of a slide with their explanations."""
    x0, y0, x1, y1 = meta.bounds_um
    return [
        (
            "cells",
            compact(meta.n_cells),
            f"{count(meta.n_cells)} segmented cells, with those that fail QC.",
        ),
        (
            "pass QC",
            percent(meta.n_cells_kept, meta.n_cells),
            f"{count(meta.n_cells_kept)} cells have ≥ {meta.qc.min_transcripts} transcripts and "
            f"≥ {meta.qc.min_genes} genes; only these are analysed by the model.",
        ),
        ("genes", count(meta.n_genes), "Genes on the panel, controls left out."),
        (
            "transcripts",
            compact(meta.n_transcripts),
            f"{count(meta.n_transcripts)} transcripts of genes kept; the tissue is "
            f"{(x1 - x0) / 1000:.1f} × {(y1 - y0) / 1000:.1f} mm.",
        ),
    ]


def _card(meta: SlideMeta, *, chosen: bool) -> bool:
    with st.container(border=True, height="stretch"):
        st.markdown(f"##### {meta.name}")
        slide_badges(meta)
        st.caption(sample_line(meta))
        cards.figures(key_figures(meta))
        with st.container(horizontal=True, vertical_alignment="center"):
            clicked = st.button(
                "Shown below" if chosen else "Show",
                key=f"qc-{meta.slide_id}",
                icon=":material/fact_check:",
                disabled=chosen,
            )
            st.page_link(
                "pages/tissue.py",
                label="Open tissue",
                icon=":material/arrow_forward:",
                query_params={"slide": meta.slide_id},
            )
    return clicked


def grid(slides: Sequence[SlideMeta], chosen: str | None) -> str | None:
    """Draw all slides; return the id of the one whose QC was asked for."""
    asked = None
    for first in range(0, len(slides), _PER_ROW):
        columns = st.columns(_PER_ROW)
        for column, meta in zip(columns, slides[first : first + _PER_ROW], strict=False):
            with column:
                if _card(meta, chosen=meta.slide_id == chosen):
                    asked = meta.slide_id
    return asked
