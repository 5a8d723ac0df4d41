"""Data routes of the tissue viewer: points, colour codes, outlines and image tiles over HTTP.

They live in the app's own process and port. A page mints a token for its owner and slide; the
browser sends it as a header with every request. Numbers leave as `service.view` lays them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pages.ui.routes_auth import HEADER, mint_token, owner_of
from pages.ui.viewer.bundle import BUNDLE, PREFIX, bundle_hash
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import view
from spatialformer_core.service.view import SlideView

__all__ = ["ROUTES", "mint_token"]

# The answer depends on the token, so that a cache never hands one user's answer to another.
_CACHED = {"Cache-Control": "private, max-age=3600", "Vary": HEADER}
# Streamlit compresses whatever has no encoding yet: half a second for 8 MB of coordinates, to save
# a sixth of them.
_AS_IS = _CACHED | {"Content-Encoding": "identity"}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}

Handler = Callable[[Request, SlideView], Response]


def _guarded(handler: Handler) -> Callable[[Request], Response]:
    """Answer 403 without a valid token for the slide, 404 for what is not there."""

    def answer(request: Request) -> Response:
        slide_id = request.path_params["slide"]
        if owner_of(request.headers.get(HEADER, ""), slide_id) is None:
            return PlainTextResponse("The access to this slide has expired.", 403)
        try:
            return handler(request, view.open_view(slide_id))
        except SpatialFormerError as error:
            return PlainTextResponse(error.message, 404)

    return answer


def _binary(body: bytes | None, headers: dict[str, str]) -> Response:
    if body is None:
        return _nothing()
    return Response(body, media_type="application/octet-stream", headers=headers)


def _nothing() -> Response:
    return PlainTextResponse("There is nothing at this address.", 404)


def _info(_request: Request, slide: SlideView) -> Response:
    # Never cached: it carries the version that all other addresses of the slide end in.
    return JSONResponse(slide.info(), headers={"Cache-Control": "no-store"})


def _points(_request: Request, slide: SlideView) -> Response:
    return _binary(slide.points(), _AS_IS)


def _group(request: Request, slide: SlideView) -> Response:
    return _binary(slide.group_codes(request.path_params["key"]), _CACHED)


def _gene(request: Request, slide: SlideView) -> Response:
    return _binary(slide.gene_codes(request.path_params["gene"]), _CACHED)


def _outlines(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    return _binary(slide.polygon_tile(at["x"], at["y"]), _AS_IS)


def _molecules(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    return _binary(slide.transcript_tile(at["x"], at["y"], _genes(request)), _AS_IS)


def _genes(request: Request) -> list[str]:
    genes = [gene for gene in request.query_params.get("genes", "").split(",") if gene]
    if len(genes) > view.MAX_GENES:
        raise HTTPException(400, f"At most {view.MAX_GENES} genes can be shown at once.")
    return genes


def _molecules_of_genes(request: Request, slide: SlideView) -> Response:
    text = request.query_params.get("window", "")
    try:
        window = tuple(float(value) for value in text.split(",")) if text else None
    except ValueError:
        return _nothing()
    if window is not None and (len(window) != 4 or not all(map(math.isfinite, window))):
        return _nothing()
    return _binary(slide.molecules(_genes(request), window), _AS_IS)


def _density(request: Request, slide: SlideView) -> Response:
    # Counts are mostly small numbers: these bytes are worth compressing.
    return _binary(slide.density(request.path_params["level"], _genes(request)), _CACHED)


def _cell(request: Request, slide: SlideView) -> Response:
    cell: dict[str, Any] | None = slide.cell(request.path_params["row"])
    return JSONResponse(cell, headers=_CACHED) if cell else _nothing()


def _image(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    body = slide.image_tile(at["name"], at["channel"], at["z"], at["x"], at["y"])
    return Response(body, media_type="image/jpeg", headers=_AS_IS)


def _script(request: Request) -> Response:
    if request.path_params["version"] != bundle_hash():
        return _nothing()
    return FileResponse(BUNDLE, media_type="text/javascript", headers=_FOR_EVER)


def _unknown(_request: Request) -> Response:
    # Streamlit answers unknown addresses with its own page and status 200, which no decoder reads.
    return _nothing()


_SLIDE = f"/{PREFIX}/v1/{{slide}}"

ROUTES = [
    Route(f"/{PREFIX}/viewer-{{version}}.js", _script),
    Route(f"{_SLIDE}/info.json", _guarded(_info)),
    Route(f"{_SLIDE}/points.bin", _guarded(_points)),
    Route(f"{_SLIDE}/group/{{key:path}}.bin", _guarded(_group)),
    Route(f"{_SLIDE}/gene/{{gene:path}}.bin", _guarded(_gene)),
    Route(f"{_SLIDE}/outlines/{{x:int}}/{{y:int}}.bin", _guarded(_outlines)),
    Route(f"{_SLIDE}/molecules/{{x:int}}/{{y:int}}.bin", _guarded(_molecules)),
    Route(f"{_SLIDE}/molecules.bin", _guarded(_molecules_of_genes)),
    Route(f"{_SLIDE}/density/{{level:int}}.bin", _guarded(_density)),
    Route(f"{_SLIDE}/cell/{{row:int}}.json", _guarded(_cell)),
    Route(
        f"{_SLIDE}/image/{{name}}/{{channel:int}}/{{z:int}}/{{x:int}}/{{y:int}}.jpg",
        _guarded(_image),
    ),
    Route(f"/{PREFIX}/{{rest:path}}", _unknown),
]
