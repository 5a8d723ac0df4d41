"""The form of a screen: where, which cells, which model. Returns a request, runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui.session import current_slide, owner, services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import ScreenRequest

if TYPE_CHECKING:
    from spatialformer_core.service import CheckpointInfo, SlideMeta

_UNITS = {
    "auto": "automatic: the largest with 6 or more",
    "donor": "donor",
    "slide": "slide",
    "roi": "region",
    "block": "tissue block (square of 200–1000 µm)",
}
_SLIDES = "screen-slides"
_KNOCKOUTS = {"delete": "take the gene out of the cell", "mask": "hide the gene from the model"}


def _follow(looked_at: str | None, known: list[str]) -> None:
    """Let the form begin with the slide that was looked at last; keep a choice made since."""
    state = st.session_state
    if looked_at in known and state.get("_screened") != looked_at:
        state["_screened"] = looked_at
        state[_SLIDES] = [looked_at]
    kept = [slide for slide in state.get(_SLIDES, known[:1]) if slide in known]
    if state.get(_SLIDES) != kept:
        state[_SLIDES] = kept


def _where(slides: Sequence[SlideMeta]) -> tuple[list[str], list[str]]:
    names = {meta.slide_id: meta.name for meta in slides}
    _follow(current_slide(), list(names))
    chosen = st.multiselect(
        "Slides",
        list(names),
        format_func=names.__getitem__,
        key=_SLIDES,
        persist_state="session",
        help="Several slides are screened together; each of their units is a replicate.",
    )
    regions = {
        roi.roi_id: (slide, roi) for slide in chosen for roi in services().rois(slide, owner())
    }

    def label(roi_id: str) -> str:
        slide, roi = regions[roi_id]
        return f"{names[slide]} · {roi.name}" if len(chosen) > 1 else str(roi.name)

    kept = [i for i in st.session_state.get("screen-rois", []) if i in regions]
    st.session_state["screen-rois"] = kept
    picked = st.multiselect(
        "Regions",
        list(regions),
        format_func=label,
        key="screen-rois",
        placeholder="Whole slide" if not regions else "Whole slide, or choose regions",
        help="Each region is a replicate unit. None chosen: the whole slide, cut into blocks. "
        "Draw and save regions on the page Tissue.",
    )
    return chosen, picked


def _common(values: Sequence[Sequence[str]]) -> list[str]:
    """Return what all have, in the order of the first."""
    return [v for v in values[0] if all(v in other for other in values[1:])] if values else []


def _which(slides: Sequence[SlideMeta]) -> tuple[str | None, str | None, str | None]:
    keys = _common([meta.group_keys for meta in slides])
    if not keys:
        st.info("The chosen slides share no grouping of their cells (cell types).")
        return None, None, None
    default = slides[0].default_group
    group, left, right = st.columns(3)
    groupby = group.selectbox(
        "Grouping",
        keys,
        index=keys.index(default) if default in keys else 0,
        key="screen-groupby",
        help="Which labels of the cells say what type they are.",
    )
    found = [services().slide(meta.slide_id).group(groupby).categories for meta in slides]
    types = _common(found)
    names = ("First cell type", "Second cell type")
    explanation = "Pairs of one cell of each type, neighbours in the tissue, are screened."
    a, b = (
        column.selectbox(
            name,
            types,
            index=None,
            placeholder="Choose",
            key=f"screen-type-{i}-{groupby}",
            help=explanation,
        )
        for i, (column, name) in enumerate(zip((left, right), names, strict=True))
    )
    return groupby, a, b


def _model_label(info: CheckpointInfo) -> str:
    origin = " · simulated tissue" if info.simulated else ""
    return f"{info.name} ({info.architecture}, {info.preset}{origin})"


def _which_model(slides: Sequence[SlideMeta]) -> tuple[str | None, bool]:
    models = {info.id: info for info in services().checkpoints()}
    if not models:
        st.warning("No checkpoint is here. Train one, or put its folder into `checkpoints/`.")
        return None, False
    # A model of simulated tissue comes first only where the slide is simulated too.
    real = not all(meta.simulated for meta in slides)
    order = sorted(models, key=lambda i: models[i].simulated == real)
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    chosen = left.selectbox(
        "Model (checkpoint)",
        order,
        format_func=lambda i: _model_label(models[i]),
        key="screen-checkpoint",
        help="The network that predicts whether two cells are neighbours.",
    )
    info = models[chosen]
    with right.popover("Card", icon=":material/description:", width="stretch"):
        st.markdown(info.card or "This checkpoint has no card.")
    allowed = False
    if info.simulated and real:
        st.warning(
            "This model was trained on simulated tissue only. On a measured slide its effects mean "
            "nothing biological, so it is refused unless you insist; every output is then marked.",
            icon=":material/warning:",
        )
        allowed = st.checkbox("Use it all the same", key="screen-allow-simulated")
    return chosen, allowed


def _default(field: str) -> Any:
    return ScreenRequest.model_fields[field].default


def _numbers() -> dict[str, Any]:
    near, far_from, far_to = st.columns(3)
    far_um = _default("far_um")
    radius = near.number_input(
        "Near: at most (µm)",
        min_value=5.0,
        max_value=95.0,
        value=float(_default("radius_um")),
        step=5.0,
        key="screen-radius",
        help="Two cells are near when their centres are at most this far apart.",
    )
    explanation = "Far pairs of the same types are what near pairs are compared with."
    nearest = far_from.number_input(
        "Far: from (µm)", 50.0, 1000.0, far_um[0], 10.0, key="screen-far-from", help=explanation
    )
    farthest = far_to.number_input(
        "Far: to (µm)", 60.0, 2000.0, far_um[1], 10.0, key="screen-far-to", help=explanation
    )
    per_unit, support, seed = st.columns(3)
    return {
        "radius_um": radius,
        "far_um": (nearest, farthest),
        "max_pairs_per_unit": per_unit.number_input(
            "Near pairs per unit, at most",
            min_value=10,
            max_value=20_000,
            value=_default("max_pairs_per_unit"),
            step=50,
            key="screen-max-pairs",
            help="More pairs take more time; those beyond are left out at random.",
        ),
        "min_support": support.number_input(
            "Cell pairs per gene pair",
            min_value=1,
            value=_default("min_support"),
            key="screen-support",
            help="A gene pair is tested where at least so many cell pairs of a unit carry both.",
        ),
        "seed": seed.number_input(
            "Seed",
            min_value=0,
            value=_default("seed"),
            key="screen-seed",
            help="The same seed gives the same result to the last digit.",
        ),
    }


def _details() -> dict[str, Any]:
    with st.expander("Details", icon=":material/tune:"):
        numbers = _numbers()
        left, right = st.columns(2)
        return numbers | {
            "unit": left.selectbox(
                "Replicate unit",
                list(_UNITS),
                format_func=_UNITS.__getitem__,
                key="screen-unit",
                help="What counts as one observation. Never the cell: neighbours share everything.",
            ),
            "knockout": right.selectbox(
                "Knock-out",
                list(_KNOCKOUTS),
                format_func=_KNOCKOUTS.__getitem__,
                key="screen-knockout",
                help="How a gene is removed from the cell that the model reads.",
            ),
        }


def form(slides: Sequence[SlideMeta]) -> ScreenRequest | None:
    """Draw the form; return the request once all that it needs is chosen."""
    st.markdown("##### 1 · Where")
    slide_ids, roi_ids = _where(slides)
    chosen = [meta for meta in slides if meta.slide_id in slide_ids]
    if not chosen:
        st.info("Choose at least one slide.")
        return None
    st.markdown("##### 2 · Which cells")
    groupby, left, right = _which(chosen)
    st.markdown("##### 3 · Which model")
    checkpoint, allowed = _which_model(chosen)
    details = _details()
    if not (groupby and left and right and checkpoint):
        return None
    radius_um, (nearest, farthest) = details["radius_um"], details["far_um"]
    if not radius_um < nearest < farthest:
        raise SpatialFormerError(
            f"Near ends at {radius_um:g} µm, far goes from {nearest:g} to {farthest:g} µm.",
            fix="Under Details, let near end before far begins, and far begin before it ends.",
        )
    return ScreenRequest(
        slide_ids=tuple(slide_ids),
        roi_ids=tuple(roi_ids),
        groupby=groupby,
        group_left=left,
        group_right=right,
        checkpoint_id=checkpoint,
        allow_simulated=allowed,
        **details,
    )
