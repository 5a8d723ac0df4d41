"""The form of an embedding with its estimate: which slide, which model, how the map is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import cards, model_choice
from pages.ui.result_page import EMBEDDINGS
from pages.ui.session import owner, services
from pages.ui.text import compact, count, duration
from spatialformer_core.service import model_jobs
from spatialformer_core.service.embed import EmbedRequest
from spatialformer_core.service.embed_estimate import estimate_embedding

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_MAP_CELLS = 20_000


def _details(meta: SlideMeta, *, reads_pairs: bool) -> dict[str, Any]:
    one, two, three, four = st.columns(4)
    most = max(1_000, min(100_000, meta.n_cells_kept))
    found: dict[str, Any] = {
        "n_umap": one.number_input(
            "Cells on the map, at most",
            1_000,
            100_000,
            min(_MAP_CELLS, most),
            1_000,
            key=f"embedding-cells-{meta.slide_id}",
            help="Drawn at random from the cells that pass QC; more take longer (about 3 s per "
            "1,000 cells). The embedding itself is of all cells.",
        ),
        "resolution": two.number_input(
            "Resolution of clusters",
            0.1,
            5.0,
            1.0,
            0.1,
            key="embedding-resolution",
            help="Leiden on the map's graph of nearest neighbours; higher gives more clusters.",
        ),
        "seed": four.number_input(
            "Seed", 0, key="embedding-seed", help="The same seed gives the same map."
        ),
    }
    off = reads_pairs or not meta.group_keys
    found["n_niches"] = three.number_input(
        "Niches of expected neighbours",
        0,
        30,
        0 if off else 8,
        key=f"embedding-niches-{meta.slide_id}-{off}",
        disabled=off,
        help="Groups of cells around which the model expects like types; 0: none. Needs a "
        "two-tower model and a grouping of the slide.",
    )
    return found


def form(meta: SlideMeta) -> EmbedRequest | None:
    """Draw the form; return the request once all that it needs is chosen."""
    model = model_choice.choose("embedding", meta.slide_id, is_simulated=meta.simulated)
    if model is None:
        return None
    masked = st.checkbox(
        "Mask the meta tokens",
        key="embedding-masked",
        help="Hide condition, tissue, species and assay from the model: else they leak into the "
        "embedding, and slides of different samples lie apart for that reason alone.",
    )
    details = _details(meta, reads_pairs=model.reads_pairs)
    return EmbedRequest(
        slide_id=meta.slide_id,
        checkpoint_id=model.info.id,
        allow_simulated=model.allow_simulated,
        meta="masked" if masked else "given",
        **details,
    )


def panel(request: EmbedRequest) -> None:
    """Draw the estimate and the start button."""
    estimate = estimate_embedding(services(), request)
    cards.figures(
        [
            ("cells", compact(estimate.n_cells), f"{count(estimate.n_cells)} are embedded."),
            ("on the map", compact(estimate.n_map), "Cells that pass QC, or some of them."),
            (
                "genes known",
                f"{100 * estimate.coverage:.0f} %",
                "Share of the slide's genes that the model knows; others are not read.",
            ),
            (
                "time",
                duration(estimate.seconds),
                "Rough, on one idle core; a busy machine takes longer.",
            ),
        ]
    )
    EMBEDDINGS.start_button("Embed", lambda: model_jobs.submit(services(), request, owner()))
