"""What the viewer's data routes share: the token's check, and how an answer may be kept."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pages.ui import identity
from pages.ui.routes_auth import HEADER, owner_of
from pages.ui.session import services
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import view
from spatialformer_core.service.view import SlideView

# The answer depends on the token, so that a cache never hands one user's answer to another.
CACHED = {"Cache-Control": "private, max-age=3600", "Vary": HEADER}
# Streamlit compresses whatever has no encoding yet: half a second for 8 MB of coordinates, to save
# a sixth of them.
AS_IS = CACHED | {"Content-Encoding": "identity"}

Handler = Callable[[Request, SlideView], Response]


def guarded(handler: Handler) -> Callable[[Request], Response]:
    """Answer 403 without a valid token for the slide, 404 for what is not there."""

    def answer(request: Request) -> Response:
        slide_id = request.path_params["slide"]
        owner = owner_of(request.headers.get(HEADER, ""), slide_id)
        # Also whose browser it is: a token that was copied or outlived its sign-out opens nothing.
        if owner is None or owner != visitor(request):
            return PlainTextResponse("The access to this slide has expired.", 403)
        try:
            return handler(request, view.open_view(services().home, slide_id))
        except view.TooMany as error:
            return PlainTextResponse(" ".join(filter(None, (error.message, error.fix))), 413)
        except SpatialFormerError as error:
            return PlainTextResponse(error.message, 404)

    return answer


def visitor(request: Request) -> str | None:
    """Return whose browser sent a request, None if nobody is signed in there."""
    return identity.owner_of_request(request, services().config.default_owner)


def binary(body: bytes | None, headers: dict[str, str]) -> Response:
    """Return bytes as they are, 404 for None."""
    if body is None:
        return nothing()
    return Response(body, media_type="application/octet-stream", headers=headers)


def nothing() -> Response:
    """Return the answer for what is not there."""
    return PlainTextResponse("There is nothing at this address.", 404)
