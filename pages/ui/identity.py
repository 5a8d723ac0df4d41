"""Who the visitor is: one person on this computer, or whoever signed in.

Streamlit keeps what the identity provider said in a signed cookie. A page reads it as ``st.user``,
a data route from the request itself, so that both come to the same owner.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.requests import HTTPConnection
from streamlit import config
from streamlit.auth_util import (
    get_cookie_with_chunks,
    get_origin_from_redirect_uri,
    get_secrets_auth_section,
)
from streamlit.runtime.secrets import secrets_singleton
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from spatialformer_core.errors import SpatialFormerError

_ID_DIGITS = 32


@functools.cache
def login_is_configured() -> bool:
    """Tell whether ``.streamlit/secrets.toml`` has an ``[auth]`` section.

    Asked once: a file that breaks while it is edited reads like one without the section, and must
    not open the doors.
    """
    return bool(get_secrets_auth_section())


def check_secrets() -> None:
    """Refuse to start with a secrets file that cannot be read: it may be the one with the login.

    Raises
    ------
    SpatialFormerError
        Names the file.
    """
    for path in config.get_option("secrets.files"):
        if Path(path).is_file() and not secrets_singleton.load_if_toml_exists():
            raise SpatialFormerError(
                "The secrets file cannot be read, and it may hold the login.",
                where=str(path),
                fix="Mend its TOML, or take it away.",
            )


def owner_id(claims: Mapping[str, Any]) -> str | None:
    """Return the name under which a signed-in person's jobs and regions are kept.

    A digest of issuer and subject, which OpenID Connect promises to be one person for ever: an
    e-mail address may be given to somebody else, and has no business in logs and databases.

    Returns
    -------
    str or None
        None where the claims name nobody.
    """
    subject = str(claims.get("sub") or "")
    if not subject:
        return None
    text = json.dumps([str(claims.get("iss") or ""), subject])
    return f"user-{hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]}"


def signed_in() -> str | None:
    """Return the owner who is signed in on this page, None if nobody is."""
    if not st.user.get("is_logged_in"):
        return None
    return owner_id(st.user)


def may_see() -> bool:
    """Tell whether this page may show anything: no login is configured, or somebody signed in."""
    return not login_is_configured() or signed_in() is not None


def owner(default: str) -> str:
    """Return the owner of what this page's visitor starts and saves.

    Parameters
    ----------
    default
        The one person of a server without login.
    """
    if not login_is_configured():
        return default
    found = signed_in()
    if found is None:
        st.stop()
    return found


def shown_name() -> str:
    """Return what to call the visitor on the page."""
    found = (st.user.get(claim) for claim in ("name", "preferred_username", "email"))
    return next((str(value) for value in found if value), "Account")


def owner_of_request(request: HTTPConnection, default: str) -> str | None:
    """Return whose browser sent a request, None if a login is configured and nobody signed in.

    Parameters
    ----------
    default
        The one person of a server without login.
    """
    if not login_is_configured():
        return default

    def decoded(name: str) -> bytes | None:
        value = request.cookies.get(name)
        if value is None:
            return None
        return decode_signed_value(get_cookie_secret(), name, value.encode("latin-1", "replace"))

    try:
        claims = json.loads(get_cookie_with_chunks(decoded, USER_COOKIE_NAME) or b"null")
    except (ValueError, TypeError):
        return None
    # As Streamlit's own socket: a cookie of another address of this server counts for nothing.
    if not isinstance(claims, dict) or claims.get("origin") != get_origin_from_redirect_uri():
        return None
    return owner_id(claims) if claims.get("is_logged_in") else None
