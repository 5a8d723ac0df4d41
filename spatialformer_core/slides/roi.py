"""Regions of interest: polygons in micrometres, as GeoJSON or as Xenium Explorer's CSV."""

from __future__ import annotations

import csv
import io as textio
import json
import math
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.checks import MAX_COORDINATE_UM

MAX_BYTES = 1 << 24
MAX_FEATURES = 1_000
MAX_VERTICES = 20_000
_MAX_NAME = 64

Polygon = Any
"""``shapely.Polygon`` or ``shapely.MultiPolygon``; shapely ships no types."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Roi:
    """A named region of one slide.

    Attributes
    ----------
    unit
        The replicate that the region counts as in a test.
    polygon
        Polygon or multipolygon in um.
    color
        ``#rrggbb`` or None.
    owner
        Who alone sees it; None shows it to all users of the slide.
    group
        Set of regions that it belongs to (all granulomas of a slide), or None; each region of a
        set stays a unit of its own.
    """

    roi_id: str
    name: str
    slide_id: str
    unit: str
    polygon: Polygon
    color: str | None = None
    owner: str | None = None
    group: str | None = None

    @property
    def area_um2(self) -> float:
        """Area without holes."""
        return float(self.polygon.area)


def select_cells(xy_um: NDArray[Any], polygon: Polygon) -> BoolArray:
    """Tell which cells lie in a polygon, its edge included.

    Parameters
    ----------
    xy_um
        Centroids, shape ``(n, 2)``.

    Returns
    -------
    BoolArray
        Shape ``(n,)``.
    """
    x0, y0, x1, y1 = polygon.bounds
    x, y = np.asarray(xy_um[:, 0], np.float64), np.asarray(xy_um[:, 1], np.float64)
    near = np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
    mask = np.zeros(len(xy_um), np.bool_)
    shapely.prepare(polygon)
    mask[near] = shapely.intersects_xy(polygon, x[near], y[near])
    return mask


def parse_rois(
    text: str | dict[str, Any], slide_id: str, bounds_um: Bounds | None = None
) -> list[Roi]:
    """Read regions from GeoJSON (text or object) or from Xenium Explorer's selection CSV.

    Parameters
    ----------
    slide_id
        The slide that the regions must belong to.
    bounds_um
        ``(x0, y0, x1, y1)`` of the slide; a region wholly outside it is refused.

    Raises
    ------
    SpatialFormerError
        Names the region and what to do: no geometry, self-crossing, empty, not finite, too many
        vertices or regions, outside the slide, of another slide.
    """
    if isinstance(text, str) and len(text) > MAX_BYTES:
        raise SpatialFormerError(f"The regions are larger than {MAX_BYTES:,} bytes.")
    features = _features(text, slide_id)
    if not features:
        raise SpatialFormerError("There is no region in it.", fix="Draw at least one polygon.")
    if len(features) > MAX_FEATURES:
        raise SpatialFormerError(f"{len(features):,} regions; {MAX_FEATURES:,} at most.")
    rois = [_roi(feature, i, slide_id, bounds_um) for i, feature in enumerate(features, start=1)]
    if len({roi.roi_id for roi in rois}) != len(rois):
        raise SpatialFormerError("Two regions carry the same id.", fix="Give each its own id.")
    return rois


def to_geojson(rois: list[Roi]) -> dict[str, Any]:
    """Return a FeatureCollection with coordinates in um that `parse_rois` reads back."""
    return {"type": "FeatureCollection", "features": [_feature(roi) for roi in rois]}


def _feature(roi: Roi) -> dict[str, Any]:
    properties = {"name": roi.name, "slide_id": roi.slide_id, "unit": roi.unit}
    if roi.color:
        properties["color"] = roi.color
    if roi.owner:
        properties["owner"] = roi.owner
    if roi.group:
        properties["group"] = roi.group
    geometry = json.loads(shapely.to_geojson(roi.polygon))
    return {"type": "Feature", "id": roi.roi_id, "properties": properties, "geometry": geometry}


def _features(text: str | dict[str, Any], slide_id: str) -> list[Any]:
    if isinstance(text, str):
        if not text.lstrip().startswith(("{", "[")):
            return _explorer_features(text, slide_id)
        try:
            text = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SpatialFormerError(f"The regions are no GeoJSON: {error}.") from error
    kind = text.get("type") if isinstance(text, dict) else None
    if isinstance(text, dict) and kind == "FeatureCollection":
        features = text.get("features")
        if isinstance(features, list):
            return features
    elif kind == "Feature":
        return [text]
    elif kind in ("Polygon", "MultiPolygon"):
        return [{"type": "Feature", "properties": {}, "geometry": text}]
    found = "no type" if kind is None else repr(str(kind)[:40])
    raise SpatialFormerError(f"A GeoJSON FeatureCollection of polygons is expected; found {found}.")


def _explorer_features(text: str, slide_id: str) -> list[Any]:
    """Read ``[Selection,]X,Y`` rows under ``#`` comments; each selection is one ring."""
    name = "Selection 1"
    rings: dict[str, list[list[float]]] = {}
    header: list[str] | None = None
    for row in csv.reader(textio.StringIO(text)):
        if row and row[0].startswith("#"):
            key, _, value = ",".join(row).lstrip("#").partition(":")
            name = value.strip() if key.strip().lower() == "selection name" else name
        elif header is None:
            header = [cell.strip().lower() for cell in row]
            if not {"x", "y"} <= set(header):
                raise SpatialFormerError(
                    "The regions are neither GeoJSON nor a CSV with columns X and Y.",
                    fix="Export the selection's coordinates from Xenium Explorer.",
                )
        elif row:
            values = dict(zip(header, row, strict=False))
            try:
                point = [float(values["x"]), float(values["y"])]
            except (KeyError, ValueError) as error:
                raise SpatialFormerError(f"Not two numbers: {','.join(row)[:80]!r}.") from error
            rings.setdefault(values.get("selection") or name, []).append(point)
    return [
        {
            "type": "Feature",
            "properties": {"name": key, "slide_id": slide_id},
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring)]},
        }
        for key, ring in rings.items()
    ]


def _closed(ring: list[list[float]]) -> list[list[float]]:
    return ring if ring[0] == ring[-1] else [*ring, ring[0]]


def _roi(feature: Any, number: int, slide_id: str, bounds_um: Bounds | None) -> Roi:
    properties = (feature.get("properties") or {}) if isinstance(feature, dict) else None
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(properties, dict) or not isinstance(geometry, dict):
        raise SpatialFormerError(f"Region {number} is no GeoJSON feature with a geometry.")
    name = _text(properties.get("name"), f"ROI {number}")
    where = f"region {number}, {name!r}"
    foreign = properties.get("slide_id")
    if foreign is not None and foreign != slide_id:
        raise SpatialFormerError(
            f"It belongs to slide {str(foreign)[:64]!r}, not to {slide_id!r}.",
            where,
            "Open that slide, or remove slide_id if the coordinates are truly this slide's.",
        )
    polygon = _polygon(geometry, where)
    if bounds_um is not None and not polygon.intersects(shapely.box(*bounds_um)):
        raise SpatialFormerError(
            "It lies outside the slide.", where, "Coordinates are micrometres of this slide."
        )
    color, owner = properties.get("color"), properties.get("owner")
    return Roi(
        _roi_id(feature.get("id")),
        name,
        slide_id,
        _text(properties.get("unit"), name),
        polygon,
        color if _is_color(color) else None,
        _text(owner, "") or None,
        _text(properties.get("group"), "") or None,
    )


def _text(value: Any, default: str) -> str:
    text = "".join(c for c in str(value) if c.isprintable()).strip()[:_MAX_NAME] if value else ""
    return text or default


def _roi_id(value: Any) -> str:
    text = str(value) if value is not None else ""
    safe = text.isascii() and text.replace("-", "").replace("_", "").isalnum() and len(text) <= 48
    return text if safe and text[0] not in "-_" else uuid.uuid4().hex[:12]


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) == 7
        and value[0] == "#"
        and all(c in "0123456789abcdefABCDEF" for c in value[1:])
    )


def _polygon(geometry: dict[str, Any], where: str) -> Polygon:
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise SpatialFormerError(
            f"Its geometry is {str(kind)[:40]!r}; Polygon or MultiPolygon expected.", where
        )
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list) or not all(isinstance(part, list) for part in parts):
        raise SpatialFormerError("Its coordinates are no lists of rings.", where)
    count = sum(len(ring) for part in parts for ring in part if isinstance(ring, list))
    if count > MAX_VERTICES:
        raise SpatialFormerError(
            f"It has {count:,} vertices; {MAX_VERTICES:,} at most.", where, "Simplify it."
        )
    polygons = [_single([_ring(r, where) for r in part], where) for part in parts if part]
    if not polygons:
        raise SpatialFormerError("It is empty.", where, "Draw a polygon of three points or more.")
    polygon = polygons[0] if kind == "Polygon" else shapely.MultiPolygon(polygons)
    if not shapely.is_valid(polygon):
        reason = shapely.is_valid_reason(polygon)
        raise SpatialFormerError(
            f"Its outline crosses itself or its parts overlap ({reason}).",
            where,
            "Draw it again without crossing lines.",
        )
    return polygon


def _ring(ring: Any, where: str) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for point in ring if isinstance(ring, list) else [None]:
        if not isinstance(point, list) or len(point) < 2 or not all(map(_is_number, point[:2])):
            raise SpatialFormerError("A vertex is no pair of numbers.", where)
        x, y = float(point[0]), float(point[1])
        if not (math.isfinite(x) and math.isfinite(y)):
            raise SpatialFormerError("A vertex is not finite.", where, "Draw it again.")
        if max(abs(x), abs(y)) > MAX_COORDINATE_UM:
            raise SpatialFormerError("A vertex lies beyond one metre.", where, "Use micrometres.")
        points.append((x, y))
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _single(rings: list[list[tuple[float, float]]], where: str) -> Polygon:
    if any(len(set(ring)) < 3 for ring in rings):
        raise SpatialFormerError(
            "It is empty: a ring has fewer than three different points.",
            where,
            "Draw a polygon of three points or more.",
        )
    polygon = shapely.Polygon(rings[0], rings[1:])
    # By its hull: a figure of eight has no area either, but it is not empty.
    if polygon.convex_hull.area <= 0:
        raise SpatialFormerError("It is empty: its area is zero.", where, "Draw it again.")
    return polygon
