"""The worker: one process per device that starts one subprocess per job and can always stop it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

from spatialformer_core import files
from spatialformer_core.jobs import lock
from spatialformer_core.jobs.lease import Lease, live_holders, new_holder
from spatialformer_core.jobs.queue import JobQueue
from spatialformer_core.jobs.records import (
    HOLDER_VARIABLE,
    Job,
    job_folder,
    log_path,
    result_folder,
)

GRACE_S = 5.0
MAX_ATTEMPTS = 2
_POLL_S = 0.2
_RECOVER_EVERY_S = 10.0
_NICENESS = 10
_MAX_JOB_S = 24 * 3600.0

Reason = Literal["cancelled", "stopped", "too long", "lease lost"]
Command = Callable[[str], list[str]]


def job_command(job_id: str) -> list[str]:
    """Return the command line that runs one job."""
    return [sys.executable, "-m", "spatialformer_core", "job", job_id]


def thread_environment(n_threads: int | None = None) -> dict[str, str]:
    """Return the variables that bound a job's threads: one core stays with the web process."""
    count = str(n_threads or max(1, (os.cpu_count() or 1) - 1))
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
    return {f"{name}_NUM_THREADS": count for name in names}


class Worker:
    """Runs waiting jobs one after the other while it holds the device's lease.

    Parameters
    ----------
    home
        The home folder with queue and results.
    device
        The device whose lease it wants.
    command
        Command line for a job id (tests put their own in).
    idle_s
        Stop after so many seconds without a job, None to stay.
    grace_s
        Seconds between the request to stop and the kill.
    """

    def __init__(
        self,
        home: Path,
        *,
        device: str = "cpu",
        command: Command = job_command,
        idle_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.queue = JobQueue(home)
        self._home = home
        self._command = command
        self._idle_s = idle_s
        self._grace_s = grace_s
        self._lease = Lease(self.queue.database, device, new_holder())
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask the worker to end; a job that runs goes back into the queue."""
        self._stopping.set()

    def run(self) -> bool:
        """Work until stopped, idle or superseded; False at once if another worker has the lease."""
        if not self._lease.acquire():
            return False
        try:
            self._loop()
        finally:
            self._lease.release()
        return True

    def _loop(self) -> None:
        idle_since = time.monotonic()
        recovered = float("-inf")
        while not self._stopping.is_set() and self._lease.beat():
            if time.monotonic() - recovered > _RECOVER_EVERY_S:
                recover(self.queue)
                recovered = time.monotonic()
            job = self.queue.claim(self._lease.holder)
            if job is not None:
                self._run(job)
                idle_since = time.monotonic()
            elif self._idle_s is not None and time.monotonic() - idle_since > self._idle_s:
                return
            else:
                self._stopping.wait(_POLL_S)

    def _run(self, job: Job) -> None:
        process = self._start(job)
        lines = _ProgressLines(process.stdout)
        reason: Reason | None = None
        asked = 0.0
        while process.poll() is None:
            if reason is None:
                reason = self._reason_to_stop(job)
                if reason is not None:
                    asked = time.monotonic()
                    _signal_group(process, signal.SIGTERM)
            elif reason == "lease lost" or time.monotonic() - asked > self._grace_s:
                _signal_group(process, signal.SIGKILL)
            self._lease.beat()
            if (line := lines.take()) is not None:
                self.queue.report(job, *line)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        _signal_group(process, signal.SIGKILL)
        lines.close()
        files.sweep_partials(job_folder(self._home, job.id))
        self._settle(job, reason, process.returncode)

    def _start(self, job: Job) -> subprocess.Popen[str]:
        folder = job_folder(self._home, job.id)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            **thread_environment(),
            "SPATIALFORMER_HOME": str(self._home),
            HOLDER_VARIABLE: self._lease.holder,
        }
        # A log grows while it is read, so it is appended to and not written atomically.
        log = os.open(log_path(self._home, job.id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                self._command(job.id),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(log)
        # People who look at pages come first; what the job starts inherits it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        return process

    def _reason_to_stop(self, job: Job) -> Reason | None:
        now = self.queue.get(job.id)
        if now.holder != self._lease.holder and not now.is_ended:
            return "lease lost"
        if now.cancel_requested:
            return "cancelled"
        if self._stopping.is_set():
            return "stopped"
        if time.time() - (job.started or job.created) > _MAX_JOB_S:
            return "too long"
        return None

    def _settle(self, job: Job, reason: Reason | None, code: int) -> None:
        """Set the status of a job whose process ended without doing so itself."""
        if self.queue.get(job.id).status != "running":
            return
        if files.is_complete(result_folder(self._home, job.id)):
            self.queue.finish(job, "done")
        elif reason == "cancelled":
            self.queue.finish(job, "cancelled")
        elif reason == "stopped":
            self.queue.requeue(job, counts=False)
        elif reason == "too long":
            self.queue.finish(job, "failed", f"It ran longer than {_MAX_JOB_S / 3600:.0f} hours.")
        else:
            self.queue.finish(job, "failed", _death(code), is_fault=True)


def recover(queue: JobQueue) -> list[str]:
    """Settle the jobs whose worker has died; return their ids.

    An orphaned process is killed first, so that no two processes work on one job. A job whose
    result is whole is done; one that was to be cancelled is cancelled; the others wait again, but
    a job that has lost its worker twice is marked lost: it may be what kills the machine.
    """
    alive = set(live_holders(queue.database).values())
    settled = []
    for job in queue.running():
        folder = job_folder(queue.home, job.id)
        is_manual = (job.holder or "").startswith("manual-")
        if job.holder in alive or (is_manual and lock.is_held(folder)):
            continue
        if not lock.kill_holder(folder):
            continue
        files.sweep_partials(folder)
        if files.is_complete(result_folder(queue.home, job.id)):
            queue.finish(job, "done")
        elif job.cancel_requested:
            queue.finish(job, "cancelled")
        elif job.attempts >= MAX_ATTEMPTS:
            sentence = f"Its worker died {job.attempts} times; it is not tried again."
            queue.finish(job, "lost", sentence, is_fault=True)
        else:
            queue.requeue(job, counts=True)
        settled.append(job.id)
    return settled


class _ProgressLines:
    """Reads a job's progress lines in a thread and keeps the newest."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._newest: tuple[float, str, float | None] | None = None
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream or ():
            parsed = _parse(line)
            if parsed is not None:
                self._newest = parsed

    def take(self) -> tuple[float, str, float | None] | None:
        """Return the newest line once."""
        newest, self._newest = self._newest, None
        return newest

    def close(self) -> None:
        self._thread.join(timeout=GRACE_S)
        if self._stream is not None and not self._thread.is_alive():
            self._stream.close()


def _parse(line: str) -> tuple[float, str, float | None] | None:
    try:
        value: dict[str, Any] = json.loads(line)
        remaining = value.get("remaining_s")
        return (
            float(value["share"]),
            str(value["message"]),
            None if remaining is None else float(remaining),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        # Not one of our lines: some library wrote to stdout. Progress is only a courtesy.
        return None


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # Its session makes the process a group leader, so helpers that it started end with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "The system killed its process, most likely for want of memory."
    if code < 0:
        return f"Its process was ended by signal {-code}."
    return f"Its process ended with code {code}; the log says more."
