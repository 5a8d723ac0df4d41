"""The app as a process of its own, and visitors who open its pages without a browser.

A visitor speaks Streamlit's protocol: it asks for a page over the websocket, waits until the page's
script has ended, and fetches with the token of the tissue viewer what a browser would fetch. What
is measured is the server; a browser's own work is measured with a browser (`bench.browser`).
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatialformer_core.errors import SpatialFormerError

ROOT = Path(__file__).resolve().parents[2]
_START_S = 180.0
_PAGE_S = 120.0
_KILOBYTE = 1024
_AGAIN = 2
"""Of Streamlit's ways to end a run: the page asked to be run again at once."""


@dataclass
class Server:
    """A running app.

    Attributes
    ----------
    port
        Where it listens on this machine.
    process
        Its process.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Address of the first page."""
        return f"http://127.0.0.1:{self.port}"

    def resident_bytes(self) -> int:
        """Return the resident memory of the server now; 0 where the system hides it."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most memory that it held; 0 where the system hides it."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * _KILOBYTE
        return 0


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Serve the app of this repository with a home folder, as ``spatialformer serve`` does."""
    if not (ROOT / "app.py").is_file():
        raise SpatialFormerError(
            "The app's files are not beside the package.",
            where="bench",
            fix="Run the benchmark in a clone of the repository.",
        )
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with running([*command, "--log-level", "warning"], port, ROOT, home) as server:
        try:
            yield server
        finally:
            _end_worker(home)


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path, home: Path) -> Iterator[Server]:
    """Run a web server until the block ends.

    Raises
    ------
    SpatialFormerError
        If it does not answer.
    """
    environment = {**os.environ, "SPATIALFORMER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read()[-400:].decode("utf-8", "replace")
                    raise SpatialFormerError(f"The server did not start: {said}", where="bench")
                time.sleep(0.2)
            yield Server(port, process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_worker(home: Path) -> None:
    """End the worker that the app started; it would wait a quarter of an hour for more jobs."""
    if not (home / "jobs.sqlite").is_file():
        return
    with contextlib.closing(sqlite3.connect(home / "jobs.sqlite")) as queue:
        pids = [row[0] for row in queue.execute("select pid from lease")]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@dataclass(frozen=True)
class Visit:
    """One page, opened.

    Attributes
    ----------
    viewer_s
        Seconds until the tissue viewer was told what to show; None on other pages.
    page_s
        Seconds until the page was complete.
    viewer
        What the tissue viewer was told.
    """

    viewer_s: float | None
    page_s: float
    viewer: dict[str, Any]


class OpenPage:
    """A page that stays open: its connection, and what the server said last.

    Parameters
    ----------
    port, page, query
        Which page of which server.
    """

    def __init__(self, port: int, page: str, query: str = "") -> None:
        websockets = importlib.import_module("websockets.sync.client")
        self._query = query
        self._hash = self._fragment = self._component = ""
        start = time.perf_counter()
        self._connection = websockets.connect(
            f"ws://127.0.0.1:{port}/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,
            origin=f"http://127.0.0.1:{port}",
        )
        message = _back_message()
        message.rerun_script.page_name = page
        message.rerun_script.query_string = query
        self.visit = self._run(message, start)

    def close(self) -> None:
        """Leave the page."""
        self._connection.close()

    def lasso(self, slide_id: str, ring_um: Sequence[Sequence[float]]) -> float:
        """Draw a region in the tissue viewer; return seconds until all of the page follows."""
        return self._tell({"kind": "roi", "polygon": ring_um, "slide": slide_id})

    def drawn(self, slide_id: str) -> float:
        """Say that the viewer has drawn the cells; return seconds until the rest is there too."""
        return self._tell({"kind": "drawn", "slide": slide_id})

    def _tell(self, event: dict[str, Any]) -> float:
        message = _back_message()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._hash
        message.rerun_script.fragment_id = self._fragment
        state = message.rerun_script.widget_states.widgets.add()
        state.id = self._component
        state.json_value = json.dumps({"event": {**event, "seq": time.time() * 1e3}})
        return self._run(message, time.perf_counter()).page_s

    def _run(self, message: Any, start: float) -> Visit:
        self._connection.send(message.SerializeToString())
        viewer_s, viewer = None, {}
        while True:
            answer = _forward_message(self._connection.recv(timeout=_PAGE_S))
            kind = answer.WhichOneof("type")
            if kind == "new_session" and not self._hash:
                self._hash = answer.new_session.page_script_hash
            element = _element(answer)
            shown = None if element is None else element.WhichOneof("type")
            if shown == "exception":
                said = element.exception.message[:200]
                raise SpatialFormerError(f"The page failed: {said}", where="bench")
            if shown == "bidi_component":
                viewer_s = time.perf_counter() - start
                viewer = json.loads(element.bidi_component.json)
                self._fragment = answer.delta.fragment_id
                self._component = element.bidi_component.id
            if kind == "script_finished" and answer.script_finished != _AGAIN:
                return Visit(viewer_s, time.perf_counter() - start, viewer)


class Data:
    """Fetches what a browser fetches for the tissue viewer, over one kept connection."""

    def __init__(self, port: int, viewer: dict[str, Any]) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=_PAGE_S)
        self._base = f"/{viewer['base']}"
        self._headers = {"X-SF-Token": viewer["token"], "Accept-Encoding": "gzip"}

    def fetch(self, path: str) -> tuple[float, bytes]:
        """Return seconds and bytes as they came.

        Raises
        ------
        SpatialFormerError
            If it is refused.
        """
        start = time.perf_counter()
        self._http.request("GET", f"{self._base}/{path}", headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - start
        if answer.status != http.HTTPStatus.OK:
            raise SpatialFormerError(f"{path} was answered with {answer.status}.", where="bench")
        return seconds, body

    def close(self) -> None:
        """End the connection."""
        self._http.close()


def _back_message() -> Any:
    # Streamlit's messages are loaded by name: the library itself never imports the web framework.
    return importlib.import_module("streamlit.proto.BackMsg_pb2").BackMsg()


def _forward_message(raw: bytes) -> Any:
    message = importlib.import_module("streamlit.proto.ForwardMsg_pb2").ForwardMsg()
    message.ParseFromString(raw)
    return message


def _element(message: Any) -> Any:
    is_new = message.WhichOneof("type") == "delta"
    is_new = is_new and message.delta.WhichOneof("type") == "new_element"
    return message.delta.new_element if is_new else None
