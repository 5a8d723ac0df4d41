"""Register, quality control, composition and regions on a slide that is counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import facade, open_services
from spatialformer_core.service.kinds import KINDS, resolve

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
QC = QcThresholds(min_transcripts=10, min_genes=3)


def square(x0, y0, x1, y1):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Count the workers that would be started instead of starting them."""
    calls = []
    monkeypatch.setattr(facade, "ensure_worker", lambda home: calls.append(home) or True)
    return calls


def test_register_runs_as_a_job_and_the_slide_is_there(home, started, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    services = open_services()
    (source,) = services.sources()
    assert (source.name, source.kind) == ("tiny", "table")
    job_id = services.register(source.id, "Tiny", SAMPLE, QC, "ann")
    assert started == [home]
    assert services.job(job_id, "ann").status == "queued"
    assert services.slides() == []
    run_job(services.queue, job_id, resolve, silent)
    assert services.job(job_id).status == "done"
    (meta,) = services.slides()
    assert (meta.slide_id, meta.sample, meta.qc) == ("tiny", SAMPLE, QC)
    report = files.read_json(services.queue.result(job_id) / "ingest.json")
    assert report["cells_in"] == 60
    assert report["cells_kept"] == 50
    assert not any(str(home) in str(value) for value in report.values())
    with pytest.raises(SpatialFormerError, match="already"):
        services.register(source.id, "tiny", SAMPLE, QC, "ann")


def test_a_source_that_is_gone_is_refused_before_it_is_queued(home):
    services = open_services(home)
    with pytest.raises(SpatialFormerError, match="no source"):
        services.register("0" * 16, "x", SAMPLE, QC, "ann")
    assert services.jobs() == []


def test_qc_report_counts_by_hand(services):
    report = services.qc_report("tiny")
    assert (report.cells_in, report.cells_kept, report.n_genes) == (60, 50, 10)
    assert report.thresholds == QC
    # The ten bottom cells fail: types A B C A B C A B C A.
    rows = {row.group: (row.cells_in, row.cells_kept) for row in report.retention}
    assert rows == {"A": (20, 16), "B": (20, 17), "C": (20, 17)}
    assert report.retention[0].group == "A"
    assert report.retention[0].share == pytest.approx(0.8)


def test_composition_of_a_region_includes_cells_that_fail_qc(services):
    table = services.composition("tiny", None, "cell_type")
    assert table.to_dict("list") == {
        "group": ["A", "B", "C"],
        "cells": [20, 20, 20],
        "share": [pytest.approx(1 / 3)] * 3,
        "kept": [16, 17, 17],
    }
    # Two rows of the first four columns: cells 0-3 (fail) and 10-13 (pass).
    roi = services.save_roi("tiny", square(0, 0, 40, 20), "corner", "ann")
    table = services.composition("tiny", roi.polygon, "cell_type")
    rows = {r.group: (r.cells, r.share, r.kept) for r in table.itertuples()}
    assert rows == {"A": (3, 0.375, 1), "B": (3, 0.375, 2), "C": (2, 0.25, 1)}


def test_expression_of_a_gene_per_group(services):
    table = services.expression("tiny", None, "MARK", "cell_type")
    rows = {r.group: (r.cells, r.mean_count, r.share_expressing) for r in table.itertuples()}
    # Type A: 16 of its 20 cells are above the bottom row and hold three copies each.
    assert rows == {"A": (20, pytest.approx(2.4), 0.8), "B": (20, 0, 0), "C": (20, 0, 0)}
    with pytest.raises(SpatialFormerError, match="not in the panel"):
        services.expression("tiny", None, "NOPE", "cell_type")


def test_cells_of_a_region(services):
    roi = services.save_roi("tiny", square(0, 0, 20, 20), "corner", "ann")
    table = services.cells("tiny", roi.polygon)
    assert table["cell_id"].tolist() == ["cell-0", "cell-1", "cell-10", "cell-11"]
    assert table["passes_qc"].tolist() == [False, False, True, True]
    assert table["cell_type"].tolist() == ["A", "B", "B", "C"]
    assert table["n_transcripts"].tolist() == [4, 4, 20, 20]
    assert len(services.cells("tiny", None)) == 60


def test_a_region_gets_another_outline_and_keeps_its_name_unit_and_id(services, home):
    drawn = {"type": "Feature", "properties": {"unit": "lobe"}, "geometry": square(0, 0, 20, 20)}
    roi = services.save_roi("tiny", json.dumps(drawn), "Rim", "ann")
    services.reshape_roi("tiny", roi.roi_id, square(0, 0, 10, 20))
    (saved,) = open_services(home).rois("tiny")
    assert (saved.name, saved.unit, saved.roi_id) == ("Rim", "lobe", roi.roi_id)
    assert saved.area_um2 == 200
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]}
    with pytest.raises(SpatialFormerError):
        services.reshape_roi("tiny", roi.roi_id, bow_tie)
    with pytest.raises(SpatialFormerError, match="no region"):
        services.reshape_roi("tiny", "nobody", square(0, 0, 10, 20))
    assert open_services(home).rois("tiny") == [saved]


def test_regions_are_saved_renamed_exported_imported_and_deleted(services, home):
    roi = services.save_roi("tiny", square(0, 0, 20, 20), "  Granuloma 1 ", "ann")
    assert (roi.name, roi.unit) == ("Granuloma 1", "Granuloma 1")
    named_unit = {"type": "Feature", "properties": {"unit": "lobe"}, "geometry": square(0, 0, 9, 9)}
    other = services.save_roi("tiny", json.dumps(named_unit), "Granuloma 2", "ann")
    assert (other.name, other.unit) == ("Granuloma 2", "lobe")
    assert [r.name for r in open_services(home).rois("tiny")] == ["Granuloma 1", "Granuloma 2"]

    renamed = services.rename_roi("tiny", roi.roi_id, "Core")
    assert (renamed.name, renamed.unit, renamed.roi_id) == ("Core", "Core", roi.roi_id)
    assert services.rename_roi("tiny", other.roi_id, "Rim").unit == "lobe"
    assert services.rename_roi("tiny", other.roi_id, "Rim").name == "Rim"

    text = services.export_rois("tiny")
    with pytest.raises(SpatialFormerError, match="two regions"):
        services.import_rois("tiny", text)
    for saved in services.rois("tiny"):
        services.delete_roi("tiny", saved.roi_id)
    assert services.rois("tiny") == []
    again = services.import_rois("tiny", text)
    assert [(r.roi_id, r.name, r.unit) for r in again] == [
        (roi.roi_id, "Core", "Core"),
        (other.roi_id, "Rim", "lobe"),
    ]
    assert all(a.polygon.equals(b.polygon) for a, b in zip(again, [roi, other], strict=True))


def test_users_see_their_own_regions_and_those_of_nobody(services):
    for owner in ("ann", "bob"):
        services.save_roi("tiny", square(0, 0, 20, 20), "Granuloma", owner)
    shared = services.save_roi("tiny", square(0, 0, 9, 9), "Core", "local")
    (of_ann,) = (roi for roi in services.rois("tiny", "ann") if roi.owner)
    assert [roi.name for roi in services.rois("tiny", "ann")] == ["Core", "Granuloma"]
    assert len(services.rois("tiny", "local")) == len(services.rois("tiny")) == 3
    for touch in (
        lambda: services.rename_roi("tiny", of_ann.roi_id, "Mine", "bob"),
        lambda: services.reshape_roi("tiny", of_ann.roi_id, square(0, 0, 5, 5), "bob"),
        lambda: services.delete_roi("tiny", of_ann.roi_id, "bob"),
    ):
        with pytest.raises(SpatialFormerError, match="no region"):
            touch()
    services.rename_roi("tiny", shared.roi_id, "Rim", "bob")
    assert of_ann in services.rois("tiny")


def test_a_colleague_imports_an_export_as_their_own(services):
    services.save_roi("tiny", square(0, 0, 20, 20), "Granuloma", "ann")
    text = services.export_rois("tiny", "ann")
    assert "ann" not in text
    (theirs,) = services.import_rois("tiny", text, "bob")
    (of_ann,) = services.rois("tiny", "ann")
    assert (theirs.owner, theirs.name) == ("bob", "Granuloma")
    assert theirs.roi_id != of_ann.roi_id
    assert services.export_rois("tiny", "cy").count('"Polygon"') == 0
    forged = text.replace('"name"', '"owner": "ann", "name"')
    assert {roi.owner for roi in services.import_rois("tiny", forged, "cy")} == {"cy"}


BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [20, 20], [20, 0], [0, 10], [0, 0]]]}
POINT = {"type": "Point", "coordinates": [1, 1]}


@pytest.mark.parametrize(
    ("geojson", "name", "said"),
    [
        (BOW_TIE, "x", "crosses itself"),
        (POINT, "x", "polygon"),
        ("{nonsense", "x", "no GeoJSON"),
        (square(5, 5, 5, 5), "x", "empty"),
        (square(9e3, 9e3, 9.1e3, 9.1e3), "x", "outside the slide"),
        (square(0, 0, 9, 9), "  ", "needs a name"),
        (square(0, 0, 9, 9), "x" * 65, "needs a name"),
        (square(0, 0, 9, 9), "taken", "already has a region"),
    ],
)
def test_bad_regions_leave_the_slide_as_it_was(services, geojson, name, said):
    services.save_roi("tiny", square(0, 0, 20, 20), "taken", "ann")
    with pytest.raises(SpatialFormerError, match=said):
        services.save_roi("tiny", geojson, name, "ann")
    assert [roi.name for roi in services.rois("tiny")] == ["taken"]


def test_an_import_with_one_bad_region_adds_none(services):
    features = [
        {"type": "Feature", "properties": {"name": f"r{i}"}, "geometry": geometry}
        for i, geometry in enumerate([square(0, 0, 20, 20), BOW_TIE])
    ]
    with pytest.raises(SpatialFormerError, match="r1"):
        services.import_rois(
            "tiny", json.dumps({"type": "FeatureCollection", "features": features})
        )
    assert services.rois("tiny") == []


def test_limits_of_the_home_hold(home, services):
    (home / "config.yaml").write_text("limits: {max_roi_vertices: 4, max_rois_per_slide: 1}\n")
    strict = open_services(home)
    with pytest.raises(SpatialFormerError, match="5 vertices, 4 are allowed"):
        strict.save_roi("tiny", square(0, 0, 20, 20), "x", "ann")
    triangle = {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [0, 10], [0, 0]]]}
    strict.save_roi("tiny", triangle, "x", "ann")
    with pytest.raises(SpatialFormerError, match="1 are allowed"):
        strict.save_roi("tiny", triangle, "y", "ann")


def test_unknown_slides_regions_and_jobs(services):
    for call in (
        lambda: services.slide("nowhere"),
        lambda: services.slide("../home"),
        lambda: services.composition("tiny", None, "no-key"),
        lambda: services.rename_roi("tiny", "no-roi", "x"),
        lambda: services.delete_roi("tiny", "no-roi"),
        lambda: services.job("no-job"),
    ):
        with pytest.raises(SpatialFormerError):
            call()


def test_a_page_that_shows_a_waiting_job_keeps_a_worker_alive(services, started):
    job_id = services.queue.submit("ingest", {}, "ann")
    services.job(job_id)
    assert started == [services.home]
    services.cancel(job_id, "ann")
    services.job(job_id)
    assert len(started) == 1
    assert [job.id for job in services.jobs("ann")] == [job_id]
    assert services.position(job_id) is None


def test_a_screens_result_is_asked_of_a_finished_screen_only(services):
    ingest = services.queue.submit("ingest", {}, "ann")
    screen = services.queue.submit("screen", {}, "ann")
    with pytest.raises(SpatialFormerError, match="not 'screen'"):
        services.screen_result(ingest)
    with pytest.raises(SpatialFormerError, match="it is queued"):
        services.screen_result(screen)
    with pytest.raises(SpatialFormerError, match="no job"):
        services.screen_result(screen, "bob")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_its_function(kind):
    assert callable(resolve(kind))


def test_an_unknown_kind():
    with pytest.raises(SpatialFormerError, match="no job kind"):
        resolve("os.system")


def test_size_of_a_pixel_travels_with_the_job(home, bundles, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    services = open_services()
    root = home.parent / "scaled"
    root.mkdir()
    tissue = bundles.Tissue()
    bundles.write_h5ad(root / "cells.h5ad", tissue)
    (home / "config.yaml").write_text(f"slide_roots: [{root}]\n")
    services = open_services()
    (source,) = services.sources()
    assert (source.name, source.kind) == ("cells.h5ad", "h5ad")
    job_id = services.register(source.id, "Scaled", SAMPLE, QC, "ann", um_per_px=0.5)
    run_job(services.queue, job_id, resolve, silent)
    assert services.job(job_id).status == "done"
    np.testing.assert_allclose(services.slide("scaled").xy_um, tissue.xy * 0.5, rtol=1e-6)
