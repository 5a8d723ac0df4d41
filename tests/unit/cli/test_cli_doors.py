"""The command line from outside: exit codes, where things are printed, start-up time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from spatialformer_core import __version__
from spatialformer_core.cli.output import duration, terminal_progress
from spatialformer_core.jobs import JobQueue, live_holders

METADATA = ["donor", "block", "condition", "tissue", "species", "assay"]


def run(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "spatialformer_core", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
        timeout=60,
    )


def test_help_is_quick_and_light():
    code = (
        "import sys; from spatialformer_core.cli import app;"
        "bad = {'torch', 'pandas', 'anndata', 'scanpy', 'spatialdata', 'numba'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = run("--help")
        seconds.append(time.perf_counter() - begin)
    assert done.returncode == 0
    verbs = "simulate demo ingest slides cooccurrence screen evaluate models job worker serve"
    for verb in verbs.split():
        assert f" {verb} " in done.stdout
    # 1 s is promised on an idle machine; tests share their cores.
    assert min(seconds) < 2.5


def test_version():
    assert run("--version").stdout.strip() == __version__


def test_missing_metadata_is_named_and_never_guessed(tmp_path):
    done = run("ingest", str(tmp_path), "--name", "x", "--donor", "P1", "--tissue", " ")
    assert done.returncode == 2
    assert done.stdout == ""
    for field in METADATA:
        assert (f"--{field}" in done.stderr) == (field != "donor")
    assert "Traceback" not in done.stderr


def test_bad_metadata_is_one_sentence(tmp_path):
    options = [part for field in METADATA for part in (f"--{field}", "x" * 65)]
    done = run("ingest", str(tmp_path), "--name", "x", *options)
    assert done.returncode == 2
    assert "Invalid SampleMetadata: donor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["ingest"],
        ["ingest", "x", "--min-genes", "many"],
        ["models", "show", "no-such-model"],
        ["job", "no-such-job"],
        ["serve", "--port", "0"],
    ],
)
def test_bad_input_is_exit_code_2_on_stderr(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_the_last_line_of_stdout():
    done = run("models", "list", "--json")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout.splitlines()[-1])["models"], list)


def test_a_job_of_an_unknown_kind_fails_in_the_row(tmp_path):
    queue = JobQueue(tmp_path / "home")
    job_id = queue.submit("unheard-of", {}, "ann")
    done = run("job", job_id)
    assert done.returncode == 2
    job = queue.get(job_id)
    assert (job.status, job.is_fault) == ("failed", False)
    assert "no job kind" in job.error


def test_the_worker_verb_runs_the_job_verb(tmp_path):
    queue = JobQueue(tmp_path / "home")
    job_id = queue.submit("ingest", {"source_id": "0" * 16}, "ann")
    done = run("worker", "--idle-s", "0.1")
    assert done.returncode == 0
    job = queue.get(job_id)
    assert (job.status, job.is_fault) == ("failed", False)
    assert "Invalid IngestParams" in job.error
    assert "Invalid IngestParams" in queue.log(job_id)


def test_serve_refuses_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 2
    assert f"Port {port} cannot be used" in done.stderr


def test_progress_goes_to_stderr_with_an_estimate(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 20.0, 20.0, 40.0, 40.0, 40.1, 40.1])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    report = terminal_progress()
    report(0, 4, "reading")
    report(1, 4, "reading")
    report(2, 4, "writing")
    report(2.1, 4, "too soon to be shown")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "  0%  reading",
        " 25%  reading  (1 min 00 s left)",
        " 50%  writing  (40 s left)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (150, "2 min 30 s"), (7300, "2 h 01 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_serve_opens_the_app_and_starts_a_worker(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "spatialformer_core", "serve", "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    worker = None
    try:
        health = f"http://127.0.0.1:{port}/_stcore/health"
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and server.poll() is None:
            try:
                with urllib.request.urlopen(health, timeout=5) as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("the app did not answer")
        database = JobQueue(tmp_path / "home").database
        while time.monotonic() < deadline and "cpu" not in live_holders(database):
            time.sleep(0.1)
        with database.connection() as connection:
            worker = connection.execute("select pid from lease where device = 'cpu'").fetchone()[0]
    finally:
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
        if worker is not None:
            os.kill(worker, signal.SIGTERM)
    assert f"http://localhost:{port}" in said
    assert "Traceback" not in said
