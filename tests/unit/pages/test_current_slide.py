"""The pages follow the slide that was looked at last."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services


@pytest.fixture(scope="module")
def two_slides(tmp_path_factory, source, app_slide):
    from spatialformer_core.slides import ingest

    folder = tmp_path_factory.mktemp("two")
    sample = SampleMetadata(**app_slide.SAMPLE)
    for name in ("First", "Second"):
        ingest(source, open_services(folder).store, name=name, sample=sample, qc=QcThresholds())
    app_slide.write_checkpoint(folder / "checkpoints" / "untrained")
    return folder


def test_a_screen_begins_with_the_slide_just_drawn_on(two_slides, root, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(two_slides))
    at = AppTest.from_file(str(root / "app.py"), default_timeout=60)
    at.query_params["slide"] = "second"
    at.switch_page("pages/tissue.py").run()
    # The menu's links carry no slide.
    at.query_params.clear()
    at.switch_page("pages/perturbation.py").run()
    assert at.multiselect(key="screen-slides").value == ["second"]
    # A choice made in the form stays, until another slide is looked at.
    at.multiselect(key="screen-slides").set_value(["first", "second"]).run()
    assert at.multiselect(key="screen-slides").value == ["first", "second"]
    at.query_params["slide"] = "first"
    at.switch_page("pages/tissue.py").run()
    at.query_params.clear()
    at.switch_page("pages/perturbation.py").run()
    assert at.multiselect(key="screen-slides").value == ["first"]
    assert not at.exception
