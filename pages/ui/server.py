"""What the server does when it starts and stops."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

from pages.ui import identity
from pages.ui.session import services


def _answer_at_once() -> None:
    """Set TCP_NODELAY on the listening sockets.

    ``streamlit run`` binds its socket itself, in a way that asyncio never sets the option: each
    small response on a kept connection would wait 40 ms (Nagle).
    """
    for candidate in gc.get_objects():
        if not isinstance(candidate, socket.socket) or candidate.fileno() < 0:
            continue
        tcp = candidate.family in (socket.AF_INET, socket.AF_INET6)
        if tcp and candidate.type == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _resume_jobs() -> None:
    """Give the jobs that still wait since the last time a worker: asking for one starts it."""
    for job in services().jobs():
        if not job.is_ended:
            services().job(job.id)


@contextlib.asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Make the server answer at once and take up waiting jobs.

    Jobs run in a worker process of their own and outlive the server, so nothing is stopped here.
    """
    identity.check_secrets()
    _answer_at_once()
    _resume_jobs()
    yield {}
