"""Runs one job in this process: what ``spatialformer job ID`` does."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import lock
from spatialformer_core.jobs.queue import JobQueue
from spatialformer_core.jobs.records import (
    HOLDER_VARIABLE,
    Job,
    JobFunction,
    job_folder,
    result_folder,
)
from spatialformer_core.progress import Cancel, Estimate, Progress

_REPORT_EVERY_S = 0.2
NICENESS = 10


def run_job(
    queue: JobQueue,
    job_id: str,
    resolve: Callable[[str], JobFunction],
    progress: Progress,
) -> Path:
    """Run one job to its end and return its result folder; the row is updated last.

    Started by a worker (which has claimed the job) or by hand for a job that waits.

    Parameters
    ----------
    queue
        The queue that holds the job.
    job_id
        Which job.
    resolve
        Returns the function of a job kind.
    progress
        Where the progress goes.

    Raises
    ------
    SpatialFormerError
        If the job is unknown, runs already, has ended, or its function refuses the input.
    Cancelled
        If it was cancelled.
    """
    folder = job_folder(queue.home, queue.get(job_id).id)
    with lock.hold(folder) as is_ours, _stop_signal() as stopped:
        if not is_ours:
            raise SpatialFormerError(f"Job {job_id} is running already.")
        job = _claimed(queue, job_id)
        return _run_claimed(queue, job, resolve, progress, stopped)


def _claimed(queue: JobQueue, job_id: str) -> Job:
    holder = os.environ.get(HOLDER_VARIABLE)
    if holder is None:
        claimed = queue.claim(f"manual-{secrets.token_hex(8)}", job_id)
        if claimed is None:
            raise SpatialFormerError(
                f"Job {job_id} does not wait in the queue: it is {queue.get(job_id).status}."
            )
        return claimed
    job = queue.get(job_id)
    if job.status != "running" or job.holder != holder:
        raise SpatialFormerError(f"Job {job_id} was given to another worker meanwhile.")
    return job


def _run_claimed(
    queue: JobQueue,
    job: Job,
    resolve: Callable[[str], JobFunction],
    progress: Progress,
    stopped: Cancel,
) -> Path:
    result = result_folder(queue.home, job.id)
    is_manual = HOLDER_VARIABLE not in os.environ
    try:
        function = resolve(job.kind)
        with files.atomic_directory(result, replace=True) as out:
            function(job.params, out, progress, stopped)
    except Cancelled:
        # A worker that shuts down stops its job too: then the job waits for the next worker.
        if is_manual or queue.get(job.id).cancel_requested:
            queue.finish(job, "cancelled")
        raise
    except SpatialFormerError as error:
        queue.finish(job, "failed", str(error))
        raise
    except BaseException as error:
        queue.finish(job, "failed", f"{type(error).__name__}: {error}"[:500], is_fault=True)
        raise
    queue.finish(job, "done")
    return result


@contextlib.contextmanager
def _stop_signal() -> Iterator[Cancel]:
    """Turn SIGTERM and SIGINT into the cancel flag that the job's function polls."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return
    previous = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def json_progress(stream: IO[str]) -> Progress:
    """Return a progress callback that writes JSON lines, at most five a second.

    It raises `Cancelled` once the reading end is gone.
    """
    estimate = Estimate()
    last = -1.0

    def report(done: float, total: float, message: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _REPORT_EVERY_S and done < total:
            return
        last = now
        line = {
            "share": done / total if total else 1.0,
            "message": message,
            "remaining_s": estimate.remaining_s(done, total),
        }
        try:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
        except BrokenPipeError as error:
            # Without a worker nobody could stop this job: leave it to the next worker.
            raise Cancelled("The worker that started this job is gone.") from error

    return report


@contextlib.contextmanager
def worker_pipe() -> Iterator[IO[str]]:
    """Keep stdout for progress lines; whatever libraries print goes to stderr, the job's log."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.nice(NICENESS)
    try:
        yield pipe
    finally:
        # The worker may be gone, then nobody reads.
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
