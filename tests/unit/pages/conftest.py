"""The app in a home of its own: empty, or with the small slide."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STARTERS = ("facade", "cell_types", "changes", "embed_files", "model_convert", "model_jobs")
"""Modules of the service that start a worker."""


@pytest.fixture(scope="session")
def app_slide():
    path = ROOT / "tests" / "app_slide.py"
    spec = importlib.util.spec_from_file_location("spatialformer_test_app_slide", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def source(app_slide, tmp_path_factory):
    return app_slide.write_source(tmp_path_factory.mktemp("roots") / "small")


@pytest.fixture(scope="session")
def root():
    """Folder of app.py."""
    return ROOT


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Count the workers that would be started instead of starting them."""
    calls = []
    for name in STARTERS:
        module = importlib.import_module(f"spatialformer_core.service.{name}")
        monkeypatch.setattr(module, "ensure_worker", lambda home: calls.append(home) or True)
    return calls


@pytest.fixture(scope="session")
def make_home(tmp_path_factory, source, app_slide):
    """Make a home with slides read from the same source, and untrained checkpoints.

    Slides are given as ``name=donor``.
    """
    from spatialformer_core.config import QcThresholds, SampleMetadata
    from spatialformer_core.service import open_services
    from spatialformer_core.slides import ingest

    def made(models=("untrained",), **donors):
        folder = tmp_path_factory.mktemp("home")
        store = open_services(folder).store
        for name, donor in (donors or {"Small": app_slide.SAMPLE["donor"]}).items():
            sample = SampleMetadata(**{**app_slide.SAMPLE, "donor": donor})
            ingest(source, store, name=name, sample=sample, qc=QcThresholds())
        for name in models:
            app_slide.write_checkpoint(folder / "checkpoints" / name)
        return folder

    return made


@pytest.fixture
def services(home, monkeypatch):
    """The services of the test file's own ``home``."""
    from spatialformer_core.service import open_services

    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    return open_services(home)


@pytest.fixture(scope="session")
def run_now():
    """Queue a job and carry it out here; return its id."""
    from spatialformer_core.jobs import run_job
    from spatialformer_core.progress import silent
    from spatialformer_core.service.kinds import resolve

    def ran(services, kind, request):
        job_id = services.queue.submit(kind, request.model_dump(mode="json"), "local")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPATIALFORMER_HOME", str(services.home))
            run_job(services.queue, job_id, resolve, silent)
        assert services.job(job_id).status == "done", services.job(job_id).error
        return job_id

    return ran


@pytest.fixture(scope="session")
def open_page(root):
    """Open a page by its name, with a link's values; the tissue viewer has drawn the slide."""
    from streamlit.testing.v1 import AppTest

    def opened(name, *, drawn=True, **query):
        at = AppTest.from_file(str(root / "app.py"), default_timeout=90)
        at.query_params.update(query)
        if drawn and "slide" in query:
            at.session_state[f"tissue-viewer:drawn:{query['slide']}"] = True
        at.switch_page(f"pages/{name}.py").run()
        assert not at.exception, [e.message for e in at.exception]
        return at

    return opened


@pytest.fixture(scope="session")
def words():
    """Return the sentences of a page."""

    def said(at):
        kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.success)
        return "\n".join(str(part.value) for kind in kinds for part in kind)

    return said


@pytest.fixture(scope="session")
def metrics():
    """Return the key numbers of a page by their labels."""
    return lambda at: {metric.label: metric.value for metric in at.metric}
