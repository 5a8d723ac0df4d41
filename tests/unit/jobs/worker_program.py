"""A worker as a process of its own: ``worker_program.py HOME [IDLE_S]``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from spatialformer_core.jobs import Worker

KINDS = Path(__file__).with_name("job_kinds.py")


def main() -> None:
    worker = Worker(
        Path(sys.argv[1]),
        command=lambda job_id: [sys.executable, str(KINDS), job_id],
        idle_s=float(sys.argv[2]),
        grace_s=1.0,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop())
    sys.exit(0 if worker.run() else 3)


if __name__ == "__main__":
    main()
