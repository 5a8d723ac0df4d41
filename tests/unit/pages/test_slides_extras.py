"""The page Slides beyond the card: files that go with a slide, the panel box, spillover."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import open_services
from spatialformer_core.service.kinds import resolve

LAX = {"erosion_um": 0.5, "near_um": 20, "far_um": 25, "block_um": 150}
LAX |= {"min_cells": 10, "min_detected": 5, "min_blocks": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory, bundles, app_slide):
    """A slide with outlines, ``outlined``, and a folder of sources with a table of groups."""
    from spatialformer_core.slides import ingest

    folder = tmp_path_factory.mktemp("extras")
    roots = tmp_path_factory.mktemp("extra-roots")
    tissue = bundles.Tissue(n_cells=500)
    # GENE00 belongs to the first type alone, so that it has a source.
    kind = tissue.types[tissue.tx_cell]
    rare = np.random.default_rng(1).random(len(kind)) > 0.06
    tissue.tx_feature[(tissue.tx_feature == 0) & (tissue.tx_cell >= 0) & (kind != 0) & rare] = 1
    tissue.counts = tissue.count(0.0)
    outlined = bundles.write_table_folder(roots / "outlined", tissue)
    sample = SampleMetadata(**app_slide.SAMPLE)
    store = open_services(folder).store
    qc = QcThresholds(min_transcripts=10, min_genes=3)
    ingest(outlined, store, name="Outlined", sample=sample, qc=qc)
    app_slide.write_source(roots / "small")
    rows = [f"cell-{i},{'odd' if i % 2 else 'even'}" for i in range(app_slide.SIDE**2)]
    (roots / "groups.csv").write_text("\n".join(["cell_id,group", *rows]))
    (folder / "config.yaml").write_text(f"slide_roots: [{roots}]\n")
    return folder


@pytest.fixture
def open_slides(open_page):
    return partial(open_page, "slides")


def fill(at, services, name):
    source = next(s.id for s in services.sources() if s.name == "small")
    at.selectbox(key="register-source").set_value(source)
    at.text_input(key="register-name").input(name)
    chosen = {"donor": "P1", "block": "1", "condition": "Healthy"}
    chosen |= {"tissue": "Lung", "species": "Human", "assay": "Xenium"}
    for field, value in chosen.items():
        at.selectbox(key=f"register-{field}").set_value(value)


def test_labels_from_an_allowed_folder_become_the_slides_groups(services, open_slides):
    at = open_slides()
    fill(at, services, "Labelled")
    labels = next(f.id for f in services.attachable() if f.name == "groups.csv")
    at.selectbox(key="register-labels_id").set_value(labels)
    next(b for b in at.button if b.label == "Register slide").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    assert job.params["labels_id"] == labels
    assert "groups.csv" not in str(job.params)
    run_job(services.queue, job.id, resolve, silent)
    groups = services.slide("labelled").group("cell_type")
    assert groups.categories == ("even", "odd")
    np.testing.assert_array_equal(groups.codes[:4], [0, 1, 0, 1])


def test_an_alignment_without_an_image_is_refused(services, open_slides):
    at = open_slides()
    fill(at, services, "Askew")
    table = next(f.id for f in services.attachable() if f.kind == "table")
    at.selectbox(key="register-he_affine_id").set_value(table)
    next(b for b in at.button if b.label == "Register slide").click().run()
    assert "without its H&E" in at.error[0].value
    sample = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
    source = services.sources()[0].id
    with pytest.raises(SpatialFormerError, match="no image"):
        services.register(source, "X", sample, QcThresholds(), "local", he_id=table)


def test_is_my_gene_on_the_panel(services, open_slides):
    at = open_slides(slide="outlined")
    box = at.text_input(key="panel-outlined")
    gene = services.slide("outlined").genes[0]
    box.input(gene.lower()).run()
    assert any(f"is on the panel as **{gene}**" in s.value for s in at.success)
    box = at.text_input(key="panel-outlined")
    box.input("NOSUCHGENE").run()
    assert any("is not on the panel" in w.value for w in at.warning)
    at.text_input(key="panel-outlined").input(f"{gene} NOSUCHGENE").run()
    table = next(f.value for f in at.dataframe if "asked" in f.value)
    assert table["recognised"].tolist() == ["by its name", "not on the panel"]
    at.text_input(key="panel-outlined").input(" ".join(f"G{i}" for i in range(600))).run()
    assert "looked up at once" in at.error[0].value


def test_spillover_from_button_to_table(services, open_slides):
    at = open_slides(slide="outlined")
    at.button(key="spillover-start-outlined").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    groupby = services.slide("outlined").meta.default_group
    assert (job.kind, job.params) == ("spillover", {"slide_id": "outlined", "groupby": groupby})
    services.cancel(job.id)
    job_id = services.queue.submit("spillover", {**job.params, "settings": LAX}, "local")
    run_job(services.queue, job_id, resolve, silent)
    assert {f.name for f in services.result_files(job_id)} == {
        "spillover.json",
        "spillover.parquet",
    }
    at = open_slides(slide="outlined")
    found = services.spillover("outlined", groupby)
    tested = next(m.value for m in at.metric if m.label == "tested")
    assert tested == f"{len(found.table):,}" != "0"
    assert any(b.label == "Measure again" for b in at.button)


def test_a_failed_measurement_says_why(services, open_slides):
    job_id = services.queue.submit("spillover", {"slide_id": "outlined", "groupby": "x"}, "local")
    job = services.queue.claim("me", job_id)
    services.queue.finish(job, "failed", "There is no grouping 'x'.")
    at = open_slides(slide="outlined")
    assert "There is no grouping 'x'." in at.error[0].value
    at.button(key=f"dismiss-{job_id}").click().run()
    assert not at.error


def test_a_slide_without_outlines_says_what_it_lacks(services, open_slides):
    with pytest.raises(SpatialFormerError, match="no cell outlines"):
        services.start_spillover("labelled", "cell_type", "local")
    at = open_slides(slide="labelled")
    assert any("Spillover needs" in info.value for info in at.info)
