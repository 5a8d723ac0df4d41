"""The form of a comparison of gene pairs: slides, groups, settings. Returns a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import choices
from pages.ui.session import current_slide, services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import GenePairRequest

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta

_SLIDES = "pairs-slides"
_UNITS = {
    "auto": "automatic: the largest with 6 or more",
    "donor": "donor",
    "slide": "slide",
    "block": "tissue block (square of 200–1000 µm)",
}
_REST, _TWO = "Each group with all other cells", "Two groups with each other"


def _where(slides: Sequence[SlideMeta]) -> list[str]:
    names = {meta.slide_id: meta.name for meta in slides}
    first = current_slide()
    kept = [slide for slide in st.session_state.get(_SLIDES, []) if slide in names]
    st.session_state[_SLIDES] = kept or [first if first in names else next(iter(names))]
    return st.multiselect(
        "Slides",
        list(names),
        format_func=names.__getitem__,
        key=_SLIDES,
        persist_state="session",
        help="Healthy against disease needs slides of both, from three donors each for p-values.",
    )


def _names(slide_ids: Sequence[str], groupby: str) -> tuple[str, ...]:
    versions = tuple(services().slide(slide_id).meta.version for slide_id in slide_ids)
    return _cached_names(tuple(slide_ids), groupby, versions)


@st.cache_data(show_spinner=False, max_entries=64)
def _cached_names(
    slide_ids: tuple[str, ...], groupby: str, versions: tuple[str, ...]
) -> tuple[str, ...]:
    del versions  # part of the key only: a slide that changed may have other groups
    return services().gene_pairs.groups(slide_ids, groupby)


def _groups(slide_ids: Sequence[str], groupby: str) -> tuple[bool, tuple[str, str] | None]:
    """Return whether all that is needed is chosen, and the two groups (None: each and rest)."""
    names = _names(slide_ids, groupby)
    if len(names) < 2:
        st.info(f"`{groupby}` has fewer than two groups here; choose another grouping.")
        return False, None
    how = st.radio("Compare", (_REST, _TWO), key="pairs-how", horizontal=True)
    if how == _REST:
        return True, None
    left, right = st.columns(2)
    chosen = [
        column.selectbox(
            label,
            names,
            index=None,
            placeholder="Choose",
            key=f"pairs-{label}-{groupby}",
            help="Effects are differences: share in the group minus share in the reference.",
        )
        for column, label in ((left, "Group"), (right, "Reference"))
    ]
    if chosen[0] is None or chosen[1] is None:
        return False, None
    return True, (chosen[0], chosen[1])


def _within(
    slide_ids: Sequence[str], keys: Sequence[str], groupby: str
) -> tuple[bool, tuple[str, str] | None]:
    others = [key for key in keys if key != groupby]
    if not others:
        return True, None
    left, right = st.columns(2)
    key = left.selectbox(
        "Within (optional)",
        others,
        index=None,
        placeholder="All cells",
        key=f"pairs-within-{groupby}",
        help="Compare cells of one type only: else a changing mix of types looks like a change "
        "of pairs.",
    )
    if key is None:
        return True, None
    names = _names(slide_ids, key)
    name = right.selectbox(
        "Cells of", names, index=None, placeholder="Choose", key=f"pairs-within-group-{key}"
    )
    return name is not None, (key, name) if name else None


def _default(model: str, field: str) -> Any:
    return getattr(GenePairRequest.model_fields[model].default, field)


def _details() -> tuple[dict[str, Any], dict[str, Any]]:
    with st.expander("Details", icon=":material/tune:"):
        one, two, three = st.columns(3)
        settings = {
            "unit": choices.one_of(
                one,
                "Replicate unit",
                _UNITS,
                key="pairs-unit",
                help="What counts as one observation. Never the cell: neighbours share everything.",
            ),
            "n_pairs": two.number_input(
                "Pairs tested, at most",
                10,
                20_000,
                _default("settings", "n_pairs"),
                100,
                key="pairs-n",
                help="The most variable pairs, chosen without a look at the groups.",
            ),
            "min_cells": three.number_input(
                "Cells with the pair, at least",
                min_value=2,
                value=_default("settings", "min_cells"),
                key="pairs-min-cells",
                help="Rarer pairs are left out, the groups disregarded.",
            ),
        }
        four, five, six = st.columns(3)
        measured = {
            "radius_um": four.number_input(
                "Linked up to (µm)",
                0.5,
                50.0,
                float(_default("cooccurrence", "radius_um")),
                0.5,
                key="pairs-radius",
                help="Transcripts of a cell at most this far apart are linked; 5 µm in the paper.",
            ),
            "min_copies": five.number_input(
                "Copies of each gene",
                1,
                100,
                _default("cooccurrence", "min_copies"),
                key="pairs-copies",
                help="In one community of linked transcripts; 3 in the paper.",
            ),
            "permutations": six.number_input(
                "Permutations of gene labels",
                0,
                1000,
                _default("cooccurrence", "permutations"),
                10,
                key="pairs-permutations",
                help="Tell what follows from the counts alone; 0 leaves it out, more take longer.",
            ),
        }
    return settings, measured


def form(slides: Sequence[SlideMeta]) -> GenePairRequest | None:
    """Draw the form; return the request once all that it needs is chosen."""
    st.markdown("##### 1 · Where")
    slide_ids = _where(slides)
    if not slide_ids:
        st.info("Choose at least one slide.")
        return None
    lacking = [m.name for m in slides if m.slide_id in slide_ids and not m.has_transcripts]
    if lacking:
        raise SpatialFormerError(
            f"Without transcripts: {', '.join(lacking)}.",
            fix="Leave them out: which genes sit together needs the place of every transcript.",
        )
    st.markdown("##### 2 · Which groups")
    keys = services().gene_pairs.choices(slide_ids)
    if not keys:
        st.info("These slides share no grouping of cells and do not differ in their samples.")
        return None
    groupby = st.selectbox(
        "Group cells by",
        keys,
        key="pairs-groupby",
        help="Cell types, or what the slides' samples differ by (donor, condition, …).",
    )
    is_ready, groups = _groups(slide_ids, groupby)
    is_within, within = _within(slide_ids, keys, groupby)
    settings, measured = _details()
    if not (is_ready and is_within):
        return None
    return GenePairRequest.model_validate(
        {
            "slide_ids": slide_ids,
            "groupby": groupby,
            "within": within,
            "settings": {**settings, "groups": groups},
            "cooccurrence": measured,
        }
    )
