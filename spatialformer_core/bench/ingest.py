"""Time and memory of ingest, measured on the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spatialformer_core.bench.large_bundle import LargeBundle
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, bounded
from spatialformer_core.errors import SpatialFormerError

_SAMPLE = [
    word
    for field in ("donor", "block", "condition", "tissue", "species", "assay")
    for word in (f"--{field}", "bench")
]
_KILOBYTE = 1024 if sys.platform != "darwin" else 1


def ingest_row(source: Path, name: str, *, at_most_s: float, at_most_gb: float) -> list[Row]:
    """Ingest a source into a store that is thrown away.

    Parameters
    ----------
    source
        A folder that ``spatialformer ingest`` takes.
    name
        Stands in the rows' names.
    at_most_s, at_most_gb
        Bounds of wall time and peak memory.

    Raises
    ------
    SpatialFormerError
        If the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="spatialformer-bench-") as home:
        command = [sys.executable, "-m", "spatialformer_core", "ingest", str(source), "--json"]
        environment = {**os.environ, "SPATIALFORMER_HOME": home}
        start = time.perf_counter()
        done = subprocess.Popen(
            [*command, "--name", "bench", *_SAMPLE],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if done.stdout is None:
            raise SpatialFormerError("The command's output cannot be read.", where="bench")
        with done.stdout as stream:
            printed = stream.read().decode("utf-8", "replace")
        # wait4 gives the peak memory of this one child, RUSAGE_CHILDREN that of the largest ever.
        _, status, usage = os.wait4(done.pid, 0)
        done.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - start
    if done.returncode != 0:
        raise SpatialFormerError(
            f"Ingest of {source.name} ended with code {done.returncode}.",
            where="bench",
            fix=f"Run `spatialformer ingest {source.name}` and read its message.",
        )
    report = json.loads(printed.strip().splitlines()[-1])
    peak_gb = usage.ru_maxrss * _KILOBYTE / 1e9
    cpu_s = usage.ru_utime + usage.ru_stime
    return [
        bounded("data", f"ingest_{name}", wall_s, "s", at_most=at_most_s),
        bounded("data", f"ingest_{name}_cpu", cpu_s, "CPU-s"),
        bounded("data", f"ingest_{name}_memory", peak_gb, "GB", at_most=at_most_gb),
        bounded("data", f"ingest_{name}_transcripts", report["transcripts_in"] / 1e6, "M"),
    ]


def ingest_whole(options: BenchOptions) -> list[Row]:
    """Ingest 40 M made-up transcripts in 330,000 cells."""
    with tempfile.TemporaryDirectory(prefix="spatialformer-bench-") as name:
        bundle = LargeBundle(options.scaled(330_000), options.scaled(40_000_000), seed=options.seed)
        source = bundle.write(Path(name) / "large")
        return ingest_row(source, "40m", at_most_s=360.0, at_most_gb=6.0)
