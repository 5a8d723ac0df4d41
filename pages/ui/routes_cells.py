"""Data routes for colours of cells beyond groupings and genes, and for outlines of nuclei."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pages.ui.routes_auth import HEADER, owner_of
from pages.ui.routes_guard import AS_IS, CACHED, binary, guarded, nothing
from pages.ui.viewer.bundle import PREFIX
from spatialformer_core.service import view_colours
from spatialformer_core.service.view import SlideView


def _value(request: Request, slide: SlideView) -> Response:
    # Compressed: neighbouring cells have similar numbers.
    return binary(view_colours.value_codes(slide.slide, request.path_params["name"]), CACHED)


def _pair(request: Request, slide: SlideView) -> Response:
    genes = request.query_params.get("genes", "").split(",")
    if len(genes) != 2:
        return nothing()
    # Not kept: a measurement of co-occurrence that ends meanwhile changes the answer.
    headers = CACHED | {"Cache-Control": "no-store"}
    return binary(view_colours.pair_codes(slide.slide, genes[0], genes[1]), headers)


def _result(request: Request, slide: SlideView) -> Response:
    owner = owner_of(request.headers.get(HEADER, ""), slide.slide.meta.slide_id)
    job_id, name = request.path_params["job"], request.path_params["name"]
    return binary(view_colours.result_codes(slide.slide, job_id, name, owner), CACHED)


def _nuclei(request: Request, slide: SlideView) -> Response:
    at = request.path_params
    return binary(slide.nuclei_tile(at["x"], at["y"]), AS_IS)


_SLIDE = f"/{PREFIX}/v1/{{slide}}"

CELL_ROUTES = [
    Route(f"{_SLIDE}/value/{{name}}.bin", guarded(_value)),
    Route(f"{_SLIDE}/pair.bin", guarded(_pair)),
    Route(f"{_SLIDE}/result/{{job}}/{{name:path}}.bin", guarded(_result)),
    Route(f"{_SLIDE}/nuclei/{{x:int}}/{{y:int}}.bin", guarded(_nuclei)),
]
