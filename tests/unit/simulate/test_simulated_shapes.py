"""Outlines: convex, apart from each other, nuclei inside; masks agree with them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from spatialformer_core.simulate import geometry
from spatialformer_core.simulate.shapes import rasterise


@pytest.fixture(scope="module")
def polygons(slide):
    shapes = slide.outlines
    return (
        shapely.polygons(shapes.cell + shapes.centre_um[:, None]),
        shapely.polygons(shapes.nucleus + shapes.centre_um[:, None]),
    )


def test_outlines_are_convex_and_do_not_overlap(polygons):
    cells, _ = polygons
    assert shapely.is_valid(cells).all()
    hull = shapely.area(shapely.convex_hull(cells))
    np.testing.assert_allclose(shapely.area(cells), hull, rtol=1e-3)
    left, right = shapely.STRtree(cells).query(cells, predicate="intersects")
    apart = left < right
    overlap = shapely.area(shapely.intersection(cells[left[apart]], cells[right[apart]]))
    assert overlap.sum() < 1e-3


def test_nuclei_and_centroids_lie_inside(slide, polygons):
    cells, nuclei = polygons
    assert shapely.contains(cells, nuclei).all()
    assert shapely.contains_xy(cells, *slide.outlines.centroid_um.T).all()
    np.testing.assert_allclose(shapely.area(cells), slide.outlines.cell_area_um2, rtol=1e-4)


def test_cells_have_the_size_of_cells(slide):
    diameter = 2 * np.sqrt(slide.outlines.cell_area_um2 / np.pi)
    assert 8 < np.median(diameter) < 14
    assert np.percentile(diameter, 2) > 6
    assert np.percentile(diameter, 99.5) < 18
    assert 0.95 < slide.outlines.has_nucleus.mean() < 0.99


def test_mask_holds_the_pixels_whose_centres_lie_in_the_polygon(slide, polygons):
    cells, _ = polygons
    n, pixel = 60, 0.6
    shapes = slide.outlines
    labels = np.arange(1, n + 1, dtype=np.int32)
    labels[7] = 0
    size = int(np.ceil(slide.tissue.side_um / pixel))
    mask = rasterise(shapes.cell[:n], shapes.centre_um[:n], labels, size, pixel)
    row, column = np.nonzero(mask)
    inside = shapely.contains_xy(
        cells[mask[row, column] - 1], (column + 0.5) * pixel, (row + 0.5) * pixel
    )
    assert inside.mean() > 0.999
    area = np.bincount(mask.ravel(), minlength=n + 1)[1:] * pixel**2
    assert area[7] == 0
    others = labels > 0
    np.testing.assert_allclose(area[others], shapely.area(cells[:n])[others], rtol=0.12)


SQUARE = np.array([[2, 0], [0, 2], [-2, 0], [0, -2]], np.float32)


def test_kernels_on_a_square():
    assert geometry.border(SQUARE, 0.0) == pytest.approx(2)
    assert geometry.border(SQUARE, np.pi / 4) == pytest.approx(np.sqrt(2))
    assert geometry.border(SQUARE, -3 * np.pi / 4) == pytest.approx(np.sqrt(2))
    assert geometry.contains(SQUARE, 0.9, 0.9)
    assert not geometry.contains(SQUARE, 1.1, 1.1)
    assert geometry.distance_to(SQUARE, 0.5, 0.5) == 0
    assert geometry.distance_to(SQUARE, 2.0, 2.0) == pytest.approx(np.sqrt(2))
    assert geometry.distance_to(SQUARE, 5.0, 0.0) == pytest.approx(3)


def test_points_are_uniform_in_an_outline():
    rng = np.random.default_rng(0)
    kite = np.array([[3, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    points = np.array([geometry.uniform_inside(kite, u) for u in rng.random((4000, 3))])
    assert all(geometry.contains(kite, x, y) for x, y in points)
    # Right of x = 0 lie 3 of 4 um2; the centroid is that of the two triangles together.
    assert np.mean(points[:, 0] > 0) == pytest.approx(0.75, abs=0.03)
    assert points.mean(axis=0) == pytest.approx([2 / 3, 0], abs=0.06)
