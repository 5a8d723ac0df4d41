"""Starts the worker process when none is there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from spatialformer_core.jobs.lease import live_holders
from spatialformer_core.jobs.queue import JobQueue

_IDLE_S = 900
_started: dict[tuple[Path, str], subprocess.Popen[bytes]] = {}
_guard = threading.Lock()


def worker_command(device: str) -> list[str]:
    """Return the command line of a worker that ends by itself when nothing waits for long."""
    worker = [sys.executable, "-m", "spatialformer_core", "worker"]
    return [*worker, "--device", device, "--idle-s", str(_IDLE_S)]


def ensure_worker(home: Path, *, device: str = "cpu", command: Sequence[str] | None = None) -> bool:
    """Start a worker process unless one holds the device's lease; tell whether one was started.

    Two callers at once may start two: the second finds the lease taken and ends.
    """
    with _guard:
        # poll() reaps a child that ended: a zombie would still look alive to the lease.
        ours = _started.get((home, device))
        if ours is not None and ours.poll() is None:
            return False
        if device in live_holders(JobQueue(home).database):
            return False
        log = os.open(home / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _started[home, device] = subprocess.Popen(
                list(command or worker_command(device)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SPATIALFORMER_HOME": str(home)},
                start_new_session=True,
            )
        finally:
            os.close(log)
        return True
