"""What a region is made of, beside the whole slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import cards, charts, downloads
from pages.ui.session import services
from pages.ui.text import compact, count, percent

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from spatialformer_core.service import SlideMeta


@dataclass(frozen=True, slots=True)
class Region:
    """What is shown: its name, its outline in um and its area (None: the whole slide)."""

    name: str
    polygon: BaseGeometry | None = None
    area_um2: float | None = None


_COLUMNS = {
    "group": st.column_config.TextColumn("cell type", width="medium"),
    "cells": st.column_config.NumberColumn("cells", format="localized", help="Cells inside."),
    "kept": st.column_config.NumberColumn(
        "pass QC", format="localized", help="Cells inside that the model can analyse."
    ),
    "share_roi": st.column_config.NumberColumn(
        "% here", format="%.1f", help="Percent of the region's cells."
    ),
    "share_slide": st.column_config.NumberColumn(
        "% slide", format="%.1f", help="Percent of the slide's cells."
    ),
    "enrichment": st.column_config.NumberColumn(
        "ratio", format="%.2f", help="Percent here over percent on the slide; above 1: enriched."
    ),
}


def beside_slide(region: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """Return a region's composition with the slide's share of each group beside it.

    Both tables have ``group, cells, share, kept``; shares are of all cells, 0-1.
    """
    slide = whole[["group", "share"]].rename(columns={"share": "share_slide"})
    table = region.rename(columns={"share": "share_roi"}).merge(slide, on="group", how="outer")
    table = table.fillna({"cells": 0, "kept": 0, "share_roi": 0.0, "share_slide": 0.0})
    table["enrichment"] = table["share_roi"] / table["share_slide"].where(table["share_slide"] > 0)
    table = table.astype({"cells": "int64", "kept": "int64"})
    return table[list(_COLUMNS)].sort_values("cells", ascending=False, ignore_index=True)


def _numbers(inside: pd.DataFrame, area_um2: float | None) -> None:
    cells, kept = int(inside["cells"].sum()), int(inside["kept"].sum())
    values = [
        ("cells", compact(cells), f"{count(cells)} cells whose centre lies inside."),
        ("pass QC", percent(kept, cells), f"{count(kept)} cells can be analysed by the model."),
    ]
    if area_um2:
        mm2 = area_um2 / 1e6
        values.append(("area (mm²)", f"{mm2:.3g}", "Area inside the outline."))
        values.append(("cells / mm²", compact(cells / mm2), "All cells, with those that fail QC."))
    cards.figures(values)


def view(meta: SlideMeta, region: Region, groupby: str) -> None:
    """Draw the composition of a region: numbers, chart, table, downloads."""
    name = region.name
    inside = services().composition(meta.slide_id, region.polygon, groupby)
    st.subheader(f"Composition · {name}", anchor=False)
    if not int(inside["cells"].sum()):
        cards.empty("No cell here", "Draw the region over the tissue.", "blur_off")
        return
    # On their own and first: who draws a region waits for them, and the chart takes its time.
    _numbers(inside, region.area_um2)
    beside = region.polygon is not None
    whole = services().composition(meta.slide_id, None, groupby) if beside else inside
    table = beside_slide(inside, whole)
    left, right = st.columns([1, 1], gap="large")
    with left:
        shown = table[(table["share_roi"] > 0) | (table["share_slide"] > 0.01)]
        figure = charts.composition(shown, name, beside=beside)
        charts.draw(figure, f"{meta.slide_id}-composition", "composition", f"Composition of {name}")
    with right:
        order = list(_COLUMNS) if beside else list(_COLUMNS)[:4]
        in_percent = table.assign(
            share_roi=100 * table["share_roi"], share_slide=100 * table["share_slide"]
        )
        st.dataframe(
            in_percent, hide_index=True, column_config=_COLUMNS, column_order=order, height=440
        )
        with st.container(horizontal=True, gap="small"):
            downloads.table_buttons(table, f"{meta.slide_id}-{name}-composition", "composition")
            downloads.file_button(
                "Its cells (CSV)",
                lambda: downloads.csv_bytes(services().cells(meta.slide_id, region.polygon)),
                f"{meta.slide_id}-{name}-cells.csv",
                "text/csv",
                "cell-ids",
            )
