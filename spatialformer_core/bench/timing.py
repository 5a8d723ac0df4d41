"""Times that can be compared on a busy machine.

CPU time of this process, not wall time, because neighbours on the machine lengthen only the
latter; both sides of a ratio alternate within one run, so that a change of clock or cache hits
both; the best of a few rounds counts, because disturbances only ever add.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Work = Callable[[], object]
Made = TypeVar("Made")

_STATM = Path("/proc/self/statm")


def cpu_seconds(work: Work) -> float:
    """Return the CPU time of one call, over all threads of the process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def timed(work: Callable[[], Made]) -> tuple[Made, float]:
    """Return what one call gives, and its CPU time."""
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


def best_of(work: Work, rounds: int = 3) -> float:
    """Return the least CPU time of several calls."""
    return min(cpu_seconds(work) for _ in range(rounds))


def best_wall(work: Work, rounds: int = 3) -> float:
    """Return the least wall time of several calls; it means something on an idle machine only."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(ours: Work, reference: Work, *, rounds: int = 3) -> tuple[float, float]:
    """Return the least CPU times of both sides, taken in turns.

    The first call of ours is not counted: it compiles.
    """
    ours()
    times = [(cpu_seconds(ours), cpu_seconds(reference)) for _ in range(rounds)]
    return min(mine for mine, _ in times), min(theirs for _, theirs in times)


@dataclass
class Used:
    """What a block of code used.

    Attributes
    ----------
    wall_s, cpu_s
        Time passed, and CPU time of this process and of children that ended meanwhile.
    peak_bytes
        Largest resident memory above what was resident when the block began.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


@contextmanager
def measured(every_s: float = 0.01) -> Iterator[Used]:
    """Measure time and peak memory of a block; memory is sampled, so short peaks may be missed."""
    used = Used()
    before = resident_bytes()
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            peak[0] = max(peak[0], resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, cpu = time.perf_counter(), _cpu_all()
    try:
        yield used
    finally:
        used.wall_s = time.perf_counter() - start
        used.cpu_s = _cpu_all() - cpu
        done.set()
        watcher.join()
        used.peak_bytes = max(peak[0], resident_bytes()) - before


def resident_bytes() -> int:
    """Return the resident memory of this process; where the system hides it, the peak so far."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return pages * resource.getpagesize()


def _cpu_all() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: threads that wait for each other burn CPU time of their own."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
