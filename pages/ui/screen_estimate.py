"""What a screen will do and cost, shown before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import cards
from pages.ui.result_page import SCREENS
from pages.ui.session import owner, services
from pages.ui.text import compact, count, duration, in_um, number, plural
from spatialformer_core.service import screen_desk

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenEstimate, ScreenRequest

_NAMED = 8


@st.cache_data(show_spinner=False, max_entries=64, ttl=600)
def _cached(request_json: str, rois: str, whose: str, _request: ScreenRequest) -> ScreenEstimate:
    return services().estimate_screen(_request, whose)


def _estimate(request: ScreenRequest) -> ScreenEstimate:
    # A region may be renamed or redrawn under its id, so the regions are part of the key.
    regions = "".join(services().export_rois(slide, owner()) for slide in request.slide_ids)
    with st.spinner("Counting cell pairs …"):
        return _cached(request.model_dump_json(), regions, owner(), request)


def _numbers(estimate: ScreenEstimate, request: ScreenRequest) -> None:
    near, (nearest, farthest) = request.radius_um, request.far_um
    times, versus = screen_desk.n_screens(request), estimate.far_source == "versus"
    pace = "measured on this machine" if estimate.seconds_measured else "a first guess"
    cards.figures(
        [
            (
                "near cell pairs",
                compact(estimate.n_near),
                f"Pairs of the two types at most {near:g} µm apart that will be used.",
            ),
            (
                "pairs of the other side" if versus else "far cell pairs",
                compact(estimate.n_far),
                "Near pairs of the regions or slides that are compared with."
                if versus
                else f"Pairs of the same types {nearest:g}–{farthest:g} µm apart: the comparison.",
            ),
            (
                "units",
                count(estimate.n_units),
                f"Independent replicates ({estimate.unit_kind}) with enough pairs of both kinds.",
            ),
        ]
    )
    cards.figures(
        [
            (
                "gene pairs",
                compact(estimate.n_tested),
                f"{estimate.genes_left} × {estimate.genes_right} genes reach the support needed; "
                "all pairs tested count in the correction for multiple testing.",
            ),
            (
                "panel known",
                f"{100 * estimate.coverage:.0f} %",
                "Share of the slide's genes that the model knows; others are not read.",
            ),
            (
                "forward passes",
                compact(times * estimate.forwards),
                "Passes through the network: of single cells with two towers, of cell pairs with "
                f"a cross-encoder. Mode: {estimate.mode}.",
            ),
            ("time", duration(times * estimate.seconds), f"Once it runs; the pace is {pace}."),
        ]
    )
    if times > 1:
        st.caption(f"Further models and null runs carry out the screen {times} times in all.")
    if estimate.genes_unknown:
        names = ", ".join(estimate.genes_unknown[:_NAMED])
        st.warning(
            f"The model does not know {plural(len(estimate.genes_unknown), 'gene')} that you "
            f"named: {names}.",
            icon=":material/help:",
        )


def _units(estimate: ScreenEstimate) -> None:
    if not estimate.units:
        return
    label = f"Pairs in each {estimate.unit_kind}"
    with st.expander(label, icon=":material/grid_view:"):
        st.dataframe(
            pd.DataFrame(list(estimate.units)),
            hide_index=True,
            height=min(38 * (len(estimate.units) + 1), 260),
            column_config={
                "n_near": st.column_config.NumberColumn("near", format="localized"),
                "n_far": st.column_config.NumberColumn("far", format="localized"),
            },
        )


def _reach(estimate: ScreenEstimate) -> None:
    cards.marks(estimate.marks)
    if estimate.reason_no_p:
        st.info(
            f"**Effects and intervals, no p-values.** {in_um(estimate.reason_no_p)}",
            icon=":material/info:",
        )
        return
    st.success(
        f"**p-values are possible**, if the model turns out to tell near from far here. A single "
        f"gene pair alone would need p ≤ {number(estimate.p_needed)}: |t| ≥ "
        f"{number(estimate.t_needed)} over {estimate.n_units} units, a mean effect of "
        f"{number(estimate.effect_needed_sd)} standard deviations between units.",
        icon=":material/check_circle:",
    )


def _submit(request: ScreenRequest) -> str:
    screen_desk.check_references(services(), request)
    return services().submit_screen(request, owner())


def panel(request: ScreenRequest) -> None:
    """Draw the estimate and the start button."""
    estimate = _estimate(request)
    _numbers(estimate, request)
    _reach(estimate)
    SCREENS.start_button("Start screen", lambda: _submit(request))
    _units(estimate)
