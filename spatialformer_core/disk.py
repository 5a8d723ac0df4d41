"""What the operating system offers for writing safely: locks, swaps in one step, sizes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import time
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_ABANDONED_S = 86_400.0
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Codes of an `OSError` that mean a full disk or a used-up quota."""


def lock(descriptor: int) -> None:
    """Lock what is open until it is closed or its process ends, where the file system can."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(descriptor: int) -> bool:
    """Lock what is open as `lock` does; False where somebody else holds it.

    A file system without locks is taken as free.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_being_written(path: Path) -> bool:
    """Tell whether the writer of something unfinished is alive."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # A file system without locks: only age tells.
        return time.time() - os.fstat(descriptor).st_mtime < _ABANDONED_S
    finally:
        os.close(descriptor)
    return False


def exchange(left: Path, right: Path) -> bool:
    """Swap two folders in one step; False where the system or its file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(left), os.fsencode(right)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(right))


def size(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.exists() else 0


def size_text(n_bytes: float) -> str:
    """Return a size in words, such as ``2.1 GB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


def full_error(path: Path, written_bytes: int, needed_bytes: int | None) -> SpatialFormerError:
    """Return the error of a disk without space: what was written, what was needed, what is free."""
    there = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = size_text(shutil.disk_usage(there).free)
    needed = "" if needed_bytes is None else f"about {size_text(needed_bytes)} needed, "
    return SpatialFormerError(
        f"The disk is full: {path.name!r} could not be written "
        f"({needed}{size_text(written_bytes)} written, {free} free).",
        where=path.name,
        fix="Free space on this disk, or let SPATIALFORMER_HOME name a folder on a larger one.",
    )
