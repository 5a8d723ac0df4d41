"""The result of an embedding: numbers, the two pictures, what was selected, niches, downloads."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from pages.ui import (
    cards,
    charts,
    choices,
    composition,
    downloads,
    embedding_maps,
    neighbour_charts,
)
from pages.ui.embedding_maps import Selection
from pages.ui.session import errors_shown, owner, remember, services, show_remembered
from pages.ui.text import compact, count, percent
from spatialformer_core.service import embedding_view, tissue
from spatialformer_core.service.embed_files import file_of, save_labels
from spatialformer_core.service.embedding_view import EmbeddingMapView

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_GENES_SHOWN = 15
_MIN_CELLS = 3


def _facts(found: EmbeddingMapView) -> None:
    info = found.info
    cards.marks(info["marks"])
    known, request = info["input"], info["request"]
    figures = [
        ("cells", compact(info["n_rows"]), "Cells that were embedded."),
        ("on the map", compact(len(found.rows)), "Cells with a place on the map (UMAP)."),
        ("dimensions", count(info["n_dims"]), "Numbers that the model gives each cell (CLS)."),
        (
            "genes known",
            percent(known["genes_known"], known["genes"]),
            f"{count(known['genes_known'])} of the slide's {count(known['genes'])} genes are read.",
        ),
    ]
    for name, explanation in (
        ("cluster", "Leiden clusters of the map's graph; the largest is 1."),
        ("niche", "Groups of cells around which the model expects like types."),
    ):
        if name in found.table:
            n_groups = len(found.table[name].cat.categories)
            figures.append((f"{name}s", count(n_groups), explanation))
    cards.figures(figures)
    if request["meta"] == "masked":
        st.caption("Condition, tissue, species and assay were hidden from the model.")


@st.fragment
def _pictures(meta: SlideMeta, found: EmbeddingMapView) -> None:
    """Draw pictures and selection; a lasso reruns only this part of the page."""
    show_remembered()
    with errors_shown():
        colour, grouping = embedding_maps.choose_colour(meta, found)
        selection = embedding_maps.choose_selection(meta, found, grouping)
        shown = embedding_maps.shaded(colour, meta, selection)
        region = st.session_state.get(f"embedding-region-{meta.slide_id}")
        embedding_maps.draw(meta, found, shown, region)
        _selected(meta, found, selection, shown)


def _selected(
    meta: SlideMeta, found: EmbeddingMapView, selection: Selection | None, shown: str
) -> None:
    if selection is None:
        st.caption(
            "Nothing is selected. Draw with the lasso (L) in either picture, or choose groups or a "
            "region above: the same cells light up in both, and below stands what they are."
        )
        return
    slide = services().slide(meta.slide_id)
    n_cells = int(selection.cells.sum())
    n_map = int(selection.cells[found.rows].sum())
    kept = int((selection.cells & np.asarray(slide.passes_qc)).sum())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        cards.figures(
            [
                ("selected cells", count(n_cells), f"By {selection.by}."),
                ("of the slide", percent(n_cells, meta.n_cells), "Share of all its cells."),
                ("pass QC", percent(kept, n_cells), f"{count(kept)} can be analysed by the model."),
                ("on the map", count(n_map), "Those of them that have a place on the map."),
            ]
        )
        if st.button("Open on Tissue", icon=":material/blur_on:", key="embedding-tissue-open"):
            st.session_state[f"_picked-{meta.slide_id}"] = (shown, selection.cells, selection.by)
            st.session_state[f"colour-kind-{meta.slide_id}"] = "Selected cells"
            st.session_state["_slide"] = meta.slide_id
            st.switch_page("pages/tissue.py", query_params={"slide": meta.slide_id})
    if not n_cells:
        cards.empty("No cell here", "Draw around some points, or choose other groups.", "blur_off")
        return
    left, right = st.columns(2, gap="large")
    with left:
        _composition(meta, selection)
    with right:
        _genes(meta, selection, kept)


def _composition(meta: SlideMeta, selection: Selection) -> None:
    st.markdown("**Composition**")
    slide, stem = services().slide(meta.slide_id), f"{meta.slide_id}-selection"
    if meta.group_keys:
        box = f"embedding-composition-{meta.slide_id}"
        groupby = choices.one_grouping(st, "By", meta, key=box)
        every = np.ones(meta.n_cells, np.bool_)
        table = composition.beside_slide(
            tissue.composition(slide, selection.cells, groupby),
            tissue.composition(slide, every, groupby),
        )
        shown = table[(table["share_roi"] > 0) | (table["share_slide"] > 0.01)]
        figure = charts.composition(shown, "selected", beside=True)
        charts.draw(figure, f"{stem}-composition", "embedding-composition", "Composition")
        downloads.table_buttons(table, f"{stem}-composition", "embedding-composition-table")
    downloads.file_button(
        "Cell ids (CSV)",
        lambda: downloads.csv_bytes(tissue.cells(slide, selection.cells)),
        f"{stem}-cells.csv",
        "text/csv",
        "embedding-cell-ids",
    )


def _genes(meta: SlideMeta, selection: Selection, kept: int) -> None:
    st.markdown("**Genes that they have more of**")
    if not _MIN_CELLS <= kept < meta.n_cells_kept:
        st.caption("Select some, and not all, of the cells that pass QC to compare their genes.")
        return
    table = embedding_view.selection_genes(services().slide(meta.slide_id), selection.cells)
    small = st.column_config.NumberColumn
    percents = {name: 100 * table[name] for name in ("detected", "detected_rest")}
    st.dataframe(
        table.assign(**percents).head(_GENES_SHOWN),
        hide_index=True,
        height="content",
        column_config={
            "gene": st.column_config.TextColumn("gene", pinned=True),
            "per_10k": small("per 10k", format="%.1f", help="Counts per 10,000 counts of theirs."),
            "per_10k_rest": small("others", format="%.1f", help="The same in all other cells."),
            "log2_ratio": small("log2 ratio", format="%.2f", help="1: twice as much."),
            "detected": small("% cells", format="%.0f", help="Selected cells that have any."),
            "detected_rest": small("% others", format="%.0f", help="Other cells that have any."),
        },
    )
    downloads.table_buttons(table, f"{meta.slide_id}-selection-genes", "embedding-genes")
    st.caption(
        f"The {_GENES_SHOWN} furthest up; the files hold all. Cells were picked by looking at "
        "them, so this puts genes in order and tests nothing."
    )


def _niches(found: EmbeddingMapView) -> None:
    if found.niches is None:
        return
    with st.expander("What the niches of expected neighbours are", icon=":material/hive:"):
        st.caption(
            "Share of each type among the neighbours that the model expects around a cell of the "
            "niche, from expression alone, and how many times the average that is. Where cells "
            "truly lie plays no part."
        )
        wide = found.niches.pivot(index="niche", columns="type", values="times_average")
        order = list(dict.fromkeys(found.niches["niche"]))
        figure = neighbour_charts.ratio_map(wide.reindex(order), "× average")
        charts.draw(figure, f"niches-{found.job_id}", "embedding-niches", "Expected neighbours")
        downloads.table_buttons(found.niches, f"niches-{found.job_id}", "embedding-niche-table")


def _save(found: EmbeddingMapView) -> None:
    with st.form(f"embedding-save-{found.job_id}", border=True):
        st.markdown("**Keep as a grouping of the slide**")
        one, two, button = st.columns([1, 1.4, 0.9], vertical_alignment="bottom")
        what = one.selectbox("What", found.labels, key=f"embedding-save-what-{found.job_id}")
        key = two.text_input(
            "Name of the grouping",
            value=f"embedding_{what}",
            max_chars=60,
            help="Letters, digits, point, dash and underscore. It can then be used on every page.",
        )
        if button.form_submit_button("Save", icon=":material/save:", width="stretch"):
            with errors_shown():
                save_labels(services(), found.job_id, str(what), key, owner())
                remember("The grouping is being written; see the page Jobs.")
                st.rerun()


def _files(meta: SlideMeta, found: EmbeddingMapView) -> None:
    st.markdown("**Files**")
    stem = f"{meta.slide_id}-embedding-{found.job_id}"
    kinds = (
        ("h5ad", "application/x-hdf5"),
        ("Parquet", "application/vnd.apache.parquet"),
        ("CSV", "text/csv"),
    )
    with st.container(horizontal=True, gap="small"):
        for label, mime in kinds:
            content = partial(file_of, services(), found.job_id, label.lower(), owner())
            name = f"{stem}.{label.lower()}"
            downloads.file_button(label, content, name, mime, f"embedding-file-{label}")
        for name in found.labels:
            table = found.table[["cell_id", name]].rename(columns={name: "group"}).dropna()
            downloads.file_button(
                f"{name.capitalize()}s (cell_id,group)",
                partial(downloads.csv_bytes, table),
                f"{stem}-{name}.csv",
                "text/csv",
                f"embedding-labels-{name}",
            )
        text = json.dumps(found.info, indent=1, ensure_ascii=False).encode("utf-8")
        downloads.file_button("Facts", text, f"{stem}.json", "application/json", "embedding-facts")
    st.caption(
        "h5ad, Parquet and CSV hold every cell with its vector, map, cluster, niche and groups. "
        "S or V in a picture saves it as PNG or SVG."
    )


def view(meta: SlideMeta, found: EmbeddingMapView) -> None:
    """Draw one result."""
    _facts(found)
    _pictures(meta, found)
    st.divider()
    _niches(found)
    with errors_shown():
        _save(found)
    _files(meta, found)
