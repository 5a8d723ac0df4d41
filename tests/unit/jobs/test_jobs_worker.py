"""The worker with real processes: progress, cancel, kills, double start, restart."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import (
    JobQueue,
    Worker,
    ensure_worker,
    json_progress,
    live_holders,
    recover,
    result_folder,
    run_job,
    thread_environment,
)
from spatialformer_core.jobs.lease import STALE_S, Lease
from spatialformer_core.jobs.lock import is_held
from spatialformer_core.jobs.records import job_folder
from spatialformer_core.jobs.worker import _parse
from spatialformer_core.progress import silent

HERE = Path(__file__).parent


@pytest.fixture
def queue(tmp_path):
    return JobQueue(tmp_path / "home")


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker.txt"


def in_process_worker(queue, **options):
    options = {"idle_s": 0.3, "grace_s": 1.0, **options}
    return Worker(
        queue.home,
        command=lambda job_id: [sys.executable, str(HERE / "job_kinds.py"), job_id],
        **options,
    )


@contextlib.contextmanager
def in_thread(worker):
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()


def start_worker(home, idle_s=30.0):
    return subprocess.Popen(
        [sys.executable, str(HERE / "worker_program.py"), str(home), str(idle_s)],
        start_new_session=True,
    )


def wait_for(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def wait_for_end(queue, job_id):
    wait_for(lambda: queue.get(job_id).is_ended)
    return queue.get(job_id)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_two_submitters_get_their_results_and_the_log(queue, marker):
    ids = [
        queue.submit("count", {"n": n, "marker": str(marker)}, owner)
        for n, owner in [(3, "ann"), (4, "ann"), (5, "bob")]
    ]
    assert in_process_worker(queue).run()
    jobs = [queue.get(i) for i in ids]
    assert [job.status for job in jobs] == ["done"] * 3
    assert [job.share for job in jobs] == [1.0] * 3
    for job_id, n in zip(ids, (3, 4, 5), strict=True):
        assert (queue.result(job_id) / "count.txt").read_text() == str(n)
        assert files.verify_directory(queue.result(job_id)) == []
        assert "a library chats on stdout" in queue.log(job_id)
    # ann submitted two before bob, but bob is served between them.
    assert jobs[0].started < jobs[2].started < jobs[1].started


def test_progress_reaches_the_row(queue, marker):
    job_id = queue.submit("count", {"n": 40, "pause_s": 0.1, "marker": str(marker)}, "ann")
    with in_thread(in_process_worker(queue, idle_s=None)):
        job = wait_for(lambda: (j := queue.get(job_id)).share > 0.05 and j)
        assert job.status == "running"
        assert job.message.startswith("step ")
        assert job.remaining_s > 0
        queue.cancel(job_id)
        assert wait_for_end(queue, job_id).status == "cancelled"


def test_cancel_while_running_again_and_again(queue, marker):
    job_id = queue.submit("count", {"n": 600, "pause_s": 0.1, "marker": str(marker)}, "ann")
    after = queue.submit("count", {"n": 1, "marker": str(marker)}, "ann")
    with in_thread(in_process_worker(queue, idle_s=None)):
        wait_for(marker.exists)
        begin = time.monotonic()
        for _ in range(5):
            assert queue.cancel(job_id) in {"running", "cancelled"}
        assert wait_for_end(queue, job_id).status == "cancelled"
        assert time.monotonic() - begin < 5
        assert queue.cancel(job_id) == "cancelled"
        assert wait_for_end(queue, after).status == "done"
    assert not result_folder(queue.home, job_id).exists()
    assert not list(job_folder(queue.home, job_id).glob("*.partial-*"))


def test_a_job_that_ignores_the_request_is_killed_after_the_grace(queue, marker):
    job_id = queue.submit("deaf", {"marker": str(marker)}, "ann")
    with in_thread(in_process_worker(queue, idle_s=None)):
        wait_for(lambda: marker.exists() and marker.read_text())
        pid = int(marker.read_text())
        queue.cancel(job_id)
        assert wait_for_end(queue, job_id).status == "cancelled"
        assert not is_alive(pid)
    assert not list(job_folder(queue.home, job_id).glob("*.partial-*"))


def test_refusal_fault_and_sudden_death_are_told_apart(queue, marker):
    refused = queue.submit("refuse", {}, "ann")
    crashed = queue.submit("crash", {}, "ann")
    died = queue.submit("die", {"marker": str(marker)}, "ann")
    unknown = queue.submit("unheard-of", {}, "ann")
    in_process_worker(queue).run()
    job = queue.get(refused)
    assert (job.status, job.error, job.is_fault) == (
        "failed",
        "The input is empty. Give another.",
        False,
    )
    job = queue.get(crashed)
    assert (job.status, job.error, job.is_fault) == ("failed", "RuntimeError: a fault", True)
    assert "Traceback" in queue.log(crashed)
    job = queue.get(died)
    assert (job.status, job.is_fault) == ("failed", True)
    assert "memory" in job.error
    assert not list(job_folder(queue.home, died).glob("result*"))
    assert queue.get(unknown).status == "failed"


def test_a_killed_worker_leaves_a_job_that_the_next_one_finishes(queue, marker):
    job_id = queue.submit("count", {"n": 15, "pause_s": 0.1, "marker": str(marker)}, "ann")
    first = start_worker(queue.home)
    wait_for(lambda: queue.get(job_id).share > 0)
    first.kill()
    first.wait()
    assert queue.get(job_id).status == "running"
    in_process_worker(queue).run()
    job = queue.get(job_id)
    assert job.status == "done"
    assert job.attempts in {1, 2}
    assert (queue.result(job_id) / "count.txt").read_text() == "15"
    assert not any(is_alive(int(pid)) for pid in marker.read_text().split())


def test_an_orphan_is_killed_before_its_job_runs_again(queue, marker):
    job_id = queue.submit("deaf", {"marker": str(marker)}, "ann")
    first = start_worker(queue.home)
    wait_for(lambda: marker.exists() and marker.read_text())
    orphan = int(marker.read_text())
    first.kill()
    first.wait()
    assert is_alive(orphan)
    assert is_held(job_folder(queue.home, job_id))
    assert recover(queue) == [job_id]
    assert not is_alive(orphan)
    assert queue.get(job_id).status == "queued"
    assert queue.get(job_id).attempts == 1


def test_a_job_that_loses_its_worker_twice_is_lost(queue):
    job_id = queue.submit("count", {}, "ann")
    for expected in ("queued", "lost"):
        queue.claim("worker-dead")
        recover(queue)
        assert queue.get(job_id).status == expected
    assert "2 times" in queue.get(job_id).error


def test_recovery_honours_a_cancel_and_a_finished_result(queue):
    cancelled, done = (queue.submit("count", {}, "ann") for _ in range(2))
    for _ in range(2):
        queue.claim("worker-dead")
    queue.cancel(cancelled)
    with files.atomic_directory(result_folder(queue.home, done)) as out:
        (out / "count.txt").write_text("1")
    recover(queue)
    assert queue.get(cancelled).status == "cancelled"
    assert queue.get(done).status == "done"


def test_recovery_leaves_the_jobs_of_living_workers_alone(queue):
    lease = Lease(queue.database, "cuda:0", "worker-alive")
    assert lease.acquire()
    job_id = queue.submit("count", {}, "ann")
    queue.claim("worker-alive")
    assert recover(queue) == []
    assert queue.get(job_id).status == "running"


def test_a_second_worker_ends_at_once_and_harms_nothing(queue, marker):
    job_id = queue.submit("count", {"n": 20, "pause_s": 0.1, "marker": str(marker)}, "ann")
    with in_thread(in_process_worker(queue, idle_s=None)):
        wait_for(lambda: queue.get(job_id).status == "running")
        assert start_worker(queue.home).wait(20) == 3
        assert not in_process_worker(queue).run()
        assert wait_for_end(queue, job_id).status == "done"
    assert len(marker.read_text().split()) == 1
    assert live_holders(queue.database) == {}


def test_two_workers_started_together_run_each_job_once(queue, marker):
    ids = [queue.submit("count", {"n": 1, "marker": str(marker)}, "ann") for _ in range(4)]
    workers = [start_worker(queue.home, idle_s=0.5) for _ in range(3)]
    assert sorted(worker.wait(30) for worker in workers)[0] == 0
    assert [queue.get(i).status for i in ids] == ["done"] * 4
    assert len(marker.read_text().split()) == 4


def test_a_worker_that_is_told_to_stop_puts_its_job_back(queue, marker):
    job_id = queue.submit("count", {"n": 600, "pause_s": 0.1, "marker": str(marker)}, "ann")
    worker = start_worker(queue.home)
    wait_for(lambda: queue.get(job_id).share > 0)
    worker.terminate()
    assert worker.wait(20) == 0
    job = queue.get(job_id)
    assert (job.status, job.attempts, job.holder) == ("queued", 0, None)
    assert not is_alive(int(marker.read_text().split()[0]))


def test_a_superseded_worker_kills_its_job_and_goes(queue, marker):
    job_id = queue.submit("deaf", {"marker": str(marker)}, "ann")
    worker = start_worker(queue.home)
    wait_for(lambda: marker.exists() and marker.read_text())
    os.kill(worker.pid, signal.SIGSTOP)
    with queue.database.connection() as connection:
        connection.execute("update lease set beat = beat - ?", (STALE_S + 1,))
    other = Lease(queue.database, "cpu", "worker-other")
    assert other.acquire()
    assert recover(queue) == [job_id]
    claimed = queue.claim("worker-other")
    os.kill(worker.pid, signal.SIGCONT)
    assert worker.wait(20) == 0
    job = queue.get(job_id)
    assert (job.status, job.holder) == ("running", "worker-other")
    assert queue.finish(claimed, "done")
    assert live_holders(queue.database) == {"cpu": "worker-other"}


def test_a_stale_lease_is_taken_over_and_a_fresh_one_is_not(queue):
    first, second = (Lease(queue.database, "cpu", f"worker-{n}") for n in "ab")
    assert first.acquire()
    assert not second.acquire()
    assert first.beat()
    with queue.database.connection() as connection:
        connection.execute("update lease set beat = beat - ?", (STALE_S + 1,))
    assert second.acquire()
    assert not first.beat()
    first.release()
    assert live_holders(queue.database) == {"cpu": "worker-b"}
    assert Lease(queue.database, "cuda:0", "worker-c").acquire()


def test_ensure_worker_starts_one_and_only_one(queue, marker):
    job_id = queue.submit("count", {"n": 1, "marker": str(marker)}, "ann")
    command = [sys.executable, str(HERE / "worker_program.py"), str(queue.home), "0.5"]
    assert ensure_worker(queue.home, command=command)
    assert not ensure_worker(queue.home, command=command)
    assert wait_for_end(queue, job_id).status == "done"
    again = queue.submit("count", {"n": 1, "marker": str(marker)}, "ann")
    wait_for(lambda: ensure_worker(queue.home, command=command) or queue.get(again).is_ended)
    assert wait_for_end(queue, again).status == "done"
    wait_for(lambda: not live_holders(queue.database))


def test_a_job_by_hand(queue, monkeypatch):
    def write(params, out, progress, cancel):
        (out / "x.txt").write_text("x")

    job_id = queue.submit("count", {}, "ann")
    result = run_job(queue, job_id, lambda kind: write, silent)
    assert (result / "x.txt").read_text() == "x"
    assert queue.get(job_id).status == "done"
    with pytest.raises(SpatialFormerError, match="it is done"):
        run_job(queue, job_id, lambda kind: write, silent)


def test_a_job_cannot_run_twice_at_once(queue):
    job_id = queue.submit("count", {}, "ann")

    def again(params, out, progress, cancel):
        with pytest.raises(SpatialFormerError, match="running already"):
            run_job(queue, job_id, lambda kind: again, silent)

    run_job(queue, job_id, lambda kind: again, silent)
    assert queue.get(job_id).status == "done"


def test_a_worker_that_lost_the_claim_before_the_job_began(queue, monkeypatch):
    job_id = queue.submit("count", {}, "ann")
    queue.claim("worker-new")
    monkeypatch.setenv("SPATIALFORMER_JOB_HOLDER", "worker-old")
    with pytest.raises(SpatialFormerError, match="another worker"):
        run_job(queue, job_id, lambda kind: pytest.fail("must not run"), silent)
    assert queue.get(job_id).status == "running"


def test_a_job_that_runs_too_long_is_ended(queue, marker, monkeypatch):
    monkeypatch.setattr("spatialformer_core.jobs.worker._MAX_JOB_S", 0.5)
    job_id = queue.submit("deaf", {"marker": str(marker)}, "ann")
    in_process_worker(queue, grace_s=0.2).run()
    job = queue.get(job_id)
    assert job.status == "failed"
    assert "longer than" in job.error


def test_the_lease_of_another_machine_is_judged_by_its_heartbeat_alone(queue):
    assert Lease(queue.database, "cpu", "worker-far").acquire()
    with queue.database.connection() as connection:
        # No process of this machine has this id, but it is not this machine's.
        connection.execute("update lease set host = 'elsewhere', pid = 4194303")
    assert live_holders(queue.database) == {"cpu": "worker-far"}
    with queue.database.connection() as connection:
        connection.execute("update lease set host = ?", (socket.gethostname(),))
    assert live_holders(queue.database) == {}


def test_an_orphan_ends_when_nobody_reads_its_progress():
    read, write = os.pipe()
    pipe = os.fdopen(write, "w")
    report = json_progress(pipe)
    report(1, 2, "half")
    assert json.loads(os.read(read, 1000)) == {
        "share": 0.5,
        "message": "half",
        "remaining_s": pytest.approx(0, abs=1),
    }
    os.close(read)
    with pytest.raises(Cancelled, match="gone"):
        report(2, 2, "all")
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ('{"share": 0.5, "message": "x", "remaining_s": 3}', (0.5, "x", 3.0)),
        ('{"share": 0.5, "message": "x"}', (0.5, "x", None)),
        ("a library chats", None),
        ("[1, 2]", None),
        ('{"share": "much", "message": "x"}', None),
        ('{"message": "x"}', None),
        ("", None),
    ],
)
def test_progress_lines_that_are_none_of_ours_are_ignored(line, parsed):
    assert _parse(line) == parsed


def test_jobs_leave_a_core_to_the_web_process(monkeypatch):
    for cores, threads in ((1, "1"), (2, "1"), (8, "7")):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert set(thread_environment().values()) == {threads}


@pytest.mark.slow
def test_two_hundred_kills_lose_no_job(queue, marker):
    """Kill worker or job at random moments; every job ends, and every `done` has its result."""
    rng = random.Random(0)
    ids = []
    for _ in range(200):
        job = {"n": 3, "pause_s": 0.02, "marker": str(marker)}
        ids.append(queue.submit("count", job, f"owner-{rng.randrange(20)}"))
        worker = start_worker(queue.home, idle_s=5.0)
        time.sleep(rng.uniform(0.05, 0.6))
        worker.kill()
        worker.wait()
    in_process_worker(queue, idle_s=3.0).run()
    jobs = [queue.get(i) for i in ids]
    assert {job.status for job in jobs} <= {"done", "lost"}
    for job in jobs:
        folder = result_folder(queue.home, job.id)
        assert folder.exists() == (job.status == "done")
        if job.status == "done":
            assert files.verify_directory(folder) == []
    assert sum(job.status == "done" for job in jobs) > 100
