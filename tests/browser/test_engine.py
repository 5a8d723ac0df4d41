"""Jobs outlive a reload, a closed tab and the server itself."""

from __future__ import annotations

import threading

import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.jobs import JobQueue
from spatialformer_core.jobs.lease import Lease
from spatialformer_core.service import Services

pytestmark = pytest.mark.browser

JOB_MS = 180_000


@pytest.fixture
def held(app_server):
    """A queue whose only device is held by this test, as by a worker of its own."""
    queue = JobQueue(app_server.home)
    lease = Lease(queue.database, "cpu", "held-by-test")
    assert lease.acquire()
    over = threading.Event()

    def beat():
        while not over.wait(1.0):
            lease.beat()

    beating = threading.Thread(target=beat)
    beating.start()

    def release():
        over.set()
        beating.join()
        lease.release()

    yield queue, release
    release()


def submit(services, app_slide, name):
    source = next(entry for entry in services.sources() if entry.name == "small")
    sample = SampleMetadata(**app_slide.SAMPLE)
    return services.register(source.id, name, sample, QcThresholds(), "local")


def test_a_job_outlives_reload_server_and_tab(page, app_server, app_slide, held):
    queue, release = held
    services = Services(app_server.home)
    first = submit(services, app_slide, "First")
    submit(services, app_slide, "Second")
    job = queue.claim("held-by-test", first)
    queue.report(job, 0.4, "Reading the cells")

    page.set_default_timeout(JOB_MS)
    app_server.start()
    page.goto(f"{app_server.url}/jobs")
    page.get_by_text("Reading the cells · 40 %").wait_for()
    page.get_by_text("Waiting: 1 job ahead").wait_for()
    page.reload()
    page.get_by_text("Reading the cells · 40 %").wait_for()
    # The page follows by itself.
    queue.report(job, 0.6, "Reading the outlines")
    page.get_by_text("Reading the outlines · 60 %").wait_for()

    app_server.kill()
    queue.report(job, 0.8, "Writing the index")
    app_server.start()
    page.goto(f"{app_server.url}/jobs")
    page.get_by_text("Writing the index · 80 %").wait_for()
    page.get_by_role("link", name="Slides").first.click()
    page.get_by_text("Writing the index · 80 %").wait_for()

    # The worker goes, too: the app starts another, which begins the job anew and ends both.
    queue.requeue(job, counts=False)
    release()
    context = page.context
    page.close()
    again = context.new_page()
    again.goto(f"{app_server.url}/jobs?job={first}")
    again.get_by_text("Files of the result").wait_for(timeout=JOB_MS)
    assert {meta.name for meta in services.slides()} >= {"First"}
