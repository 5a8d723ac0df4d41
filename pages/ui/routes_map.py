"""Data routes of the map of an embedding, and of selections on it or on the tissue.

The map answers like a slide, so that the tissue viewer draws it: its points are the cells on the
map, its colours those of the slide for these cells.
"""

from __future__ import annotations

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pages.ui import picked
from pages.ui.routes_auth import HEADER, owner_of
from pages.ui.routes_guard import AS_IS, CACHED, binary, guarded, nothing
from pages.ui.viewer.bundle import PREFIX
from spatialformer_core.arrays import BoolArray
from spatialformer_core.service import embedding_view
from spatialformer_core.service.embedding_view import EmbeddingMapView
from spatialformer_core.service.view import SlideView


def _owner(request: Request, slide: SlideView) -> str | None:
    return owner_of(request.headers.get(HEADER, ""), slide.slide.meta.slide_id)


def _map(request: Request, slide: SlideView) -> EmbeddingMapView:
    job_id = request.path_params["job"]
    return embedding_view.open_map(slide.slide, job_id, _owner(request, slide))


def _info(request: Request, slide: SlideView) -> Response:
    found = embedding_view.map_info(_map(request, slide), slide.slide)
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


def _points(request: Request, slide: SlideView) -> Response:
    return binary(embedding_view.map_points(_map(request, slide)), AS_IS)


def _picked(request: Request, slide: SlideView) -> BoolArray | None:
    name = request.path_params.get("picked")
    if name is None:
        return None
    meta = slide.slide.meta
    return picked.find(_owner(request, slide), meta.slide_id, name, meta.n_cells)


def _codes(request: Request, slide: SlideView) -> Response:
    at, cells = request.path_params, slide.slide
    body = embedding_view.colour_codes(cells, at["kind"], at["name"], _owner(request, slide))
    rows = _map(request, slide).rows if "job" in at else None
    passes = np.asarray(cells.passes_qc, np.bool_)
    codes = embedding_view.recoded(body, passes, rows, _picked(request, slide))
    return binary(codes, CACHED)


def _cell(request: Request, slide: SlideView) -> Response:
    rows, row = _map(request, slide).rows, request.path_params["row"]
    found = slide.cell(int(rows[row])) if row < len(rows) else None
    return JSONResponse(found, headers=CACHED) if found else nothing()


_SLIDE = f"/{PREFIX}/v1/{{slide}}"
_MAP = f"{_SLIDE}/map/{{job}}"
_NAME = "{kind}/{name:path}.bin"

MAP_ROUTES = [
    Route(f"{_MAP}/info.json", guarded(_info)),
    Route(f"{_MAP}/points.bin", guarded(_points)),
    Route(f"{_MAP}/cell/{{row:int}}.json", guarded(_cell)),
    Route(f"{_MAP}/pick/{{picked}}/{_NAME}", guarded(_codes)),
    Route(f"{_MAP}/{_NAME}", guarded(_codes)),
    Route(f"{_SLIDE}/pick/{{picked}}/{_NAME}", guarded(_codes)),
]
