"""Without a login the server answers its own computer only, whatever address it listens on."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from pages.ui import identity

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

WITHOUT_LOGIN = "SPATIALFORMER_WITHOUT_LOGIN"
"""Set to 1 by ``spatialformer serve --without-login``: whoever reaches the server is let in."""

_REFUSED = (
    "This server has no login, so it answers its own computer only. Whoever runs it can configure "
    "a login, or start it with --without-login where everybody in the network may see the slides."
)


class LocalOnly:
    """Refuse other computers, and names that are not this computer's, while there is no login.

    The name is looked at too because a page from anywhere can make its own name point to
    127.0.0.1 and would then be the same origin as this server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "lifespan" or _is_open() or _is_local(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(_REFUSED, 403)(scope, receive, send)


def _is_open() -> bool:
    return identity.login_is_configured() or os.environ.get(WITHOUT_LOGIN) == "1"


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    named = Headers(scope=scope).get("host", "")
    # An IPv6 address stands in brackets, and what follows the last colon is the port.
    host = named.rpartition("]")[0].lstrip("[") if "]" in named else named.partition(":")[0]
    # A Unix socket has no client address; only this computer reaches it.
    return (client is None or _is_loopback(client[0])) and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
