"""The form of a screen: where, which cells, which model. Returns a request, runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import model_choice
from pages.ui import screen_settings as settings
from pages.ui.screen_where import where
from pages.ui.session import services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import ScreenRequest

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta


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


def _which_model(slides: Sequence[SlideMeta]) -> tuple[str | None, bool, dict[str, Any]]:
    models = {info.id: info for info in services().checkpoints()}
    if not models:
        st.warning("No checkpoint is here. Train one, or put its folder into `checkpoints/`.")
        return None, False, {}
    # A model of simulated tissue comes first only where the slide is simulated too.
    real = not all(meta.simulated for meta in slides)
    order = sorted(models, key=lambda i: models[i].simulated == real)
    info = model_choice.pick(
        [models[name] for name in order],
        "screen-checkpoint",
        "The network that predicts whether two cells are neighbours.",
    )
    allowed = False
    if info.simulated and real:
        st.warning(
            "This model was trained on simulated tissue only. On a measured slide its effects mean "
            "nothing biological, so it is refused unless you insist; every output is then marked.",
            icon=":material/warning:",
        )
        allowed = st.checkbox("Use it all the same", key="screen-allow-simulated")
    return info.id, allowed, settings.other_models(models, info.id)


def form(slides: Sequence[SlideMeta]) -> ScreenRequest | None:
    """Draw the form; return the request once all that it needs is chosen.

    Raises
    ------
    SpatialFormerError
        If what is chosen does not fit together; the whole form is drawn all the same.
    """
    st.markdown("##### 1 · Where")
    faults: list[SpatialFormerError] = []
    chosen, values = _kept(lambda: where(slides), faults) or (_first(slides), {})
    if not chosen:
        st.info("Choose at least one slide.")
        return None
    st.markdown("##### 2 · Which cells")
    groupby, left, right = _which(chosen)
    st.markdown("##### 3 · Which model")
    checkpoint, allowed, others = _which_model(chosen)
    st.markdown("##### 4 · What is taken out, and how it is judged")
    values |= _kept(settings.knocked_out, faults) or {}
    values |= settings.details() | settings.compared() | others
    if not (groupby and left and right and checkpoint):
        return None
    if faults:
        raise faults[0]
    _check_distances(values)
    fields = ScreenRequest.model_fields
    return ScreenRequest.model_validate(
        {name: value for name, value in values.items() if name in fields}
        | {
            "groupby": groupby,
            "group_left": left,
            "group_right": right,
            "checkpoint_id": checkpoint,
            "allow_simulated": allowed,
        }
    )


def _kept(draw: Callable[[], Any], faults: list[SpatialFormerError]) -> Any:
    """Draw one part; keep its fault for later, so that the parts below it are drawn."""
    try:
        return draw()
    except SpatialFormerError as error:
        faults.append(error)
        return None


def _first(slides: Sequence[SlideMeta]) -> list[SlideMeta]:
    chosen = st.session_state.get("screen-slides", [])
    return [meta for meta in slides if meta.slide_id in chosen]


def _check_distances(values: dict[str, Any]) -> None:
    radius_um, (nearest, farthest) = values["radius_um"], values["far_um"]
    if not radius_um < nearest < farthest:
        raise SpatialFormerError(
            f"Near ends at {radius_um:g} µm, far goes from {nearest:g} to {farthest:g} µm.",
            fix="Under Details, let near end before far begins, and far begin before it ends.",
        )
