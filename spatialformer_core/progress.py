"""The one progress callback and the one way to cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from spatialformer_core.errors import Cancelled

Cancel = Callable[[], bool]
"""Polled between steps; returns True once the user wants the work to stop."""


class Progress(Protocol):
    """Called with the work done so far; ``total`` is in the same unit as ``done``."""

    def __call__(self, done: float, total: float, message: str) -> None:
        """Report progress."""


def silent(done: float, total: float, message: str) -> None:
    """Report to nobody."""


def never() -> bool:
    """Never cancel."""
    return False


def check(cancel: Cancel) -> None:
    """Stop the work if the user asked for it.

    Raises
    ------
    Cancelled
        If ``cancel`` returns True.
    """
    if cancel():
        raise Cancelled


def staged(progress: Progress, first: float, last: float) -> Progress:
    """Map a step's own progress onto the share ``[first, last]`` of a longer job (of 1.0)."""

    def report(done: float, total: float, message: str) -> None:
        share = done / total if total else 1.0
        progress(first + (last - first) * share, 1.0, message)

    return report


class Estimate:
    """Remaining seconds from the pace so far."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def remaining_s(self, done: float, total: float) -> float | None:
        """Return the seconds left at the mean pace so far, None before anything is done."""
        if done <= 0:
            return None
        return (time.monotonic() - self._start) * (total - done) / done
