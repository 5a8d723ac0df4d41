"""Verbs of the queue: ``job`` runs one, ``worker`` runs them all."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, note, say, terminal_progress


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("job")(job)
    app.command("worker")(worker)


def job(job_id: str, *, as_json: AsJson = False) -> None:
    """Run one waiting job of the queue in this process."""
    from spatialformer_core import files
    from spatialformer_core.jobs import (
        HOLDER_VARIABLE,
        JobQueue,
        json_progress,
        run_job,
        worker_pipe,
    )
    from spatialformer_core.service.kinds import resolve

    queue = JobQueue(files.home())
    if HOLDER_VARIABLE in os.environ:
        with worker_pipe() as pipe:
            run_job(queue, job_id, resolve, json_progress(pipe))
        return
    result = run_job(queue, job_id, resolve, terminal_progress())
    if as_json:
        emit_json({"job": job_id, "status": queue.get(job_id).status, "result": str(result)})
    else:
        say(f"Job {job_id} is done: {result}")


def worker(
    *,
    device: Annotated[str, typer.Option(help="Device whose lease it takes.")] = "cpu",
    idle_s: Annotated[
        float | None, typer.Option(help="End after so many seconds without a job.")
    ] = None,
) -> None:
    """Run the waiting jobs one after the other, until stopped."""
    from spatialformer_core import files
    from spatialformer_core.jobs import Worker

    runner = Worker(files.home(), device=device, idle_s=idle_s)

    def stop(number: int, frame: FrameType | None) -> None:
        runner.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if not runner.run():
        note(f"Another worker holds {device!r} already; this one ends.")
