"""Tissue: look at a slide, draw regions, see what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.ui import (
    cards,
    choices,
    colour_choice,
    composition,
    region_compare,
    region_expression,
    rois,
    slide_cards,
    tissue_view,
    view_link,
)
from pages.ui.session import errors_shown, look_at, owner, services, show_remembered
from pages.ui.viewer.component import HEIGHT_PX
from spatialformer_core.service.roi_tools import outline_of, sets_of

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta


def _no_slide() -> None:
    cards.no_slide(
        "No slide to look at",
        "Register a slide first; it opens here as soon as it is read.",
        "blur_on",
    )


def _region(meta: SlideMeta, chosen: str) -> composition.Region:
    if chosen == rois.DRAWN:
        polygon = rois.drawn_polygon_of(meta.slide_id)
        if polygon is not None:
            return composition.Region("drawn region", polygon, polygon.area)
    found = services().rois(meta.slide_id, owner())
    for roi in found:
        if roi.roi_id == chosen:
            return composition.Region(roi.name, roi.polygon, roi.area_um2)
    members = sets_of(found).get(chosen.removeprefix(tissue_view.SET))
    if members and chosen.startswith(tissue_view.SET):
        polygon = outline_of(members)
        return composition.Region(chosen.removeprefix(tissue_view.SET), polygon, polygon.area)
    return composition.Region("whole slide")


def _composition(meta: SlideMeta, chosen: str) -> None:
    if not meta.group_keys:
        st.info(
            "This slide has no cell types. Cluster its cells, or attach a table of labels, on the "
            "page Slides; the composition of regions is shown here then."
        )
        return
    region = _region(meta, chosen)
    (groupby, *others) = meta.group_keys
    if others:
        groupby = choices.one_grouping(st, "Composition by", meta, width=240)
    composition.view(meta, region, groupby)
    region_expression.panel(meta, region, groupby)


@st.fragment
def _workspace(meta: SlideMeta, colour: str, genes: list[str]) -> None:
    """Draw viewer, regions and composition; a lasso reruns only this part of the page."""
    show_remembered()
    picture, side = st.columns([3.2, 1], gap="medium")
    below = st.container()
    with picture, errors_shown():
        # Before anything is drawn: what was drawn or clicked decides what all of it shows.
        chosen = rois.chosen_by(tissue_view.event(meta), meta.slide_id)
        if tissue_view.show(meta, colour, genes, chosen) is not None:
            # Plotly tells only once it is drawn.
            rois.show_drawn(meta.slide_id)
    waited_for = tissue_view.is_waited_for(meta)
    with below, errors_shown():
        # Before the tools beside the picture: its numbers are what a lasso asks for.
        if not waited_for:
            _composition(meta, chosen)
    with side, st.container(height=HEIGHT_PX, border=False), errors_shown():
        rois.panel(meta)
    with below, errors_shown():
        if not waited_for:
            region_compare.panel(meta, services().rois(meta.slide_id, owner()))


def main() -> None:
    """Draw the page."""
    cards.heading("Tissue", "Colour the cells, draw regions, see what they are made of.")
    with errors_shown():
        slides = services().slides()
        if not slides:
            _no_slide()
            return
        left, right, beside = st.columns([1, 1.7, 1.2], gap="medium")
        with left:
            meta = choices.one_slide(st, slides, help="Slides are registered on the page *Slides*.")
        view_link.keep_for(meta.slide_id)
        look_at(meta.slide_id)
        with right:
            colour = colour_choice.choose_colour(meta)
        with beside:
            genes = tissue_view.choose_genes(meta)
        with st.container(horizontal=True, vertical_alignment="center"):
            slide_cards.slide_badges(meta)
            st.caption(slide_cards.sample_line(meta), width="content")
        _workspace(meta, colour, genes)


main()
