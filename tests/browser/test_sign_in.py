"""Two people sign in at an identity provider and see their own jobs and regions only."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services
from spatialformer_core.slides import ingest

pytestmark = pytest.mark.browser


class Provider:
    """An OpenID provider of two people; whoever is `user` is signed in without being asked."""

    def __init__(self):
        from joserfc.jwk import RSAKey

        self.key = RSAKey.generate_key(2048, {"kid": "k", "alg": "RS256", "use": "sig"})
        self.user, self.nonces = "ann", {}
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                provider.get(self)

            def do_POST(self):
                provider.token(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, request):
        at = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(at.query).items()}
        if at.path == "/.well-known/openid-configuration":
            self.answer(request, self.metadata())
        elif at.path == "/jwks":
            self.answer(request, {"keys": [self.key.as_dict(private=False)]})
        elif at.path == "/authorize":
            code = secrets.token_hex(8)
            self.nonces[code] = asked["nonce"], asked["client_id"], self.user
            query = urlencode({"code": code, "state": asked["state"]})
            self.lead(request, f"{asked['redirect_uri']}?{query}")
        else:
            self.lead(request, asked["post_logout_redirect_uri"])

    def metadata(self):
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
        paths |= {"jwks_uri": "jwks", "end_session_endpoint": "logout"}
        return {name: f"{self.url}/{path}" for name, path in paths.items()} | {
            "issuer": self.url,
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def token(self, request):
        from joserfc import jwt

        body = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        nonce, client, user = self.nonces.pop(body["code"][0])
        now = int(time.time())
        claims = {"iss": self.url, "sub": f"id-of-{user}", "aud": client, "nonce": nonce}
        claims |= {"iat": now, "exp": now + 600, "name": user.title()}
        claims |= {"email": f"{user}@example.org"}
        signed = jwt.encode({"alg": "RS256", "kid": "k"}, claims, self.key)
        token = {"access_token": "x", "token_type": "Bearer", "id_token": signed}
        self.answer(request, token)

    @staticmethod
    def answer(request, value):
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def lead(request, url):
        request.send_response(302)
        request.send_header("Location", url)
        request.end_headers()


@pytest.fixture
def provider():
    started = Provider()
    yield started
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture
def address(app_server, provider, tmp_path):
    """Address of an app with a login; its home folder for secrets is not this user's own."""
    url = f"http://localhost:{app_server.port}"
    folder = tmp_path / "user" / ".streamlit"
    folder.mkdir(parents=True)
    lines = {
        "redirect_uri": f"{url}/oauth2callback",
        "cookie_secret": secrets.token_hex(16),
        "client_id": "spatialformer",
        "client_secret": "none",
        "server_metadata_url": f"{provider.url}/.well-known/openid-configuration",
    }
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
    (folder / "secrets.toml").write_text(f"[auth]\n{text}")
    app_server.start(HOME=str(tmp_path / "user"))
    return url


def signed_in(page, address, provider, user):
    provider.user = user
    page.goto(f"{address}/jobs")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text(user.title(), exact=True).first.wait_for()
    page.goto(f"{address}/jobs")
    page.get_by_role("heading", name="Jobs").wait_for()


def token_and_status(page, address, slide_id, token=None):
    """Return the token of this visitor's viewer and what a request with a token is answered."""
    page.goto(f"{address}/tissue?slide={slide_id}")
    page.locator(".sf").wait_for()
    own = page.locator(".sf").evaluate("(box) => box.tissueViewer.net.token")
    ask = "([path, token]) => fetch(path, {headers: {'X-SF-Token': token}}).then((a) => a.status)"
    path = f"{address}/sf/v1/{slide_id}/info.json"
    return own, page.evaluate(ask, [path, token or own])


def test_two_people_see_their_own(page, app_server, app_slide, address, provider):
    home = app_server.home
    services = open_services(home)
    sample = SampleMetadata(**app_slide.SAMPLE)
    source = home.parent / "roots" / "small"
    ingest(source, services.store, name="Small", sample=sample, qc=QcThresholds())

    page.set_default_timeout(180_000)
    page.goto(f"{address}/tissue?slide=small")
    page.get_by_role("button", name="Sign in").wait_for()
    assert not page.locator(".sf").count()

    signed_in(page, address, provider, "ann")
    anns, status = token_and_status(page, address, "small")
    assert status == 200
    # The box itself: the sentence that names it is there before it.
    page.locator("summary", has_text="Draw by numbers").click()
    page.get_by_label("Name", exact=True).fill("Core")
    page.get_by_role("button", name="Save rectangle").click()
    page.get_by_text("Composition · Core").wait_for()
    (roi,) = services.rois("small")
    assert roi.owner.startswith("user-")
    assert "ann" not in roi.owner
    services.queue.submit("ingest", {"source_id": "x", "name": "of Ann"}, roi.owner)

    other = page.context.browser.new_context().new_page()
    other.set_default_timeout(180_000)
    signed_in(other, address, provider, "bob")
    other.get_by_text("No job yet").wait_for()
    assert token_and_status(other, address, "small", anns)[1] == 403
    assert token_and_status(other, address, "small")[1] == 200
    other.get_by_text("Region shown below").wait_for()
    assert not other.get_by_text("Core", exact=True).count()

    page.goto(f"{address}/jobs")
    page.get_by_text("of Ann", exact=False).first.wait_for()
    page.goto(f"{address}/sign-out")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    answer = page.context.request.get(
        f"{address}/sf/v1/small/info.json", headers={"X-SF-Token": anns}
    )
    assert answer.status == 403
    log = (home.parent / "server.log").read_text()
    assert "example.org" not in log
