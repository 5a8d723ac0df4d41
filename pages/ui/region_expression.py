"""Genes of a region: mean counts and share of cells per type, beside the whole slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import downloads
from pages.ui.session import services

if TYPE_CHECKING:
    from pages.ui.composition import Region
    from spatialformer_core.service import SlideMeta

MOST_GENES = 12
_COLUMNS = {
    "gene": st.column_config.TextColumn("gene"),
    "group": st.column_config.TextColumn("cell type", width="medium"),
    "cells": st.column_config.NumberColumn("cells", format="localized", help="Cells inside."),
    "mean_count": st.column_config.NumberColumn(
        "mean here", format="%.2f", help="Transcripts per cell, cells that fail QC included."
    ),
    "mean_slide": st.column_config.NumberColumn(
        "mean slide", format="%.2f", help="Transcripts per cell of the type on the whole slide."
    ),
    "share_expressing": st.column_config.NumberColumn(
        "% cells here", format="%.0f", help="Percent of cells with at least one transcript."
    ),
    "share_slide": st.column_config.NumberColumn(
        "% cells slide", format="%.0f", help="The same on the whole slide."
    ),
}


def panel(meta: SlideMeta, region: Region, groupby: str) -> None:
    """Draw the expression of chosen genes in a region."""
    with st.expander(f"Genes in {region.name}", icon=":material/genetics:"):
        genes = st.multiselect(
            "Genes",
            services().slide(meta.slide_id).genes,
            max_selections=MOST_GENES,
            placeholder="Type gene symbols",
            key=f"region-genes-{meta.slide_id}",
        )
        if not genes:
            st.caption("Choose genes to see how much of them each cell type has here.")
            return
        table = pd.concat([_of_gene(meta, region, gene, groupby) for gene in genes])
        shown = table.assign(
            share_expressing=100 * table["share_expressing"],
            share_slide=100 * table["share_slide"],
        )
        order = [n for n in _COLUMNS if region.area_um2 is not None or "slide" not in n]
        st.dataframe(shown, hide_index=True, column_config=_COLUMNS, column_order=order, height=330)
        stem = f"{meta.slide_id}-{region.name}-expression"
        downloads.table_buttons(table, stem, "region-expression")


def _of_gene(meta: SlideMeta, region: Region, gene: str, groupby: str) -> pd.DataFrame:
    here = services().expression(meta.slide_id, region.polygon, gene, groupby)
    whole = services().expression(meta.slide_id, None, gene, groupby)
    names = {"mean_count": "mean_slide", "share_expressing": "share_slide"}
    beside = whole.drop(columns="cells").rename(columns=names)
    return here.merge(beside, on="group").assign(gene=gene)[list(_COLUMNS)]
