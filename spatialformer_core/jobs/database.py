"""The SQLite file behind queue and lease.

WAL mode needs a local disk: on a network file system SQLite's shared memory does not work, so the
queue stays on the host of the web process and other machines meet it only through files.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError

_BUSY_S = 30.0
_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Beginnings of the names of SQLite's errors that whoever runs the app can do something about."""

_SCHEMA = """
create table if not exists job (
  id text primary key, owner text not null, kind text not null, params text not null,
  status text not null, share real not null default 0, message text not null default '',
  remaining_s real, error text, is_fault integer not null default 0,
  cancel_requested integer not null default 0, attempts integer not null default 0,
  holder text, created real not null, started real, ended real);
create index if not exists job_status on job (status);
create index if not exists job_owner on job (owner, created);
create table if not exists lease (
  device text primary key, holder text not null, pid integer not null, host text not null,
  beat real not null);
"""


class Database:
    """Short-lived connections, so that every thread and process may call at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.connection() as connection:
            connection.execute("pragma journal_mode=wal")
            connection.executescript(_SCHEMA)

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Open a connection in autocommit mode and close it at the end.

        Raises
        ------
        SpatialFormerError
            If the disk is full or cannot be written, or the file is damaged.
        """
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            with contextlib.closing(connection):
                yield connection
        except sqlite3.Error as error:
            explained = _explained(error, self.path)
            if explained is None:
                raise
            raise explained from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock from the first read on, so that read-then-write is one step."""
        with self.connection() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                # A full disk has ended the transaction already.
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            connection.execute("commit")


def _explained(error: sqlite3.Error, path: Path) -> SpatialFormerError | None:
    """Return what whoever runs the app can do about an error; None for a fault of ours."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_DISK):
        return SpatialFormerError(
            f"The list of jobs cannot be written: {error}.",
            where=path.name,
            fix="Free space on the disk of the home folder, and see that it can be written. "
            "Slides and results are untouched.",
        )
    if name.startswith(_DAMAGED):
        return SpatialFormerError(
            f"The list of jobs is damaged: {error}.",
            where=path.name,
            fix="Move this file of the home folder away and start the app again; slides and the "
            "folders of results stay.",
        )
    return None
