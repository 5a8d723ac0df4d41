"""Regions of interest: saved by name, imported and exported as GeoJSON in um."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.settings import Limits

if TYPE_CHECKING:
    from spatialformer_core.slides import Roi, Slide


def save_roi(slide: Slide, geojson: str | dict[str, Any], name: str, limits: Limits) -> Roi:
    """Save one drawn region under a name.

    Parameters
    ----------
    slide
        The slide that it was drawn on.
    geojson
        A geometry, a feature or a collection of one feature; coordinates in um.
    name
        What people call it; unique on the slide. Its replicate unit, unless the feature names one.
    limits
        Vertices and regions allowed.

    Raises
    ------
    SpatialFormerError
        If it is not exactly one valid region on the slide, or the name is empty or taken.
    """
    label = _new_name(slide, name)
    drawn = _one(slide, geojson, limits)
    roi = replace(drawn, name=label, unit=label if drawn.unit == drawn.name else drawn.unit)
    _add(slide, [roi], limits)
    return roi


def rename_roi(slide: Slide, roi_id: str, name: str) -> Roi:
    """Give a saved region another name; its replicate unit follows if it was the old name.

    Raises
    ------
    SpatialFormerError
        If there is no such region, or the name is empty or taken.
    """
    old = find_roi(slide, roi_id)
    if name.strip() == old.name:
        return old
    label = _new_name(slide, name)
    new = replace(old, name=label, unit=label if old.unit == old.name else old.unit)
    slide.save_roi(new)
    return new


def reshape_roi(slide: Slide, roi_id: str, geojson: str | dict[str, Any], limits: Limits) -> Roi:
    """Give a saved region another outline; name, unit and id stay.

    Raises
    ------
    SpatialFormerError
        If there is no such region, or the outline is not exactly one valid region on the slide.
    """
    old = find_roi(slide, roi_id)
    new = replace(old, polygon=_one(slide, geojson, limits).polygon)
    slide.save_roi(new)
    return new


def find_roi(slide: Slide, roi_id: str) -> Roi:
    """Return a saved region.

    Raises
    ------
    SpatialFormerError
        If the slide has none of that id.
    """
    for roi in slide.rois():
        if roi.roi_id == roi_id:
            return roi
    raise SpatialFormerError(
        f"The slide has no region {roi_id[:80]!r}.", where=slide.meta.name, fix="Save it first."
    )


def import_rois(slide: Slide, text: str, limits: Limits) -> list[Roi]:
    """Add every region of a text, or none if one of them is not valid.

    Parameters
    ----------
    slide
        The slide that they lie on.
    text
        GeoJSON in um, or the coordinates CSV of Xenium Explorer.
    limits
        Vertices and regions allowed.

    Raises
    ------
    SpatialFormerError
        If the text holds no regions, one is invalid, or a name is taken.
    """
    new = _parsed(slide, text, limits)
    _add(slide, new, limits)
    return new


def export_rois(slide: Slide) -> str:
    """Return all regions of a slide as a GeoJSON FeatureCollection, coordinates in um."""
    from spatialformer_core.slides import to_geojson

    return json.dumps(to_geojson(slide.rois()), indent=1, ensure_ascii=False)


def _one(slide: Slide, geojson: str | dict[str, Any], limits: Limits) -> Roi:
    drawn = _parsed(slide, geojson, limits)
    if len(drawn) != 1:
        raise SpatialFormerError(
            f"{len(drawn)} regions were given, one can be saved under a name.",
            fix="Import several as a file.",
        )
    return drawn[0]


def _parsed(slide: Slide, geojson: str | dict[str, Any], limits: Limits) -> list[Roi]:
    import shapely

    from spatialformer_core.slides import parse_rois

    found = parse_rois(geojson, slide.meta.slide_id, slide.meta.bounds_um)
    for roi in found:
        n_vertices = int(shapely.get_num_coordinates(roi.polygon))
        if n_vertices > limits.max_roi_vertices:
            raise SpatialFormerError(
                f"The region has {n_vertices:,} vertices, {limits.max_roi_vertices:,} are allowed.",
                where=roi.name,
                fix="Draw it with fewer points, or simplify it.",
            )
    return found


def _add(slide: Slide, new: list[Roi], limits: Limits) -> None:
    existing = slide.rois()
    total = len(existing) + len(new)
    if total > limits.max_rois_per_slide:
        raise SpatialFormerError(
            f"The slide would have {total} regions, {limits.max_rois_per_slide} are allowed.",
            fix="Delete some first.",
        )
    for kind, taken in (
        ("called", Counter(roi.name for roi in (*existing, *new))),
        ("with the id", Counter(roi.roi_id for roi in (*existing, *new))),
    ):
        name, count = taken.most_common(1)[0]
        if count > 1:
            raise SpatialFormerError(
                f"The slide would have two regions {kind} {name!r}.",
                fix="Rename or delete one of them.",
            )
    for roi in new:
        slide.save_roi(roi)


def _new_name(slide: Slide, name: str) -> str:
    label = name.strip()
    if not 1 <= len(label) <= 64 or not label.isprintable():
        raise SpatialFormerError(
            "A region needs a name of 1-64 printable characters.", fix="Type a name for it."
        )
    if any(roi.name == label for roi in slide.rois()):
        raise SpatialFormerError(
            f"The slide already has a region called {label!r}.", fix="Choose another name."
        )
    return label
