"""What the page Perturbation asks beside the screen itself: examples, figures, tables to choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import FloatArray
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import ScreenRequest, read_result
from spatialformer_core.perturbation.examples import ExamplePair
from spatialformer_core.perturbation.liana_ranks import is_installed
from spatialformer_core.perturbation.ligand_receptor import FROM_LIANA
from spatialformer_core.service.references import (
    PREFIX,
    Kind,
    Reference,
    list_references,
    resolve_reference,
    save_reference,
)
from spatialformer_core.service.screen_examples import example_pairs

if TYPE_CHECKING:
    from spatialformer_core.service.facade import Services

KIND = "screen"
MAP_CELLS = 20_000


def references(services: Services) -> list[Reference]:
    """Return the tables that a screen can be compared with."""
    return list_references(services.home)


def upload(services: Services, name: str, content: bytes, kind: Kind) -> Reference:
    """Keep an uploaded table; see `references.save_reference`."""
    return save_reference(services.home, name, content, kind)


def has_liana() -> bool:
    """Tell whether liana is installed where the app runs; its workers run there too."""
    return is_installed()


def check_references(services: Services, request: ScreenRequest) -> None:
    """Check that what a page's request is compared with is there.

    Raises
    ------
    SpatialFormerError
        If a table is gone, or is named by its path: pages deal in ids.
    """
    named = [*request.gene_set_files, *filter(None, [request.ligand_receptor])]
    for value in named:
        if value == FROM_LIANA and has_liana():
            continue
        if not value.startswith(PREFIX):
            raise SpatialFormerError("The chosen table is not one of this server.", value[:40])
        resolve_reference(services.home, value)


def n_screens(request: ScreenRequest) -> int:
    """Return how many times the screen's work is done: checkpoints and null runs repeat it."""
    others = len(request.agreement_ids) + (request.null_checkpoint_id is not None)
    return 1 + others + request.null_runs


def examples(
    services: Services, job_id: str, genes: tuple[str, str], n: int, owner: str | None = None
) -> list[ExamplePair]:
    """Return near cell pairs of a finished screen that carry both genes; see `example_pairs`."""
    return example_pairs(services.store, services.queue.result(job_id, owner, KIND), genes, n)


def example_figure(
    services: Services, job_id: str, genes: tuple[str, str], suffix: str, owner: str | None = None
) -> bytes:
    """Return a figure of example cell pairs as SVG or PNG.

    Raises
    ------
    SpatialFormerError
        If no near cell pair carries both genes.
    """
    from spatialformer_core import pl

    folder = services.queue.result(job_id, owner, KIND)
    info = read_result(folder).info
    found = example_pairs(services.store, folder, genes)
    if not found:
        raise SpatialFormerError("No near cell pair carries both genes.", " and ".join(genes))
    types = (info["request"]["group_left"], info["request"]["group_right"])
    caption = [f"{info['scope']}.", *info["marks"]]
    return pl.as_bytes(pl.example_cells(found, genes, types, caption), suffix)


def figure(
    services: Services, job_id: str, name: str, suffix: str, owner: str | None = None
) -> bytes:
    """Return one of `pl.screen_figures` of a finished screen as SVG or PNG.

    Raises
    ------
    SpatialFormerError
        If there is no such figure or format.
    """
    from spatialformer_core import pl

    figures = pl.screen_figures(read_result(services.queue.result(job_id, owner, KIND)))
    if name not in figures:
        raise SpatialFormerError(f"There is no figure {name[:40]!r}: {', '.join(figures)}.")
    return pl.as_bytes(figures[name], suffix)


def whole_slides(services: Services, slide_ids: Sequence[str]) -> str:
    """Return whole slides as regions (GeoJSON in um), each a replicate of its own name.

    So that slides can stand on the two sides of a comparison: healthy against disease, say.
    """
    features = []
    for slide_id in slide_ids:
        meta = services.slide(slide_id).meta
        x0, y0, x1, y1 = meta.bounds_um
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        features.append(
            {
                "type": "Feature",
                "properties": {"name": meta.name, "unit": slide_id, "slide_id": slide_id},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features})


def again(services: Services, job_id: str, owner: str) -> str:
    """Queue a screen with the request of another one and return the job id."""
    job = services.queue.get(job_id, owner)
    if job.kind != KIND:
        raise SpatialFormerError(f"Job {job_id} is of kind {job.kind!r}, not {KIND!r}.")
    return services.submit_screen(validate(ScreenRequest, job.params, "screen"), owner)


def tissue_outline(services: Services, slide_id: str) -> FloatArray:
    """Return where some cells of a slide lie (um, at most `MAP_CELLS`), as a map's background."""
    xy = np.asarray(services.slide(slide_id).xy_um)
    return xy[:: max(1, -(-len(xy) // MAP_CELLS))]
