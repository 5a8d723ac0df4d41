"""The page Slides, part by part: uploads, files, cell types, sample, removal."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.ui import charts, text
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import cell_types, changes, facade, open_services, uploads
from spatialformer_core.service.kinds import resolve

TYPES, FILES, SAMPLE = "Cell types", "Files", "Sample and removal"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    for module in (facade, changes, cell_types):
        monkeypatch.setattr(module, "ensure_worker", lambda home: True)


@pytest.fixture(scope="module")
def home(tmp_path_factory, source, app_slide):
    from spatialformer_core.slides import ingest

    folder = tmp_path_factory.mktemp("parts")
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(source, open_services(folder).store, name="Small", sample=sample, qc=QcThresholds())
    return folder


@pytest.fixture
def services(home, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    return open_services(home)


def open_part(root, part, slide="small"):
    at = AppTest.from_file(str(root / "app.py"), default_timeout=120)
    at.query_params["slide"] = slide
    at.session_state["slides-part"] = part
    at.run()
    assert not at.exception, [e.message for e in at.exception]
    assert not at.error, at.error[0].value
    return at


def click(at, label):
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception, [e.message for e in at.exception]
    return at


def run_newest(services):
    job = services.jobs("local")[0]
    run_job(services.queue, job.id, resolve, silent)
    assert services.job(job.id).status == "done", services.job(job.id).error
    return job


def test_a_file_is_uploaded_and_its_labels_attached(services, root):
    rows = [f"cell-{i},{'odd' if i % 2 else 'even'}" for i in range(1600)]
    content = "\n".join(["cell_id,halves", *rows, "nobody,odd"]).encode()
    at = open_part(root, FILES)
    assert any("No image in the allowed folders" in str(s.placeholder) for s in at.selectbox)
    uploads.save_upload(services, "halves.csv", io.BytesIO(content))
    at = open_part(root, FILES)
    assert any("halves" in m.value for m in at.markdown)
    labels = next(f.id for f in services.attachable())
    at.selectbox(key="attach-labels-small").set_value(labels).run()
    click(at, "Attach labels")
    assert not at.error, at.error[0].value
    assert run_newest(services).params["action"] == "labels"
    at = open_part(root, FILES)
    assert any("name no cell of this slide" in s.value for s in at.success)
    assert services.slide("small").group_keys == ("cell_type", "halves")
    # The new grouping can be looked at like any other.
    at = open_part(root, "Quality control")
    at.selectbox(key="retention-by-small").set_value("halves").run()
    table = next(f.value for f in at.dataframe if "kept_percent" in f.value)
    assert table.set_index("group")["cells"].to_dict() == {"even": 800, "odd": 800}
    click(open_part(root, FILES), "Remove it")
    run_newest(services)
    assert len(services.slide("small").group_keys) == 1


def test_what_a_change_did_is_said_until_it_was_seen_or_another_one_fails(services, root):
    key = services.slide("small").group_keys[0]
    good, bad = ({"action": "default", "slide_id": "small", "key": k} for k in (key, "x"))
    services.queue.submit("change", good, "local")
    run_newest(services)
    at = open_part(root, FILES)
    assert [s.value for s in at.success] == [f"{key} is shown first."]
    click(at, "Dismiss")
    assert not at.success
    job_id = services.queue.submit("change", bad, "local")
    with pytest.raises(SpatialFormerError):
        run_job(services.queue, job_id, resolve, silent)
    at.run()
    assert not at.success
    assert "no grouping 'x'" in at.error[0].value
    # Whoever tries again is not told of the old failure meanwhile, nor afterwards.
    services.queue.submit("change", good, "local")
    at.run()
    assert not at.error
    run_newest(services)
    assert open_part(root, FILES).success


def test_a_slide_that_was_read_is_opened(services, root):
    at = AppTest.from_file(str(root / "app.py"), default_timeout=120)
    at.session_state["_registering"] = "Small"
    at.run()
    assert not at.exception
    assert [s.value for s in at.subheader] == ["Small"]
    assert "Small is registered: 98 % of 1,600 cells pass QC." in at.toast[0].value
    assert "_registering" not in at.session_state


def test_clusters_called_by_numbers_get_a_bar_beside_names():
    table = pd.DataFrame({"group": ["(none)", "0", "B cell", "11"], "cells": 4, "kept": 3})
    figure = charts.retention(table)
    assert figure.layout.yaxis.type == "category"
    assert [list(bar.y) for bar in figure.data] == [list(table["group"])] * 2


def test_a_share_is_all_or_nothing_only_where_it_is():
    said = [text.percent(part, 20_000) for part in (0, 9, 10_000, 19_991, 20_000)]
    assert said == ["0 %", "<1 %", "50 %", ">99 %", "100 %"]


def test_types_are_named_from_their_markers(services, root, monkeypatch):
    groupby = services.slide("small").group_keys[0]
    at = open_part(root, TYPES)
    assert any("not ranked yet" in c.value for c in at.caption)
    click(at, "Find marker genes")
    assert run_newest(services).params["groupby"] == groupby
    at = open_part(root, TYPES)
    found = cell_types.newest_types(services, "small", groupby)
    table = next(f.value for f in at.dataframe if "markers" in f.value)
    best = found.markers.groupby("group")["gene"].first()
    for group, genes in zip(table["group"], table["markers"], strict=True):
        assert genes.split(", ")[0] == best[group]
    assert any(found.facts["mark"] in c.value for c in at.caption)
    at.text_input(key="types-key-small-cell_type_named").input("mine").run()
    click(at, "Save the names")
    assert not at.error, at.error[0].value
    run_newest(services)
    slide = services.slide("small")
    assert "mine" in slide.group_keys
    assert slide.meta.default_group == "mine"
    # It is a choice on the other pages at once.
    at = AppTest.from_file(str(root / "app.py"), default_timeout=120)
    at.query_params["slide"] = "small"
    at.switch_page("pages/gene_pairs.py").run()
    assert "mine" in at.selectbox(key="pairs-groupby").options


def test_what_the_sample_is_can_be_said_anew(services, root):
    at = open_part(root, SAMPLE)
    click(at, "Save")
    assert any("Nothing differs" in i.value for i in at.info)
    chosen = next(s for s in at.selectbox if s.key.endswith("-condition") and "sample" in s.key)
    assert chosen.value == services.slide("small").meta.sample.condition
    chosen.set_value("Healthy")
    click(at, "Save")
    assert not at.error, at.error[0].value
    assert not at.info, at.info[0].value
    run_newest(services)
    assert services.slide("small").meta.sample.condition == "Healthy"


def test_a_slide_goes_only_when_its_name_is_typed(services, root):
    at = open_part(root, SAMPLE)
    assert next(b for b in at.button if b.label == "Remove the slide").disabled
    at.text_input(key="remove-small").input("Smal").run()
    click(at, "Remove the slide")
    assert "is not the name" in at.error[0].value
    at.text_input(key="remove-small").input("Small").run()
    click(at, "Remove the slide")
    assert services.slides() == []
    assert any("No slide yet" in m.value for m in at.markdown)


def test_a_failed_change_says_why(services, root):
    params = {"action": "default", "slide_id": "small", "key": "x"}
    job_id = services.queue.submit("change", params, "local")
    job = services.queue.claim("me", job_id)
    services.queue.finish(job, "failed", "The disk is full.")
    at = AppTest.from_file(str(root / "app.py"), default_timeout=120).run()
    assert "The disk is full." in at.error[0].value
    at.button(key=f"dismiss-{job_id}").click().run()
    assert not at.error
