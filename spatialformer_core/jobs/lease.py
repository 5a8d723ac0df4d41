"""The device lease: at most one worker per device, and a dead worker's lease is taken over."""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import time

from spatialformer_core.jobs.database import Database

STALE_S = 10.0
"""A lease without a heartbeat for so long is free, whoever holds it."""


def new_holder() -> str:
    """Return a fresh name under which a worker holds leases and claims jobs."""
    return f"worker-{secrets.token_hex(8)}"


class Lease:
    """One device's lease as seen by one would-be holder.

    Parameters
    ----------
    database
        The queue's database.
    device
        What may be used by one worker at a time, for instance ``cpu`` or ``cuda:0``.
    holder
        Name of the would-be holder.
    """

    def __init__(self, database: Database, device: str, holder: str) -> None:
        self._database = database
        self.device = device
        self.holder = holder

    def acquire(self) -> bool:
        """Take the lease if it is free or stale; tell whether it is ours now."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "select * from lease where device = ?", (self.device,)
            ).fetchone()
            if row is not None and row["holder"] != self.holder and _is_live(row):
                return False
            connection.execute(
                "insert or replace into lease values (?, ?, ?, ?, ?)",
                (self.device, self.holder, os.getpid(), socket.gethostname(), time.time()),
            )
            return True

    def beat(self) -> bool:
        """Renew the lease; False once another worker has taken it over."""
        with self._database.connection() as connection:
            changed = connection.execute(
                "update lease set beat = ? where device = ? and holder = ?",
                (time.time(), self.device, self.holder),
            ).rowcount
        return changed == 1

    def release(self) -> None:
        """Give the lease back (nothing happens if it is another's by now)."""
        with self._database.connection() as connection:
            connection.execute(
                "delete from lease where device = ? and holder = ?", (self.device, self.holder)
            )


def live_holders(database: Database) -> dict[str, str]:
    """Return ``{device: holder}`` of the workers that are alive."""
    with database.connection() as connection:
        rows = connection.execute("select * from lease").fetchall()
    return {row["device"]: row["holder"] for row in rows if _is_live(row)}


def _is_live(row: sqlite3.Row) -> bool:
    if abs(time.time() - float(row["beat"])) > STALE_S:
        return False
    if row["host"] != socket.gethostname():
        return True
    # On this machine a death is known at once, without waiting for the heartbeat to go stale.
    try:
        os.kill(int(row["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
