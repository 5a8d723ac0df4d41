"""The result of a screen: verdict, gate, pictures, table, downloads; what is beside, below."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from pages.ui import cards, downloads, screen_more, screen_pictures, webgl
from pages.ui.screen_pictures import Q_LEVEL
from pages.ui.session import owner, services
from pages.ui.text import count, in_um, number
from spatialformer_core.service import screen_desk

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenView

_FLAGS = {
    "spillover": (
        "Hide likely spillover",
        "One of the genes is typical of the other cell type: its counts may be a neighbour's.",
    ),
    "in_sample": (
        "Hide cells seen in training",
        "The model has seen these cells; it may remember them instead of reading them.",
    ),
}


_ORDERS = {"p": "p-value", "d_diff": "size of effect", "epsilon": "size of interaction"}


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    small = st.column_config.NumberColumn
    shown = {
        "gene_left": st.column_config.TextColumn("gene in first", pinned=True),
        "gene_right": st.column_config.TextColumn("gene in second", pinned=True),
        "d_diff": small(
            "effect",
            format="%.3g",
            help="Near minus far change of the contact logit "
            "when both genes are taken out; below 0: the pair holds contact.",
        ),
        "d_low": small("95 % low", format="%.3g", help="Lower end of the interval over units."),
        "d_high": small("95 % high", format="%.3g", help="Upper end of the interval over units."),
        "q": small("q", format="%.2g", help="p-value corrected (BH) over all pairs tested."),
        "epsilon": small(
            "interaction", format="%.3g", help="Pair effect minus what the two genes do alone."
        ),
        "epsilon_q": small("q (int.)", format="%.2g", help="q of the interaction."),
        "agree": small("models agree", format="%.2f", help="Share of the models with this sign."),
        "n_units": small("units", help="Replicate units in which the pair was seen."),
        "n_pairs": small("cell pairs", format="localized", help="Near cell pairs with both genes."),
        "spillover": st.column_config.CheckboxColumn("spillover", help=_FLAGS["spillover"][1]),
        "in_sample": st.column_config.CheckboxColumn("seen", help=_FLAGS["in_sample"][1]),
        "co_occurs": st.column_config.CheckboxColumn(
            "co-occur", help="Co-localised in single cells."
        ),
        "is_ligand_receptor": st.column_config.CheckboxColumn(
            "L–R", help="A known ligand and receptor."
        ),
    }
    return {
        name: column
        for name, column in shown.items()
        if name in frame and not frame[name].isna().all()
    }


def _flag(frame: pd.DataFrame, column: str) -> pd.Series:
    return frame[column].eq(other=True).fillna(value=False).astype(bool)


def _filtered(frame: pd.DataFrame, absent: dict[str, str], key: str) -> pd.DataFrame:
    controls = st.columns([2, 1.4, 1.4, 1.4], vertical_alignment="bottom")
    gene = controls[0].text_input(
        "Find a gene", key=f"gene-{key}", placeholder="part of a symbol, e.g. CXCL"
    )
    most = int(frame["n_units"].max()) if len(frame) else 1
    kept = frame
    if most > 1:
        least = controls[1].number_input(
            "Seen in at least (units)",
            1,
            most,
            1,
            key=f"units-{key}",
            help="An effect that is seen in one unit only may be that unit's own.",
        )
        kept = kept[kept["n_units"] >= least]
    for control, (column, (label, explanation)) in zip(controls[2:], _FLAGS.items(), strict=True):
        hidden = control.toggle(
            label,
            # Flagged pairs are hidden until asked for; the downloads hold them.
            value=column == "spillover" and bool(_flag(frame, column).any()),
            key=f"{column}-{key}",
            help=f"Not available: {absent[column]}." if column in absent else explanation,
            disabled=not _flag(frame, column).any(),
        )
        if hidden:
            kept = kept[~_flag(kept, column)]
    kept = _only(kept, key)
    if gene.strip():
        text = gene.strip().upper()
        left = kept["gene_left"].str.upper().str.contains(text, regex=False)
        right = kept["gene_right"].str.upper().str.contains(text, regex=False)
        kept = kept[left | right]
    return kept


def _only(frame: pd.DataFrame, key: str) -> pd.DataFrame:
    """Draw what the table can be narrowed to, as far as it knows of it; return what passes."""
    tests = {
        f"q < {Q_LEVEL}": frame["q"] < Q_LEVEL,
        f"interaction q < {Q_LEVEL}": frame["epsilon_q"] < Q_LEVEL,
        "joint requirement": frame["kind"] == "joint requirement",
        "redundancy": frame["kind"] == "redundancy",
        "known ligand–receptor": _flag(frame, "is_ligand_receptor"),
    }
    known = {name: mask for name, mask in tests.items() if mask.any()}
    if not known:
        return frame
    wanted = st.pills(
        "Only", list(known), selection_mode="multi", key=f"only-{key}", label_visibility="collapsed"
    )
    for name in wanted:
        frame = frame[known[name].reindex(frame.index)]
    return frame


def _verdict(info: dict[str, Any]) -> None:
    found = info.get("significant") or {}
    first, _, rest = in_um(str(info["verdict"])).partition(". ")
    line = f"**{first.rstrip('.')}.** {rest}"
    if any(found.values()):
        st.success(line, icon=":material/fact_check:")
    else:
        st.info(line, icon=":material/info:")
    cards.marks(info["marks"])


def _downloads(frame: pd.DataFrame, info: dict[str, Any], key: str) -> None:
    with st.container(horizontal=True, gap="small"):
        downloads.table_buttons(frame, f"screen-{key}", f"screen-{key}")
        text = json.dumps(info, indent=1, ensure_ascii=False, default=str).encode("utf-8")
        name = f"screen-{key}.json"
        downloads.file_button("Provenance", text, name, "application/json", f"json-{key}")
    with st.popover("Figures as SVG or PNG", icon=":material/image:"):
        for figure in ("volcano", "heatmap", "network", "map", "ranks"):
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.markdown(figure)
                for suffix, mime in ((".svg", "image/svg+xml"), (".png", "image/png")):
                    make = partial(screen_desk.figure, services(), key, figure, suffix, owner())
                    name = f"screen-{figure}-{key}{suffix}"
                    label = suffix[1:].upper()
                    downloads.file_button(label, make, name, mime, f"{figure}{suffix}-{key}")
    st.caption("Tables hold all rows and columns, whatever is filtered.")


def _ordered(kept: pd.DataFrame, key: str) -> pd.DataFrame:
    """Draw the choice of the order; return the rows in it, the strongest first."""
    orders = [column for column in _ORDERS if kept[column].notna().any()]
    by = st.segmented_control(
        "Strongest first by",
        orders,
        default=orders[0],
        required=True,
        format_func=_ORDERS.__getitem__,
        key=f"order-{key}",
        help="Sizes count without their sign: a pair that holds contact and one that hinders it "
        "are equally strong.",
    )
    rows = kept.sort_values("d_diff", key=lambda v: v.abs(), ascending=False, ignore_index=True)
    if by == "epsilon":
        order = rows["epsilon"].abs().sort_values(ascending=False, kind="stable").index
        return rows.loc[order].reset_index(drop=True)
    return rows.sort_values("p", ignore_index=True, kind="stable") if by == "p" else rows


def _table(rows: pd.DataFrame, n_all: int, key: str) -> tuple[str, str] | None:
    """Draw the table; return the genes of the row that is chosen in it."""
    st.markdown(f"**{count(len(rows))}** of {count(n_all)} gene pairs")
    config = _columns(rows)
    event = st.dataframe(
        rows,
        hide_index=True,
        column_config=config,
        column_order=[name for name in config if name in rows],
        height=430,
        key=f"rows-{key}",
        on_select="rerun",
        selection_mode="single-row",
    )
    chosen = [row for row in event["selection"]["rows"] if row < len(rows)]
    if not chosen:
        return None
    row = rows.iloc[chosen[0]]
    return str(row["gene_left"]), str(row["gene_right"])


def view(result: ScreenView, key: str) -> None:
    """Draw one result; the downloads hold all rows and columns, whatever is filtered."""
    frame, info = result.table, result.info
    _verdict(info)
    _gate(info)
    kept = _filtered(frame, info["not_computed"], key)
    chosen = None
    if not len(kept):
        cards.empty("No pair matches", "Loosen the filters above.", "filter_alt_off")
    else:
        left, right = st.columns([1, 1.15], gap="large")
        with left:
            screen_pictures.picture(kept, result, key)
        with right:
            kept = _ordered(kept, key)
            chosen = _table(kept, len(frame), key)
            _downloads(frame, info, key)
    screen_more.view(result, kept, chosen, key)
    webgl.ask_browser()


def _gate(info: dict[str, Any]) -> None:
    gate, units, pairs = info["gate"], info["units"], info["pairs"]
    auroc = number(gate["auroc"])
    if gate["auroc"] is not None:
        auroc = f"{auroc} ({number(gate['low'])}–{number(gate['high'])})"
    cards.figures(
        [
            ("gene pairs tested", count(info["tested"]), "All of them count in the correction."),
            (
                "replicate units",
                count(len(units["used"])),
                f"Each a {units['kind']}; {units['needed_for_p']} are needed for p-values.",
            ),
            ("near cell pairs", count(pairs["near_used"]), "Neighbours of the two types used."),
            (
                "pairs of the other side" if pairs["far_source"] == "versus" else "far cell pairs",
                count(pairs["far_used"]),
                "Matched pairs they are compared with.",
            ),
            ("gate: near vs far, AUROC (95 %)", auroc, str(gate["reason"])),
        ]
    )
