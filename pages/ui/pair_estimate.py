"""What a comparison of gene pairs will do and cost, shown before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import cards
from pages.ui.result_page import GENE_PAIRS
from pages.ui.session import owner, services
from pages.ui.text import compact, count, duration, in_um, plural

if TYPE_CHECKING:
    from spatialformer_core.service import GenePairEstimate, GenePairRequest


@st.cache_data(show_spinner=False, max_entries=64, ttl=60)
def _cached(
    request_json: str, versions: tuple[str, ...], _request: GenePairRequest
) -> GenePairEstimate:
    del request_json, versions  # the key of the cache
    return services().gene_pairs.estimate(_request)


def _estimate(request: GenePairRequest) -> GenePairEstimate:
    versions = tuple(services().slide(slide_id).meta.version for slide_id in request.slide_ids)
    with st.spinner("Counting cells and replicates …"):
        return _cached(request.model_dump_json(), versions, request)


def _units(estimate: GenePairEstimate) -> None:
    frame = pd.DataFrame(list(estimate.comparisons))
    frame["no_p_reason"] = frame["no_p_reason"].fillna("").map(in_um)
    frame["unit"] = frame["unit"].map(in_um)
    with st.expander("Comparisons and their replicates", icon=":material/grid_view:"):
        st.dataframe(
            frame,
            hide_index=True,
            height=min(38 * (len(frame) + 1), 300),
            column_config={
                "cells_group": st.column_config.NumberColumn("cells", format="localized"),
                "cells_reference": st.column_config.NumberColumn("of ref.", format="localized"),
                "n_units": "units",
                "no_p_reason": "why no p-value",
            },
        )


def _reach(estimate: GenePairEstimate) -> None:
    n, of = estimate.with_p, len(estimate.comparisons)
    if n == of:
        st.success(
            "**p-values are possible** in every comparison; they are about the tissue given.",
            icon=":material/check_circle:",
        )
        return
    reason = next(row["no_p_reason"] for row in estimate.comparisons if row["no_p_reason"])
    how_many = "Effects and intervals, no p-values." if not n else f"p-values in {n} of {of} only."
    st.info(f"**{how_many}** {in_um(reason)}", icon=":material/info:")


def panel(request: GenePairRequest) -> None:
    """Draw the estimate and the start button."""
    estimate = _estimate(request)
    new = estimate.slides_to_measure
    first = f"Co-occurrence of {plural(new, 'slide')} is measured first, once; " if new else ""
    cards.figures(
        [
            ("cells", compact(estimate.cells), "Cells that pass QC and are compared."),
            ("comparisons", count(len(estimate.comparisons)), "A group and its reference."),
            (
                "time",
                duration(estimate.seconds),
                f"{first}rough, on one idle core; a busy machine takes longer.",
            ),
        ]
    )
    _reach(estimate)
    GENE_PAIRS.start_button("Compare", lambda: services().gene_pairs.start(request, owner()))
    _units(estimate)
