"""The real slide: known facts about it, and the limits on time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from spatialformer_core.slides import SlideStore, select_cells

SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.slides import SlideStore, ingest
sample = SampleMetadata(donor="unknown-1", block="unknown-1", condition="Disease",
                        tissue="Pancreas", species="Human", assay="Xenium")
start = time.monotonic()
report = ingest(Path(sys.argv[1]), SlideStore(Path(sys.argv[2])), name="pancreas", sample=sample,
                qc=QcThresholds())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
cpu = time.process_time()
print(json.dumps({"report": report.model_dump(mode="json"), "peak_bytes": peak, "cpu_s": cpu}))
"""


@pytest.fixture(scope="module")
def pancreas(shared_data, tmp_path_factory):
    """Ingested in a process of its own, so that its memory is its own."""
    home = tmp_path_factory.mktemp("pancreas")
    source = shared_data / "xenium_pancreas_dev"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(source), str(home)],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    return SlideStore(home).open("pancreas"), json.loads(done.stdout), source


def test_known_facts(pancreas) -> None:
    slide, told, _ = pancreas
    report = told["report"]
    assert report["cells_in"] == 89_787
    assert report["transcripts_in"] == 5_285_816
    assert slide.counts.shape == (89_787, 377)
    assert report["dropped"]["control_names_only_in_transcripts"] == 35
    assert report["mismatch"]["matrix_counts"] == 3_600_095
    assert report["mismatch"]["assigned_transcripts"] == pytest.approx(3.88e6, rel=1e-3)
    assert report["mismatch"]["cells_equal"] == pytest.approx(0.14, abs=0.005)
    kept = {name: after / before for name, (before, after) in report["retention_per_type"].items()}
    assert kept["Macrophage"] == pytest.approx(0.30, abs=0.01)
    assert kept["T_NK"] == pytest.approx(0.18, abs=0.01)
    assert slide.meta.default_group == "celltype_marker"
    assert slide.meta.images[0].pixel_size_um == 1.7
    assert not slide.meta.simulated


def test_matrix_is_the_instruments(pancreas) -> None:
    slide, _, source = pancreas
    with h5py.File(source / "cells.h5ad") as file:
        names = file["var/_index"][:].astype(str)
        gene = file["var/is_gene"][:]
        row = slice(*file["X/indptr"][1234:1236])
        expected = dict(zip(file["X/indices"][row], file["X/data"][row], strict=True))
    assert list(slide.genes) == names[gene].tolist()
    found = slide.counts[1234]
    mine = {
        names.tolist().index(slide.genes[i]): c
        for i, c in zip(found.indices, found.data, strict=True)
    }
    assert mine == {i: c for i, c in expected.items() if gene[i]}


def test_transcripts_lie_in_their_cells(pancreas) -> None:
    import shapely

    slide, _, _ = pancreas
    found, outlines = slide.transcripts_by_cell(), slide.polygons()
    inside = total = 0
    for cell in np.random.default_rng(0).choice(slide.meta.n_cells, 300, replace=False):
        ring = outlines.xy_um[slice(*outlines.indptr[cell : cell + 2])]
        points = found.xyz_um[slice(*found.indptr[cell : cell + 2])]
        near = shapely.Polygon(ring).buffer(0.5)
        inside += shapely.contains_xy(near, points[:, 0], points[:, 1]).sum()
        total += len(points)
    assert inside / total > 0.99


def test_region_of_the_whole_slide_selects_every_cell(pancreas) -> None:
    import shapely

    slide, _, _ = pancreas
    assert select_cells(slide.xy_um, shapely.box(*slide.meta.bounds_um)).all()


def test_time_and_memory(pancreas) -> None:
    """CPU time, because the machine is shared; the limits are 60 s on two cores and 3 GB."""
    _, told, _ = pancreas
    assert told["cpu_s"] < 60
    assert told["peak_bytes"] < 3e9


def test_six_genes_are_the_same_by_run_and_by_tile(pancreas) -> None:
    slide, _, _ = pancreas
    genes = list(slide.genes[::70])
    x0, y0, _, _ = slide.meta.bounds_um
    window = (x0 + 700.0, y0 + 700.0, x0 + 1650.0, y0 + 1400.0)
    xy, which = slide.gene_transcripts(genes, window)
    columns = [slide.genes.index(gene) for gene in genes]
    by_tile = [slide.tile_transcripts(ix, iy) for ix in range(2, 8) for iy in range(2, 7)]
    every = np.concatenate([found for found, _ in by_tile])
    column = np.concatenate([gene for _, gene in by_tile])
    inside = (every >= window[:2]).all(axis=1) & (every <= window[2:]).all(axis=1)
    for position, gene in enumerate(columns):
        mine, expected = xy[which == position], every[inside & (column == gene)]
        assert np.array_equal(mine[np.lexsort(mine.T)], expected[np.lexsort(expected.T)])
    assert len(xy) > 100
    whole = slide.gene_transcripts(genes)[1]
    assert slide.gene_density(genes).sum() == len(whole)
    assert slide.density().sum() == len(slide._tiles["tx_gene"])
