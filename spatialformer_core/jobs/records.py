"""What a job is, and where its files lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spatialformer_core import files
from spatialformer_core.progress import Cancel, Progress

Status = Literal["queued", "running", "done", "failed", "cancelled", "lost"]

ENDED: frozenset[Status] = frozenset({"done", "failed", "cancelled", "lost"})

JobFunction = Callable[[dict[str, Any], Path, Progress, Cancel], None]
"""``function(params, out, progress, cancel)``: writes its results into the folder ``out``."""

HOLDER_VARIABLE = "SPATIALFORMER_JOB_HOLDER"
"""Set by the worker for its subprocess: whose claim on the job it carries out."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the queue.

    Attributes
    ----------
    share
        Work done so far, 0 to 1.
    remaining_s
        Seconds left at the pace so far, None while unknown.
    error
        Why it failed or was lost, as one sentence.
    is_fault
        Whether a failure is a fault of ours (and not of the input).
    attempts
        How often it was started.
    created, started, ended
        Seconds since 1970, UTC.
    """

    id: str
    owner: str
    kind: str
    params: dict[str, Any]
    status: Status
    share: float
    message: str
    remaining_s: float | None
    error: str | None
    is_fault: bool
    cancel_requested: bool
    attempts: int
    holder: str | None
    created: float
    started: float | None
    ended: float | None

    @property
    def is_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


def job_folder(home: Path, job_id: str) -> Path:
    """Return the folder of one job (log, lock, result).

    Raises
    ------
    SpatialFormerError
        If the id cannot be one of ours.
    """
    return home / "jobs" / files.check_name(job_id, "Job id")


def result_folder(home: Path, job_id: str) -> Path:
    """Return where the result of one job appears, whole or not at all."""
    return job_folder(home, job_id) / "result"


def log_path(home: Path, job_id: str) -> Path:
    """Return the file that collects what a job says on stdout and stderr."""
    return job_folder(home, job_id) / "log.txt"
