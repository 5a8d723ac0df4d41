"""Job kinds for the tests, and the program that runs them: light enough to be killed often."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobQueue, run_job
from spatialformer_core.jobs.runner import json_progress, worker_pipe
from spatialformer_core.progress import check


def count(params, out, progress, cancel):
    """Count to n and write it; `marker` collects one line per start."""
    with Path(params["marker"]).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    for step in range(params["n"]):
        check(cancel)
        progress(step, params["n"], f"step {step}")
        time.sleep(params.get("pause_s", 0.0))
    sys.stdout.write("a library chats on stdout\n")
    (out / "count.txt").write_text(str(params["n"]))


def deaf(params, out, progress, cancel):
    """Ignore the wish to stop."""
    Path(params["marker"]).write_text(str(os.getpid()))
    time.sleep(60)


def refuse(params, out, progress, cancel):
    raise SpatialFormerError("The input is empty.", fix="Give another.")


def crash(params, out, progress, cancel):
    raise RuntimeError("a fault")


def die(params, out, progress, cancel):
    (out / "half.txt").write_text("half")
    with Path(params["marker"]).open("a") as stream:
        stream.write("start\n")
    os.kill(os.getpid(), 9)


KINDS = {"count": count, "deaf": deaf, "refuse": refuse, "crash": crash, "die": die}


def main() -> None:
    queue = JobQueue(Path(os.environ["SPATIALFORMER_HOME"]))
    with worker_pipe() as pipe:
        run_job(queue, sys.argv[1], KINDS.__getitem__, json_progress(pipe))


if __name__ == "__main__":
    main()
