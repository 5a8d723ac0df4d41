"""Spillover of a slide: start its measurement, see which genes are flagged in which type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards, choices, downloads, progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, owner, remember, services
from pages.ui.text import count, percent

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta, SpilloverView

KIND = "spillover"
_SHOWN = ("gene", "type", "source_type", "odds_ratio", "q", "edge_ratio", "flagged")


def _result(found: SpilloverView, stem: str) -> None:
    facts, table = found.facts, found.table
    cards.figures(
        [
            ("tested", count(facts["tested"]), "Pairs of a gene and a cell type."),
            (
                "spillover",
                count(facts["flagged"]),
                "The gene is found beside its source's cells, and at the edge: screens mark it.",
            ),
            (
                "spillover or contact",
                count(facts["depends_on_distance"] - facts["flagged"]),
                "The gene is found beside its source's cells, but not at the edge.",
            ),
            (
                "transcripts deep inside",
                percent(facts["transcripts_deep"], facts["transcripts"]),
                f"Counted in {facts['deep_in']}; spilled-over ones lie at the edge.",
            ),
        ]
    )
    rows = table[table["depends_on_distance"]].sort_values("odds_ratio", ascending=False)
    said = facts.get("columns", {})
    config = {name: st.column_config.Column(help=said.get(name)) for name in _SHOWN}
    st.dataframe(rows, hide_index=True, height=260, column_order=_SHOWN, column_config=config)
    downloads.table_buttons(table, stem, stem)


def _start(meta: SlideMeta, groupby: str, label: str) -> None:
    if st.button(label, icon=":material/play_arrow:", key=f"spillover-start-{meta.slide_id}"):
        with errors_shown():
            services().start_spillover(meta.slide_id, groupby, owner())
            remember("Spillover is being measured.")
            st.rerun()


def view(meta: SlideMeta) -> None:
    """Draw what is known of a slide's spillover, or how to measure it."""
    with st.expander("Spillover between neighbouring cells", icon=":material/water_drop:"):
        if not meta.group_keys or not meta.has_polygons or not meta.has_transcripts:
            st.info(
                "Spillover needs cell types, cell outlines and transcripts; this slide lacks one "
                "of them. Register it again from a source that has them.",
                icon=":material/info:",
            )
            return
        box = f"spillover-group-{meta.slide_id}"
        groupby = choices.one_grouping(st, "Cell types", meta, key=box, width=320)
        with errors_shown():
            found = services().spillover(meta.slide_id, groupby)
            if found:
                _result(found, f"{meta.slide_id}-spillover-{groupby}")
            else:
                st.caption(
                    "Some transcripts are counted for a neighbour's cell. This finds the genes and "
                    "types that suffer; screens then mark them. It takes about a minute for "
                    "50,000 cells and can be cancelled."
                )
            _start(meta, groupby, "Measure again" if found else "Measure spillover")


def jobs() -> None:
    """Draw the measurements that wait or run, and why the last one has no result."""
    progress.active_jobs(KIND, title)
    progress.last_failure(KIND, title)
