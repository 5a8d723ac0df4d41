"""The process of one shard: ``python -m spatialformer_core.jobs.shard_process``, task on stdin.

It stops when the cancel file appears or when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs.shards import (
    EXIT_CANCELLED,
    EXIT_REFUSED,
    GRACE_S,
    POLL_S,
    make_shard,
)


def _watch(cancel_file: Path, parent: int, stop: threading.Event) -> None:
    while not (cancel_file.exists() or os.getppid() != parent):
        if stop.wait(POLL_S):
            return
    stop.set()
    threading.Event().wait(GRACE_S)
    # The shard did not look at its flag in time; what it began never gets its name.
    os._exit(EXIT_CANCELLED)


def main() -> int:
    """Make the shard that stdin describes; return the exit code."""
    parent = os.getppid()
    spec = json.load(sys.stdin)
    stop = threading.Event()
    cancel_file = Path(spec["folders"]["state"], "cancel")
    threading.Thread(target=_watch, args=(cancel_file, parent, stop), daemon=True).start()
    try:
        make_shard(spec, stop.is_set)
    except Cancelled:
        return EXIT_CANCELLED
    except SpatialFormerError as error:
        sys.stdout.write(json.dumps([error.message, error.where, error.fix]) + "\n")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
