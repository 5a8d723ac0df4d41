"""The app as a person meets it: a server of its own and a headless Chromium."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_START_S = 300
BUSY_MS = 240_000
"""A machine without a graphics card that others use as well."""

_ARGUMENTS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]


@pytest.fixture(scope="session")
def app_slide():
    path = ROOT / "tests" / "app_slide.py"
    spec = importlib.util.spec_from_file_location("spatialformer_browser_app_slide", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium; skips where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed (apt-get install chromium)")
    return pytest.skip("no Chromium is installed (apt-get install chromium)")


@pytest.fixture
def page(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        context = browser.new_context(
            viewport={"width": 1280, "height": 1000}, accept_downloads=True
        )
        opened = context.new_page()
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _end_worker(home):
    """End the worker that the app started; it would wait a quarter of an hour for more jobs."""
    if not (home / "jobs.sqlite").is_file():
        return
    with contextlib.closing(sqlite3.connect(home / "jobs.sqlite")) as queue:
        pids = [row[0] for row in queue.execute("select pid from lease")]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


class AppServer:
    """The app as a process that can be killed and started again at the same address."""

    def __init__(self, home, log):
        self.home, self.port, self._log, self._process = home, _free_port(), log, None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, **environment):
        command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1"]
        given = {"SPATIALFORMER_HOME": str(self.home), "OMP_NUM_THREADS": "1", **environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=ROOT,
                env=os.environ | given,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_S
        while not _answers(f"{self.url}/_stcore/health"):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)

    def kill(self):
        """End the server as a power cut would."""
        self._process.kill()
        self._process.wait(20)

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        _end_worker(self.home)


@pytest.fixture
def app_server(tmp_path, app_slide):
    """An app that is not started yet; its home holds a checkpoint and no slide."""
    home, roots = tmp_path / "served", tmp_path / "roots"
    app_slide.write_source(roots / "small")
    app_slide.write_checkpoint(home / "checkpoints" / "untrained")
    (home / "config.yaml").write_text(f"slide_roots: [{roots}]\n")
    server = AppServer(home, tmp_path / "server.log")
    yield server
    server.stop()


@pytest.fixture
def served(app_server):
    """Address of a running app whose home holds a checkpoint and no slide, and that home."""
    app_server.start()
    return app_server.url, app_server.home


class Hands:
    """What a person does on a page again and again; waits as long as one would."""

    def __init__(self, page):
        self.page = page

    def settle(self):
        """Wait until the script rests: a rerun in between closes an open list."""
        self.page.wait_for_timeout(400)
        self.page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=BUSY_MS)

    def choose(self, label, value):
        """Open a select box by its label, type, and take what was typed."""
        self.settle()
        box = self.page.get_by_role("combobox", name=label, exact=False).first
        option = self.page.get_by_role("option").filter(has_text=value).first
        # A box that is still gliding into place (an expander opens) closes its list again.
        for _ in range(5):
            box.click()
            box.fill(value)
            self.page.wait_for_timeout(500)
            if option.is_visible():
                box.press("Enter")
                return
        pytest.fail(f"{label} does not offer {value}")

    def metric(self, label):
        """Return a key number as it is written."""
        block = self.page.get_by_test_id("stMetric").filter(has_text=label).first
        return block.get_by_test_id("stMetricValue").inner_text()

    def drag(self, box, start, end):
        """Drag from one place of an element to another, px."""
        frame = box.bounding_box()
        self.page.mouse.move(frame["x"] + start[0], frame["y"] + start[1])
        self.page.mouse.down()
        self.page.mouse.move(frame["x"] + end[0], frame["y"] + end[1], steps=4)
        self.page.mouse.up()

    def download(self, press):
        """Return what a file holds that ``press()`` gives."""
        with self.page.expect_download() as waiting:
            press()
        return waiting.value.path().read_bytes()


@pytest.fixture
def hands(page):
    return Hands(page)
