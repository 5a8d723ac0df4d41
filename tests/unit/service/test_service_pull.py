"""``models pull``: fetched from a server of our own, hashed, converted."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from typer.testing import CliRunner

from spatialformer_core.cli import app
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import load_checkpoint
from spatialformer_core.service import pull as module
from spatialformer_core.service.pull import OFFICIAL, PullOptions, pull_checkpoint

NAME = "published-71-pair"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def served(tmp_path, published):
    folder = tmp_path / "web"
    folder.mkdir()
    torch.save(published.lightning(published.published_state()), folder / "pair.ckpt")
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder / "pair.ckpt", f"http://127.0.0.1:{running.server_address[1]}/pair.ckpt"
    running.shutdown()
    thread.join()
    running.server_close()


def test_the_file_is_fetched_hashed_and_converted(served, tmp_path):
    file, url = served
    home = tmp_path / "home"
    told = pull_checkpoint(home, NAME, PullOptions(url, allow_local_http=True))
    loaded = load_checkpoint(home / "checkpoints" / NAME)
    assert loaded.provenance["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.provenance["fetched_from"] == url
    assert loaded.provenance["figshare_article"] == 31146247
    assert told["layout"] == "split"
    assert loaded.provenance["trained_on_words"] == "71 slides, 13 tissues (published)"
    assert loaded.config.pair_trained
    assert list((home / "downloads").iterdir()) == []
    with pytest.raises(SpatialFormerError, match="there already"):
        pull_checkpoint(home, NAME, PullOptions(url, allow_local_http=True))


def test_the_input_type_is_that_of_the_name(served, tmp_path):
    _, url = served
    pull_checkpoint(tmp_path, "published-71-single", PullOptions(url, allow_local_http=True))
    loaded = load_checkpoint(tmp_path / "checkpoints" / "published-71-single")
    assert not loaded.config.pair_trained


def test_a_kept_file_is_not_fetched_twice_unless_it_changed(served, tmp_path, monkeypatch):
    file, url = served
    options = PullOptions(url, keep=True, allow_local_http=True)
    pull_checkpoint(tmp_path, NAME, options)
    kept = tmp_path / "downloads" / f"{NAME}.ckpt"
    assert kept.read_bytes() == file.read_bytes()
    (tmp_path / "checkpoints" / NAME).rename(tmp_path / "aside")
    fetched = []
    original = module.download

    def counted(*args, **more):
        fetched.append(args)
        return original(*args, **more)

    monkeypatch.setattr(module, "download", counted)
    pull_checkpoint(tmp_path, NAME, options)
    assert not fetched
    (tmp_path / "checkpoints" / NAME).rename(tmp_path / "aside-2")
    kept.write_bytes(b"changed")
    pull_checkpoint(tmp_path, NAME, options)
    assert len(fetched) == 1


def test_a_page_instead_of_a_file_leaves_no_checkpoint(served, tmp_path):
    file, url = served
    file.write_text("<html>Please log in</html>")
    with pytest.raises(SpatialFormerError, match=r"(damaged|no torch file).*kept as"):
        pull_checkpoint(tmp_path, NAME, PullOptions(url, allow_local_http=True))
    assert not (tmp_path / "checkpoints" / NAME).exists()


def test_names_and_addresses(tmp_path):
    assert OFFICIAL[NAME].url == "https://ndownloader.figshare.com/files/61331557"
    assert len({known.file_id for known in OFFICIAL.values()}) == len(OFFICIAL)
    with pytest.raises(SpatialFormerError, match="published-61-pair"):
        pull_checkpoint(tmp_path, "published-99")
    with pytest.raises(SpatialFormerError, match="https only"):
        pull_checkpoint(tmp_path, NAME, PullOptions("http://127.0.0.1/x"))


def test_the_command_line_takes_https_only(tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path))
    with pytest.raises(SpatialFormerError, match="https only"):
        CliRunner().invoke(
            app, ["models", "pull", NAME, "--url", "http://127.0.0.1/x"], catch_exceptions=False
        )
