"""The choice of a checkpoint, with what has to be known before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import choices
from pages.ui.session import services
from spatialformer_core.service.colocalise_estimate import MIN_COVERAGE

if TYPE_CHECKING:
    from spatialformer_core.service import CheckpointInfo


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A checkpoint, and whether one of simulated tissue is wanted all the same."""

    info: CheckpointInfo
    allow_simulated: bool

    @property
    def reads_pairs(self) -> bool:
        """Whether it reads both cells together: a thousand times slower per pair."""
        return self.info.architecture != "two-tower"


def label(info: CheckpointInfo) -> str:
    """Return what a checkpoint is called in a choice."""
    origin = " · simulated tissue" if info.simulated else ""
    return f"{info.name} ({info.architecture}, {info.preset}{origin})"


@st.cache_data(show_spinner=False, max_entries=256)
def _knows_panel(home: str, slide_id: str, created: str, checkpoint_id: str) -> bool:
    del home, created  # parts of the cache key: a slide read again may have other genes
    return services().coverage(slide_id, checkpoint_id).fraction >= MIN_COVERAGE


def _rank(info: CheckpointInfo, slide_id: str | None, *, is_simulated: bool) -> tuple[bool, ...]:
    """Sort models that know the panel first, then those of such tissue, of the slide, fast ones."""
    knows = True
    if slide_id is not None:
        created = str(services().slide(slide_id).meta.created)
        knows = _knows_panel(str(services().home), slide_id, created, info.id)
    return (
        not knows,
        info.simulated != is_simulated,
        slide_id not in info.trained_on,
        info.architecture != "two-tower",
    )


def pick(models: Sequence[CheckpointInfo], key: str, explanation: str) -> CheckpointInfo:
    """Draw a choice of models, the first at first, with the card of the one that is chosen."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    by_id = {info.id: info for info in models}
    names = {info.id: label(info) for info in models}
    info = by_id[choices.one_of(left, "Model (checkpoint)", names, key=key, help=explanation)]
    with right.popover("Card", icon=":material/description:", width="stretch"):
        st.markdown(info.card or "This checkpoint has no card.")
    return info


def choose(key: str, slide_id: str | None, *, is_simulated: bool) -> ModelChoice | None:
    """Draw the choice of a model; None where there is none, or none that is accepted yet.

    Parameters
    ----------
    key
        Prefix of the session keys.
    slide_id
        The slide that it will read; None for a file.
    is_simulated
        Whether these cells are simulated.
    """
    models = {info.id: info for info in services().checkpoints()}
    if not models:
        st.warning("No checkpoint is here. Train one, or put its folder into `checkpoints/`.")
        return None
    order = sorted(models, key=lambda i: _rank(models[i], slide_id, is_simulated=is_simulated))
    info = pick(
        [models[name] for name in order],
        f"{key}-checkpoint-{slide_id}",
        "The network that reads the cells' genes. Two towers are fast; a cross-encoder reads "
        "both cells of each pair together and takes about a thousand times longer per pair.",
    )
    if not info.simulated or is_simulated:
        return ModelChoice(info, allow_simulated=False)
    st.warning(
        "This model was trained on simulated tissue only. What it says of measured cells means "
        "nothing biological, so it is refused unless you insist; every output is then marked.",
        icon=":material/warning:",
    )
    allowed = st.checkbox("Use it all the same", key=f"{key}-allow-simulated-{info.id}")
    return ModelChoice(info, allow_simulated=True) if allowed else None
