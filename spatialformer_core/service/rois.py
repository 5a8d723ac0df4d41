"""Regions of interest: saved by name, imported and exported as GeoJSON in um."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.settings import Limits

if TYPE_CHECKING:
    from spatialformer_core.service.facade import Services
    from spatialformer_core.slides import Roi, Slide


def visible_rois(slide: Slide, owner: str | None) -> list[Roi]:
    """Return the regions that a user sees: their own and those of nobody; None sees all."""
    return [roi for roi in slide.rois() if owner is None or roi.owner in (None, owner)]


def save_roi(
    slide: Slide,
    geojson: str | dict[str, Any],
    name: str,
    limits: Limits,
    owner: str | None = None,
) -> Roi:
    """Save one drawn region under a name.

    Parameters
    ----------
    slide
        The slide that it was drawn on.
    geojson
        A geometry, a feature or a collection of one feature; coordinates in um.
    name
        What people call it; unique among those that its owner sees. Its replicate unit, unless
        the feature names one.
    limits
        Vertices and regions allowed.
    owner
        Whose it is; None makes it everybody's.

    Raises
    ------
    SpatialFormerError
        If it is not exactly one valid region on the slide, or the name is empty or taken.
    """
    label = _new_name(slide, name, owner)
    drawn = _one(slide, geojson, limits)
    roi = replace(drawn, name=label, unit=label if drawn.unit == drawn.name else drawn.unit)
    (saved,) = _add(slide, [roi], limits, owner)
    return saved


def rename_roi(slide: Slide, roi_id: str, name: str, owner: str | None = None) -> Roi:
    """Give a saved region another name; its replicate unit follows if it was the old name.

    Raises
    ------
    SpatialFormerError
        If there is no such region, or the name is empty or taken.
    """
    old = find_roi(slide, roi_id, owner)
    if name.strip() == old.name:
        return old
    label = _new_name(slide, name, owner)
    new = replace(old, name=label, unit=label if old.unit == old.name else old.unit)
    slide.save_roi(new)
    return new


def reshape_roi(
    slide: Slide,
    roi_id: str,
    geojson: str | dict[str, Any],
    limits: Limits,
    owner: str | None = None,
) -> Roi:
    """Give a saved region another outline; name, unit and id stay.

    Raises
    ------
    SpatialFormerError
        If there is no such region, or the outline is not exactly one valid region on the slide.
    """
    old = find_roi(slide, roi_id, owner)
    new = replace(old, polygon=_one(slide, geojson, limits).polygon)
    slide.save_roi(new)
    return new


def find_roi(slide: Slide, roi_id: str, owner: str | None = None) -> Roi:
    """Return a saved region.

    Raises
    ------
    SpatialFormerError
        If the slide has none of that id (another owner's counts as none).
    """
    for roi in visible_rois(slide, owner):
        if roi.roi_id == roi_id:
            return roi
    raise _no_region(roi_id, slide.meta.name)


def check_regions(
    services: Services, slide_ids: Sequence[str], roi_ids: Iterable[str], owner: str | None
) -> None:
    """Refuse regions that a user does not see, before a job that names them is queued or timed.

    Raises
    ------
    SpatialFormerError
        If a region is on none of the slides (another owner's counts as none).
    """
    seen = {roi.roi_id for slide_id in slide_ids for roi in services.rois(slide_id, owner)}
    for roi_id in roi_ids:
        if roi_id not in seen:
            raise _no_region(roi_id, ", ".join(slide_ids))


def _no_region(roi_id: str, where: str) -> SpatialFormerError:
    return SpatialFormerError(
        f"The slide has no region {roi_id[:80]!r}.", where=where, fix="Save it first."
    )


def import_rois(slide: Slide, text: str, limits: Limits, owner: str | None = None) -> list[Roi]:
    """Add every region of a text, or none if one of them is not valid.

    Parameters
    ----------
    slide
        The slide that they lie on.
    text
        GeoJSON in um, or the coordinates CSV of Xenium Explorer.
    limits
        Vertices and regions allowed.
    owner
        Whose they are; None makes them everybody's.

    Raises
    ------
    SpatialFormerError
        If the text holds no regions, one is invalid, or a name is taken.
    """
    new = _parsed(slide, text, limits)
    return _add(slide, new, limits, owner)


def export_rois(slide: Slide, owner: str | None = None) -> str:
    """Return the regions that a user sees as a GeoJSON FeatureCollection, coordinates in um."""
    from spatialformer_core.slides import to_geojson

    # Whose they are concerns this server only; who imports them owns them there.
    found = [replace(roi, owner=None) for roi in visible_rois(slide, owner)]
    return json.dumps(to_geojson(found), indent=1, ensure_ascii=False)


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


def _add(slide: Slide, new: list[Roi], limits: Limits, owner: str | None) -> list[Roi]:
    """Save regions as their owner's, whatever owner the text names."""
    existing = slide.rois()
    seen = visible_rois(slide, owner)
    # The file of a colleague's export names ids that are taken, but not by a region one sees.
    unseen = {roi.roi_id for roi in existing} - {roi.roi_id for roi in seen}
    new = [
        replace(roi, owner=owner, roi_id=_new_id() if roi.roi_id in unseen else roi.roi_id)
        for roi in new
    ]
    total = len(existing) + len(new)
    if total > limits.max_rois_per_slide:
        raise SpatialFormerError(
            f"The slide would have {total} regions, {limits.max_rois_per_slide} are allowed.",
            fix="Delete some first.",
        )
    names, ids = (Counter(getattr(roi, key) for roi in (*seen, *new)) for key in ("name", "roi_id"))
    for roi in new:
        # Only what is new is refused: whoever sees everybody's may see one name twice already.
        if names[roi.name] > 1 or ids[roi.roi_id] > 1:
            kind = f"called {roi.name!r}" if names[roi.name] > 1 else f"with the id {roi.roi_id!r}"
            raise SpatialFormerError(
                f"The slide would have two regions {kind}.", fix="Rename or delete one of them."
            )
    for roi in new:
        slide.save_roi(roi)
    return new


def _new_id() -> str:
    return uuid.uuid4().hex[:12]


def _new_name(slide: Slide, name: str, owner: str | None) -> str:
    label = name.strip()
    if not 1 <= len(label) <= 64 or not label.isprintable():
        raise SpatialFormerError(
            "A region needs a name of 1-64 printable characters.", fix="Type a name for it."
        )
    if any(roi.name == label for roi in visible_rois(slide, owner)):
        raise SpatialFormerError(
            f"The slide already has a region called {label!r}.", fix="Choose another name."
        )
    return label
