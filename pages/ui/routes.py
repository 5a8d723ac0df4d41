"""Data routes of the tissue viewer: points, colour codes, outlines and image tiles over HTTP.

They live in the app's own process and port. A page mints a token for its owner and slide; the
browser sends it as a header with every request. Numbers leave as `service.view` lays them out.
"""

from __future__ import annotations

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pages.ui.routes_auth import mint_token
from pages.ui.routes_cells import CELL_ROUTES
from pages.ui.routes_guard import AS_IS, CACHED, binary, guarded, nothing
from pages.ui.routes_map import MAP_ROUTES
from pages.ui.viewer.bundle import BUNDLE, PREFIX, bundle_hash
from spatialformer_core.service import view
from spatialformer_core.service.view import SlideView

__all__ = ["ROUTES", "mint_token"]

_FAR_UM = 1e7
"""Ten metres: farther off lies no tissue, and numbers of tiles would not fit into integers."""

_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def _info(_request: Request, slide: SlideView) -> Response:
    # Never cached: it carries the version that all other addresses of the slide end in.
    return JSONResponse(slide.info(), headers={"Cache-Control": "no-store"})


def _points(_request: Request, slide: SlideView) -> Response:
    return binary(slide.points(), AS_IS)


def _group(request: Request, slide: SlideView) -> Response:
    return binary(slide.group_codes(request.path_params["key"]), CACHED)


def _gene(request: Request, slide: SlideView) -> Response:
    return binary(slide.gene_codes(request.path_params["gene"]), CACHED)


def _outlines(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    return binary(slide.polygon_tile(at["x"], at["y"]), AS_IS)


def _molecules(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    return binary(slide.transcript_tile(at["x"], at["y"], _genes(request)), AS_IS)


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
        return nothing()
    if window is not None and (len(window) != 4 or not all(map(math.isfinite, window))):
        return nothing()
    if window is None:
        return binary(slide.molecules(_genes(request)), AS_IS)
    x0, y0, x1, y1 = (min(max(value, -_FAR_UM), _FAR_UM) for value in window)
    return binary(slide.molecules(_genes(request), (x0, y0, x1, y1)), AS_IS)


def _density(request: Request, slide: SlideView) -> Response:
    # Counts are mostly small numbers: these bytes are worth compressing.
    return binary(slide.density(request.path_params["level"], _genes(request)), CACHED)


def _cell(request: Request, slide: SlideView) -> Response:
    cell: dict[str, Any] | None = slide.cell(request.path_params["row"])
    return JSONResponse(cell, headers=CACHED) if cell else nothing()


def _image(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    body = slide.image_tile(at["name"], at["channel"], at["z"], at["x"], at["y"])
    return Response(body, media_type="image/jpeg", headers=AS_IS)


def _script(request: Request) -> Response:
    if request.path_params["version"] != bundle_hash():
        return nothing()
    return FileResponse(BUNDLE, media_type="text/javascript", headers=_FOR_EVER)


def _unknown(_request: Request) -> Response:
    # Streamlit answers unknown addresses with its own page and status 200, which no decoder reads.
    return nothing()


def _first_page(request: Request) -> Response:
    """Lead ``/slides`` to the page Slides, which Streamlit serves as the first one at ``/``."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"./{query}", 307)


_SLIDE = f"/{PREFIX}/v1/{{slide}}"

ROUTES = [
    Route(f"/{PREFIX}/viewer-{{version}}.js", _script),
    Route(f"{_SLIDE}/info.json", guarded(_info)),
    Route(f"{_SLIDE}/points.bin", guarded(_points)),
    Route(f"{_SLIDE}/group/{{key:path}}.bin", guarded(_group)),
    Route(f"{_SLIDE}/gene/{{gene:path}}.bin", guarded(_gene)),
    Route(f"{_SLIDE}/outlines/{{x:int}}/{{y:int}}.bin", guarded(_outlines)),
    Route(f"{_SLIDE}/molecules/{{x:int}}/{{y:int}}.bin", guarded(_molecules)),
    Route(f"{_SLIDE}/molecules.bin", guarded(_molecules_of_genes)),
    Route(f"{_SLIDE}/density/{{level:int}}.bin", guarded(_density)),
    Route(f"{_SLIDE}/cell/{{row:int}}.json", guarded(_cell)),
    Route(
        f"{_SLIDE}/image/{{name}}/{{channel:int}}/{{z:int}}/{{x:int}}/{{y:int}}.jpg",
        guarded(_image),
    ),
    *CELL_ROUTES,
    *MAP_ROUTES,
    Route(f"/{PREFIX}/{{rest:path}}", _unknown),
    Route("/slides", _first_page),
]
