"""What the server does when it starts and stops."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import pkgutil
import socket
import threading
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
        # By its type: some objects warn or load things when they are asked for their class.
        if not issubclass(type(candidate), socket.socket) or candidate.fileno() < 0:
            continue
        tcp = candidate.family in (socket.AF_INET, socket.AF_INET6)
        if tcp and candidate.type == socket.SOCK_STREAM:
            with contextlib.suppress(OSError):
                if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _say_less() -> None:
    """Write no line for each request.

    Streamlit and uvicorn both write one, which takes as long as a tile does, and its address names
    the genes that somebody looks at. A proxy in front of the server can keep such a log.
    """
    log = logging.getLogger("uvicorn.access")
    log.handlers.clear()
    log.propagate = False


def _resume_jobs() -> None:
    """Give the jobs that still wait since the last time a worker: asking for one starts it."""
    for job in services().jobs():
        if not job.is_ended:
            services().job(job.id)


def _warm_up() -> None:
    """Import now what the first visitor would wait for, and keep it out of later collections.

    Streamlit collects garbage after every run of a page. Looking at a million objects that live as
    long as the server costs more than drawing the page.
    """
    import plotly.graph_objects
    import plotly.io

    import pages.ui

    for module in pkgutil.iter_modules(pages.ui.__path__, "pages.ui."):
        importlib.import_module(module.name)
    plotly.io.to_json(plotly.graph_objects.Figure(plotly.graph_objects.Bar(x=[0])))
    gc.collect()
    gc.freeze()


@contextlib.asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Make the server answer at once and take up waiting jobs.

    Jobs run in a worker process of their own and outlive the server, so nothing is stopped here.
    """
    identity.check_secrets()
    _answer_at_once()
    _say_less()
    _resume_jobs()
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    yield {}
