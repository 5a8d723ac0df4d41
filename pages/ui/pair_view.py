"""The result of a comparison of gene pairs: verdict, pictures, table, downloads, methods."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, charts, downloads, pair_charts, pair_detail
from pages.ui.pair_charts import ALPHA
from pages.ui.session import errors_shown, owner, services
from pages.ui.text import count, in_um

if TYPE_CHECKING:
    from spatialformer_core.service import GenePairView

_CHANCE_Z = 2.0
_PICTURES = ("Volcano", "Heat map", "Dot plot", "Network")
_PERCENT = {
    "share_group": "in group",
    "share_reference": "in reference",
    "effect": "difference",
    "low": "95 % low",
    "high": "95 % high",
    "closeness_gain": "closeness adds",
}
_PLAIN = {
    "q": ("q", "%.1e"),
    "closeness_q": ("q of closeness", "%.1e"),
    "auroc_genes": ("AUROC, genes alone", "%.3f"),
    "auroc_genes_pair": ("AUROC, with the pair", "%.3f"),
    "null_z": ("beyond chance (z)", "%.1f"),
    "percell_q": ("q over cells (published way)", "%.1e"),
    "n_units": ("units", "%d"),
}


def _verdict(info: dict[str, Any]) -> None:
    cards.marks(info["marks"])
    simulated = any(s.get("simulated") for s in info.get("provenance", {}).get("slides", ()))
    if simulated:
        cards.badges([cards.simulated_badge()])
    st.info(in_um(info["verdict"]), icon=":material/gavel:")
    st.markdown(f"**Does closeness add anything?** {info['closeness_verdict']}")
    tested = info["significant"]
    cards.figures(
        [
            ("cells", count(info["cells"]), "Cells that pass QC and were compared."),
            ("pairs tested", count(info["pairs_chosen"]), "The most variable pairs of genes."),
            ("comparisons", count(len(info["units"])), "A group and its reference."),
            (
                f"q < {ALPHA}",
                "–" if tested is None else count(tested),
                "Tests over replicate units, corrected (BH) over all pairs and comparisons.",
            ),
            (
                "closer (or farther)",
                count(info["closeness"]["significant"]),
                "Tests in which the genes also lie closer, or farther, than equal numbers of "
                f"copies would have them (q < {ALPHA}).",
            ),
        ]
    )


def _comparison(frame: pd.DataFrame, key: str) -> tuple[str, str]:
    known = [(str(a), str(b)) for a, b in frame[["group", "reference"]].drop_duplicates().values]
    chosen: tuple[str, str] = st.selectbox(
        "Comparison", known, format_func=lambda c: f"{c[0]} against {c[1]}", key=f"comparison-{key}"
    )
    return chosen


def _filtered(frame: pd.DataFrame, key: str) -> pd.DataFrame:
    """Draw the filters of one comparison's table; return what passes."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        gene = st.text_input(
            "Gene", key=f"pairs-gene-{key}", placeholder="Any", width=160, help="Exact or a part."
        )
        only_q = st.checkbox(
            f"q < {ALPHA}", key=f"pairs-q-{key}", disabled=not frame["q"].notna().any()
        )
        more = st.checkbox("More in the group", key=f"pairs-more-{key}")
        closer = st.checkbox(
            "Closeness adds",
            key=f"pairs-closer-{key}",
            disabled=not frame["closeness_q"].notna().any(),
            help="Among cells with enough copies of both genes the pair differs too, adjusted for "
            f"the numbers of copies (q < {ALPHA}): a difference of place, not of expression.",
        )
        beyond = st.checkbox(
            "Beyond chance",
            key=f"pairs-chance-{key}",
            # Without permutations of the labels nobody knows what chance gives.
            disabled="null_z" not in frame or not frame["null_z"].notna().any(),
            help="Over all cells the pair co-occurs more often than with gene labels permuted over "
            f"the same positions (z > {_CHANCE_Z:g}).",
        )
    kept = pd.Series(data=True, index=frame.index)
    if gene.strip():
        wanted = gene.strip().casefold()
        names = frame["pair"].str.casefold()
        exact = names.str.split("|", regex=False).map(lambda both: wanted in both)
        kept &= exact if exact.any() else names.str.contains(wanted, regex=False)
    kept &= ~only_q | (frame["q"] < ALPHA)
    kept &= ~more | (frame["effect"] > 0)
    kept &= ~closer | (frame["closeness_q"] < ALPHA)
    if beyond:
        kept &= frame["null_z"] > _CHANCE_Z
    return frame[kept]


def _columns(info: dict[str, Any]) -> dict[str, Any]:
    """Return the table's columns, each with the sentence of the result that says what it is."""
    small, said = st.column_config.NumberColumn, info["columns"]
    shown: dict[str, Any] = {"pair": st.column_config.TextColumn("pair", pinned=True)}
    shown |= {
        name: small(f"{label} (%)", format="%.2f", help=said.get(name))
        for name, label in _PERCENT.items()
    }
    shown |= {
        name: small(label, format=form, help=said.get(name))
        for name, (label, form) in _PLAIN.items()
    }
    order = ["pair", "share_group", "share_reference", "effect", "low", "high", "q"]
    return {name: shown[name] for name in [*order, *(n for n in shown if n not in order)]}


def _table(rows: pd.DataFrame, n_all: int, info: dict[str, Any]) -> None:
    st.markdown(f"**{count(len(rows))}** of {count(n_all)} gene pairs, strongest first")
    if not len(rows):
        cards.empty("No pair matches", "Loosen the filters above.", "filter_alt_off")
        return
    config = _columns(info)
    percent = [name for name in _PERCENT if name in rows]
    shown = rows.assign(**{name: 100 * rows[name] for name in percent})
    order = [name for name in config if name in rows and rows[name].notna().any()]
    st.dataframe(shown, hide_index=True, column_config=config, column_order=order, height=420)


def _downloads(frame: pd.DataFrame, info: dict[str, Any], job_id: str) -> None:
    with st.container(horizontal=True, gap="small"):
        downloads.table_buttons(frame, f"gene-pairs-{job_id}", f"pairs-{job_id}")
        found = {file.name for file in services().result_files(job_id, owner())}
        for label, name, mime in (
            ("GraphML", "network.graphml", "application/xml"),
            ("Notes", "NOTES.txt", "text/plain"),
        ):
            if name in found:
                content = partial(services().result_file, job_id, name, owner())
                key = f"pairs-{job_id}-{name}"
                downloads.file_button(label, content, f"gene-pairs-{job_id}-{name}", mime, key)
        text = json.dumps(info, indent=1, ensure_ascii=False).encode("utf-8")
        name = f"gene-pairs-{job_id}.json"
        downloads.file_button("Facts", text, name, "application/json", f"pairs-{job_id}-facts")
    st.caption(
        "Tables hold every comparison and column, whatever is filtered. GraphML opens in "
        "Cytoscape; the camera in a picture's menu saves it as SVG."
    )


def _top(frame: pd.DataFrame, key: str) -> list[str]:
    many = frame["group"].nunique() > 1
    per_group = st.slider(
        "Pairs per group",
        2 if many else 5,
        10 if many else 40,
        3 if many else 15,
        key=f"pairs-top-{key}",
        help="Those that the group has most more of; significant ones where there are p-values.",
    )
    pairs = pair_charts.top_pairs(frame, per_group)
    if not pairs:
        cards.empty("No pair stands out", "No group has significantly more of any pair.", "grid_on")
    return pairs


@st.cache_data(show_spinner=False, max_entries=32)
def _network(job_id: str, comparison: tuple[str, str], most: int, whose: str) -> Any:
    return services().gene_pairs.network(job_id, comparison, most, whose)


def _draw_network(comparison: tuple[str, str], job_id: str) -> None:
    most = st.slider("Lines, at most", 10, 200, 60, 10, key=f"pairs-lines-{job_id}")
    with errors_shown():
        found = _network(job_id, comparison, most, owner())
        if not len(found.edges):
            text = "No pair of this comparison is in the network; look at another comparison."
            cards.empty("No line to draw", text, "hub")
            return
        st.caption(
            f"{count(len(found.edges))} of {count(found.n_edges)} lines; lines are "
            f"{found.edges_are}. Places mean nothing, only who is joined does."
        )
        name = f"gene-pairs-network-{job_id}"
        figure = pair_charts.network(found)
        charts.draw(figure, name, f"network-{job_id}", "Genes joined by the pairs that differ")
        downloads.table_buttons(found.edges, name, f"network-table-{job_id}")


def _picture(
    frame: pd.DataFrame, rows: pd.DataFrame, comparison: tuple[str, str], key: str
) -> None:
    kind = st.segmented_control(
        "Picture", _PICTURES, default=_PICTURES[0], required=True, key=f"pairs-picture-{key}"
    )
    if kind == "Network":
        _draw_network(comparison, key)
        return
    if kind == "Volcano":
        if not len(rows):
            st.caption("Nothing to draw with these filters.")
            return
        figure = pair_charts.volcano(rows)
        alt = f"Difference of each pair between {comparison[0]} and {comparison[1]}"
        charts.draw(figure, f"gene-pairs-volcano-{key}", f"volcano-{key}", alt)
        return
    pairs = _top(frame, key)
    if pairs:
        draw = pair_charts.heatmap if kind == "Heat map" else pair_charts.dots
        alt = "The strongest gene pairs of each group, by group"
        name = "heatmap" if kind == "Heat map" else "dots"
        charts.draw(draw(frame, pairs), f"gene-pairs-{name}-{key}", f"{name}-{key}", alt)
        if kind != "Heat map":
            st.caption("Area: share of cells with the pair. Colour: the mean that is named.")
        drawn = pair_charts.flat(frame, pairs)
        downloads.table_buttons(drawn, f"gene-pairs-{name}-{key}", f"{name}-table-{key}")


def _meanings(info: dict[str, Any]) -> None:
    with st.expander("What each column means", icon=":material/help:"):
        frame = pd.DataFrame(list(info["columns"].items()), columns=["column", "meaning"])
        st.dataframe(frame, hide_index=True, height=300)
        downloads.table_buttons(frame, "gene-pairs-columns", "pairs-columns")
    with st.expander("Methods, ready to paste", icon=":material/article:"):
        st.markdown(info["methods"])


def _units(info: dict[str, Any], comparison: tuple[str, str]) -> None:
    for unit in info["units"]:
        if (unit["group"], unit["reference"]) == comparison:
            size = f" of {count(unit['block_um'])} µm" if unit["block_um"] else ""
            why = f" No p-values: {in_um(unit['no_p_reason'])}" if unit["no_p_reason"] else ""
            st.caption(f"{count(unit['n_units'])} replicate units: {unit['kind']}{size}.{why}")


def view(result: GenePairView, job_id: str) -> None:
    """Draw one result; the downloads hold all rows and columns, whatever is filtered."""
    frame, info = result.table, result.info
    _verdict(info)
    comparison = _comparison(frame, job_id)
    _units(info, comparison)
    mine = frame[(frame["group"] == comparison[0]) & (frame["reference"] == comparison[1])]
    rows = _filtered(mine, job_id)
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        _picture(frame, rows, comparison, job_id)
    with right:
        _table(rows, len(mine), info)
        _downloads(frame, info, job_id)
    with errors_shown():
        pair_detail.view(rows["pair"].tolist(), comparison, info, job_id)
    _meanings(info)
