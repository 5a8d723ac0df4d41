"""What every page does: empty, with a broken config; and those of jobs: failed, foreign, older."""

from __future__ import annotations

import json

import pytest

from pages.ui.result_page import EMBEDDINGS, GENE_PAIRS, NEIGHBOURS, SCREENS
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import ScreenRequest, embed_files, model_jobs, screen_desk
from spatialformer_core.service.changes import RegionsChange, start_change
from spatialformer_core.service.colocalise import ColocaliseRequest
from spatialformer_core.service.colocalise_estimate import estimate_colocalisation

EMPTY = {
    "slides": "Register a slide",
    "tissue": "No slide to look at",
    "gene_pairs": "No slide to compare",
    "neighbours": "No cells to ask about",
    "embedding": "No slide to embed",
    "perturbation": "No slide to screen",
    "jobs": "No job yet",
}
OF_JOBS = {
    "gene_pairs": (GENE_PAIRS, {"slide_ids": ["small"], "groupby": "x"}),
    "neighbours": (NEIGHBOURS, {"slide_id": "small"}),
    "perturbation": (SCREENS, {"slide_ids": ["small"]}),
    "embedding": (EMBEDDINGS, {"slide_id": "small", "n_umap": 10}),
}


@pytest.fixture(scope="module")
def home(make_home):
    return make_home()


@pytest.fixture(params=OF_JOBS)
def job_page(request, services, open_page):
    """A page of jobs: open it by link, its kind of jobs, and what such a job is asked."""
    page, params = OF_JOBS[request.param]

    def opened(job_id=None):
        return open_page(request.param, slide="small", **({page.name: job_id} if job_id else {}))

    def failed(why, owner="local"):
        job_id = services.queue.submit(page.kind, params, owner)
        services.queue.finish(services.queue.claim("me", job_id), "failed", why)
        return job_id

    return opened, failed, page


@pytest.mark.parametrize("page", EMPTY)
def test_empty_pages_say_what_to_do_next(page, tmp_path, monkeypatch, open_page, words):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path))
    at = open_page(page)
    assert EMPTY[page] in words(at)
    assert "egister a" in words(at)
    assert not at.error


@pytest.mark.parametrize("page", [*EMPTY, "models"])
def test_a_broken_config_is_a_sentence_not_a_trace(page, tmp_path, monkeypatch, open_page):
    (tmp_path / "config.yaml").write_text("slide_rots: []\n")
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path))
    (error,) = open_page(page).error
    assert "slide_rots" in error.value
    assert "Traceback" not in error.value


def test_a_failed_job_says_why_and_an_older_one_can_be_opened(job_page, services):
    opened, failed, page = job_page
    first, second = failed("Too few cells."), failed("The disk is full.")
    at = opened(second)
    assert ["The disk is full." in error.value for error in at.error] == [True]
    assert any(e.label == f"Previous {page.one}s (2)" for e in at.expander)
    assert at.button(key=f"open-{second}").disabled
    at.button(key=f"open-{first}").click().run()
    assert ["Too few cells." in error.value for error in at.error] == [True]
    assert at.query_params[page.name] == first


def test_others_jobs_are_not_shown(job_page):
    opened, failed, _ = job_page
    theirs = failed("Bob's own business.", owner="bob")
    (error,) = opened(theirs).error
    assert "no job" in error.value
    assert not [b for b in opened().button if b.key == f"open-{theirs}"]


def test_a_job_of_another_kind_is_said(job_page, services):
    opened, _, page = job_page
    other = "ingest" if page.kind == "screen" else "screen"
    job_id = services.queue.submit(other, {"slide_ids": ["small"], "slide_id": "small"}, "local")
    services.queue.cancel(job_id)
    (error,) = opened(job_id).error
    assert f"is no {page.one}" in error.value


def test_results_are_read_of_their_own_kind_only(services):
    job_id = services.queue.submit("ingest", {}, "local")
    reading = (
        lambda: services.screen_result(job_id),
        lambda: services.gene_pairs.result(job_id),
        lambda: services.gene_pairs.network(job_id, ("a", "b"), 5),
        lambda: model_jobs.colocalisation(services, job_id),
        lambda: embed_files.file_of(services, job_id, "h5ad"),
        lambda: screen_desk.examples(services, job_id, ("A", "B"), 1),
    )
    for read in reading:
        with pytest.raises(SpatialFormerError, match="is of kind 'ingest', not"):
            read()


def test_regions_of_others_are_neither_screened_nor_asked_about(services):
    ring = [[0, 0], [150, 0], [150, 150], [0, 150], [0, 0]]
    text = json.dumps({"type": "Polygon", "coordinates": [ring]})
    cleos, anns = (services.save_roi("small", text, name, name).roi_id for name in ("cleo", "ann"))
    screen = {"groupby": "cell_type", "group_left": "T cell", "group_right": "B cell"}
    screen |= {"slide_ids": ("small",), "checkpoint_id": "untrained", "allow_simulated": True}
    asked = {"slide_id": "small", "checkpoint_id": "untrained", "allow_simulated": True}
    for own, other in ((anns, cleos), (cleos, anns)):
        owner = "ann" if own == anns else "cleo"
        for fields in ({"roi_ids": (other,)}, {"roi_ids": (own,), "versus_roi_ids": (other,)}):
            request = ScreenRequest(**screen, **fields)
            for use in (services.estimate_screen, services.submit_screen):
                with pytest.raises(SpatialFormerError, match="no region"):
                    use(request, owner)
        near = ColocaliseRequest(**asked, groupby="cell_type", roi_ids=(own, other))
        for use in (model_jobs.submit, estimate_colocalisation):
            with pytest.raises(SpatialFormerError, match="no region"):
                use(services, near, owner)
        sides = {"mine": (own,), "theirs": (other,)}
        with pytest.raises(SpatialFormerError, match="no region"):
            start_change(services, RegionsChange(slide_id="small", key="k", sides=sides), owner)
        assert not services.jobs(owner)
    mine = ColocaliseRequest(**asked, groupby="cell_type", roi_ids=(anns,))
    assert estimate_colocalisation(services, mine, "ann").n_may_ask == 225
    assert services.job(model_jobs.submit(services, mine, "ann")).params["roi_ids"] == [anns]
