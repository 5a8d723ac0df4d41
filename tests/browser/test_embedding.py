"""The lasso on the map of an embedding, in Chromium: the same cells light up in the tissue."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.inference import embedding_map
from spatialformer_core.inference.embedding_map import EmbeddingMap
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import model_jobs, open_services
from spatialformer_core.service.embed import EmbedRequest
from spatialformer_core.service.kinds import resolve
from spatialformer_core.slides import ingest

pytestmark = pytest.mark.browser
READY_MS = 120_000
MAP, TISSUE = ".st-key-embedding-map .sf", ".st-key-embedding-tissue .sf"


def two_clouds(vectors, rows, seed):
    """Place T cells (every third) left, the others right: UMAP takes half a minute to load."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(len(rows))
    left = numbers % 3 == 0
    place = rng.normal(0, 1, (len(rows), 2)) + np.where(left[:, None], [-20, 0], [20, 0])
    near = sparse.coo_matrix(left[:, None] == left[None, :], dtype=float)
    return EmbeddingMap(rows, place.astype(np.float32), near)


def embed(home, source, app_slide):
    services = open_services(home)
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(source, services.store, name="Small", sample=sample, qc=QcThresholds())
    asked = {"slide_id": "small", "checkpoint_id": "untrained", "allow_simulated": True}
    request = EmbedRequest.model_validate({**asked, "n_umap": 600})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPATIALFORMER_HOME", str(home))
        patch.setattr(model_jobs, "ensure_worker", lambda home: True)
        patch.setattr(embedding_map, "embedding_map", two_clouds)
        job_id = model_jobs.submit(services, request, "local")
        run_job(services.queue, job_id, resolve, silent)
    assert services.job(job_id).status == "done", services.job(job_id).error
    return job_id


def selected(page):
    block = page.get_by_test_id("stMetric").filter(has_text="selected cells").first
    return int(block.get_by_test_id("stMetricValue").inner_text().replace(",", ""))


def lasso_left_half(page, picture, from_px=4):
    """Draw around the left half of a picture, from beside its tools, and wait."""
    box = picture.bounding_box()
    x0, x1 = box["x"] + from_px, box["x"] + box["width"] / 2
    y0, y1 = box["y"] + 4, box["y"] + box["height"] - 4
    page.mouse.move(x0, y0)
    page.mouse.down()
    for x, y in ((x1, y0), (x1, y1), (x0, y1), (x0, y0 + 2)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.get_by_test_id("stMetric").filter(has_text="selected cells").first.wait_for(
        timeout=READY_MS
    )


@pytest.fixture
def page_without_webgl(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--disable-gpu", "--disable-software-rasterizer", "--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        opened = browser.new_page(viewport={"width": 1280, "height": 1400})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def test_without_webgl_the_server_draws_and_the_lasso_selects(
    page_without_webgl, served, app_slide
):
    page, (url, home) = page_without_webgl, served
    assert not page.evaluate("Boolean(document.createElement('canvas').getContext('webgl2'))")
    job_id = embed(home, home.parent / "roots" / "small", app_slide)
    page.goto(f"{url}/embedding?slide=small&embedding={job_id}")
    page.get_by_text("This browser offers no WebGL").wait_for(timeout=READY_MS)
    pictures = page.locator(".stPlotlyChart .nsewdrag")
    pictures.nth(1).wait_for(timeout=READY_MS)
    lasso_left_half(page, pictures.first)
    # The left cloud, all of it and nothing else; the legend says that the others are grey.
    assert selected(page) == 200
    page.get_by_text("not selected").first.wait_for()


def test_a_lasso_on_the_map_lights_up_the_tissue(page, served, app_slide):
    url, home = served
    job_id = embed(home, home.parent / "roots" / "small", app_slide)
    page.goto(f"{url}/embedding?slide=small&embedding={job_id}")
    for viewer in (MAP, TISSUE):
        page.locator(f'{viewer}[data-state="ready"]').wait_for(timeout=READY_MS)
    page.locator(MAP).get_by_role("button", name="Lasso (L)").click()
    lasso_left_half(page, page.locator(f"{MAP} canvas").first, from_px=60)
    # The left cloud, all of it and nothing else.
    assert selected(page) == 200
    for viewer in (MAP, TISSUE):
        page.locator(f'{viewer}[data-colour^="pick:"]').wait_for(timeout=READY_MS)
    page.get_by_role("button", name="Clear").click()
    page.locator(f'{TISSUE}[data-colour="group:cell_type"]').wait_for(timeout=READY_MS)
