"""Regions as the CSV of coordinates that Xenium Explorer exports and imports."""

from __future__ import annotations

import csv
import io as textio
from collections.abc import Sequence

import shapely

from spatialformer_core.slides.roi import Roi

_DECIMALS = 2
"""Hundredths of a um, as Explorer writes them."""


def to_explorer_csv(rois: Sequence[Roi]) -> str:
    """Return regions as Xenium Explorer's selections, coordinates in um.

    Two comment lines with names and areas (um^2), then ``Selection,X,Y`` with one closed ring per
    selection. A selection is one ring: a region of several parts becomes several selections
    (``name (1)``, ``name (2)``), and holes are left out; `lost_in_csv` names such regions.
    """
    rings = [(name, ring) for roi in rois for name, ring in _rings(roi)]
    several = "s" if len(rings) > 1 else ""
    out = textio.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    areas = [f"{shapely.Polygon(ring).area:.2f}" for _, ring in rings]
    # Explorer writes its comments as cells: a comma in a name puts the line into quotes.
    rows.writerow([f"#Selection name{several}: {', '.join(name for name, _ in rings)}"])
    rows.writerow([f"#Area{several} (µm^2): {', '.join(areas)}"])
    rows.writerow(["Selection", "X", "Y"])
    for name, ring in rings:
        rows.writerows((name, f"{x:.{_DECIMALS}f}", f"{y:.{_DECIMALS}f}") for x, y in ring.coords)
    return out.getvalue()


def lost_in_csv(rois: Sequence[Roi]) -> list[str]:
    """Return the names of the regions that the CSV cannot hold as they are: holes, parts."""
    return [
        roi.name
        for roi in rois
        if len(parts := _parts(roi)) > 1 or any(part.interiors for part in parts)
    ]


def _parts(roi: Roi) -> list[shapely.Polygon]:
    return list(getattr(roi.polygon, "geoms", [roi.polygon]))


def _rings(roi: Roi) -> list[tuple[str, shapely.LinearRing]]:
    parts = _parts(roi)
    if len(parts) == 1:
        return [(roi.name, parts[0].exterior)]
    return [(f"{roi.name} ({i})", part.exterior) for i, part in enumerate(parts, start=1)]
