"""What quality control kept, per cell type, with what was dropped and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import cards, charts, choices, downloads
from pages.ui.session import services
from pages.ui.text import compact, number, percent

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta


def retention_table(meta: SlideMeta, groupby: str | None = None) -> pd.DataFrame:
    """Return one row per cell type: ``group, cells, kept, kept_percent``, largest first.

    Parameters
    ----------
    groupby
        A grouping of the slide; None takes what ingest recorded for the one shown first.
    """
    if groupby in (None, meta.default_group):
        rows = [(group, cells, kept) for group, (cells, kept) in meta.retention_per_type.items()]
        table = pd.DataFrame(rows, columns=["group", "cells", "kept"])
    else:
        table = services().composition(meta.slide_id, None, groupby)[["group", "cells", "kept"]]
    # Without groups the columns would have no type, and nothing could be computed of them.
    table = table.astype({"cells": "int64", "kept": "int64"})
    table["kept_percent"] = (100 * table["kept"] / table["cells"].clip(lower=1)).round(1)
    return table.sort_values("cells", ascending=False, ignore_index=True)


def _grouping(meta: SlideMeta) -> str | None:
    """Return the grouping whose retention is shown; asked only where there are several."""
    if len(meta.group_keys) < 2:
        return None
    box = f"retention-by-{meta.slide_id}"
    return choices.one_grouping(st, "Retention per group of", meta, key=box, width=320)


def _thresholds(meta: SlideMeta) -> None:
    qc = meta.qc
    cards.figures(
        [
            ("transcript QV", f"≥ {qc.min_qv:g}", "Phred quality; unused where there is no QV."),
            ("transcripts / cell", f"≥ {qc.min_transcripts}", "Fewer: the cell is not analysed."),
            ("genes / cell", f"≥ {qc.min_genes}", "Fewer different genes: not analysed."),
        ]
    )


def _dropped(meta: SlideMeta) -> None:
    rows = [(key.replace("_", " "), value) for key, value in meta.dropped.items() if value]
    if rows:
        st.markdown("**Left out**", help="What was in the source and is not analysed.")
        table = pd.DataFrame(rows, columns=["what", "number"])
        number = st.column_config.NumberColumn(format="localized")
        st.dataframe(table, hide_index=True, height="content", column_config={"number": number})


def _notes(meta: SlideMeta) -> None:
    if meta.missing:
        sentences = "\n".join(f"- {sentence}" for sentence in meta.missing)
        st.info(f"**Not in the source; all else works.**\n{sentences}", icon=":material/info:")
    if meta.mismatch and meta.mismatch.get("cells_equal") != 1.0:
        rows = "\n".join(
            _disagreement(key, meta.mismatch[key]) for key in _MISMATCH if key in meta.mismatch
        )
        st.warning(
            "**Matrix and transcript table differ.** The matrix is the truth for expression and "
            f"QC, the table for positions.\n{rows}",
            icon=":material/compare_arrows:",
        )


_MISMATCH = {
    "matrix_counts": "counts in the matrix",
    "assigned_transcripts": "transcripts assigned to cells",
    "cells_equal": "cells with equal totals",
    "median_ratio": "transcripts per matrix count, median of cells",
    "correlation": "correlation of the totals over cells",
}


def _disagreement(key: str, value: float) -> str:
    """Return one figure of the mismatch as a line of a list."""
    share = key == "cells_equal"
    text = percent(value, 1) if share else compact(value) if value >= 1000 else number(value)
    return f"- {_MISMATCH[key]}: {text}"


def view(meta: SlideMeta) -> None:
    """Draw the QC of one slide."""
    table = retention_table(meta, _grouping(meta))
    left, right = st.columns([3, 2], gap="large")
    with left:
        if len(table):
            figure = charts.retention(table)
            name = f"{meta.slide_id}-retention"
            charts.draw(figure, name, "retention", "Cells kept and failed per cell type")
        else:
            cards.empty(
                "No cell types on this slide",
                "Attach a table of cell types, or cluster the cells, under the parts above; the "
                "retention per type appears here.",
                "label_off",
            )
        _notes(meta)
    with right:
        _thresholds(meta)
        if len(table):
            st.dataframe(
                table,
                hide_index=True,
                height=300,
                column_config={
                    "group": "cell type",
                    "cells": st.column_config.NumberColumn("all cells", format="localized"),
                    "kept": st.column_config.NumberColumn("pass QC", format="localized"),
                    "kept_percent": st.column_config.ProgressColumn(
                        "kept", format="%.0f %%", min_value=0, max_value=100
                    ),
                },
            )
            downloads.table_buttons(table, f"{meta.slide_id}-retention", "retention")
        _dropped(meta)
