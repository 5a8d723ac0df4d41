"""The regions of a screen on one slide: given as GeoJSON or saved with the slide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import Region, ScreenRequest
from spatialformer_core.slides import parse_rois, select_cells

if TYPE_CHECKING:
    from spatialformer_core.slides import Roi, Slide


def regions_of(slide: Slide, request: ScreenRequest) -> tuple[Region, ...]:
    """Return the regions of a slide that a screen works in; none means the whole slide.

    Raises
    ------
    SpatialFormerError
        If a region does not exist or is none, or none of those chosen lies on this slide although
        the regions to compare with do not either.
    """
    found = _read(slide, request, request.regions_geojson, request.roi_ids)
    asked = request.roi_ids or request.regions_geojson is not None
    if not found and asked and not versus_of(slide, request):
        raise SpatialFormerError(
            "None of the chosen regions lies on this slide.",
            slide.meta.slide_id,
            "Choose a region on each slide, or leave the slide out.",
        )
    return found


def versus_of(slide: Slide, request: ScreenRequest) -> tuple[Region, ...]:
    """Return the regions of a slide that a screen compares with; see `regions_of`."""
    return _read(slide, request, request.versus_geojson, request.versus_roi_ids)


def _read(
    slide: Slide, request: ScreenRequest, geojson: str | None, roi_ids: tuple[str, ...]
) -> tuple[Region, ...]:
    rois: list[Roi] = []
    if geojson is not None:
        own = _of_slide(geojson, slide.meta.slide_id, request.slide_ids)
        if own is not None:
            rois += parse_rois(own, slide.meta.slide_id, slide.meta.bounds_um)
    if roi_ids:
        saved = {roi.roi_id: roi for roi in slide.rois()}
        rois += [saved[roi_id] for roi_id in roi_ids if roi_id in saved]
        missing = sorted(set(roi_ids) - saved.keys())
        if missing and len(request.slide_ids) == 1:
            raise SpatialFormerError(
                f"The slide has no region {missing[0][:80]!r}.",
                slide.meta.slide_id,
                "Save it first.",
            )
    xy = np.asarray(slide.xy_um)
    # The order of the units decides which far pairs are drawn; the order of a file shall not.
    rois.sort(key=lambda roi: (roi.unit, roi.name, roi.polygon.wkt))
    return tuple(Region(roi.name, roi.unit, select_cells(xy, roi.polygon)) for roi in rois)


def _of_slide(text: str, slide_id: str, slide_ids: tuple[str, ...]) -> str | None:
    """Return the regions of one slide, leaving out those that name another slide of the screen.

    None if all of them do. What is no GeoJSON collection is left to `parse_rois`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    features = value.get("features") if isinstance(value, dict) else None
    if not isinstance(features, list):
        return text
    others = set(slide_ids) - {slide_id}
    own = [feature for feature in features if _slide_named(feature) not in others]
    if not own and features:
        return None
    return json.dumps({"type": "FeatureCollection", "features": own})


def _slide_named(feature: Any) -> str | None:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    name = properties.get("slide_id") if isinstance(properties, dict) else None
    return name if isinstance(name, str) else None
