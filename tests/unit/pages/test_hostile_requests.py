"""Data routes under requests that no viewer of ours sends: an answer, and nothing of the server."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pages.ui import routes, routes_auth
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import view
from spatialformer_core.slides import SlideStore, ingest

HUGE = "9" * 40
SLIDE = "/sf/v1/small"
NAMES = ["..%2f..%2fmeta", "%2e%2e", "%00", "A" * 3000, "'%20or%201=1", "%F0%9F%92%A3", "_keys"]


@pytest.fixture(scope="module")
def home(source, app_slide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(source, SlideStore(folder), name="Small", sample=sample, qc=QcThresholds())
    (folder / "secret.json").write_text('"TOP SECRET"')
    return folder


@pytest.fixture
def client(home, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    app = Starlette(routes=routes.ROUTES)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def get(client, path, slide="small", **headers):
    token = {routes_auth.HEADER: routes.mint_token("local", slide)}
    return client.get(path, headers=token | headers)


def test_the_slide_is_served(client):
    assert get(client, f"{SLIDE}/info.json").json()["slide"] == "small"
    assert get(client, f"{SLIDE}/points.bin").status_code == 200


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "path",
    [
        "group/{}.bin",
        "gene/{}.bin",
        "value/{}.bin",
        "result/{}/x.bin",
        "result/0123456789abcdef/{}.bin",
        "image/{}/0/0/0/0.jpg",
        "molecules.bin?genes={}",
        "molecules/0/0.bin?genes={}",
        "density/0.bin?genes={}",
        "pair.bin?genes={},x",
    ],
)
def test_names_lead_nowhere(client, home, path, name):
    answer = get(client, f"{SLIDE}/{path.format(name)}")
    assert answer.status_code in (400, 404)
    assert str(home) not in answer.text
    assert "SECRET" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("slide", ["..", "..%2f..", "%2e%2e%2fsecret.json", "SMALL", "small.user"])
def test_slides_are_known_by_their_ids_only(client, home, slide):
    for given in (slide, "small"):
        answer = get(client, f"/sf/v1/{slide}/info.json", slide=given)
        assert answer.status_code in (403, 404)
        assert str(home) not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        f"outlines/{HUGE}/0.bin",
        f"outlines/0/{HUGE}.bin",
        f"nuclei/{HUGE}/{HUGE}.bin",
        f"molecules/{HUGE}/0.bin?genes=GENE00",
        f"cell/{HUGE}.json",
        f"density/{HUGE}.bin",
        f"image/he/{HUGE}/0/0/0.jpg",
        f"image/he/0/{HUGE}/0/0.jpg",
        f"image/he/0/0/{HUGE}/{HUGE}.jpg",
        "cell/-1.json",
        "density/-1.bin",
        "outlines/1.5/0.bin",
        "molecules.bin?genes=GENE00&window=0,0,inf,1",
        f"molecules.bin?genes=GENE00&window={HUGE}",
    ],
)
def test_numbers_out_of_range_are_404(client, path):
    assert get(client, f"{SLIDE}/{path}").status_code == 404


@pytest.mark.parametrize("window", ["1e300,1e300,1e301,1e301", "9,9,0,0", f"-{HUGE},0,{HUGE},9"])
def test_windows_beyond_the_slide_hold_what_lies_in_them(client, window):
    answer = get(client, f"{SLIDE}/molecules.bin?genes=GENE00&window={window}")
    assert answer.status_code in (200, 404)


def test_only_reading_is_offered(client):
    for method in ("post", "put", "delete", "patch"):
        assert getattr(client, method)(f"{SLIDE}/info.json").status_code in (404, 405)


def test_other_origins_are_given_nothing(client):
    answer = get(client, f"{SLIDE}/info.json", Origin="https://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    # Without the header there is no answer, and other origins may not send it.
    assert client.get(f"{SLIDE}/info.json", headers={"Cookie": "token=x"}).status_code == 403


@pytest.mark.parametrize("token", ["A" * 60_000, "\x7f", "a.b.c.d.e", "null", "WyJsb2NhbCJd.x.y"])
def test_tokens_that_are_none(client, token):
    answer = client.get(f"{SLIDE}/info.json", headers={routes_auth.HEADER: token})
    assert answer.status_code == 403


def test_a_token_of_another_shape_is_refused(client):
    for value in ("local", ["local"], ["local", "small", "x"], {"a": "b"}, None, 7):
        token = routes_auth._serializer.dumps(value)
        answer = client.get(f"{SLIDE}/info.json", headers={routes_auth.HEADER: token})
        assert answer.status_code == 403


def test_no_answer_is_larger_than_its_cap(client, monkeypatch):
    monkeypatch.setattr(view, "MAX_MOLECULES", 10)
    answer = get(client, f"{SLIDE}/molecules.bin?genes=GENE00")
    assert answer.status_code == 413
    assert len(answer.content) < 500
