"""Depth of transcripts against shapely; counts of the deep ones against loops."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.qc import counts_within, depth_in_cells, spillover_depth


def star(rng, centre, n=15):
    """A wavy outline, not convex, as polygons of real cells are."""
    turn = np.sort(rng.uniform(0, 2 * np.pi, n))
    radius = rng.uniform(2.0, 6.0, n)
    return centre + radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)


@pytest.fixture(scope="module")
def cells():
    """40 cells with 25 transcripts each; cell 3 has no outline, every other one is closed."""
    rng = np.random.default_rng(0)
    rings = [star(rng, rng.uniform(0, 500, 2)) for _ in range(40)]
    xy = np.concatenate([ring.mean(0) + rng.normal(0, 3, (25, 2)) for ring in rings])
    rings = [np.r_[ring, ring[:1]] if k % 2 else ring for k, ring in enumerate(rings)]
    rings[3] = np.zeros((0, 2))
    indptr = np.arange(41) * 25
    outline = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])
    return xy, indptr, np.concatenate(rings), outline, rings


def test_depth_is_the_distance_to_the_outline(cells):
    xy, indptr, vertices, outline, rings = cells
    found = depth_in_cells(xy, indptr, vertices, outline)
    for k, ring in enumerate(rings):
        mine = found[25 * k : 25 * k + 25]
        if not len(ring):
            assert np.isnan(mine).all()
            continue
        polygon, points = shapely.Polygon(ring), shapely.points(xy[25 * k : 25 * k + 25])
        distance = shapely.distance(points, polygon.exterior)
        signed = np.where(shapely.contains(polygon, points), distance, -distance)
        np.testing.assert_allclose(mine, signed, atol=1e-5)
    assert (found > 1).sum() > 100
    assert (found < 0).sum() > 100


def test_erosion_agrees_with_a_buffer(cells):
    xy, indptr, vertices, outline, rings = cells
    deep = depth_in_cells(xy, indptr, vertices, outline) >= 0.8
    for k, ring in enumerate(rings):
        if len(ring):
            eroded = shapely.Polygon(ring).buffer(-0.8)
            inside = shapely.contains_xy(eroded, xy[25 * k : 25 * k + 25])
            # A buffer draws its corners as polygons, so a point at a corner may differ.
            assert (inside != deep[25 * k : 25 * k + 25]).sum() <= 1


def test_runs_and_memory_maps_change_nothing(cells, monkeypatch):
    xy, indptr, vertices, outline, _ = cells
    expected = depth_in_cells(xy, indptr, vertices, outline)
    monkeypatch.setattr(spillover_depth, "_RUN_TRANSCRIPTS", 60)
    for array in (fixed := [np.asarray(a) for a in (xy, indptr, vertices, outline)]):
        array.flags.writeable = False
    np.testing.assert_array_equal(depth_in_cells(*fixed), expected)


def test_counts_are_those_of_the_kept_transcripts():
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 12, 30)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    gene, kept = rng.integers(0, 6, indptr[-1]).astype(np.uint16), rng.random(indptr[-1]) < 0.5
    expected = np.zeros((30, 6), int)
    np.add.at(expected, (np.repeat(np.arange(30), lengths)[kept], gene[kept]), 1)
    np.testing.assert_array_equal(counts_within(indptr, gene, 6, kept).toarray(), expected)


def test_what_does_not_fit_is_said(cells):
    xy, indptr, vertices, outline, _ = cells
    with pytest.raises(SpatialFormerError, match="Outlines of 39 cells"):
        depth_in_cells(xy, indptr, vertices, outline[:-1])
    with pytest.raises(SpatialFormerError, match="outside the panel"):
        counts_within(np.array([0, 1]), np.array([6]), 6, np.array([True]))
    with pytest.raises(SpatialFormerError, match="2 marks"):
        counts_within(np.array([0, 1]), np.array([6]), 6, np.array([True, True]))
