"""Routes of colours and nuclei: guarded like the others, and what they hand on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.ui import identity, routes, routes_auth
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import view, view_colours

PATHS = (
    "value/n_genes.bin",
    "pair.bin?genes=CD3E,CD4",
    "result/abc/cluster.bin",
    "nuclei/0/0.bin",
)


@pytest.fixture
def asked(monkeypatch):
    """What the service was asked for."""
    calls = []

    def note(name):
        def answer(slide, *values):
            calls.append((name, *values))
            if "nope" in values:
                raise SpatialFormerError("There is none.")
            return b"bytes"

        return answer

    for name in ("value_codes", "pair_codes", "result_codes"):
        monkeypatch.setattr(view_colours, name, note(name))
    return calls


@pytest.fixture
def client(monkeypatch, asked):
    nuclei = {(0, 0): b"nuclei"}
    slide = SimpleNamespace(meta=SimpleNamespace(slide_id="lung"))
    seen = SimpleNamespace(slide=slide, nuclei_tile=lambda x, y: nuclei.get((x, y)))
    monkeypatch.setattr(view, "open_view", lambda _home, slide_id: seen)
    monkeypatch.setattr(identity, "owner_of_request", lambda request, default: "ada")
    with TestClient(Starlette(routes=routes.ROUTES)) as client:
        yield client


def get(client, path, slide="lung", token=None):
    token = routes.mint_token("ada", slide) if token is None else token
    return client.get(f"/sf/v1/lung/{path}", headers={routes_auth.HEADER: token})


@pytest.mark.parametrize("path", PATHS)
def test_only_with_a_token_for_this_slide_and_visitor(client, asked, path):
    assert get(client, path).status_code == 200
    n_asked = len(asked)
    for token in (
        "",
        "nonsense",
        routes.mint_token("ada", "other"),
        routes.mint_token("bo", "lung"),
    ):
        assert get(client, path, token=token).status_code == 403
    assert len(asked) == n_asked


def test_what_is_asked_of_the_service(client, asked):
    for path in PATHS[:3]:
        assert get(client, path).content == b"bytes"
    # A job is looked up under whoever the token was made for.
    assert asked == [
        ("value_codes", "n_genes"),
        ("pair_codes", "CD3E", "CD4"),
        ("result_codes", "abc", "cluster", "ada"),
    ]
    assert get(client, "nuclei/0/0.bin").content == b"nuclei"


@pytest.mark.parametrize(
    "path",
    [
        "value/nope.bin",
        "pair.bin",
        "pair.bin?genes=CD3E",
        "pair.bin?genes=A,B,C",
        "pair.bin?genes=nope,CD4",
        "result/abc/nope.bin",
        "nuclei/1/0.bin",
        "nuclei/x/0.bin",
    ],
)
def test_what_is_not_there_is_404(client, path):
    assert get(client, path).status_code == 404


def test_an_answer_that_changes_once_co_occurrence_is_measured_is_not_kept(client):
    assert get(client, PATHS[1]).headers["cache-control"] == "no-store"
    assert get(client, PATHS[0]).headers["cache-control"].startswith("private")
