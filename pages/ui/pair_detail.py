"""One pair of a comparison: its share in every replicate unit, and where its cells lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.ui import charts, downloads
from pages.ui.charts import DOWN, UP
from pages.ui.session import owner, services
from pages.ui.text import count, percent, plural

if TYPE_CHECKING:
    from spatialformer_core.service.pair_cells import PairDetail
    from spatialformer_core.service.picture import CellPicture

_MOST_CELLS, _MOST_SLIDES = 4_000, 6
_HEIGHT_PX = 380


@st.cache_data(show_spinner=False, max_entries=16)
def _detail(
    job_id: str, comparison: tuple[str, str], pair: str, whose: str, versions: tuple[str, ...]
) -> PairDetail:
    del versions  # part of the key only: the slides may change
    return services().gene_pairs.pair(job_id, comparison, pair, whose)


@st.cache_data(show_spinner=False, max_entries=48)
def _picture(
    slide_id: str, version: str, key: tuple[object, ...], column: str, _cells: pd.DataFrame
) -> CellPicture:
    del version, key  # the rest of the key
    return services().gene_pairs.pair_picture(slide_id, _cells, column)


def violin(values: dict[str, pd.Series], names: dict[str, pd.Series], axis: str) -> go.Figure:
    """Return one violin per group with its points beside it.

    Parameters
    ----------
    values
        Per group, the values.
    names
        Per group, what the points are called.
    axis
        Name of the axis with its unit.
    """
    figure = go.Figure()
    for (group, found), colour in zip(values.items(), (UP, DOWN), strict=False):
        figure.add_violin(
            y=found,
            name=group,
            x=[group] * len(found),
            text=names[group],
            points="all",
            jitter=0.35,
            pointpos=0,
            meanline={"visible": True},
            line={"color": colour, "width": 1.3},
            marker={"color": colour, "size": 5, "opacity": 0.65},
            spanmode="hard",
            showlegend=False,
            hovertemplate="<b>%{text}</b><br>%{y:.3g}<extra></extra>",
        )
    figure.update_layout(
        height=_HEIGHT_PX,
        margin={"l": 8, "r": 16, "t": 20, "b": 44},
        xaxis={"type": "category", "automargin": True},
        yaxis={"title": {"text": axis}, "rangemode": "tozero"},
        violingap=0.25,
    )
    return figure


def _by_unit(found: PairDetail, stem: str) -> None:
    left, right = found.genes
    kinds = {
        "share": ("Cells with the pair, per unit", f"cells with {left} – {right} (%)"),
        "mean_left": (f"{left}, per unit", f"mean copies of {left} per cell"),
        "mean_right": (f"{right}, per unit", f"mean copies of {right} per cell"),
        "copies_left": (f"{left}, per cell", f"copies of {left} per cell"),
        "copies_right": (f"{right}, per cell", f"copies of {right} per cell"),
    }
    chosen = st.selectbox(
        "Violin of",
        list(kinds),
        format_func=lambda k: kinds[k][0],
        key=f"pair-violin-{stem}",
        help="Units are the replicates that the test counts; cells are not independent.",
    )
    is_cell = chosen.startswith("copies")
    table = found.cells if is_cell else found.units
    scale = 100 if chosen == "share" else 1
    values, names, drawn = {}, {}, 0
    for group, rows in table.groupby("group", sort=False):
        shown = rows.sample(min(len(rows), _MOST_CELLS), random_state=0) if is_cell else rows
        values[str(group)] = scale * shown[chosen]
        names[str(group)] = shown["cell_id" if is_cell else "unit"].astype(str)
        drawn += len(shown)
    alt = f"{kinds[chosen][1]} by group"
    name = f"gene-pairs-violin-{stem}"
    charts.draw(violin(values, names, kinds[chosen][1]), name, f"violin-{stem}", alt)
    note = f"Units: {found.unit_is}."
    if is_cell:
        note = f"{count(drawn)} of {plural(len(table), 'cell')} drawn, by chance (seed 0)."
    st.caption(note)
    downloads.table_buttons(table, name, f"violin-{stem}")


def _slides(cells: pd.DataFrame, stem: str) -> list[str]:
    """Draw the choice of slides, one of each group at first; return those that are shown."""
    groups = cells.groupby("slide_id", sort=False)["group"].agg(lambda g: " and ".join(g.unique()))
    if len(groups) == 1:
        return list(groups.index)
    names = {name: services().slide(name).meta.name for name in groups.index}
    first = list(cells.drop_duplicates("group")["slide_id"].unique())
    chosen = st.multiselect(
        "Slides on the map",
        list(names),
        default=first,
        format_func=lambda name: f"{names[name]} ({groups[name]})",
        max_selections=_MOST_SLIDES,
        key=f"pair-slides-{stem}",
        help="Drawn below each other, on one scale of colours.",
    )
    return chosen or first


def _maps(found: PairDetail, key: tuple[object, ...], stem: str) -> None:
    shown = _slides(found.cells, stem)
    for slide_id in shown:
        _map_row(found, slide_id, key, stem)
    st.caption(
        "Grey: none of it, or not in the comparison. The first map shows cells in which the two "
        "genes sit together; the others show copies, counted in the matrix."
    )
    table = found.cells[found.cells["slide_id"].isin(shown)].drop(columns="row")
    downloads.table_buttons(table, f"gene-pairs-cells-{stem}", f"cells-{stem}")


def _map_row(found: PairDetail, slide_id: str, key: tuple[object, ...], stem: str) -> None:
    meta = services().slide(slide_id).meta
    mine = found.cells[found.cells["slide_id"] == slide_id]
    left, right = found.genes
    titles = {"together": f"{left} with {right}", "copies_left": left, "copies_right": right}
    x0, _, x1, _ = meta.bounds_um
    st.caption(f"{meta.name}, {(x1 - x0) / 1000:.1f} mm wide")
    for column, (what, name) in zip(st.columns(3), titles.items(), strict=True):
        with column:
            n = int((mine[what] > 0).sum())
            st.markdown(f"**{name}**")
            picture = _picture(slide_id, meta.version, key, what, found.cells)
            st.image(picture.png, width="stretch", alt=f"Cells with {name} on {meta.name}")
            top = "" if what == "together" else f"; darkest: {picture.legend[-1][0]} copies"
            st.caption(f"{count(n)} of {count(len(mine))} cells ({percent(n, len(mine))}){top}")
            file = f"{slide_id}-{name}.png".replace(" ", "-")
            button = f"map-{stem}-{slide_id}-{what}"
            downloads.file_button("PNG", picture.png, file, "image/png", button)


def view(
    pairs: list[str], comparison: tuple[str, str], info: dict[str, object], job_id: str
) -> None:
    """Draw the choice of a pair, its violin and its maps.

    Parameters
    ----------
    pairs
        Pairs of the comparison, strongest first.
    info
        Facts of the result.
    """
    st.markdown("#### One pair")
    if not pairs:
        st.caption("No pair passes the filters above.")
        return
    pair = st.selectbox(
        "Pair",
        pairs,
        format_func=lambda name: name.replace("|", " – "),
        key=f"pair-one-{job_id}-{'-'.join(comparison)}",
        width=420,
        help="Those that pass the filters above, strongest first; type to search.",
    )
    provenance = info.get("provenance")
    slides = provenance.get("slides", ()) if isinstance(provenance, dict) else ()
    versions = tuple(services().slide(entry["slide_id"]).meta.version for entry in slides)
    found = _detail(job_id, comparison, pair, owner(), versions)
    stem = f"{job_id}-{pair.replace('|', '-')}"
    left, right = st.columns([1, 1.9], gap="large")
    with left:
        _by_unit(found, stem)
    with right:
        _maps(found, (job_id, comparison, pair), stem)
