"""The form of a prediction of neighbours: which cells, which model, how near. Returns a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages.ui import choices, model_choice
from pages.ui.session import owner, services
from spatialformer_core.service import SampleMetadata
from spatialformer_core.service.colocalise import ColocaliseRequest
from spatialformer_core.service.colocalise_estimate import expression_files, file_overview

if TYPE_CHECKING:
    from pages.ui.model_choice import ModelChoice
    from spatialformer_core.service import SlideMeta

RADII_UM = (10, 20, 30, 40)
_SLIDE, _FILE = "Slide", "Dissociated cells (.h5ad)"
_WORDS = {
    "condition": ("Condition", ("Healthy", "Disease")),
    "tissue": ("Tissue", ("Lung", "Pancreas")),
    "species": ("Species", ("Human", "Mouse")),
    "assay": ("Assay", ("Xenium", "10x 3'")),
}
_CELLS = {
    "auto": "those that the model has not seen, where that is known",
    "held_out": "only those that the model has not seen",
    "all": "all, also those that it has seen (flatters)",
}
# Of a cross-encoder: some minutes instead of hours.
_READ = {"queries": 250, "ring": 60, "far": 60}


@dataclass(frozen=True, slots=True)
class _Where:
    """Where the cells come from: request fields, groupings with their types, the slide if any."""

    fields: dict[str, Any]
    groups: dict[str, tuple[str, ...]]
    is_placed: bool
    default: str | None = None
    slide: SlideMeta | None = None


def _source(slides: Sequence[SlideMeta]) -> _Where | None:
    kind = st.segmented_control(
        "Cells of",
        [_SLIDE, _FILE],
        default=_SLIDE if slides else _FILE,
        required=True,
        key="neighbours-kind",
        help="Cells of a slide have true neighbours to compare with. Dissociated cells have none: "
        "the model says which types it would expect together.",
    )
    return _of_slide(slides) if kind == _SLIDE else _of_file()


def _of_slide(slides: Sequence[SlideMeta]) -> _Where | None:
    if not slides:
        st.info("There is no slide yet; register one on the page *Slides*.")
        return None
    left, right = st.columns(2)
    meta = choices.one_slide(left, slides, key="neighbours-slide")
    chosen = meta.slide_id
    regions = {roi.roi_id: roi.name for roi in services().rois(chosen, owner())}
    picked = right.multiselect(
        "Regions",
        list(regions),
        format_func=regions.__getitem__,
        key=f"neighbours-rois-{chosen}",
        placeholder="Whole slide",
        help="Cells in these regions are asked about their neighbours; candidates may lie outside. "
        "Draw and save regions on the page Tissue.",
    )
    slide = services().slide(chosen)
    groups = {key: slide.group(key).categories for key in meta.group_keys}
    fields = {"slide_id": chosen, "roi_ids": tuple(picked)}
    return _Where(fields, groups, is_placed=True, default=meta.default_group, slide=meta)


@st.cache_data(show_spinner="Reading what the file holds", max_entries=16, ttl=600)
def _overview(home: str, source_id: str) -> tuple[int, dict[str, tuple[str, ...]], bool]:
    del home  # part of the cache key
    found = file_overview(services(), source_id)
    return found.n_cells, found.groups, found.has_coordinates


def _of_file() -> _Where | None:
    files = {entry.id: entry.name for entry in expression_files(services())}
    if not files:
        st.info(
            "No `.h5ad` file lies in the allowed folders. Put one into `sources/` of the home "
            "folder, or name its folder under `slide_roots` in `config.yaml`; it needs raw counts "
            "and a column of cell types, no coordinates."
        )
        return None
    chosen = choices.one_of(st, "File", files, key="neighbours-source")
    n_cells, groups, placed = _overview(str(services().home), chosen)
    placed_text = "with coordinates" if placed else "without coordinates"
    st.caption(f"{n_cells:,} cells {placed_text}; {len(groups)} groupings.")
    return _Where({"source_id": chosen}, groups, is_placed=placed)


def _which(where: _Where) -> tuple[str, list[str]] | None:
    keys = list(where.groups)
    if not keys:
        st.info("These cells have no grouping (cell types), so nothing can be said by type.")
        return None
    left, right = st.columns(2)
    groupby = left.selectbox(
        "Grouping",
        keys,
        index=keys.index(where.default) if where.default in keys else 0,
        key=f"neighbours-groupby-{'-'.join(map(str, where.fields.values()))[:60]}",
        help="Which labels of the cells say what type they are.",
    )
    types = right.multiselect(
        "Types that are asked about",
        list(where.groups[groupby]),
        key=f"neighbours-types-{groupby}",
        placeholder="All types",
        help="The query cells. Their neighbours may be of any type.",
    )
    return groupby, types


def _sample() -> SampleMetadata | None:
    """Draw what the cells of a file are; None while it is incomplete."""
    values: dict[str, str | None] = {}
    for column, (field, (label, known)) in zip(st.columns(4), _WORDS.items(), strict=True):
        values[field] = column.selectbox(
            label,
            known,
            index=None,
            key=f"neighbours-{field}",
            placeholder="Choose or type",
            accept_new_options=True,
            help="The model reads it as a token; or mask all four under Details.",
        )
    if not all(values.values()):
        return None
    # Donor and block are replicate units; no token is made of them.
    return SampleMetadata.model_validate({**values, "donor": "-", "block": "-"})


def _details(model: ModelChoice, where: _Where) -> dict[str, Any]:
    slow = "-read" if model.reads_pairs else ""
    with st.expander("Details", icon=":material/tune:"):
        one, two, three = st.columns(3)
        found: dict[str, Any] = {
            "n_queries": one.number_input(
                "Query cells, at most",
                1,
                100_000,
                _READ["queries"] if slow else 2_000,
                key=f"neighbours-queries{slow}",
                help="Drawn at random from the cells chosen above; more take longer.",
            ),
            "k": two.number_input(
                "Predicted neighbours per cell",
                1,
                1_000,
                20,
                key="neighbours-k",
                help="The candidates with the highest scores.",
            ),
            "seed": three.number_input(
                "Seed", 0, key="neighbours-seed", help="The same seed gives the same result."
            ),
        }
        four, five, six = st.columns(3)
        masked = four.checkbox(
            "Mask the meta tokens",
            key="neighbours-masked",
            help="Hide condition, tissue, species and assay from the model.",
        )
        found["meta"] = "masked" if masked else "given"
        if not where.is_placed:
            found["n_sample"] = five.number_input(
                "Candidates per cell",
                10,
                100_000,
                60 if slow else 2_000,
                key=f"neighbours-sample{slow}",
                help="Drawn from all cells of the file: nobody knows which were near.",
            )
            return found
        with five:
            found["n_far"] = _far(slow)
        if where.slide is not None:
            with six:
                found["cells"] = _taking_part()
        if slow:
            found["n_ring"] = _READ["ring"]
    return found


def _far(slow: str) -> int:
    return st.number_input(
        "Candidates beyond 300 µm",
        0,
        100_000,
        _READ["far"] if slow else 300,
        key=f"neighbours-far{slow}",
        help="A random sample of the rest of the slide; each stands for many (weighted).",
    )


def _taking_part() -> str:
    chosen: str = choices.one_of(
        st,
        "Cells that take part",
        _CELLS,
        key="neighbours-cells",
        help="A model flatters itself on cells that it was trained on.",
    )
    return chosen


def _radius() -> float:
    chosen = st.segmented_control(
        "Neighbours lie within (µm)",
        RADII_UM,
        default=30,
        required=True,
        key="neighbours-radius",
        help="Distance of the centres of two cells; 30 µm in the paper.",
    )
    return float(chosen or 30)


def form(slides: Sequence[SlideMeta]) -> ColocaliseRequest | None:
    """Draw the form; return the request once all that it needs is chosen."""
    st.markdown("##### 1 · Which cells")
    where = _source(slides)
    if where is None:
        return None
    chosen = _which(where)
    if chosen is None:
        return None
    radius_um = _radius() if where.is_placed else None
    st.markdown("##### 2 · Which model")
    slide_id = where.slide.slide_id if where.slide else None
    is_simulated = bool(where.slide and where.slide.simulated)
    model = model_choice.choose("neighbours", slide_id, is_simulated=is_simulated)
    if model is None:
        return None
    sample = _sample() if where.slide is None else None
    details = _details(model, where)
    if where.slide is None and sample is None and details["meta"] == "given":
        st.info("Say what the cells are, or mask the meta tokens under Details.")
        return None
    if radius_um is not None:
        details["radius_um"] = radius_um
    return ColocaliseRequest(
        **where.fields,
        groupby=chosen[0],
        query_types=tuple(chosen[1]),
        checkpoint_id=model.info.id,
        allow_simulated=model.allow_simulated,
        sample=sample,
        **details,
    )
