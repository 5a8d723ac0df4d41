"""Whatever moment a writer is killed or the disk is full: nothing committed is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[2] / "faults.py"
KINDS = ("sigkill", "ingest", "replace", "change", "replace_without_swap", "corpus")
FULL = ("full_ingest", "full_replace", "full_change", "full_corpus")


def run(root: Path, step: int, n_full: int) -> dict:
    command = [sys.executable, "-W", "ignore", str(FAULTS), str(root), str(step), str(n_full)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return run(tmp_path_factory.mktemp("faults"), 40, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_point_loses_nothing(found, kind: str) -> None:
    """The store lists the old or the new slide, whole; a sweep leaves nothing else."""
    assert found[kind]["wrong"] == {}
    assert found[kind]["points"] >= 10


@pytest.mark.parametrize("kind", FULL)
def test_a_full_disk_is_said_and_leaves_nothing(found, kind: str) -> None:
    assert found[kind]["wrong"] == {}
    assert found[kind]["points"] >= 6


def test_two_hundred_points_and_ten_kills(found) -> None:
    assert sum(found[kind]["points"] for kind in (*KINDS[1:], *FULL)) >= 200
    assert found["sigkill"]["died"] == 10


@pytest.mark.slow
def test_a_tenth_of_all_points(tmp_path) -> None:
    found = run(tmp_path, 5, 200)
    assert {kind: found[kind]["wrong"] for kind in (*KINDS, *FULL)} == {
        kind: {} for kind in (*KINDS, *FULL)
    }
