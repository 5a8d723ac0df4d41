"""The result of a screen: verdict, gate, picture, table, downloads, methods."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.ui import cards, charts, downloads
from pages.ui.text import count, number

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenView

Q_LEVEL = 0.05
_STRONGEST = 20
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
_AXES = {
    "significance": ("Significance", "−log10 q", "log_q"),
    "interaction": ("Interaction", "interaction beyond the single genes (logit)", "epsilon"),
    "width": ("Interval width", "width of the 95 % interval (logit)", "width"),
}


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


def has_p(frame: pd.DataFrame) -> bool:
    """Tell whether the screen has p-values at all."""
    return "q" in frame and bool(frame["q"].notna().any())


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
    if gene.strip():
        text = gene.strip().upper()
        left = kept["gene_left"].str.upper().str.contains(text, regex=False)
        right = kept["gene_right"].str.upper().str.contains(text, regex=False)
        kept = kept[left | right]
    return kept


def _highlight(frame: pd.DataFrame) -> pd.Series:
    if has_p(frame):
        return frame["q"] < Q_LEVEL
    strongest = frame["d_diff"].abs().nlargest(_STRONGEST).index
    return pd.Series(frame.index.isin(strongest), index=frame.index)


def _picture(frame: pd.DataFrame, key: str) -> None:
    shown = frame.assign(
        log_q=-np.log10(frame["q"].astype(float).clip(lower=1e-300)) if has_p(frame) else np.nan,
        width=frame["d_high"] - frame["d_low"],
    )
    axes = [axis for axis, (_, _, column) in _AXES.items() if shown[column].notna().any()]
    axis = st.segmented_control(
        "Vertical axis",
        axes,
        default=axes[0],
        required=True,
        key=f"axis-{key}",
        format_func=lambda a: _AXES[a][0],
    )
    _, label, column = _AXES[axis or axes[0]]
    figure = charts.effects(shown.dropna(subset=[column]), column, label, _highlight(shown))
    charts.draw(figure, f"screen-{key}", f"volcano-{key}", "Effect of each gene pair")
    coloured = (
        f"q < {Q_LEVEL}."
        if has_p(frame)
        else f"the {_STRONGEST} strongest effects; without p-values colour is no verdict."
    )
    st.caption(
        f"Coloured: {coloured} Left of zero: without the pair the model expects less contact."
    )


def _verdict(info: dict[str, Any]) -> None:
    found = info.get("significant") or {}
    first, _, rest = str(info["verdict"]).partition(". ")
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
        downloads.file_button(
            "screen.json", text, f"screen-{key}.json", "application/json", f"json-{key}"
        )


def view(result: ScreenView, key: str) -> None:
    """Draw one result; the downloads hold all rows and columns, whatever is filtered."""
    frame, info = result.table, result.info
    _verdict(info)
    _gate(info)
    kept = _filtered(frame, info["not_computed"], key)
    if not len(kept):
        cards.empty("No pair matches", "Loosen the filters above.", "filter_alt_off")
        return
    left, right = st.columns([1, 1.15], gap="large")
    with left:
        _picture(kept, key)
    with right:
        st.markdown(f"**{count(len(kept))}** of {count(len(frame))} gene pairs")
        config = _columns(frame)
        order = [name for name in config if name in kept]
        rows = kept.sort_values("d_diff", key=lambda v: v.abs(), ascending=False)
        st.dataframe(rows, hide_index=True, column_config=config, column_order=order, height=430)
        _downloads(frame, info, key)
    _methods(info)


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
            ("far cell pairs", count(pairs["far_used"]), "Matched pairs they are compared with."),
            ("gate: near vs far, AUROC (95 %)", auroc, str(gate["reason"])),
        ]
    )


def _methods(info: dict[str, Any]) -> None:
    text = info.get("methods")
    if text:
        with st.expander("Methods, ready to paste", icon=":material/article:"):
            st.markdown(str(text))
