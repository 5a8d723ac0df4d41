"""What can be done with saved regions: joined, cut, coloured, put into sets, copied, exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.alignment import parse_alignment
from spatialformer_core.service.rois import find_roi, import_rois, save_roi, visible_rois
from spatialformer_core.service.settings import Limits

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from spatialformer_core.slides import Groups, Roi, Slide

Operation = Literal["union", "subtract", "intersect"]
Move = Literal["same", "centre", "file"]

_INSIDE = 0.95

SLIVER_UM2 = 1.0
"""Pieces that two hand-drawn outlines leave along a shared edge; a cell is fifty times as large."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying regions to another slide did.

    Attributes
    ----------
    rois
        The regions on the other slide.
    said
        One sentence per fact worth knowing: how they were moved, and what lies off the tissue.
    warnings
        Regions that hold no cell there, lie partly outside, or were left out.
    """

    rois: tuple[Roi, ...]
    said: str
    warnings: tuple[str, ...]


def combine(
    slide: Slide,
    roi_ids: Sequence[str],
    operation: Operation,
    *,
    name: str,
    limits: Limits,
    owner: str | None = None,
) -> Roi:
    """Make a new region of saved ones; those stay.

    Parameters
    ----------
    roi_ids
        Two or more; ``subtract`` takes all others from the first.

    Raises
    ------
    SpatialFormerError
        If there are fewer than two, one is not there, nothing is left, or the name is taken.
    """
    import shapely

    if len(set(roi_ids)) < 2:
        raise SpatialFormerError("Two regions are needed.", fix="Choose at least two.")
    first, *others = [find_roi(slide, roi_id, owner).polygon for roi_id in roi_ids]
    if operation == "union":
        found = shapely.union_all([first, *others])
    elif operation == "subtract":
        found = shapely.difference(first, shapely.union_all(others))
    else:
        found = shapely.intersection_all([first, *others])
    kept = _areas(found)
    if kept is None:
        raise SpatialFormerError(
            "Nothing is left: the regions do not overlap that way.",
            fix="Look at the order: the others are taken from the first.",
        )
    return save_roi(slide, _geojson(kept), name, limits, owner)


def _areas(found: BaseGeometry) -> BaseGeometry | None:
    """Return the pieces with an area; lines and slivers are none."""
    import shapely

    pieces = [
        piece
        for piece in shapely.get_parts(shapely.get_parts(found))
        if piece.geom_type == "Polygon" and piece.area >= SLIVER_UM2
    ]
    if not pieces:
        return None
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)


def _geojson(polygon: BaseGeometry) -> str:
    import shapely

    return str(shapely.to_geojson(polygon))


def colour_roi(slide: Slide, roi_id: str, color: str | None, owner: str | None = None) -> Roi:
    """Give a region a colour, ``#rrggbb``; None takes it away.

    Raises
    ------
    SpatialFormerError
        If there is no such region, or it is no such colour.
    """
    old = find_roi(slide, roi_id, owner)
    if color is not None and not (len(color) == 7 and color[0] == "#" and _is_hex(color[1:])):
        raise SpatialFormerError(f"{color[:20]!r} is no colour.", fix="Write #rrggbb.")
    new = replace(old, color=color)
    slide.save_roi(new)
    return new


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)


def put_into_set(
    slide: Slide, roi_ids: Sequence[str], name: str | None, owner: str | None = None
) -> list[Roi]:
    """Put regions into a set, or with None out of any; a region is in one set at most.

    Raises
    ------
    SpatialFormerError
        If a region is not there, or the name is no name.
    """
    label = None if name is None else name.strip()
    if label is not None and (not 1 <= len(label) <= 64 or not label.isprintable()):
        raise SpatialFormerError("A set needs a name of 1-64 printable characters.")
    changed = [replace(find_roi(slide, roi_id, owner), group=label) for roi_id in roi_ids]
    for roi in changed:
        slide.save_roi(roi)
    return changed


def sets_of(rois: Sequence[Roi]) -> dict[str, list[Roi]]:
    """Return the sets of some regions, by name."""
    found: dict[str, list[Roi]] = {}
    for roi in rois:
        if roi.group:
            found.setdefault(roi.group, []).append(roi)
    return dict(sorted(found.items()))


def outline_of(rois: Sequence[Roi]) -> BaseGeometry:
    """Return what several regions cover together."""
    import shapely

    return shapely.union_all([roi.polygon for roi in rois])


def export_csv(slide: Slide, owner: str | None = None) -> tuple[str, list[str]]:
    """Return the regions that a user sees as Xenium Explorer's CSV, and which lose something."""
    from spatialformer_core.slides.roi_csv import lost_in_csv, to_explorer_csv

    found = visible_rois(slide, owner)
    return to_explorer_csv(found), lost_in_csv(found)


def copy_rois(
    source: Slide,
    target: Slide,
    roi_ids: Sequence[str],
    limits: Limits,
    *,
    move: Move = "same",
    file: str | None = None,
    owner: str | None = None,
) -> Copied:
    """Copy regions to another slide, a serial section for example.

    Parameters
    ----------
    move
        ``same``: the coordinates stay. ``centre``: moved so that the middles of the tissues
        match. ``file``: by the matrix or the keypoints of ``file`` (columns ``fixedX fixedY``: um
        of the target, ``alignmentX alignmentY``: um of the source).

    Raises
    ------
    SpatialFormerError
        If a region or the file is not there or invalid, or all regions lie outside the target.
    """
    import shapely

    if not roi_ids:
        raise SpatialFormerError("No region is chosen.", fix="Choose the regions to copy.")
    matrix, said = _motion(source, target, move, file)
    parameters = [*matrix[0, :2], *matrix[1, :2], *matrix[:2, 2]]
    whole = shapely.box(*target.meta.bounds_um)
    taken = {roi.name for roi in visible_rois(target, owner)}
    new: list[Roi] = []
    warnings = []
    for roi in (find_roi(source, roi_id, owner) for roi_id in roi_ids):
        polygon = shapely.affinity.affine_transform(roi.polygon, parameters)
        share = polygon.intersection(whole).area / polygon.area
        if share <= 0:
            warnings.append(f"{roi.name} lies outside {target.meta.name}: left out.")
            continue
        name = _free(roi.name, taken)
        taken.add(name)
        unit = name if roi.unit == roi.name else roi.unit
        new.append(
            replace(roi, name=name, unit=unit, slide_id=target.meta.slide_id, polygon=polygon)
        )
        warnings += _off_tissue(target, name, polygon, share)
    if not new:
        raise SpatialFormerError(
            f"No region lies on {target.meta.name}.",
            fix="Align the two sections by keypoints, or by the middles of their tissues.",
        )
    saved = import_rois(target, _collection(new), limits, owner)
    return Copied(tuple(saved), said, tuple(warnings))


def _collection(rois: list[Roi]) -> str:
    import json

    from spatialformer_core.slides import to_geojson

    record = to_geojson(rois)
    for feature in record["features"]:
        del feature["id"]  # a copy is a region of its own
    return json.dumps(record)


def _motion(source: Slide, target: Slide, move: Move, file: str | None) -> tuple[DoubleArray, str]:
    """Return the 3x3 matrix from um of the source to um of the target, and what it does."""
    matrix = np.eye(3)
    if move == "same":
        return matrix, "The coordinates were kept as they are."
    if move == "centre":
        middle = [np.median(np.asarray(s.xy_um, np.float64), axis=0) for s in (source, target)]
        matrix[:2, 2] = middle[1] - middle[0]
        shift = ", ".join(f"{value:+.0f}" for value in matrix[:2, 2])
        return matrix, f"They were shifted by ({shift}) µm: the middles of the cells match."
    if file is None:
        raise SpatialFormerError("No alignment is given.", fix="Choose a matrix or keypoints.")
    found = parse_alignment(file, "alignment.csv")
    fit = "" if found.rms_px is None else f"; its keypoints fit to {found.rms_px:.1f} µm (RMS)"
    return found.matrix, f"They were moved by the alignment of the file{fit}."


def _off_tissue(target: Slide, name: str, polygon: BaseGeometry, share: float) -> list[str]:
    from spatialformer_core.slides import select_cells

    cells = int(select_cells(target.xy_um, polygon).sum())
    if not cells:
        return [f"{name} holds no cell there."]
    if share < _INSIDE:
        return [f"{name}: {100 * (1 - share):.0f} % of its area lies outside the slide."]
    return []


def _free(name: str, taken: set[str]) -> str:
    number, found = 2, name
    while found in taken:
        suffix = f" ({number})"
        found = name[: 64 - len(suffix)] + suffix
        number += 1
    return found


def inside(slide: Slide, rois: Sequence[Roi]) -> list[BoolArray]:
    """Return which cells lie in each region, shape ``(n,)`` each."""
    from spatialformer_core.slides import select_cells

    return [select_cells(slide.xy_um, roi.polygon) for roi in rois]


def region_groups(slide: Slide, sides: Mapping[str, Sequence[str]]) -> tuple[Groups, str]:
    """Return in which of some regions each cell lies, and a sentence about it.

    Parameters
    ----------
    sides
        Ids of regions under the name of their group. A cell of two groups has none.

    Raises
    ------
    SpatialFormerError
        If a region is not there, or a group would have no cell.
    """
    from spatialformer_core.slides import Groups

    masks = np.stack(
        [
            np.any(inside(slide, [find_roi(slide, roi_id) for roi_id in roi_ids]), axis=0)
            for roi_ids in sides.values()
        ]
    )
    alone = masks.sum(axis=0) == 1
    codes = np.where(alone, masks.argmax(axis=0), -1).astype(np.int16)
    counts = np.bincount(codes[alone], minlength=len(sides))
    for name, n in zip(sides, counts, strict=True):
        if not n:
            raise SpatialFormerError(f"No cell lies in {name} alone.", where=slide.meta.name)
    told = ", ".join(f"{name} {n:,}" for name, n in zip(sides, counts, strict=True))
    shared = int((masks.sum(axis=0) > 1).sum())
    both = f"; {shared:,} cells of two of them have none" if shared else ""
    return Groups(tuple(sides), codes), f"Cells by region: {told}{both}."
