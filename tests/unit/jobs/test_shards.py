"""Shards: made once, whole, anywhere; refused, cancelled and killed ones."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import (
    Engine,
    ShardFolders,
    ShardTask,
    cluster,
    lock,
    result_key,
    run_shards,
    shards,
)

FUNCTIONS = """
import os, signal, time
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import check


def write(params, folder, cancel):
    with open(params["log"], "a") as stream:
        stream.write(f"{params['text']}\\n")
    (folder / "text").write_text(params["text"])


def refuse(params, folder, cancel):
    raise SpatialFormerError("No good.", where="here", fix="Mend it.")


def fault(params, folder, cancel):
    raise KeyError("ours")


def die_once(params, folder, cancel):
    mark = Path(params["log"]).with_name("died")
    if not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    write(params, folder, cancel)


def die(params, folder, cancel):
    os.kill(os.getpid(), signal.SIGKILL)


def polite(params, folder, cancel):
    Path(params["log"]).write_text("began")
    while True:
        check(cancel)
        time.sleep(0.02)


def deaf(params, folder, cancel):
    Path(params["log"]).write_text("began")
    time.sleep(60)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module of shard functions that other processes can import, and folders to work in."""
    (tmp_path / "shard_functions_for_test.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def tasks(work: Path, *texts: str) -> list[ShardTask]:
    log = str(work / "log")
    return [ShardTask(f"s{i}", {"text": t, "log": log}, result_key(t)) for i, t in enumerate(texts)]


def run(work: Path, name: str, made: list[ShardTask], **options) -> list[str]:
    folders = ShardFolders(work / "results", work / "state")
    return run_shards(f"shard_functions_for_test:{name}", made, folders, **options)


def log(work: Path) -> list[str]:
    return (work / "log").read_text().split()


@pytest.mark.parametrize("workers", [0, 2])
def test_only_what_is_missing_or_has_changed_is_made(work, workers):
    engine = Engine(workers=workers)
    seen = []
    made = run(
        work,
        "write",
        tasks(work, "a", "b"),
        engine=engine,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert made == ["s0", "s1"]
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert sorted(log(work)) == ["a", "b"]
    assert run(work, "write", tasks(work, "a", "B", "c"), engine=engine) == ["s1", "s2"]
    assert sorted(log(work)) == ["B", "a", "b", "c"]
    assert (work / "results" / "s1" / "text").read_text() == "B"
    # A task that is no longer wanted takes its result with it; an unfinished one is made again.
    (work / "results" / "s0" / files.MANIFEST).unlink()
    assert run(work, "write", tasks(work, "a"), engine=engine) == ["s0"]
    assert sorted(p.name for p in (work / "results").iterdir()) == ["s0"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_travels_whole_and_finished_shards_stay(work, workers):
    run(work, "write", tasks(work, "a"))
    with pytest.raises(SpatialFormerError) as error:
        run(work, "refuse", tasks(work, "a", "b"), engine=Engine(workers=workers))
    assert (error.value.message, error.value.where, error.value.fix) == (
        "No good.",
        "here",
        "Mend it.",
    )
    assert [p.name for p in (work / "results").iterdir()] == ["s0"]


def test_a_fault_of_ours_keeps_its_traceback(work):
    with pytest.raises(RuntimeError, match="KeyError: 'ours'"):
        run(work, "fault", tasks(work, "a"), engine=Engine(workers=1))


def test_a_killed_process_is_started_again_but_not_for_ever(work):
    run(work, "die_once", tasks(work, "a"), engine=Engine(workers=1))
    assert (work / "results" / "s0" / "text").read_text() == "a"
    with pytest.raises(SpatialFormerError, match="was killed 3 times"):
        run(work, "die", tasks(work, "b"), engine=Engine(workers=1))


@pytest.mark.parametrize("name", ["polite", "deaf"])
def test_cancel_stops_a_shard_that_listens_and_kills_one_that_does_not(work, name, monkeypatch):
    monkeypatch.setattr(shards, "POLL_S", 0.1)
    monkeypatch.setattr(shards, "GRACE_S", 0.3)
    began = work / "log"
    start = time.monotonic()
    with pytest.raises(Cancelled):
        run(work, name, tasks(work, "a"), engine=Engine(workers=1), cancel=began.exists)
    assert time.monotonic() - start < 20
    assert not (work / "results" / "s0").exists()
    # The next run is not stopped by the cancel file of this one.
    run(work, "write", tasks(work, "a"))


def test_two_runs_do_not_work_in_one_folder(work):
    with lock.hold(work / "state"), pytest.raises(SpatialFormerError, match="Another run"):
        run(work, "write", tasks(work, "a"))


def test_a_foreign_partial_that_is_being_written_is_waited_for(work, monkeypatch):
    monkeypatch.setattr(shards, "POLL_S", 0.1)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with files.atomic_directory(work / "results" / "s0", replace=True) as folder:
            entered.set()
            leave.wait(20)
            (folder / "text").write_text("orphan")

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(20)
    threading.Timer(0.3, leave.set).start()
    run(work, "write", tasks(work, "a"))
    thread.join()
    assert (work / "results" / "s0" / "text").read_text() == "a"
    assert [p.name for p in (work / "results").iterdir()] == ["s0"]


class Client:
    """Answers of a cluster whose workers lack something."""

    def __init__(self, workers, answer=None):
        self.workers, self.answer = workers, answer

    def scheduler_info(self, n_workers=-1):
        return {"workers": self.workers}

    def run(self, function, *arguments, on_error):
        real = function(*arguments)
        return dict.fromkeys(self.workers, self.answer or real)


def test_a_cluster_is_checked_before_anything_is_submitted(tmp_path):
    cpu = {"tcp://a": {"resources": {}}}
    with pytest.raises(SpatialFormerError, match="no worker"):
        cluster.check_cluster(Client({}), tmp_path, {})
    with pytest.raises(SpatialFormerError, match="resource GPU=1"):
        cluster.check_cluster(Client(cpu), tmp_path, {"GPU": 1})
    with pytest.raises(SpatialFormerError, match="tcp://a does not see"):
        cluster.check_cluster(Client(cpu, ("no such file", "0")), tmp_path, {})
    gpu = {"tcp://a": {"resources": {"GPU": 1.0}}}
    cluster.check_cluster(Client(gpu), tmp_path, {"GPU": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_does_not_answer_is_named(work, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_S", 1)
    engine = Engine(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(SpatialFormerError, match="does not answer"):
        run(work, "write", tasks(work, "a"), engine=engine)
