"""Regions: what is accepted comes back unchanged, what is not says why."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides import parse_rois, select_cells, to_geojson

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
HOLE = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]


def feature(coordinates, kind="Polygon", **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def test_round_trip_keeps_everything() -> None:
    given = feature([SQUARE, HOLE], name="core", unit="granuloma 1", color="#ff0010")
    far = [[[x + 50, y] for x, y in SQUARE]]
    several = feature([[SQUARE], far], "MultiPolygon", name="two parts")
    first = parse_rois(json.dumps(collection(given, several)), "slide")
    second = parse_rois(to_geojson(first), "slide")
    assert second == first
    assert (first[0].name, first[0].unit, first[0].color) == ("core", "granuloma 1", "#ff0010")
    assert first[0].area_um2 == 96
    assert first[1].area_um2 == 200
    assert first[1].unit == "two parts"
    assert all(roi.slide_id == "slide" for roi in first)


def test_select_cells_against_hand_worked_places() -> None:
    """A square with a hole; the edge counts as inside, the hole and outside do not."""
    roi = parse_rois(feature([SQUARE, HOLE]), "s")[0]
    xy = np.array([[1, 1], [5, 5], [0, 5], [10, 10], [4, 5], [11, 5], [5, -0.001]])
    expected = [True, False, True, True, True, False, False]
    assert select_cells(xy, roi.polygon).tolist() == expected


def test_select_cells_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * math.pi, 40))
    radius = rng.uniform(20, 50, 40)
    polygon = shapely.Polygon(np.c_[radius * np.cos(angle), radius * np.sin(angle)])
    xy = rng.uniform(-60, 60, (500, 2))
    brute = [polygon.covers(shapely.Point(point)) for point in xy]
    assert select_cells(xy, polygon).tolist() == brute


def test_moving_cells_and_region_together_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 12, (200, 2))
    polygon = parse_rois(feature([SQUARE]), "s")[0].polygon
    shift = np.array([512, -256])
    moved = shapely.affinity.translate(polygon, *shift)
    assert np.array_equal(select_cells(xy, polygon), select_cells(xy + shift, moved))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (feature([BOW_TIE], name="lasso"), "crosses itself"),
        (feature([[]]), "fewer than three"),
        (feature([]), "empty"),
        (feature([[[0, 0], [1, 1], [0, 0]]]), "fewer than three"),
        (feature([[[0, 0], [1, 1], [2, 2], [0, 0]]]), "area is zero"),
        (feature([[[0, 0], [math.nan, 1], [2, 0], [0, 0]]]), "not finite"),
        (feature([[[0, 0], [math.inf, 1], [2, 0], [0, 0]]]), "not finite"),
        (feature([[[0, 0], [5e9, 1], [2, 0], [0, 0]]]), "one metre"),
        (feature([[["0", 0], [1, 1], [2, 0], [0, 0]]]), "pair of numbers"),
        (feature([[[True, 0], [1, 1], [2, 0], [0, 0]]]), "pair of numbers"),
        (feature([SQUARE, [[20, 20], [21, 20], [21, 21], [20, 20]]]), "crosses itself|Hole"),
        (feature([[SQUARE], [SQUARE]], "MultiPolygon"), "overlap"),
        (feature([0, 0], "Point"), "Polygon or MultiPolygon expected"),
        (feature("abc"), "lists of rings"),
        (feature([SQUARE], slide_id="other"), "belongs to slide 'other'"),
        (feature([[[9e4, 9e4], [9e4, 9.1e4], [9.1e4, 9e4], [9e4, 9e4]]]), "outside the slide"),
        (feature([[[i, i * i] for i in range(20_001)]]), "vertices"),
        ({"type": "Feature"}, "geometry"),
        (17, "geometry"),
        (None, "geometry"),
    ],
)
def test_bad_region_is_named(bad, message: str) -> None:
    text = collection(feature([SQUARE]), bad)
    with pytest.raises(SpatialFormerError, match=message) as error:
        parse_rois(text, "slide", (0, 0, 100, 100))
    assert "egion 2" in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "not json", "{", "[]", '{"type": "Topology"}', json.dumps(collection()), "[" * 100_000],
)
def test_text_without_regions_is_refused(text: str) -> None:
    with pytest.raises(SpatialFormerError):
        parse_rois(text, "slide")


def test_too_many_regions_and_repeated_ids_are_refused() -> None:
    one = feature([SQUARE])
    with pytest.raises(SpatialFormerError, match="at most"):
        parse_rois(collection(*[one] * 1001), "slide")
    with pytest.raises(SpatialFormerError, match="same id"):
        parse_rois(collection(one | {"id": "a"}, one | {"id": "a"}), "slide")


def test_names_and_ids_cannot_leave_their_field() -> None:
    hostile = feature([SQUARE], name="a\x00\n<b>" + "x" * 200, color="red;}") | {"id": "../../etc"}
    roi = parse_rois(hostile, "slide")[0]
    assert roi.name == ("a<b>" + "x" * 200)[:64]
    assert roi.color is None
    assert "/" not in roi.roi_id
    assert "." not in roi.roi_id


def test_explorer_selection_csv() -> None:
    text = "#Selection name: Islet 3\n#Area (um^2): 50\nX,Y\n0,0\n10,0\n10,10\n"
    roi = parse_rois(text, "slide")[0]
    assert (roi.name, roi.area_um2) == ("Islet 3", 50)
    both = "Selection,X,Y\nA,0,0\nA,2,0\nA,2,2\nB,5,5\nB,6,5\nB,6,6\n"
    assert [r.name for r in parse_rois(both, "slide")] == ["A", "B"]
    with pytest.raises(SpatialFormerError, match="neither GeoJSON nor"):
        parse_rois("a,b\n1,2\n", "slide")
