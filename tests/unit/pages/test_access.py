"""Who is let in, and as whom: computers, names, cookies of a login."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from pages.ui import access, identity, routes_auth, sign_in
from pages.ui.routes_guard import guarded
from pages.ui.server import lifespan
from spatialformer_core.cli import serving
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import view

SECRET = "a long secret of this test only"
ORIGIN = "http://localhost:8501"
ANN = {"iss": "https://id.example", "sub": "1", "email": "ann@example.org"}


def section():
    return {"redirect_uri": f"{ORIGIN}/oauth2callback", "cookie_secret": SECRET, "client_id": "x"}


@pytest.fixture
def no_login(monkeypatch):
    monkeypatch.setattr(identity, "get_secrets_auth_section", dict)
    identity.login_is_configured.cache_clear()
    yield monkeypatch
    identity.login_is_configured.cache_clear()


@pytest.fixture
def login(no_login):
    no_login.setattr(identity, "get_secrets_auth_section", section)
    no_login.setattr(sign_in, "get_secrets_auth_section", section)
    no_login.setattr(identity, "get_origin_from_redirect_uri", lambda: ORIGIN)
    no_login.setattr(identity, "get_cookie_secret", lambda: SECRET)
    return no_login


def cookie(claims, *, secret=SECRET, origin=ORIGIN, is_logged_in=True):
    payload = {**claims, "origin": origin, "is_logged_in": is_logged_in}
    return create_signed_value(secret, "_streamlit_user", json.dumps(payload)).decode()


def request_with(value):
    headers = [(b"cookie", f"_streamlit_user={value}".encode())] if value else []
    return Request({"type": "http", "headers": headers})


async def hello(_request):
    return PlainTextResponse("hello")


async def socket(websocket):
    await websocket.accept()
    await websocket.close()


def server(client="127.0.0.1", host="localhost:8501"):
    app = Starlette(
        routes=[Route("/", hello), WebSocketRoute("/socket", socket)],
        middleware=[Middleware(access.LocalOnly)],
    )
    return TestClient(app, base_url=f"http://{host}", client=(client, 5000))


def test_without_login_this_computer_is_answered(no_login):
    for client, host in [
        ("127.0.0.1", "localhost:8501"),
        ("::1", "[::1]:8501"),
        ("127.0.0.1", "127.0.0.1"),
    ]:
        answer = server(client, host).get("/")
        assert (answer.status_code, answer.text) == (200, "hello")
    with server().websocket_connect("ws://localhost:8501/socket"):
        pass


@pytest.mark.parametrize(
    ("client", "host"),
    [
        ("192.168.0.7", "localhost:8501"),
        ("127.0.0.1", "evil.example:8501"),
        ("127.0.0.1", "localhost.evil.example"),
        ("127.0.0.1", "10.0.0.1:8501"),
        ("not an address", "localhost"),
    ],
)
def test_without_login_other_computers_and_names_are_refused(no_login, client, host):
    answer = server(client, host).get("/")
    assert answer.status_code == 403
    assert "no login" in answer.text
    socket = server(client, host).websocket_connect(f"ws://{host}/socket")
    with pytest.raises(WebSocketDisconnect), socket:
        pass


def test_others_are_let_in_with_a_login_or_when_told_so(login):
    far = server("192.168.0.7", "tissue.example")
    assert far.get("/").status_code == 200
    login.setattr(identity, "get_secrets_auth_section", dict)
    # The file broke while it was edited: the login stays in force.
    assert identity.login_is_configured()
    assert identity.owner_of_request(request_with(None), "local") is None
    identity.login_is_configured.cache_clear()
    assert far.get("/").status_code == 403
    login.setenv(access.WITHOUT_LOGIN, "1")
    assert far.get("/").status_code == 200


def test_an_owner_is_one_person_of_one_issuer_and_no_address():
    ann = identity.owner_id(ANN)
    assert ann == identity.owner_id({**ANN, "email": "ann@elsewhere.org", "name": "Ann"})
    others = [{**ANN, "sub": "2"}, {**ANN, "iss": "https://other.example"}, {"sub": "1"}]
    assert len({ann, *map(identity.owner_id, others)}) == 4
    assert "ann" not in ann
    assert identity.owner_id({"iss": "https://id.example", "email": "ann@example.org"}) is None


def test_a_request_is_whose_cookie_it_carries(login):
    assert identity.owner_of_request(request_with(cookie(ANN)), "local") == identity.owner_id(ANN)
    for value in (
        None,
        "",
        "forged",
        "\xff",
        cookie(ANN, secret="another"),
        cookie(ANN, origin="http://elsewhere"),
        cookie(ANN, is_logged_in=False),
        cookie({}),
        create_signed_value(SECRET, "_streamlit_user", "[1]").decode(),
        create_signed_value(SECRET, "_streamlit_user", "{").decode(),
    ):
        assert identity.owner_of_request(request_with(value), "local") is None


def test_without_login_everybody_is_the_local_owner(no_login):
    assert identity.owner_of_request(request_with("forged"), "local") == "local"


def test_a_token_opens_nothing_in_another_browser_or_after_signing_out(login, tmp_path):
    login.setenv("SPATIALFORMER_HOME", str(tmp_path))
    login.setattr(view, "open_view", lambda _home, slide_id: slide_id)
    route = Route("/{slide}", guarded(lambda request, slide: PlainTextResponse(slide)))
    client = TestClient(Starlette(routes=[route]))
    token = routes_auth.mint_token(identity.owner_id(ANN), "lung")

    def status(value):
        client.cookies = {"_streamlit_user": value} if value else {}
        return client.get("/lung", headers={routes_auth.HEADER: token}).status_code

    assert status(cookie(ANN)) == 200
    assert status(cookie({**ANN, "sub": "2"})) == 403
    assert status(None) == 403


def test_a_page_of_nobody_shows_the_sign_in_and_nothing_else(login, tmp_path, root):
    login.setenv("SPATIALFORMER_HOME", str(tmp_path))
    at = AppTest.from_file(str(root / "app.py"), default_timeout=60).run()
    assert not at.exception
    assert [button.label for button in at.button] == ["Sign in"]
    assert "Sign in" in " ".join(m.value for m in at.markdown)
    page = AppTest.from_file(str(root / "pages" / "slides.py"), default_timeout=60).run()
    assert not page.exception
    assert not page.button


def test_a_broken_secrets_file_stops_the_server(no_login, tmp_path):
    path = tmp_path / "secrets.toml"
    path.write_text("[auth\n")
    no_login.setattr(identity.config, "get_option", lambda name: [str(path)])
    no_login.setattr(identity.secrets_singleton, "load_if_toml_exists", lambda: False)
    with pytest.raises(SpatialFormerError, match="cannot be read"):
        identity.check_secrets()
    no_login.setattr(identity.secrets_singleton, "load_if_toml_exists", lambda: True)
    identity.check_secrets()


def test_no_line_is_written_for_each_request(monkeypatch):
    log = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler()])
    monkeypatch.setattr(log, "propagate", True)
    # It would go on importing in the tests that follow.
    monkeypatch.setattr("pages.ui.server._warm_up", lambda: None)
    with TestClient(Starlette(lifespan=lifespan)):
        assert not log.hasHandlers()


def test_serve_wants_a_login_for_other_computers(no_login, tmp_path):
    import uvicorn

    no_login.setenv("SPATIALFORMER_HOME", str(tmp_path))
    no_login.setenv(access.WITHOUT_LOGIN, "0")
    no_login.setattr("spatialformer_core.jobs.ensure_worker", lambda home: False)
    no_login.setitem(sys.modules, "app", SimpleNamespace(app="the app"))
    served = []
    no_login.setattr(uvicorn, "run", lambda app, **options: served.append((app, options["host"])))
    with pytest.raises(SpatialFormerError, match="Without a login"):
        serving.serve(host="0.0.0.0", port=18599)
    assert not served
    serving.serve(host="0.0.0.0", port=18599, without_login=True)
    assert served == [("the app", "0.0.0.0")]
