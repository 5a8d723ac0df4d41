"""What an embedding with its map will do and cost, before it is started; no model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.colocalise_estimate import require_known_panel
from spatialformer_core.service.facade import Services

if TYPE_CHECKING:
    from spatialformer_core.service.embed import EmbedRequest

_S_START, _S_PER_CELL, _S_PER_MAP_CELL, _S_PER_NICHE_CELL = 25.0, 2e-4, 3.2e-3, 1.5e-3
"""CPU-seconds of one core, docs/results/neighbours_pancreas.md."""


@dataclass(frozen=True, slots=True)
class EmbedEstimate:
    """What an embedding will do.

    Attributes
    ----------
    n_cells, n_map
        Cells that are embedded, and those of them that are on the map.
    coverage
        Share of the slide's genes that the checkpoint knows.
    seconds
        Rough time on one core.
    """

    n_cells: int
    n_map: int
    coverage: float
    seconds: float


def estimate_embedding(services: Services, request: EmbedRequest) -> EmbedEstimate:
    """Return cells and time of an embedding of a slide.

    Raises
    ------
    SpatialFormerError
        If there is no such slide or checkpoint, it knows too few of the slide's genes, or niches
        are wanted where nothing can tell them.
    """
    if request.slide_id is None:
        raise SpatialFormerError("An embedding on this page is of a slide.")
    meta = services.slide(request.slide_id).meta
    info = services.checkpoint(request.checkpoint_id)
    if request.n_niches and info.architecture != "two-tower":
        raise SpatialFormerError(
            "Niches of expected neighbours need a two-tower checkpoint.",
            fix="Choose one, or set the number of niches to 0.",
        )
    if request.n_niches and not meta.group_keys:
        raise SpatialFormerError(
            "Niches are counted by cell type, and this slide has no grouping.",
            fix="Attach labels on the page Slides, or set the number of niches to 0.",
        )
    n_map = min(request.n_umap, meta.n_cells_kept)
    seconds = _S_START + meta.n_cells * _S_PER_CELL + n_map * _S_PER_MAP_CELL
    if request.n_niches:
        seconds += n_map * _S_PER_NICHE_CELL
    coverage = require_known_panel(services, request.slide_id, info)
    return EmbedEstimate(meta.n_cells, n_map, coverage, seconds)
