"""A process killed while it ingests leaves nothing half-visible."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from spatialformer_core.slides import SlideStore

pytestmark = pytest.mark.security

SCRIPT = """
import os, signal, sys
from pathlib import Path
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.slides import SlideStore, ingest

def die(done, total, message):
    if message.startswith(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

sample = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
ingest(Path(sys.argv[1]), SlideStore(Path(sys.argv[2])), name=sys.argv[3], sample=sample,
       qc=QcThresholds(), progress=die, replace=True)
"""


def run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=False).returncode


def test_kill_leaves_the_slides_that_were_there(bundles, tmp_path) -> None:
    source = str(bundles.write_table_folder(tmp_path / "source", bundles.Tissue()))
    home, store = str(tmp_path / "home"), SlideStore(tmp_path / "home")
    assert run(source, home, "first", "never") == 0
    for name, moment in [
        ("first", "Reading"),
        ("second", "Writing the index"),
        ("first", "Writing the SpatialData"),
    ]:
        assert run(source, home, name, moment) == -signal.SIGKILL
        # The next ingest sweeps what the one before left.
        assert len([path for path in store.root.iterdir() if "partial" in path.name]) <= 1
        assert [meta.slide_id for meta in store.list()] == ["first"]
        assert store.verify("first") == []
    assert store.sweep() == 1
    assert [path.name for path in store.root.iterdir()] == ["first"]
