"""Two regions, or two sets of them, side by side: composition and genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.ui import charts, choices, downloads
from pages.ui.session import errors_shown, owner, services
from pages.ui.text import count, plural
from spatialformer_core.service import changes, region_contrast, roi_tools

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.service import Roi, SlideMeta

_ALL = "All cells"
_NAMED = 14
_COMPOSITION = {
    "group": st.column_config.TextColumn("cell type", width="medium"),
    "cells_a": st.column_config.NumberColumn("cells A", format="localized"),
    "cells_b": st.column_config.NumberColumn("cells B", format="localized"),
    "share_a": st.column_config.NumberColumn("% A", format="%.1f", help="Percent of A's cells."),
    "share_b": st.column_config.NumberColumn("% B", format="%.1f", help="Percent of B's cells."),
    "difference": st.column_config.NumberColumn(
        "A − B", format="%+.1f", help="Difference in percentage points."
    ),
    "ratio": st.column_config.NumberColumn("A / B", format="%.2f", help="Ratio of the shares."),
}
_GENES = {
    "gene": st.column_config.TextColumn("gene"),
    "per_10k_a": st.column_config.NumberColumn(
        "level A", format="%.1f", help="Counts per 10,000 counts of all cells of A together."
    ),
    "per_10k_b": st.column_config.NumberColumn(
        "level B", format="%.1f", help="Counts per 10,000 counts of all cells of B together."
    ),
    "log2_ratio": st.column_config.NumberColumn(
        "log2 A/B", format="%+.2f", help="Of the two levels, one count per 10,000 added to each."
    ),
    "detected_a": st.column_config.NumberColumn(
        "% cells A", format="%.0f", help="Percent of A's cells with at least one count."
    ),
    "detected_b": st.column_config.NumberColumn(
        "% cells B", format="%.0f", help="Percent of B's cells with at least one count."
    ),
    "p": st.column_config.NumberColumn("p", format="%.2g", help="Moderated t-test over regions."),
    "q": st.column_config.NumberColumn(
        "q", format="%.2g", help="False discovery rate over all genes compared."
    ),
}


def panel(meta: SlideMeta, rois: Sequence[Roi]) -> None:
    """Draw the comparison of two regions; nothing below two."""
    if len(rois) < 2 or not meta.group_keys:
        return
    # Counted only while it is looked at: a lasso runs all of this anew.
    box = st.expander(
        "Compare two regions or sets",
        icon=":material/compare:",
        key=f"compare-{meta.slide_id}",
        on_change="rerun",
    )
    if box.open:
        with box, errors_shown():
            _compare(meta, rois)


def _compare(meta: SlideMeta, rois: Sequence[Roi]) -> None:
    sides = {roi.name: [roi] for roi in rois}
    sides |= {f"Set: {name}": found for name, found in roi_tools.sets_of(rois).items()}
    names = list(sides)
    left, right, by, within = st.columns(4)
    one = left.selectbox("A", names, index=0, key=f"side-a-{meta.slide_id}")
    other = right.selectbox("B", names, index=1, key=f"side-b-{meta.slide_id}")
    groupby = choices.one_grouping(by, "Composition by", meta, key=f"by-{meta.slide_id}")
    slide = services().slide(meta.slide_id)
    only = within.selectbox(
        "Genes of",
        [_ALL, *slide.group(groupby).categories],
        key=f"within-{meta.slide_id}",
        help="All cells: genes differ also because the mix of types does. One type: they "
        "differ within it.",
    )
    within_type = None if only == _ALL else only
    found = region_contrast.compare_regions(slide, sides[one], sides[other], groupby, within_type)
    _show(meta, found, (one, other), only)
    _gene_pairs(meta, {one: sides[one], other: sides[other]})


def _gene_pairs(meta: SlideMeta, sides: dict[str, list[Roi]]) -> None:
    """Draw the way to the gene pairs of the two sides: a grouping that says which is which."""
    plain = {name.removeprefix("Set: "): [r.roi_id for r in found] for name, found in sides.items()}
    slide = services().slide(meta.slide_id)
    keys = (k for k in meta.group_keys if set(slide.group(k).categories) == set(plain))
    made = next(keys, None)
    if made is not None:
        st.caption(f"Their gene pairs: choose the grouping **{made}** on the page *Gene pairs*.")
        st.page_link("pages/gene_pairs.py", label="Gene pairs", icon=":material/join_inner:")
        return
    if st.button("Make a grouping of A and B", icon=":material/category:", key="regions-as-groups"):
        with errors_shown():
            key = changes.free_key("regions", meta.group_keys)
            change = changes.RegionsChange(slide_id=meta.slide_id, key=key, sides=plain)
            changes.start_change(services(), change, owner())
            st.success(f"The slide gets the grouping {key}; this takes a moment (page *Jobs*).")
    st.caption("With it, *Gene pairs*, *Neighbours* and *Perturbation* can take the two as groups.")


def _show(
    meta: SlideMeta, found: region_contrast.RegionContrast, names: tuple[str, str], only: str
) -> None:
    stem = f"{meta.slide_id}-{names[0]}-against-{names[1]}".replace(": ", "-")
    left, right = st.columns([1, 1.25], gap="large")
    with left:
        st.markdown(f"**Composition** · A {names[0]}, B {names[1]}")
        _table(found.composition, _COMPOSITION, ("share_a", "share_b", "difference"))
        downloads.table_buttons(found.composition, f"{stem}-composition", "compare-composition")
    with right:
        st.markdown(f"**Genes** · {only.lower() if only == _ALL else only}")
        _table(found.genes, _GENES, ("detected_a", "detected_b"))
        downloads.table_buttons(found.genes, f"{stem}-genes", "compare-genes")
    figure = _picture(found.genes, names)
    charts.draw(figure, f"{stem}-genes", "compare-chart", f"Genes of {names[0]} and {names[1]}")
    st.caption(_said(found))


def _picture(genes: pd.DataFrame, names: tuple[str, str]) -> go.Figure:
    """Return level against difference, the genes that differ most by name."""
    level = (genes["per_10k_a"] + genes["per_10k_b"]) / 2
    top = genes["log2_ratio"].abs().nlargest(_NAMED).index
    colours = np.where(genes["log2_ratio"] > 0, charts.UP, charts.DOWN)
    figure = go.Figure()
    figure.add_scatter(
        x=level,
        y=genes["log2_ratio"],
        mode="markers+text",
        marker={"color": colours, "size": 6, "opacity": 0.7},
        text=[gene if i in top else "" for i, gene in genes["gene"].items()],
        customdata=genes["gene"],
        textposition="top center",
        hovertemplate="<b>%{customdata}</b><br>level %{x:.3g} per 10,000<br>"
        "log2 ratio %{y:+.2f}<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": charts.NEUTRAL, "width": 1})
    figure.update_layout(height=340, margin={"l": 8, "r": 16, "t": 24, "b": 44})
    figure.update_xaxes(type="log", title="mean level of both sides (counts per 10,000)")
    figure.update_yaxes(title=f"log2 {names[0]} / {names[1]}", zeroline=False)
    return figure


def _table(table: pd.DataFrame, columns: Mapping[str, Any], in_percent: tuple[str, ...]) -> None:
    shown = table.assign(**{name: 100 * table[name] for name in in_percent})
    order = [name for name in columns if name in shown]
    st.dataframe(shown, hide_index=True, column_config=columns, column_order=order, height=330)


def _said(found: region_contrast.RegionContrast) -> str:
    cells = f"A {count(found.cells_a)}, B {count(found.cells_b)} cells that pass QC."
    out = (
        f" {plural(found.n_left_out, 'gene')} with fewer than {region_contrast.MIN_COUNTS} counts "
        "left out."
        if found.n_left_out
        else ""
    )
    if found.why_no_p:
        return f"{cells}{out} Effects only, no p-value: {found.why_no_p}"
    test = f"p over {found.units_a} and {found.units_b} regions, q over all genes compared."
    return f"{cells}{out} {test} The regions lie on one slide: they speak for this tissue."
