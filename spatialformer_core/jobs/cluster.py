"""Shards on a Dask cluster: one task each, in a subprocess of the worker.

Dask neither stops a running task nor complains when no worker has what a task asks for, so the
cluster is checked first and every shard watches the cancel file itself.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spatialformer_core import __version__, files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs.shards import GRACE_S, POLL_S, Engine, run_in_process
from spatialformer_core.progress import Cancel, check

_CONNECT_S = 20
_LOST_WORKERS = 3
_NO_WORKERS_S = 60.0


def made_on_cluster(specs: list[dict[str, Any]], engine: Engine, cancel: Cancel) -> Iterator[str]:
    """Yield the name of each shard once the cluster has made it.

    Raises
    ------
    SpatialFormerError
        If the scheduler does not answer, the workers lack what a shard needs, a shard is refused,
        or three workers in turn were lost while they made the same shard.
    Cancelled
        If ``cancel`` returned True; running shards have stopped.
    """
    from distributed import Client, KilledWorker

    state = Path(specs[0]["folders"]["state"])
    try:
        client = Client(engine.scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SpatialFormerError(
            f"The Dask scheduler does not answer: {error}.",
            where=str(engine.scheduler),
            fix="Start it with `dask scheduler`, or use --workers.",
        ) from error
    with client:
        check_cluster(client, state, engine.resources)
        run = uuid.uuid4().hex
        futures = {
            client.submit(
                run_in_process,
                spec,
                key=f"shard-{spec['task']['name']}-{run}",
                resources=engine.resources or None,
                allow_other_workers=False,
                retries=0,
            ): spec["task"]["name"]
            for spec in specs
        }
        try:
            yield from _finished(client, futures, cancel)
        except KilledWorker as error:
            raise SpatialFormerError(
                f"{_LOST_WORKERS} or more workers were lost with the same shard: {error}.",
                fix="Most often memory ran out: give the workers more.",
            ) from error
        finally:
            _stop(client, futures, state)


def check_cluster(client: Any, state: Path, resources: dict[str, float]) -> None:
    """Refuse a cluster that could not make a single shard.

    Raises
    ------
    SpatialFormerError
        If it has no worker, none with the resources, another version of the package, or a worker
        that does not see the run's folder.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise SpatialFormerError("The Dask cluster has no worker.", fix="Start `dask worker`.")
    for name, amount in resources.items():
        if not any(w["resources"].get(name, 0) >= amount for w in workers.values()):
            raise SpatialFormerError(
                f"No Dask worker has the resource {name}={amount:g}; the task would wait for ever.",
                fix=f'Start workers with --resources "{name}={amount:g}".',
            )
    token = uuid.uuid4().hex
    probe = state / f"probe-{token}"
    with files.atomic_write(probe, "w") as stream:
        stream.write(token)
    try:
        answers = client.run(look, str(probe), on_error="return")
    finally:
        probe.unlink(missing_ok=True)
    for address, answer in answers.items():
        if answer != (token, __version__):
            raise SpatialFormerError(
                f"The worker {address} does not see the run's folder, or has another version of "
                f"the package: {answer!r}.",
                where=str(state),
                fix="Workers need the same file system and the same installation.",
            )


def look(probe: str) -> tuple[str, str]:
    """Return what a worker reads in the run's folder, and its version of the package."""
    path = Path(probe)
    return (path.read_text("utf-8") if path.is_file() else "no such file", __version__)


def _finished(client: Any, futures: dict[Any, str], cancel: Cancel) -> Iterator[str]:
    from distributed import wait

    waiting = set(futures)
    alone_since = None
    while waiting:
        check(cancel)
        try:
            with client.as_current():
                wait(waiting, timeout=POLL_S, return_when="FIRST_COMPLETED")
        except TimeoutError:
            # Workers may restart; a cluster that stays empty would be waited for for ever.
            if client.scheduler_info(n_workers=-1)["workers"]:
                alone_since = None
            else:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > _NO_WORKERS_S:
                    raise SpatialFormerError("The Dask cluster has lost all workers.") from None
        for future in [f for f in waiting if f.done()]:
            waiting.discard(future)
            future.result()
            yield futures[future]


def _stop(client: Any, futures: dict[Any, str], state: Path) -> None:
    """After an error or a cancel: write the cancel file and wait for running shards to end."""
    running = [future for future in futures if not future.done()]
    if not running:
        return
    with files.atomic_write(state / "cancel", "w") as stream:
        stream.write(f"cancelled by {os.getpid()}\n")
    client.cancel(running)
    deadline = time.monotonic() + GRACE_S + 2 * POLL_S
    while any(client.processing().values()) and time.monotonic() < deadline:
        time.sleep(POLL_S / 4)
