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
    with contextlib.closing(sqlite3.connect(home / "jobs.sqlite")) as queue:
        pids = [row[0] for row in queue.execute("select pid from lease")]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@pytest.fixture
def served(tmp_path, app_slide):
    """Address of an app whose home holds a checkpoint and no slide, and that home."""
    home, roots = tmp_path / "served", tmp_path / "roots"
    app_slide.write_source(roots / "small")
    app_slide.write_checkpoint(home / "checkpoints" / "untrained")
    (home / "config.yaml").write_text(f"slide_roots: [{roots}]\n")
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1"]
    environment = os.environ | {"SPATIALFORMER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(f"{url}/_stcore/health"):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        yield url, home
    finally:
        server.terminate()
        server.wait(20)
        _end_worker(home)
