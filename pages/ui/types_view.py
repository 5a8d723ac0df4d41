"""Cell types of a slide: clusters, their marker genes, names for them, kept as a new grouping."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import attach_view, cards, downloads
from pages.ui.session import errors_shown, owner, remember, services
from pages.ui.text import count, plural
from spatialformer_core.service import cell_types, changes, type_suggestions

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_SHOWN_GENES = 6
_TABLE_MB = 5
_SCORE_HELP = (
    "Mean over the type's marker genes of how many standard deviations the group lies above the "
    f"mean of all groups; none is suggested below {type_suggestions.LEAST}. To look at, no test."
)


def _groupby(meta: SlideMeta) -> str | None:
    keys = list(meta.group_keys)
    if not keys:
        return None
    # In the key: clusters that were made meanwhile are shown at once.
    newest = cell_types.newest_groupby(services(), meta.slide_id, owner())
    first = next((k for k in (newest, meta.default_group) if k in keys), keys[0])
    return st.selectbox(
        "Name the groups of",
        keys,
        index=keys.index(first),
        key=f"types-of-{meta.slide_id}-{newest}",
        help="Clusters, or cell types that shall be merged or called otherwise.",
    )


def _start(request: cell_types.TypesRequest, message: str) -> None:
    cell_types.start_types(services(), request, owner())
    remember(message)
    st.rerun()


def _cluster(meta: SlideMeta) -> None:
    with st.popover("Cluster the cells", icon=":material/bubble_chart:"):
        st.caption(
            "Leiden clusters of the cells that pass QC, from their nearest neighbours in 30 "
            "principal components of log counts. They become a grouping of the slide. A minute or "
            "two for 50,000 cells, and can be cancelled."
        )
        resolution = st.slider(
            "Resolution",
            0.1,
            3.0,
            1.0,
            0.1,
            key=f"types-resolution-{meta.slide_id}",
            help="More gives more and smaller clusters; 1 is usual.",
        )
        if st.button("Start", key=f"types-cluster-{meta.slide_id}", type="primary"):
            with errors_shown():
                request = cell_types.TypesRequest(slide_id=meta.slide_id, resolution=resolution)
                _start(request, "The cells are being clustered.")


def _markers_button(meta: SlideMeta, groupby: str) -> None:
    if st.button(
        "Find marker genes",
        key=f"types-markers-{meta.slide_id}-{groupby}",
        icon=":material/genetics:",
        help="Ranks the genes of each group; a minute for 100,000 cells, and can be cancelled.",
    ):
        with errors_shown():
            request = cell_types.TypesRequest(slide_id=meta.slide_id, groupby=groupby)
            _start(request, "Marker genes are being ranked.")


def _suggestions(meta: SlideMeta, found: cell_types.TypesView) -> pd.DataFrame | None:
    file = st.file_uploader(
        "Marker table (CSV with the columns type and gene), for suggestions",
        type=["csv"],
        max_upload_size=_TABLE_MB,
        key=f"types-table-{meta.slide_id}",
    )
    table = None
    if file is None:
        return table
    with errors_shown():
        text = file.getvalue().decode("utf-8", "replace")
        table, unknown = type_suggestions.suggest_types(found, text)
        if unknown:
            st.caption(
                f"{plural(len(unknown), 'marker gene')} not on the panel, left out: "
                f"{', '.join(unknown[:12])}{' …' if len(unknown) > 12 else ''}."
            )
    return table


def names_table(
    groups: pd.DataFrame, found: cell_types.TypesView | None, suggested: pd.DataFrame | None
) -> pd.DataFrame:
    """Return one row per group: ``group cells markers suggestion score second name``.

    Parameters
    ----------
    groups
        ``group cells``, one row per group.
    found
        Their marker genes, if they were ranked.
    suggested
        What a marker table suggests, if one was given.
    """
    table = groups[["group", "cells"]].assign(group=groups["group"].astype(str))
    if found is not None:
        best = found.markers.groupby("group", sort=False)["gene"]
        genes = best.apply(lambda names: ", ".join(names.head(_SHOWN_GENES)))
        table["markers"] = table["group"].map(genes).fillna("")
    if suggested is not None:
        columns = ["group", "suggestion", "score", "second", "score_second", "genes"]
        table = table.merge(suggested[columns], on="group", how="left")
    table["name"] = table["group"]
    return table


def _editor(table: pd.DataFrame, key: str) -> pd.DataFrame:
    small, text = st.column_config.NumberColumn, st.column_config.TextColumn
    edited: pd.DataFrame = st.data_editor(
        table,
        hide_index=True,
        height=min(38 * (len(table) + 1), 540),
        disabled=[name for name in table if name != "name"],
        key=key,
        column_config={
            "group": text("group", pinned=True, width=150),
            "cells": small(
                format="localized", pinned=True, width=70, help="All cells of the group."
            ),
            "markers": text("marker genes", width=280, help="Best first."),
            "suggestion": text(width=110, help=_SCORE_HELP),
            "score": small(format="%.2f", width=55, help=_SCORE_HELP),
            "second": text("second best", width=110),
            "score_second": small("its score", format="%.2f", width=70),
            "genes": text("suggested by", width=140, help="Markers of the suggestion."),
            "name": text(
                "name (type here)",
                width=160,
                max_chars=64,
                help="Groups of one name become one type; an empty name: cells without a type.",
            ),
        },
    )
    return edited


def _save(meta: SlideMeta, groupby: str, edited: pd.DataFrame) -> None:
    names = {str(g): str(n or "").strip() for g, n in edited[["group", "name"]].to_numpy()}
    types = {name for name in names.values() if name}
    # In the key: once the name is taken, the next free one is proposed.
    free = changes.free_key("cell_type_named", meta.group_keys)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.text_input(
            "Save as grouping",
            free,
            key=f"types-key-{meta.slide_id}-{free}",
            width=260,
            help="A new name: what is there is never overwritten.",
        )
        first = st.checkbox("Show it first", value=True, key=f"types-first-{meta.slide_id}")
        if st.button("Save the names", type="primary", icon=":material/save:"):
            with errors_shown():
                change = changes.NamesChange(
                    slide_id=meta.slide_id,
                    groupby=groupby,
                    names=names,
                    key=key.strip() or free,
                    make_default=first,
                )
                attach_view.start(change, f"{key} is being saved.")
    nameless = sum(not name for name in names.values())
    more = f"; {plural(nameless, 'group')} without a name" if nameless else ""
    st.caption(f"{plural(len(names), 'group')} become {plural(len(types), 'type')}{more}.")


def _markers(found: cell_types.TypesView, stem: str) -> None:
    table = found.markers
    with st.expander("Marker genes", icon=":material/list:"):
        st.caption(found.facts["mark"])
        group = st.selectbox("Of group", list(table["group"].unique()), key=f"markers-of-{stem}")
        percent = {name: 100 * table[name] for name in ("share_in", "share_rest")}
        shown = table.assign(**percent)
        small = st.column_config.NumberColumn
        st.dataframe(
            shown[shown["group"] == group].drop(columns="group"),
            hide_index=True,
            height=300,
            column_config={
                "score": small(format="%.1f", help="Welch's t with a cautious variance."),
                "log2_fold_change": small(
                    "log2 fold change", format="%.2f", help="Group against all other cells."
                ),
                "share_in": small("in group (%)", format="%.0f", help="Cells with the gene."),
                "share_rest": small("elsewhere (%)", format="%.0f", help="Cells with the gene."),
                "mean": small(
                    "mean in group", format="%.2f", help="Mean of log(1 + counts per 100)."
                ),
            },
        )
        downloads.table_buttons(table, f"{stem}-markers", f"markers-{stem}")


def view(meta: SlideMeta) -> None:
    """Draw clustering, naming and marker genes of one slide."""
    attach_view.last_report(meta)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=320):
            groupby = _groupby(meta)
        if groupby is not None:
            _markers_button(meta, groupby)
        _cluster(meta)
    if groupby is None:
        cards.empty(
            "No groups to name",
            "Cluster the cells, or attach a table of cell types under *Files*.",
            "bubble_chart",
        )
        return
    with errors_shown():
        _naming(meta, groupby)


def _naming(meta: SlideMeta, groupby: str) -> None:
    found = cell_types.newest_types(services(), meta.slide_id, groupby, owner())
    groups = services().composition(meta.slide_id, None, groupby)
    groups = groups[groups["group"] != cell_types.NO_GROUP]
    suggested, use = None, False
    if found is None:
        st.caption(
            f"{count(len(groups))} groups. Their marker genes are not ranked yet; names can be "
            "given without them."
        )
    else:
        suggested = _suggestions(meta, found)
        use = suggested is not None and st.toggle(
            "Take the suggestions as names", key=f"types-use-{meta.slide_id}"
        )
    table = names_table(groups, found, suggested)
    if use:
        table["name"] = table["suggestion"].replace("", pd.NA).fillna(table["group"])
    # Edits belong to one table: another one begins without them.
    state = hashlib.sha256(table.to_csv().encode("utf-8")).hexdigest()[:12]
    stem = f"{meta.slide_id}-{groupby}"
    edited = _editor(table, f"types-editor-{stem}-{state}")
    downloads.table_buttons(edited, f"{stem}-names", f"names-{stem}")
    _save(meta, groupby, edited)
    if found is not None:
        _markers(found, stem)
