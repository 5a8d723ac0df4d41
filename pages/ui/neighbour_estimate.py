"""What a prediction of neighbours will do and cost, shown before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import cards
from pages.ui.result_page import NEIGHBOURS
from pages.ui.session import owner, services
from pages.ui.text import compact, count, duration
from spatialformer_core.service import model_jobs
from spatialformer_core.service.colocalise_estimate import estimate_colocalisation

if TYPE_CHECKING:
    from spatialformer_core.service.colocalise import ColocaliseRequest
    from spatialformer_core.service.colocalise_estimate import ColocaliseEstimate


@st.cache_data(show_spinner=False, max_entries=64, ttl=600)
def _cached(
    request_json: str, regions: str, whose: str, _request: ColocaliseRequest
) -> ColocaliseEstimate:
    return estimate_colocalisation(services(), _request, whose)


def _estimate(request: ColocaliseRequest) -> ColocaliseEstimate:
    # A region may be redrawn and a slide read again under the same id.
    state = ""
    if request.slide_id is not None:
        created = services().slide(request.slide_id).meta.created
        state = services().export_rois(request.slide_id, owner()) + str(created)
    with st.spinner("Counting cells and candidates …"):
        return _cached(request.model_dump_json(), state, owner(), request)


def _numbers(estimate: ColocaliseEstimate) -> None:
    cards.figures(
        [
            (
                "query cells",
                count(estimate.n_queries),
                f"Drawn from {count(estimate.n_may_ask)} cells that pass QC and may be asked.",
            ),
            (
                "candidates each",
                count(estimate.candidates_per_query),
                "Cells that each query cell is asked about, on average.",
            ),
            ("pairs", compact(estimate.n_pairs), "Pairs of cells that the model scores."),
            (
                "time",
                duration(estimate.seconds),
                "Rough, on one idle core; a busy machine takes longer.",
            ),
        ]
    )


def _panel_known(estimate: ColocaliseEstimate) -> None:
    if estimate.coverage is not None and estimate.coverage < 1:
        st.caption(
            f"The model knows {100 * estimate.coverage:.0f} % of the slide's genes; the others "
            "are not read."
        )


def panel(request: ColocaliseRequest) -> None:
    """Draw the estimate and the start button."""
    estimate = _estimate(request)
    _numbers(estimate)
    _panel_known(estimate)
    st.info(estimate.exposure, icon=":material/visibility:")
    if not estimate.has_truth:
        st.info(
            "Without coordinates nobody knows the true neighbours: the result is a table of "
            "predicted types only, with no recall, no JSD and no map.",
            icon=":material/location_off:",
        )
    elif not estimate.has_prior:
        st.caption(
            "The baseline of type pairs is left out: it is learnt on cells elsewhere on the "
            "slide, which the model was trained on and which are not asked about."
        )
    NEIGHBOURS.start_button(
        "Predict neighbours", lambda: model_jobs.submit(services(), request, owner())
    )
