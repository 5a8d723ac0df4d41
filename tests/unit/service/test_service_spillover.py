"""Spillover of a stored slide: kept with it, read by screens, forgotten with it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from spatialformer_core import files
from spatialformer_core.cli import app
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.perturbation.tissue import SPILLED
from spatialformer_core.qc import SpilloverSettings
from spatialformer_core.service.screen import make_tissue
from spatialformer_core.service.spillover import TABLE, measure_spillover, read_flags
from spatialformer_core.slides import SlideStore, ingest
from spatialformer_core.vocabulary import build_vocabulary

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
LAX = SpilloverSettings(
    erosion_um=0.5, near_um=20, far_um=25, block_um=150, min_cells=10, min_detected=5, min_blocks=3
)


@pytest.fixture(scope="module")
def source(tmp_path_factory, bundles):
    """Macrophages express GENE00; T cells beside them hold copies of it at their border."""
    tissue = bundles.Tissue(n_cells=500)
    rng = np.random.default_rng(1)
    kind = tissue.types[tissue.tx_cell]
    is_gene = (tissue.tx_feature == 0) & (tissue.tx_cell >= 0)
    tissue.tx_feature[is_gene & (kind != 0)] = 1
    macrophages = tissue.xy[tissue.types == 0]
    away = np.sqrt(((tissue.xy[:, None] - macrophages[None]) ** 2).sum(-1).min(1))
    beside = (away[tissue.tx_cell] <= 18) & (kind == 1) & (tissue.tx_cell >= 0)
    leaked = beside & (rng.random(len(kind)) < 0.06)
    tissue.tx_feature[leaked] = 0
    edge = np.sign(tissue.tx_xyz[leaked, :2] - tissue.xy[tissue.tx_cell[leaked]]) * 3.9
    tissue.tx_xyz[leaked, :2] = tissue.xy[tissue.tx_cell[leaked]] + edge
    tissue.counts = tissue.count(0.0)
    return bundles.write_table_folder(tmp_path_factory.mktemp("spill") / "source", tissue)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory, source):
    home = tmp_path_factory.mktemp("spill_home")
    qc = QcThresholds(min_transcripts=10, min_genes=3)
    ingest(source, SlideStore(home), name="spilt", sample=SAMPLE, qc=qc)
    return home


@pytest.fixture
def slide(tmp_path, ingested):
    shutil.copytree(ingested, tmp_path / "home")
    return SlideStore(tmp_path / "home").open("spilt")


def request(**changes):
    values = {"slide_ids": ("spilt",), "checkpoint_id": "x", "groupby": "celltype_marker"}
    groups = {"group_left": "Macrophage", "group_right": "T cell"}
    return ScreenRequest.model_validate({**values, **groups, **changes})


def test_the_leak_is_found_kept_and_read_by_a_screen(slide):
    vocabulary = build_vocabulary([(slide.genes[::-1], slide.counts[:, ::-1])], [SAMPLE])
    assert read_flags(slide, "celltype_marker") is None
    assert make_tissue(slide, vocabulary, request(), {}).spillover is None
    report = measure_spillover(slide, "celltype_marker", LAX)
    assert report.flagged >= 1
    assert 0 < report.transcripts_deep < report.transcripts
    rows = pq.read_table(report.folder / TABLE).to_pylist()
    assert len(rows) == report.tested
    leaked = [row for row in rows if row["gene"] == "GENE00"]
    assert {(r["type"], r["source_type"]) for r in leaked if r["flagged"]} == {
        ("T cell", "Macrophage")
    }
    assert report.top[0]["gene"] == "GENE00"
    flags = read_flags(slide, "celltype_marker")
    assert flags["T cell"][slide.genes.index("GENE00")] == SPILLED
    assert not (flags["Macrophage"] == SPILLED).any()
    left, right = make_tissue(slide, vocabulary, request(), {}).spillover
    assert not (left == SPILLED).any()
    assert "GENE00" in {vocabulary.genes[k] for k in np.flatnonzero(right == SPILLED)}
    np.testing.assert_array_equal(right, flags["T cell"][::-1][np.argsort(slide.genes[::-1])])
    assert SlideStore(slide.folder.parents[1]).verify("spilt") == []


def test_an_older_result_gives_way_and_a_new_ingest_forgets_it(slide):
    first = measure_spillover(slide, "celltype_marker", LAX)
    strict = LAX.model_copy(update={"min_odds_ratio": 1e6})
    assert measure_spillover(slide, "celltype_marker", strict).flagged == 0
    codes = read_flags(slide, "celltype_marker").values()
    assert not any((of_type == SPILLED).any() for of_type in codes)
    facts = first.folder / "spillover.json"
    files.write_json(facts, {**files.read_json(facts), "created": "another time"})
    assert read_flags(slide, "celltype_marker") is None


def test_nuclei_stand_in_for_eroded_cells(slide, monkeypatch):
    with pytest.raises(SpatialFormerError, match="over nuclei"):
        measure_spillover(slide, "celltype_marker", LAX, in_nuclei=True)
    found = slide.transcripts_by_cell()
    over = np.arange(len(found.gene)) % 4 == 0
    monkeypatch.setattr(
        type(slide),
        "transcripts_by_cell",
        lambda self: dataclasses.replace(found, overlaps_nucleus=over),
    )
    report = measure_spillover(slide, "celltype_marker", LAX, in_nuclei=True)
    assert report.transcripts_deep == over.sum()
    assert files.read_json(report.folder / "spillover.json")["deep_in"] == "nuclei"


def test_faults_are_said_and_cancel_leaves_nothing(slide, monkeypatch):
    with pytest.raises(SpatialFormerError, match="no grouping"):
        measure_spillover(slide, "nothing", LAX)
    with pytest.raises(Cancelled):
        measure_spillover(slide, "celltype_marker", LAX, cancel=lambda: True)
    assert not slide.user_folder.joinpath("spillover").exists()
    monkeypatch.setattr(type(slide), "polygons", lambda self: None)
    with pytest.raises(SpatialFormerError, match="no cell outlines"):
        measure_spillover(slide, "celltype_marker", LAX)


def test_the_verb(slide, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(slide.folder.parents[1]))
    done = CliRunner().invoke(app, ["spillover", "spilt", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["groupby"] == "celltype_marker"
    assert found["tested"] >= found["flagged"] >= 0
    text = CliRunner().invoke(app, ["spillover", "spilt", "--near-um", "12"])
    assert "pairs of a gene and a type" in text.stdout
