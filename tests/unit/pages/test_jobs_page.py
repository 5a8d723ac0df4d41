"""The page Jobs: empty, with jobs in every state, with a job that is not the visitor's."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from pages.ui.job_titles import title
from pages.ui.text import in_um
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import log_path, run_job
from spatialformer_core.progress import silent

INGEST = {"source_id": "x", "name": "Lung 1"}


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"slide_roots: [{tmp_path / 'roots'}]\n")
    return folder


@pytest.fixture
def open_jobs(open_page):
    return partial(open_page, "jobs")


def finished(services, text="{}"):
    """Run a job that writes one file."""

    def work(params, out, progress, cancel):
        (out / "ingest.json").write_text(text)

    job_id = services.queue.submit("ingest", INGEST, "local")
    run_job(services.queue, job_id, lambda kind: work, silent)
    return job_id


def test_empty(services, open_jobs):
    at = open_jobs()
    assert "Register a slide or start a screen" in "".join(m.value for m in at.markdown)
    assert not at.error
    assert not at.dataframe


def test_states_places_and_cancel(services, open_jobs):
    running, first, second = (services.queue.submit("ingest", INGEST, "local") for _ in range(3))
    services.queue.claim("me", running)
    services.queue.report(services.job(running), 0.25, "Reading transcripts", 40.0)
    at = open_jobs()
    assert {m.label: m.value for m in at.metric if m.label in ("running", "waiting")} == {
        "running": "1",
        "waiting": "2",
    }
    frame = at.dataframe[0].value.set_index("id")
    assert frame.loc[[running, first, second], "status"].tolist() == ["running"] + ["waiting"] * 2
    assert frame.loc[[first, second], "jobs_ahead"].tolist() == [1, 2]
    assert frame.loc[running, "done_percent"] == 25
    assert {b.label for b in at.get("download_button")} >= {"CSV", "Parquet"}
    at.button(key=f"cancel-{first}").click().run()
    assert services.job(first).status == "cancelled"
    at = open_jobs(job=first)
    assert any("was cancelled; nothing was written" in info.value for info in at.info)


def test_files_of_a_job_that_is_done(services, open_jobs):
    job_id = finished(services)
    at = open_jobs(job=job_id)
    assert "ingest.json (2 B)" in {b.label for b in at.get("download_button")}
    assert [(f.name, f.n_bytes) for f in services.result_files(job_id)] == [("ingest.json", 2)]
    assert services.result_file(job_id, "ingest.json") == b"{}"
    assert any("slide was removed" in c.value for c in at.caption)


@pytest.mark.parametrize("name", ["../log.txt", "nothing", "/etc/passwd", "COMPLETE.json"])
def test_a_result_has_its_own_files_only(services, name):
    job_id = finished(services)
    log_path(services.home, job_id).write_text("secret")
    with pytest.raises(SpatialFormerError, match="no file"):
        services.result_file(job_id, name)


def test_a_failed_job_says_why_and_its_log_names_no_folder(services, open_jobs, tmp_path):
    job_id = services.queue.submit("ingest", INGEST, "local")
    job = services.queue.claim("me", job_id)
    services.queue.finish(job, "failed", "It broke.", is_fault=True)
    log = log_path(services.home, job_id)
    log.parent.mkdir(parents=True)
    log.write_text(f"read {tmp_path / 'roots'}/a in {services.home}/b\n")
    at = open_jobs(job=job_id)
    assert "It broke." in at.error[0].value
    assert "read slide_roots[0]/a in $SPATIALFORMER_HOME/b" in [c.value for c in at.code]


def test_others_jobs_are_not_shown(services, open_jobs):
    mine, theirs = finished(services), services.queue.submit("ingest", {"name": "Kidney"}, "bob")
    at = open_jobs(job=theirs)
    assert at.dataframe[0].value["id"].tolist() == [mine]
    assert any("not one of yours" in warning.value for warning in at.warning)
    assert "Kidney" not in str(at.main)
    with pytest.raises(SpatialFormerError, match="no job"):
        services.log(theirs, "local")


def test_a_job_whose_computer_stopped_says_how_to_go_on(services, open_jobs):
    job_id = services.queue.submit("ingest", INGEST, "local")
    services.queue.finish(services.queue.claim("me", job_id), "lost")
    at = open_jobs(job=job_id)
    assert any("The computer stopped while it ran. Start it again" in w.value for w in at.warning)


def test_a_title_names_a_few_of_many_slides():
    params = {"slide_ids": [f"s{i}" for i in range(5)], "groupby": "x", "settings": {}}
    job = SimpleNamespace(kind="gene-pairs", params=params)
    assert title(job) == "Gene pairs by x · s0, s1, s2 and 2 more"


def test_micrometres_of_the_core_are_said_as_people_do():
    assert in_um("Units (400 um block) within 30 um, maximum 5.") == (
        "Units (400 µm block) within 30 µm, maximum 5."
    )
