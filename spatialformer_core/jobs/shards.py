"""Work cut into shards whose results are folders: in this process, in local ones, or on Dask.

The same function makes a shard everywhere. It is named ``"module:function"`` and takes JSON
parameters, so nothing but text crosses a process border. A result appears whole, together with
the key of all that decides it: a run that was killed starts again and makes only what is missing
or has another key.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_local
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import lock
from spatialformer_core.jobs.worker import thread_environment
from spatialformer_core.progress import Cancel, Progress, check, never, silent

ShardFunction = Callable[[dict[str, Any], Path, Cancel], None]
"""Takes parameters, the folder to fill and the cancel flag."""

NOTE = "shard.json"
"""Beside a shard's result: name and key."""

POLL_S = 1.0
GRACE_S = 5.0
EXIT_REFUSED, EXIT_CANCELLED = 2, 3
_KILLED_TRIES = 3
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard: its name (a file name), its JSON parameters and the key of its result."""

    name: str
    params: dict[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class ShardFolders:
    """Where a run works; every process of it must see both folders under the same path.

    Attributes
    ----------
    results
        One folder per finished shard.
    state
        Lock and cancel file; removed with the run's other leftovers by the caller.
    """

    results: Path
    state: Path

    @property
    def cancel_file(self) -> Path:
        """While it exists, shards stop within a second or are killed after the grace time."""
        return self.state / "cancel"


@dataclass(frozen=True, slots=True)
class Engine:
    """Where shards are made.

    Attributes
    ----------
    workers
        Local processes at a time; 0 makes the shards in this process.
    scheduler
        Address of a Dask scheduler, ``tcp://...``; local processes are not used then.
    resources
        What a Dask worker must have for one shard, for example ``{"GPU": 1}``.
    """

    workers: int = 0
    scheduler: str | None = None
    resources: dict[str, float] = field(default_factory=dict)


def result_key(values: Any) -> str:
    """Return the SHA-256 of JSON values that decide a result."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_done(folders: ShardFolders, task: ShardTask) -> bool:
    """Tell whether the result of a shard is there, whole, and of this key."""
    folder = folders.results / task.name
    if not files.is_complete(folder) or not (folder / NOTE).is_file():
        return False
    return bool(files.read_json(folder / NOTE) == {"name": task.name, "key": task.key})


def run_shards(
    function: str,
    tasks: Sequence[ShardTask],
    folders: ShardFolders,
    *,
    engine: Engine | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> list[str]:
    """Make every shard that is not there yet; results of other tasks are removed.

    Parameters
    ----------
    function
        ``"module:function"``, a `ShardFunction`; a module of the project or of the environment.
    tasks
        What to make.
    folders
        Where.
    engine
        In which processes; None: in this one.
    progress, cancel
        Called after each shard, and each second while others work.

    Returns
    -------
    list of str
        Names of the shards that had to be made.

    Raises
    ------
    SpatialFormerError
        If a shard is refused, its process dies three times, the cluster lacks what is asked for,
        or another run works in the same folder. Finished shards stay.
    Cancelled
        If ``cancel`` returned True. Finished shards stay.
    """
    for task in tasks:
        files.check_name(task.name, "The shard")
    with lock.hold(folders.state) as is_ours:
        if not is_ours:
            raise SpatialFormerError(
                "Another run is making the same shards.", where=str(folders.results)
            )
        folders.cancel_file.unlink(missing_ok=True)
        _tidy(folders, tasks)
        waiting = [task for task in tasks if not is_done(folders, task)]
        specs = [_spec(function, task, folders) for task in waiting]
        done = len(tasks) - len(waiting)
        progress(done, len(tasks), f"{done} of {len(tasks)} shards are there")
        try:
            for name in _made(specs, engine or Engine(), cancel):
                done += 1
                progress(done, len(tasks), f"Shard {name}")
        except BaseException:
            # Whatever ended this run: no shard of it may go on working.
            with files.atomic_write(folders.cancel_file, "w") as stream:
                stream.write("cancelled\n")
            raise
        _tidy(folders, tasks)
    return [task.name for task in waiting]


def _tidy(folders: ShardFolders, tasks: Sequence[ShardTask]) -> None:
    """Remove what other tasks left; a shard of a lost worker may still be writing for a moment."""
    folders.results.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 2 * GRACE_S
    wanted = {task.name for task in tasks}
    while True:
        files.sweep_partials(folders.results)
        rest = [path for path in folders.results.iterdir() if path.name not in wanted]
        written = [path for path in rest if files.is_partial(path)]
        for path in rest:
            if path not in written:
                shutil.rmtree(path, ignore_errors=True)
        if not written:
            return
        if time.monotonic() > deadline:
            raise SpatialFormerError(
                f"Another process still writes {written[0].name!r}.", where=str(folders.results)
            )
        time.sleep(POLL_S / 4)


def _spec(function: str, task: ShardTask, folders: ShardFolders) -> dict[str, Any]:
    return {
        "function": function,
        "task": {"name": task.name, "params": task.params, "key": task.key},
        "folders": {"results": str(folders.results), "state": str(folders.state)},
    }


def _made(specs: list[dict[str, Any]], engine: Engine, cancel: Cancel) -> Iterator[str]:
    if not specs:
        return
    if engine.scheduler is not None:
        from spatialformer_core.jobs.cluster import made_on_cluster

        yield from made_on_cluster(specs, engine, cancel)
    elif engine.workers > 0:
        yield from _made_locally(specs, engine.workers, cancel)
    else:
        for spec in specs:
            check(cancel)
            make_shard(spec, cancel)
            yield spec["task"]["name"]


def make_shard(spec: dict[str, Any], cancel: Cancel) -> None:
    """Make one shard in this process; its folder appears whole or not at all."""
    task = ShardTask(**spec["task"])
    folders = ShardFolders(**{key: Path(value) for key, value in spec["folders"].items()})
    if is_done(folders, task):
        return
    target = folders.results / task.name
    module, _, name = spec["function"].partition(":")
    function: ShardFunction = getattr(importlib.import_module(module), name)
    try:
        with files.atomic_directory(target, replace=True) as out:
            function(task.params, out, cancel)
            check(cancel)
            files.write_json(out / NOTE, {"name": task.name, "key": task.key})
    except OSError:
        # Two processes may make the same shard after a worker was lost; the first one wins.
        if not is_done(folders, task):
            raise


def run_in_process(spec: dict[str, Any], n_threads: int | None = None) -> None:
    """Make one shard in a process of its own that can be stopped.

    Raises
    ------
    SpatialFormerError
        If the shard is refused, or its process was killed three times.
    Cancelled
        If the cancel file appeared.
    """
    for _ in range(_KILLED_TRIES):
        code, out, err = _watched(spec, n_threads)
        if code == 0:
            return
        if code == EXIT_CANCELLED or Path(spec["folders"]["state"], "cancel").exists():
            raise Cancelled
        if code == EXIT_REFUSED:
            raise SpatialFormerError(*json.loads(out.splitlines()[-1]))
        if code != -signal.SIGKILL:
            raise RuntimeError(f"Shard {spec['task']['name']} ended with code {code}:\n{err}")
    raise SpatialFormerError(
        f"The process of shard {spec['task']['name']!r} was killed {_KILLED_TRIES} times.",
        fix="Most often memory ran out: use fewer workers or a larger machine.",
    )


def _watched(spec: dict[str, Any], n_threads: int | None) -> tuple[int, str, str]:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if n_threads is not None:
        environment |= thread_environment(n_threads)
    cancel_file = Path(spec["folders"]["state"], "cancel")
    payload: str | None = json.dumps(spec)
    stop_at = None
    with subprocess.Popen(
        [sys.executable, "-m", "spatialformer_core.jobs.shard_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            while True:
                try:
                    out, err = process.communicate(payload, timeout=POLL_S)
                    return process.returncode, out, err
                except subprocess.TimeoutExpired:
                    payload = None
                if stop_at is None and cancel_file.exists():
                    stop_at = time.monotonic() + GRACE_S
                if stop_at is not None and time.monotonic() > stop_at:
                    process.kill()
        finally:
            # Also when this process is interrupted: the shard must not outlive it.
            if process.poll() is None:
                process.kill()


def _made_locally(specs: list[dict[str, Any]], workers: int, cancel: Cancel) -> Iterator[str]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ThreadPoolExecutor(workers) as pool:
        names: dict[Future[None], str] = {
            pool.submit(run_in_process, spec, threads): spec["task"]["name"] for spec in specs
        }
        waiting = set(names)
        try:
            while waiting:
                check(cancel)
                done, waiting = wait_local(waiting, POLL_S, FIRST_COMPLETED)
                for future in done:
                    future.result()
                    yield names[future]
        except BaseException:
            state = Path(specs[0]["folders"]["state"])
            with files.atomic_write(state / "cancel", "w") as stream:
                stream.write("cancelled\n")
            pool.shutdown(wait=False, cancel_futures=True)
            raise
