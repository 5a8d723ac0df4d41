"""The queue alone: order, owners, claims, fences."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobQueue
from spatialformer_core.jobs.queue import MAX_QUEUED_PER_OWNER, fair_order


@pytest.fixture
def queue(tmp_path):
    return JobQueue(tmp_path)


def test_owners_take_turns_and_who_waited_longest_comes_first():
    queued = [("a1", "ann", 1.0), ("a2", "ann", 2.0), ("a3", "ann", 3.0), ("b1", "bob", 9.0)]
    assert fair_order(queued, {}) == ["a1", "b1", "a2", "a3"]
    assert fair_order(queued, {"ann": 5.0}) == ["b1", "a1", "a2", "a3"]
    assert fair_order(queued, {"ann": 5.0, "bob": 6.0}) == ["a1", "b1", "a2", "a3"]
    assert fair_order([], {"ann": 5.0}) == []


def test_the_predicted_order_is_the_order_of_the_claims(queue):
    ids = [queue.submit("count", {}, owner) for owner in ["ann", "ann", "ann", "bob", "eve", "bob"]]
    predicted = sorted(ids, key=queue.position)
    claimed = []
    while (job := queue.claim("worker-1")) is not None:
        claimed.append(job.id)
        queue.finish(job, "done")
    assert claimed == predicted
    assert [ids.index(i) for i in claimed] == [0, 3, 4, 1, 5, 2]


def test_position_counts_the_running_job_too(queue):
    first, second = (queue.submit("count", {}, "ann") for _ in range(2))
    job = queue.claim("worker-1")
    assert job.id == first
    assert queue.position(first) is None
    assert queue.position(second) == 1
    queue.finish(job, "done")
    assert queue.position(second) == 0


def test_an_owner_sees_only_their_own_jobs(queue):
    mine, other = queue.submit("count", {}, "ann"), queue.submit("count", {}, "bob")
    assert [job.id for job in queue.list("ann")] == [mine]
    assert {job.id for job in queue.list()} == {mine, other}
    for call in (queue.get, queue.cancel, queue.log, queue.result):
        with pytest.raises(SpatialFormerError, match="no job"):
            call(other, "ann")
    assert queue.get(other).status == "queued"


def test_cancel_of_a_waiting_job_is_idempotent_and_final(queue):
    job_id = queue.submit("count", {}, "ann")
    assert [queue.cancel(job_id) for _ in range(3)] == ["cancelled"] * 3
    assert queue.claim("worker-1") is None
    ended = queue.get(job_id).ended
    queue.cancel(job_id)
    assert queue.get(job_id).ended == ended


def test_cancel_leaves_a_finished_job_as_it_is(queue):
    job_id = queue.submit("count", {}, "ann")
    queue.finish(queue.claim("worker-1"), "done")
    assert queue.cancel(job_id) == "done"
    assert not queue.get(job_id).cancel_requested


def test_whoever_lost_the_claim_changes_nothing(queue):
    job_id = queue.submit("count", {}, "ann")
    old = queue.claim("worker-1")
    assert queue.requeue(old, counts=True)
    new = queue.claim("worker-2")
    queue.report(old, 0.9, "from the dead")
    assert not queue.finish(old, "failed", "from the dead")
    assert queue.get(job_id).status == "running"
    assert queue.get(job_id).message == ""
    assert queue.finish(new, "done")
    assert not queue.finish(new, "failed")
    assert queue.get(job_id).status == "done"
    assert queue.get(job_id).attempts == 2


def test_parallel_claims_hand_out_each_job_once(queue):
    ids = {queue.submit("count", {}, f"owner{i % 3}") for i in range(24)}

    def claim_all(number):
        mine = []
        while (job := queue.claim(f"worker-{number}")) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        claimed = [job for part in pool.map(claim_all, range(6)) for job in part]
    assert sorted(claimed) == sorted(ids)


def test_claim_of_a_given_job_only(queue):
    first, second = (queue.submit("count", {}, "ann") for _ in range(2))
    assert queue.claim("manual-1", second).id == second
    assert queue.claim("manual-2", second) is None
    assert queue.get(first).status == "queued"


@pytest.mark.parametrize("params", [{"x": float("nan")}, {"x": object()}, {"x": "y" * (1 << 20)}])
def test_bad_parameters_are_refused_and_queue_nothing(queue, params):
    with pytest.raises(SpatialFormerError, match="parameters"):
        queue.submit("count", params, "ann")
    assert queue.list() == []


def test_one_owner_cannot_fill_the_queue(queue):
    for _ in range(MAX_QUEUED_PER_OWNER):
        queue.submit("count", {}, "ann")
    with pytest.raises(SpatialFormerError, match="waiting"):
        queue.submit("count", {}, "ann")
    queue.submit("count", {}, "bob")


@pytest.mark.parametrize("job_id", ["../../etc", "", "no-such-job"])
def test_unknown_ids(queue, job_id):
    with pytest.raises(SpatialFormerError):
        queue.get(job_id)


def test_result_of_a_job_that_is_not_done(queue):
    job_id = queue.submit("count", {}, "ann")
    with pytest.raises(SpatialFormerError, match="it is queued"):
        queue.result(job_id)


def test_rows_survive_another_opening(queue):
    job_id = queue.submit("count", {"n": 3, "name": "é"}, "ann")
    again = JobQueue(queue.home).get(job_id)
    assert again == queue.get(job_id)
    assert again.params == {"n": 3, "name": "é"}


def test_importing_jobs_is_light():
    code = (
        "import sys, spatialformer_core.jobs;"
        "heavy = {'torch', 'pandas', 'numpy', 'anndata', 'scanpy'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def no_space():
    """Let files grow to 64 kB and no further, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_sentence_and_loses_nothing(queue, no_space):
    first = queue.submit("count", {}, "ann")
    with pytest.raises(SpatialFormerError, match="list of jobs cannot be written") as caught:
        for _ in range(MAX_QUEUED_PER_OWNER):
            queue.submit("count", {"text": "x" * 20_000}, "bob")
    assert "Free space" in str(caught.value)
    assert queue.get(first).status == "queued"


def test_a_damaged_list_of_jobs_is_a_sentence(queue):
    queue.database.path.write_bytes(b"no database" * 1000)
    with pytest.raises(SpatialFormerError, match=r"damaged.*jobs\.sqlite.*Move this file"):
        queue.list(None)


def test_a_fault_of_ours_stays_one(queue):
    with pytest.raises(sqlite3.OperationalError), queue.database.connection() as connection:
        connection.execute("select nothing from nowhere")
