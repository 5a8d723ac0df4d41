"""The lock that a running job's process holds for its whole life.

The kernel frees it when the process dies in whatever way, so a recovering worker knows for certain
whether an orphan still works, and that the process id in the file is the orphan's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_KILL_WAIT_S = 10.0


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Hold the job's lock; yields False at once if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    # No atomic write here: replacing the file would replace the lock.
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(descriptor):
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield True
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Tell whether some living process holds the job's lock."""
    path = folder / "lock"
    if not path.is_file():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def kill_holder(folder: Path) -> bool:
    """Kill the process group that still holds the job's lock; True once the lock is free."""
    deadline = time.monotonic() + _KILL_WAIT_S
    while is_held(folder):
        if time.monotonic() > deadline:
            return False
        text = (folder / "lock").read_text("ascii").strip()
        if text.isdigit():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(text), signal.SIGKILL)
        time.sleep(0.05)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
