"""Transcripts: depth, assignment, nuclei, QV, controls; they depend on the settings alone."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import shapely

from spatialformer_core.progress import never, silent
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.settings import SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide

DIGEST = """
import hashlib
from spatialformer_core.progress import never, silent
from spatialformer_core.simulate.settings import SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide
from spatialformer_core.simulate.clusters import cluster_cells
slide = simulate_slide(SimulationSettings(seed=9, cells=300, he=False), silent, never)
h = hashlib.sha256()
for name in slide.transcripts.__slots__:
    h.update(getattr(slide.transcripts, name).tobytes())
h.update(slide.outlines.cell.tobytes())
h.update(cluster_cells(slide.matrix(), 8, 1).tobytes())
print(h.hexdigest())
"""


def depth_of(slide):
    counts = slide.matrix()[:, : load_panel().n_genes]
    return np.asarray(counts.sum(axis=1)).ravel(), counts.getnnz(axis=1)


def test_depth_one_is_a_lung_panel(slide):
    transcripts, genes = depth_of(slide)
    assert 112 < transcripts.mean() < 130
    assert 64 < genes.mean() < 76


def test_a_poorer_slide_is_like_the_pancreas():
    slide = simulate_slide(SimulationSettings(cells=1200, depth=0.45, he=False), silent, never)
    transcripts, genes = depth_of(slide)
    passing = (transcripts >= 30) & (genes >= 10)
    assert 0.75 < passing.mean() < 0.97
    assert 50 < transcripts[passing].mean() < 62
    assert 22 < genes[passing].mean() < 28


def test_assigned_transcripts_lie_in_their_cell_and_others_in_none(slide):
    t, shapes = slide.transcripts, slide.outlines
    cells = shapely.polygons(shapes.cell + shapes.centre_um[:, None])
    rng = np.random.default_rng(0)
    some = rng.choice(np.flatnonzero(t.cell >= 0), 5000, replace=False)
    points = shapely.points(t.xyz_um[some, :2].astype(np.float64))
    assert shapely.dwithin(points, cells[t.cell[some]], 1e-3).all()
    loose = np.flatnonzero(t.cell < 0)[:3000]
    within = shapely.STRtree(shapely.polygons(0.999 * shapes.cell + shapes.centre_um[:, None]))
    assert within.query(shapely.points(t.xyz_um[loose, :2]), predicate="within").size == 0
    assert 0.01 < np.mean(t.cell < 0) < 0.1


def test_nucleus_columns_agree_with_the_polygons(slide):
    t, shapes = slide.transcripts, slide.outlines
    nuclei = shapely.polygons(shapes.nucleus + shapes.centre_um[:, None])
    rng = np.random.default_rng(1)
    own = np.flatnonzero(t.cell >= 0)
    own = own[shapes.has_nucleus[t.cell[own]]]
    some = rng.choice(own, 3000, replace=False)
    points = shapely.points(t.xyz_um[some, :2].astype(np.float64))
    distance = shapely.distance(points, nuclei[t.cell[some]])
    np.testing.assert_allclose(t.nucleus_distance_um[some], distance, atol=1e-3)
    clear = np.abs(distance) > 1e-3
    inside = shapely.within(points, nuclei[t.cell[some]])
    assert (t.in_nucleus[some][~clear & inside]).all()
    assert not t.in_nucleus[some][clear].any()
    assert 0.2 < t.in_nucleus.mean() < 0.7


def test_low_calls_and_controls_are_there_and_are_kept_out(slide):
    t, panel = slide.transcripts, load_panel()
    assert 0.08 < np.mean(t.qv < 20) < 0.16
    assert t.qv.min() >= 0
    assert t.qv.max() == 40
    controls = t.feature >= panel.n_genes
    assert 0.001 < controls.mean() < 0.01
    counted = (t.cell >= 0) & (t.qv >= 20)
    assert slide.matrix().sum() == counted.sum()


def test_counts_of_one_cell_by_hand(slide):
    t, cell = slide.transcripts, 123
    row = slide.matrix()[cell].toarray().ravel()
    mine = t.feature[(t.cell == cell) & (t.qv >= 20)]
    assert row.tolist() == [int(np.sum(mine == k)) for k in range(len(row))]


def test_ids_are_unique_ascending_and_well_formed(slide):
    ids = slide.cell_ids
    assert len(set(ids.tolist())) == slide.n_cells
    assert (np.sort(ids) == ids).all()
    for text, number in zip(ids[:50], slide.id_prefix[:50], strict=True):
        letters, suffix = text.split("-")
        assert suffix == "1"
        assert (
            int("".join("0123456789abcdef"["abcdefghijklmnop".index(c)] for c in letters), 16)
            == number
        )


def test_seed_and_donor_matter_and_nothing_else():
    def made(**changes):
        settings = SimulationSettings(**{"seed": 2, "cells": 250, "he": False, **changes})
        return simulate_slide(settings, silent, never)

    first, again, other, donor = made(), made(), made(seed=4), made(donor="simulated-2")
    for name in first.transcripts.__slots__:
        np.testing.assert_array_equal(
            getattr(first.transcripts, name), getattr(again.transcripts, name)
        )
    np.testing.assert_array_equal(first.cell_ids, again.cell_ids)
    assert not np.array_equal(first.outlines.centre_um, other.outlines.centre_um)
    np.testing.assert_array_equal(first.outlines.centre_um, donor.outlines.centre_um)
    assert (first.matrix() != donor.matrix()).nnz > 0


@pytest.mark.slow
def test_number_of_threads_does_not_matter():
    digests = set()
    for threads in ("1", "4"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        digests.add(
            subprocess.run(
                [sys.executable, "-c", DIGEST], env=environment, check=True, capture_output=True
            ).stdout
        )
    assert len(digests) == 1
