"""Data routes: who gets an answer, and which."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.ui import routes, routes_auth
from pages.ui.viewer import bundle, parse_event
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import view

POINTS = np.arange(6, dtype="<f4").tobytes()


class OneTile:
    """A slide with one outline tile, one gene, one image tile and one cell."""

    def info(self):
        return {"slide": "lung", "version": "1"}

    def points(self):
        return POINTS

    def group_codes(self, key):
        return self._named(key, "cell/type")

    def gene_codes(self, gene):
        return self._named(gene, "HLA-DRB1/2")

    def polygon_tile(self, x, y):
        return b"ring" if (x, y) == (0, 0) else None

    def transcript_tile(self, x, y, genes):
        return ",".join(genes).encode() if (x, y) == (0, 0) else None

    def molecules(self, genes, window=None):
        if genes == ["MANY"]:
            raise view.TooMany("501,000 transcripts lie in this view.", fix="Zoom in.")
        return f"{genes} {window}".encode()

    def density(self, level, genes):
        return f"{level} {genes}".encode()

    def image_tile(self, name, channel, level, x, y):
        if (name, channel, level, x, y) != ("he", 0, 2, 1, 0):
            raise SpatialFormerError("There is no such tile.")
        return b"jpeg"

    def cell(self, row):
        return {"id": "a"} if row == 0 else None

    @staticmethod
    def _named(given, wanted):
        if given != wanted:
            raise SpatialFormerError(f"There is no {given!r}.")
        return b"codes"


@pytest.fixture
def client(monkeypatch, tmp_path):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path))

    def open_view(_home, slide_id):
        if slide_id != "lung":
            raise SpatialFormerError(f"There is no slide {slide_id!r}.")
        return OneTile()

    monkeypatch.setattr(view, "open_view", open_view)
    with TestClient(Starlette(routes=routes.ROUTES)) as client:
        yield client


def get(client, path, slide="lung", token=None):
    token = routes.mint_token("local", slide) if token is None else token
    return client.get(f"/sf/v1/{slide}/{path}", headers={routes_auth.HEADER: token})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("points.bin", POINTS),
        ("group/cell%2Ftype.bin", b"codes"),
        ("gene/HLA-DRB1%2F2.bin", b"codes"),
        ("outlines/0/0.bin", b"ring"),
        ("molecules/0/0.bin?genes=CD3E,EPCAM", b"CD3E,EPCAM"),
        ("molecules.bin?genes=CD3E", b"['CD3E'] None"),
        ("molecules.bin?genes=CD3E&window=0,1,2.5,3", b"['CD3E'] (0.0, 1.0, 2.5, 3.0)"),
        ("density/2.bin", b"2 []"),
        ("density/0.bin?genes=CD3E", b"0 ['CD3E']"),
        ("image/he/0/2/1/0.jpg", b"jpeg"),
    ],
)
def test_bytes_arrive_as_they_are(client, path, body):
    answer = get(client, path)
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["vary"] == routes_auth.HEADER


def test_coordinates_are_never_compressed(client):
    assert get(client, "points.bin").headers["content-encoding"] == "identity"
    assert "content-encoding" not in get(client, "gene/HLA-DRB1%2F2.bin").headers


def test_the_version_is_never_cached(client):
    answer = get(client, "info.json")
    assert answer.json()["version"] == "1"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "outlines/1/0.bin",
        "molecules/0/1.bin?genes=CD3E",
        "molecules.bin?genes=CD3E&window=0,1,2",
        "molecules.bin?genes=CD3E&window=0,1,2,nan",
        "molecules.bin?genes=CD3E&window=a,b,c,d",
        "image/he/0/9/0/0.jpg",
        "image/nope/0/0/0/0.jpg",
        "gene/NOPE.bin",
        "group/nope.bin",
        "cell/1.json",
        "outlines/-1/0.bin",
        "nothing",
    ],
)
def test_what_is_not_there_is_404(client, path):
    assert get(client, path).status_code == 404


@pytest.mark.parametrize(
    "path", ["molecules.bin?genes={}", "molecules/0/0.bin?genes={}", "density/0.bin?genes={}"]
)
def test_more_genes_than_have_colours_are_refused(client, path):
    six = ",".join("ABCDEF")
    assert get(client, path.format(six)).status_code == 200
    answer = get(client, path.format(f"{six},G"))
    assert answer.status_code == 400
    assert "At most 6 genes" in answer.text
    # Whoever may not see the slide does not learn about its limits either.
    assert get(client, path.format(f"{six},G"), token="forged").status_code == 403


def test_too_many_molecules_are_refused_in_a_sentence(client):
    answer = get(client, "molecules.bin?genes=MANY")
    assert answer.status_code == 413
    assert answer.text == "501,000 transcripts lie in this view. Zoom in."


def test_an_unknown_slide_is_404(client):
    assert get(client, "info.json", slide="nobody").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "info.json",
        "points.bin",
        "outlines/0/0.bin",
        "cell/0.json",
        "molecules.bin?genes=CD3E",
        "density/0.bin",
    ],
)
@pytest.mark.parametrize("token", ["", "forged", "a.b.c"])
def test_without_a_token_nothing_is_told(client, path, token):
    answer = get(client, path, token=token)
    assert answer.status_code == 403
    assert b"lung" not in answer.content


def test_a_token_opens_one_slide_only(client):
    other = routes.mint_token("local", "kidney")
    assert get(client, "points.bin", token=other).status_code == 403
    # Whether another slide exists is not told either.
    assert get(client, "info.json", slide="nobody", token=other).status_code == 403


def test_a_token_of_somebody_else_is_refused(client):
    assert get(client, "points.bin", token=routes.mint_token("bob", "lung")).status_code == 403


def test_a_changed_token_is_refused(client):
    token = routes.mint_token("local", "lung")
    changed = ("B" if token[0] == "A" else "A") + token[1:]
    assert get(client, "points.bin", token=changed).status_code == 403


def test_a_token_in_the_address_is_ignored(client):
    token = routes.mint_token("local", "lung")
    assert client.get(f"/sf/v1/lung/points.bin?token={token}").status_code == 403


def test_tokens_expire(client, monkeypatch):
    token = routes.mint_token("local", "lung")
    assert get(client, "points.bin", token=token).status_code == 200
    monkeypatch.setattr(routes_auth, "MAX_AGE_S", -1)
    assert get(client, "points.bin", token=token).status_code == 403


def test_a_token_stays_the_same_for_a_rerun_and_tells_its_owner():
    token = routes.mint_token("local", "lung")
    assert routes.mint_token("local", "lung") == token
    assert routes.mint_token("bob", "lung") != token
    assert routes_auth.owner_of(token, "lung") == "local"
    assert routes_auth.owner_of(token, "kidney") is None


def test_the_script_is_kept_for_ever_under_the_name_of_its_content(client):
    answer = client.get(f"/{bundle.bundle_url()}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == bundle.BUNDLE.read_bytes()
    assert client.get("/sf/viewer-000000000000.js").status_code == 404


def test_unknown_addresses_are_404_and_not_a_page(client):
    for path in ("/sf/", "/sf/v2/lung/points.bin", "/sf/v1/lung/../../etc/passwd"):
        assert client.get(path).status_code == 404


SQUARE = [[0, 0], [9, 0], [9, 9.5]]


def test_a_drawn_polygon_becomes_an_event():
    event = parse_event({"kind": "roi", "polygon": SQUARE})
    assert event.kind == "roi"
    assert event.polygon == ((0, 0), (9, 0), (9, 9.5))
    assert event.roi_id is None
    assert parse_event({"kind": "roi", "polygon": SQUARE, "roi_id": "r1"}).roi_id == "r1"
    assert parse_event({"kind": "clear"}).polygon == ()
    assert parse_event({"kind": "select", "roi_id": "r1"}).roi_id == "r1"
    assert parse_event({"kind": "select", "roi_id": 7}).roi_id is None


@pytest.mark.parametrize(
    "polygon",
    [
        None,
        "M0 0",
        [],
        SQUARE[:2],
        [*SQUARE, [1]],
        [*SQUARE, [1, 2, 3]],
        [*SQUARE, [1, "2"]],
        [*SQUARE, [1, float("nan")]],
        [*SQUARE, [1, float("inf")]],
        [*SQUARE, [True, False]],
        [*SQUARE, 5],
        SQUARE * 1000,
    ],
)
def test_what_is_no_polygon_is_no_event(polygon):
    assert parse_event({"kind": "roi", "polygon": polygon}) is None


def test_an_unknown_event_is_none():
    assert parse_event({"kind": "eval", "polygon": SQUARE}) is None
    assert parse_event({}) is None


def test_the_address_of_the_first_page_keeps_what_it_asks_for():
    app = Starlette(routes=routes.ROUTES)
    # Not followed: the app itself is not behind these routes.
    alone = TestClient(app, base_url="http://localhost", follow_redirects=False)
    answer = alone.get("/slides?slide=demo&x=1")
    assert (answer.status_code, answer.headers["location"]) == (307, "./?slide=demo&x=1")
    assert alone.get("/slides").headers["location"] == "./"
    assert alone.get("/slides/x").status_code == 404
