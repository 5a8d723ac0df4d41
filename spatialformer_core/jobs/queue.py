"""The job queue: rows in SQLite, fair between owners, safe for many threads and processes."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.files import check_name
from spatialformer_core.jobs.database import Database
from spatialformer_core.jobs.records import Job, Status, log_path, result_folder

_MAX_PARAMS_BYTES = 1 << 20
_MAX_LOG_BYTES = 1 << 16
_MAX_LISTED = 200
MAX_QUEUED_PER_OWNER = 50

_ACTIVE = "status in ('queued', 'running')"


class JobQueue:
    """Jobs of all users of one home folder.

    Parameters
    ----------
    home
        The home folder; the queue is ``jobs.sqlite`` in it, results lie below ``jobs/``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = Database(home / "jobs.sqlite")

    def submit(self, kind: str, params: Mapping[str, Any], owner: str) -> str:
        """Queue a job and return its id.

        Raises
        ------
        SpatialFormerError
            If the parameters are no JSON or too large, or the owner has too many jobs waiting.
        """
        check_name(kind, "Job kind")
        try:
            text = json.dumps(dict(params), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SpatialFormerError(
                f"The parameters of a job must be JSON: {error}.", where=kind
            ) from error
        if len(text) > _MAX_PARAMS_BYTES:
            raise SpatialFormerError(
                f"The parameters of the job are {len(text):,} bytes, {_MAX_PARAMS_BYTES:,} are "
                "allowed.",
                where=kind,
            )
        job_id = secrets.token_hex(8)
        with self.database.transaction() as connection:
            waiting = connection.execute(
                "select count(*) from job where owner = ? and status = 'queued'", (owner,)
            ).fetchone()[0]
            if waiting >= MAX_QUEUED_PER_OWNER:
                raise SpatialFormerError(
                    f"{waiting} of your jobs are waiting, more are not accepted.",
                    fix="Wait until some have ended, or cancel some.",
                )
            connection.execute(
                "insert into job (id, owner, kind, params, status, created)"
                " values (?, ?, ?, ?, 'queued', ?)",
                (job_id, owner, kind, text, time.time()),
            )
        return job_id

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """Return one job; with ``owner``, only if it is theirs.

        Raises
        ------
        SpatialFormerError
            If there is no such job (another owner's job counts as none).
        """
        with self.database.connection() as connection:
            row = connection.execute("select * from job where id = ?", (job_id,)).fetchone()
        if row is None or (owner is not None and row["owner"] != owner):
            raise SpatialFormerError(
                f"There is no job {job_id[:80]!r}.", fix="The page Jobs lists yours."
            )
        return _job(row)

    def list(self, owner: str | None = None) -> list[Job]:
        """Return the newest jobs first, of one owner or of all (200 at most)."""
        where, values = ("where owner = ?", (owner,)) if owner is not None else ("", ())
        with self.database.connection() as connection:
            rows = connection.execute(
                f"select * from job {where} order by created desc, rowid desc limit {_MAX_LISTED}",  # noqa: S608 - constants only
                values,
            ).fetchall()
        return [_job(row) for row in rows]

    def running(self) -> Iterable[Job]:
        """Return the jobs that some worker has claimed."""
        with self.database.connection() as connection:
            rows = connection.execute("select * from job where status = 'running'").fetchall()
        return [_job(row) for row in rows]

    def position(self, job_id: str) -> int | None:
        """Return how many jobs run before this one, None if it does not wait."""
        with self.database.connection() as connection:
            rows = connection.execute(f"select * from job where {_ACTIVE}").fetchall()  # noqa: S608
            served = _served(connection)
        queued = [row for row in rows if row["status"] == "queued"]
        order = fair_order([(r["id"], r["owner"], r["created"]) for r in queued], served)
        if job_id not in order:
            return None
        return order.index(job_id) + len(rows) - len(queued)

    def cancel(self, job_id: str, owner: str | None = None) -> Status:
        """Cancel a job (again and again, if one likes) and return its status.

        A waiting job ends at once; a running one is asked to stop and its status follows within
        seconds; one that has ended stays as it is.
        """
        self.get(job_id, owner)
        with self.database.transaction() as connection:
            connection.execute(
                "update job set status = 'cancelled', cancel_requested = 1, ended = ?"
                " where id = ? and status = 'queued'",
                (time.time(), job_id),
            )
            connection.execute(
                "update job set cancel_requested = 1 where id = ? and status = 'running'", (job_id,)
            )
        return self.get(job_id).status

    def log(self, job_id: str, owner: str | None = None) -> str:
        """Return the end of a job's log (64 kB at most), empty if it wrote none."""
        self.get(job_id, owner)
        path = log_path(self.home, job_id)
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _MAX_LOG_BYTES))
            return stream.read().decode("utf-8", "replace")

    def result(self, job_id: str, owner: str | None = None, kind: str | None = None) -> Path:
        """Return the result folder of a job that is done.

        Parameters
        ----------
        kind
            What the job must be; None: of any kind.

        Raises
        ------
        SpatialFormerError
            If it is of another kind, or not done; the sentence says how it stands.
        """
        job = self.get(job_id, owner)
        if kind not in (None, job.kind):
            raise SpatialFormerError(f"Job {job_id} is of kind {job.kind!r}, not {kind!r}.")
        if job.status != "done":
            raise SpatialFormerError(
                f"Job {job_id} has no result: it is {job.status}.", where=job.error or None
            )
        return result_folder(self.home, job_id)

    def claim(self, holder: str, job_id: str | None = None) -> Job | None:
        """Take the next job in fair order (or the given one); None if nothing waits.

        Parameters
        ----------
        holder
            Who claims it; later reports count only under this name.
        job_id
            Claim this job or none.
        """
        with self.database.transaction() as connection:
            rows = connection.execute(
                "select id, owner, created from job where status = 'queued'"
            ).fetchall()
            order = fair_order([tuple(row) for row in rows], _served(connection))
            chosen = next((i for i in order if job_id in (None, i)), None)
            if chosen is None:
                return None
            connection.execute(
                "update job set status = 'running', holder = ?, started = ?, share = 0,"
                " message = '', remaining_s = null, attempts = attempts + 1 where id = ?",
                (holder, time.time(), chosen),
            )
        return self.get(chosen)

    def report(
        self, job: Job, share: float, message: str, remaining_s: float | None = None
    ) -> None:
        """Store progress of a job claimed by ``job.holder``."""
        self._update_claimed(
            job,
            "share = ?, message = ?, remaining_s = ?",
            (min(max(share, 0.0), 1.0), message[:500], remaining_s),
        )

    def finish(
        self, job: Job, status: Status, error: str | None = None, *, is_fault: bool = False
    ) -> bool:
        """Set the final status, unless the claim is no longer valid; tell whether it was set."""
        return self._update_claimed(
            job,
            "status = ?, error = ?, is_fault = ?, ended = ?, remaining_s = null,"
            " share = case when ? = 'done' then 1.0 else share end",
            (status, error, int(is_fault), time.time(), status),
        )

    def requeue(self, job: Job, *, counts: bool) -> bool:
        """Put a claimed job back into the queue; ``counts`` keeps the attempt on its account."""
        return self._update_claimed(
            job,
            "status = 'queued', holder = null, started = null, share = 0, message = '',"
            " remaining_s = null, attempts = attempts - ?",
            (0 if counts else 1,),
        )

    def _update_claimed(self, job: Job, assignments: str, values: tuple[Any, ...]) -> bool:
        # The holder in the condition is the fence: a worker that lost its lease changes nothing.
        with self.database.connection() as connection:
            changed = connection.execute(
                f"update job set {assignments} where id = ? and status = 'running' and holder = ?",  # noqa: S608
                (*values, job.id, job.holder),
            ).rowcount
        return changed == 1


def fair_order(queued: Iterable[tuple[str, str, float]], served: Mapping[str, float]) -> list[str]:
    """Order waiting jobs: owners take turns, each owner's jobs by age.

    Parameters
    ----------
    queued
        ``(job id, owner, created)`` of the waiting jobs.
    served
        When each owner's latest job started; who never had one comes first.

    Returns
    -------
    list of str
        Job ids, next one first.
    """
    waiting: dict[str, list[tuple[float, str]]] = {}
    for job_id, owner, created in queued:
        waiting.setdefault(owner, []).append((created, job_id))
    for jobs in waiting.values():
        jobs.sort(reverse=True)
    # A turn is ordered by (round, time of the owner's last start, age of the owner's next job).
    turns: list[tuple[int, float, float, str]] = []
    for owner, jobs in waiting.items():
        last = served.get(owner, float("-inf"))
        turns += [(turn, last, *job) for turn, job in enumerate(reversed(jobs))]
    return [job_id for *_, job_id in sorted(turns)]


def _served(connection: sqlite3.Connection) -> dict[str, float]:
    rows = connection.execute(
        "select owner, max(started) from job where started is not null group by owner"
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values["params"] = json.loads(values["params"])
    values["is_fault"] = bool(values["is_fault"])
    values["cancel_requested"] = bool(values["cancel_requested"])
    return Job(**values)
