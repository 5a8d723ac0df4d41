"""Job queue, worker and device lease. Knows kinds by name, not what they do."""

from __future__ import annotations

from spatialformer_core.jobs.lease import live_holders
from spatialformer_core.jobs.queue import JobQueue
from spatialformer_core.jobs.records import (
    HOLDER_VARIABLE,
    Job,
    JobFunction,
    Status,
    job_folder,
    log_path,
    result_folder,
)
from spatialformer_core.jobs.runner import json_progress, run_job, worker_pipe
from spatialformer_core.jobs.shards import (
    Engine,
    ShardFolders,
    ShardFunction,
    ShardTask,
    result_key,
    run_shards,
)
from spatialformer_core.jobs.start import ensure_worker
from spatialformer_core.jobs.worker import Worker, recover, thread_environment

__all__ = [
    "HOLDER_VARIABLE",
    "Engine",
    "Job",
    "JobFunction",
    "JobQueue",
    "ShardFolders",
    "ShardFunction",
    "ShardTask",
    "Status",
    "Worker",
    "ensure_worker",
    "job_folder",
    "json_progress",
    "live_holders",
    "log_path",
    "recover",
    "result_folder",
    "result_key",
    "run_job",
    "run_shards",
    "thread_environment",
    "worker_pipe",
]
