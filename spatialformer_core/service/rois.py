"""Regions of interest: saved by name, imported and exported as GeoJSON in um."""

from __future__ import annotations

import json
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
        If it is not exactly one valid region, or the name is empty or taken.
    """
    label = name.strip()
    if not 1 <= len(label) <= 64 or not label.isprintable():
        raise SpatialFormerError(
            "A region needs a name of 1-64 printable characters.", fix="Type a name for it."
        )
    if any(roi.name == label for roi in slide.rois()):
        raise SpatialFormerError(
            f"The slide already has a region called {label!r}.", fix="Choose another name."
        )
    feature = _one_feature(geojson, limits)
    properties = {"unit": label, **(feature.get("properties") or {})}
    feature = {**feature, "properties": {**properties, "name": label}}
    return _add(slide, {"type": "FeatureCollection", "features": [feature]}, limits)[0]


def import_rois(slide: Slide, text: str, limits: Limits) -> list[Roi]:
    """Add every region of a GeoJSON FeatureCollection, or none if one of them is not valid.

    Raises
    ------
    SpatialFormerError
        If the text is no such collection, a region is invalid, or a name is taken.
    """
    return _add(slide, _parsed(text, limits), limits)


def export_rois(slide: Slide) -> str:
    """Return all regions of a slide as a GeoJSON FeatureCollection, coordinates in um."""
    from spatialformer_core.slides import rois_to_geojson

    return json.dumps(rois_to_geojson(slide.rois()), indent=1, ensure_ascii=False)


def _add(slide: Slide, collection: dict[str, Any], limits: Limits) -> list[Roi]:
    from spatialformer_core.slides import parse_rois

    new = parse_rois(collection, slide.meta.slide_id)
    existing = slide.rois()
    if len(existing) + len(new) > limits.max_rois_per_slide:
        raise SpatialFormerError(
            f"The slide would have {len(existing) + len(new)} regions, "
            f"{limits.max_rois_per_slide} are allowed.",
            fix="Delete some first.",
        )
    names = [roi.name for roi in (*existing, *new)]
    taken = sorted({name for name in names if names.count(name) > 1})
    if taken:
        raise SpatialFormerError(
            f"The slide would have two regions called {taken[0]!r}.",
            fix="Rename or delete one of them.",
        )
    for roi in new:
        slide.save_roi(roi)
    return new


def _parsed(text: str | dict[str, Any], limits: Limits) -> dict[str, Any]:
    value: Any = text
    if isinstance(text, str):
        if len(text) > limits.max_geojson_bytes:
            raise SpatialFormerError(
                f"The GeoJSON has {len(text):,} characters, {limits.max_geojson_bytes:,} are "
                "allowed.",
                fix="Simplify the regions.",
            )
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpatialFormerError(
                f"The regions are no GeoJSON: {error}.",
                fix="Export a FeatureCollection with coordinates in um.",
            ) from error
    if not isinstance(value, dict):
        raise SpatialFormerError("The regions are no GeoJSON: the text holds no object.")
    return value


def _one_feature(geojson: str | dict[str, Any], limits: Limits) -> dict[str, Any]:
    value = _parsed(geojson, limits)
    if value.get("type") == "FeatureCollection":
        features = value.get("features")
        if (
            not isinstance(features, list)
            or len(features) != 1
            or not isinstance(features[0], dict)
        ):
            raise SpatialFormerError("Exactly one region can be saved at a time.")
        value = features[0]
    if value.get("type") != "Feature":
        value = {"type": "Feature", "properties": {}, "geometry": value}
    _check_size(value, limits)
    return value


def _check_size(feature: dict[str, Any], limits: Limits) -> None:
    geometry = feature.get("geometry")
    n_vertices = _count_vertices(geometry.get("coordinates")) if isinstance(geometry, dict) else 0
    if n_vertices > limits.max_roi_vertices:
        raise SpatialFormerError(
            f"The region has {n_vertices:,} vertices, {limits.max_roi_vertices:,} are allowed.",
            fix="Draw it with fewer points, or simplify it.",
        )


def _count_vertices(coordinates: Any) -> int:
    if not isinstance(coordinates, list) or not coordinates:
        return 0
    if isinstance(coordinates[0], list):
        return sum(_count_vertices(part) for part in coordinates)
    return 1
