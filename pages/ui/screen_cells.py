"""From a row of a screen's table to cells: near pairs that carry both genes, drawn large."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import charts, downloads, screen_charts
from pages.ui.session import errors_shown, owner, services
from spatialformer_core.service import screen_desk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialformer_core.service.screen_examples import ExamplePair

_OFFERED = 300
_ZOOM = 4.0
_Pair = tuple[str, str]


@st.cache_data(show_spinner="Looking for cells …", max_entries=32, ttl=600)
def _examples(job_id: str, genes: _Pair, n: int, who: str) -> list[ExamplePair]:
    return screen_desk.examples(services(), job_id, genes, n, who)


def _choose(kept: pd.DataFrame, chosen: _Pair | None, key: str) -> _Pair:
    """Draw the choice of a gene pair, in the table's order; a row clicked in it goes first."""
    strongest = kept.head(_OFFERED)
    offered = list(zip(strongest["gene_left"], strongest["gene_right"], strict=True))
    name, last = f"examples-{key}", f"_clicked-{key}"
    if chosen is not None and st.session_state.get(last) != chosen:
        st.session_state[last] = chosen
        st.session_state[name] = chosen
    wanted = st.session_state.get(name)
    if wanted is not None and wanted not in offered:
        if (wanted == chosen) or _is_in(kept, wanted):
            offered.insert(0, wanted)
        else:
            del st.session_state[name]
    pair: _Pair = st.selectbox(
        "Gene pair",
        offered,
        format_func=" – ".join,
        key=name,
        help="Or choose a row of the table above.",
    )
    return pair


def _is_in(kept: pd.DataFrame, pair: _Pair) -> bool:
    return bool(((kept["gene_left"] == pair[0]) & (kept["gene_right"] == pair[1])).any())


def _links(found: Sequence[ExamplePair], genes: _Pair, groupby: str) -> None:
    with st.container(horizontal=True, gap="small"):
        for number, pair in enumerate(found, start=1):
            x, y = pair.midpoint_um
            query = {
                "slide": pair.slide_id,
                "x": f"{x:.1f}",
                "y": f"{y:.1f}",
                "zoom": f"{_ZOOM:g}",
                "colour": f"group:{groupby}",
                "genes": ",".join(dict.fromkeys(genes)),
            }
            st.page_link(
                "pages/tissue.py",
                label=f"Pair {number} in the tissue",
                icon=":material/my_location:",
                query_params=query,
            )


def _rows(found: Sequence[ExamplePair], genes: _Pair) -> pd.DataFrame:
    def copies(places: Any) -> int | None:
        return None if places is None else len(places)

    return pd.DataFrame(
        [
            {
                "slide": pair.slide_id,
                "unit": pair.unit,
                "first cell": pair.left.cell_id,
                "second cell": pair.right.cell_id,
                "distance (µm)": round(pair.distance_um, 1),
                f"{genes[0]} in first": copies(pair.left.first_um),
                f"{genes[1]} in second": copies(pair.right.second_um),
                "x (µm)": round(pair.midpoint_um[0], 1),
                "y (µm)": round(pair.midpoint_um[1], 1),
            }
            for pair in found
        ]
    )


def view(kept: pd.DataFrame, chosen: _Pair | None, info: dict[str, Any], key: str) -> None:
    """Draw example cells of one gene pair."""
    if not len(kept):
        st.caption("No gene pair passes the filters.")
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with left:
        genes = _choose(kept, chosen, key)
    most = right.slider("Cell pairs", 1, 12, 3, key=f"examples-n-{key}")
    with errors_shown():
        found = _examples(key, genes, most, owner())
        if not found:
            st.info(
                "No near cell pair carries both (a gene set has no transcripts of its own).",
                icon=":material/info:",
            )
            return
        request = info["request"]
        types = (request["group_left"], request["group_right"])
        figure = screen_charts.example_cells(found, genes, types)
        name = f"screen-cells-{genes[0]}-{genes[1]}"
        charts.draw(figure, name, f"cells-{key}", "Example cells with the transcripts of both")
        st.caption(
            "Near pairs with most copies of both genes first: chosen to be seen, not to be typical."
        )
        _links(found, genes, request["groupby"])
        with st.container(horizontal=True, gap="small"):
            downloads.table_buttons(_rows(found, genes), name, f"cells-{key}")
            for suffix, mime in ((".svg", "image/svg+xml"), (".png", "image/png")):
                make = partial(screen_desk.example_figure, services(), key, genes, suffix, owner())
                label, file = suffix[1:].upper(), f"{name}{suffix}"
                downloads.file_button(label, make, file, mime, f"cells{suffix}-{key}")
