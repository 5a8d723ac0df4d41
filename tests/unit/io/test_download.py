"""Downloads against a server of our own: cut, without ranges, redirecting, lying."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.io import download as module
from spatialformer_core.io.download import download

CONTENT = bytes(range(256)) * 4000


class Behaviour:
    """What the server does; the tests change it between requests."""

    def __init__(self):
        self.content = CONTENT
        self.tag = '"v1"'
        self.cut_after = None  # bytes sent before the connection is closed
        self.ranges = True
        self.status = None
        self.redirect = None
        self.length = True
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        b = self.server.behaviour
        b.requests.append(dict(self.headers))
        if b.redirect and self.path == "/start":
            self.send_response(302)
            self.send_header("Location", b.redirect)
            self.end_headers()
            return
        if b.status:
            self.send_response(b.status)
            self.end_headers()
            return
        start, same = 0, self.headers.get("If-Range") in {None, b.tag}
        if self.headers.get("Range") and b.ranges and same:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(b.content):
                self.send_response(416)
                self.end_headers()
                return
        body = b.content[start:]
        self.send_response(206 if start else 200)
        if start:
            total = len(b.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if b.tag:
            self.send_header("ETag", b.tag)
        if b.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if b.cut_after is not None:
            body, b.cut_after = body[: b.cut_after], None
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.behaviour = Behaviour()
    running.url = f"http://127.0.0.1:{running.server_address[1]}/file"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def fetch(server, path, **more):
    return download(server.url, path, allow_local_http=True, **more)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_whole_file_with_its_hash(server, tmp_path):
    seen = []
    found = fetch(server, tmp_path / "a.ckpt", progress=lambda *args: seen.append(args))
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.n_bytes == len(CONTENT)
    assert seen[-1][:2] == (len(CONTENT), len(CONTENT))
    assert leftovers(tmp_path) == ["a.ckpt"]


def test_a_cut_connection_is_continued(server, tmp_path):
    server.behaviour.cut_after = 700_000
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    first, second = server.behaviour.requests
    assert "Range" not in first
    assert second["Range"] == "bytes=700000-"
    assert second["If-Range"] == '"v1"'


def test_a_killed_download_is_continued_by_the_next_run(server, tmp_path):
    calls = []

    def cancel():
        calls.append(1)
        return len(calls) > 2

    with pytest.raises(Cancelled):
        fetch(server, tmp_path / "a.ckpt", cancel=cancel)
    assert leftovers(tmp_path) == ["a.ckpt.part", "a.ckpt.part.json"]
    kept = (tmp_path / "a.ckpt.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    fetch(server, tmp_path / "a.ckpt")
    assert server.behaviour.requests[1]["Range"] == f"bytes={kept}-"
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.ckpt"]


def test_a_server_that_ignores_ranges_sends_it_again(server, tmp_path):
    server.behaviour.cut_after = 700_000
    server.behaviour.ranges = False
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert len(server.behaviour.requests) == 2


@pytest.mark.parametrize("tag", ['"v1"', 'W/"v1"', ""])
def test_another_file_under_the_address_is_not_joined(server, tmp_path, tag):
    server.behaviour.tag = tag
    server.behaviour.cut_after = 700_000
    stop = iter([False] * 3 + [True] * 99)
    with pytest.raises(Cancelled):
        fetch(server, tmp_path / "a.ckpt", cancel=lambda: next(stop))
    server.behaviour.content = CONTENT[::-1] + b"more"
    if tag:
        server.behaviour.tag = tag.replace("v1", "v2")
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT[::-1] + b"more"


def test_a_partial_of_another_address_is_thrown_away(server, tmp_path):
    (tmp_path / "a.ckpt.part").write_bytes(b"something else")
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT


def test_a_server_that_keeps_breaking_off(server, tmp_path):
    server.behaviour.content = CONTENT[:1000]

    class Stubborn(Behaviour):
        cut_after = property(lambda _: 0, lambda _, value: None)

    server.behaviour = Stubborn()
    with pytest.raises(SpatialFormerError, match="broke off 5 times in a row"):
        fetch(server, tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()


def test_a_file_that_shrank_is_fetched_anew(server, tmp_path):
    server.behaviour.tag = ""
    stop = iter([False] * 3 + [True] * 99)
    with pytest.raises(Cancelled):
        fetch(server, tmp_path / "a.ckpt", cancel=lambda: next(stop))
    server.behaviour.content = CONTENT[:1000]
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT[:1000]


def test_without_a_length_the_end_is_the_end(server, tmp_path):
    server.behaviour.length = False
    fetch(server, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [202, 403, 404])
def test_a_refusal_is_told_at_once(server, tmp_path, status):
    server.behaviour.status = status
    with pytest.raises(SpatialFormerError, match=f"status {status}.*browser"):
        fetch(server, tmp_path / "a.ckpt")
    assert len(server.behaviour.requests) == 1


def test_too_large(server, tmp_path):
    with pytest.raises(SpatialFormerError, match="larger than 1,000 bytes"):
        fetch(server, tmp_path / "a.ckpt", max_bytes=1000)
    server.behaviour.length = False
    with pytest.raises(SpatialFormerError, match="larger than 1,000 bytes"):
        fetch(server, tmp_path / "a.ckpt", max_bytes=1000)


def test_redirects_lead_to_https_only(server, tmp_path):
    start = server.url.replace("/file", "/start")
    server.behaviour.redirect = server.url
    download(start, tmp_path / "a.ckpt", allow_local_http=True)
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    for target in ("http://example.org/x", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        server.behaviour.redirect = target
        with pytest.raises(SpatialFormerError, match=r"https only|refuses"):
            download(start, tmp_path / "b.ckpt", allow_local_http=True)
        assert not (tmp_path / "b.ckpt").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "file:///etc/passwd", "nothing", "https://"])
def test_only_https(url, tmp_path):
    with pytest.raises(SpatialFormerError, match="https only"):
        download(url, tmp_path / "a")
