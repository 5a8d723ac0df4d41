"""What a co-localisation will do and cost, and which files it can be asked about: no model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.facade import Services
from spatialformer_core.service.query_cells import (
    Exposed,
    exposed,
    in_regions,
    of_types,
    require_queries,
)
from spatialformer_core.service.rois import check_regions
from spatialformer_core.service.settings import source_roots
from spatialformer_core.service.sources import source_path

if TYPE_CHECKING:
    from spatialformer_core.io import Overview
    from spatialformer_core.service.checkpoints import CheckpointInfo
    from spatialformer_core.service.colocalise import ColocaliseRequest
    from spatialformer_core.service.sources import SourceEntry
    from spatialformer_core.slides import Slide

_S_START, _S_PER_CELL, _S_PER_TOWER_PAIR, _S_PER_READ_PAIR = 9.0, 1e-4, 4e-6, 1.7e-3
"""CPU-seconds of one core, docs/results/neighbours_pancreas.md."""

MIN_COVERAGE = 0.5
"""As `inference.panel.MIN_COVERAGE`, whose import would load torch into the web process."""

_PROBED = 300
H5AD = ".h5ad"


@dataclass(frozen=True, slots=True)
class ColocaliseEstimate:
    """What a co-localisation will do.

    Attributes
    ----------
    n_queries, n_may_ask
        Cells that are asked about, and cells that they are drawn from.
    n_cells
        Cells that the model encodes: all that may ask or answer.
    candidates_per_query
        Mean number of cells that each is asked about.
    seconds
        Rough time on one core.
    exposure
        Whether the checkpoint has seen the cells, in a sentence.
    coverage
        Share of the slide's genes that the checkpoint knows; None for a file, read by the job.
    has_prior, has_truth
        Whether a prior of type pairs and true neighbours stand beside the model.
    """

    n_queries: int
    n_may_ask: int
    n_cells: int
    candidates_per_query: float
    seconds: float
    exposure: str
    coverage: float | None
    has_prior: bool
    has_truth: bool

    @property
    def n_pairs(self) -> int:
        """Pairs of cells that are scored."""
        return round(self.n_queries * self.candidates_per_query)


def expression_files(services: Services) -> list[SourceEntry]:
    """Return the AnnData files below the allow-listed folders."""
    return [entry for entry in services.sources() if entry.name.endswith(H5AD)]


def file_overview(services: Services, source_id: str) -> Overview:
    """Return what an AnnData file of the allow-listed folders holds.

    Raises
    ------
    SpatialFormerError
        If it is gone, is none, or is refused by the guard.
    """
    from spatialformer_core.io import read_overview

    path = source_path(source_roots(services.home, services.config), source_id)
    if path.suffix != H5AD or not path.is_file():
        raise SpatialFormerError("It is no .h5ad file.", path.name, "Register it as a slide.")
    return read_overview(path.resolve())


def require_known_panel(services: Services, slide_id: str, info: CheckpointInfo) -> float:
    """Return the share of a slide's genes that a checkpoint knows.

    Raises
    ------
    SpatialFormerError
        If it is under a half.
    """
    share = services.coverage(slide_id, info.id).fraction
    if share < MIN_COVERAGE:
        raise SpatialFormerError(
            f"Checkpoint {info.name!r} knows {share:.0%} of the slide's genes, at least "
            f"{MIN_COVERAGE:.0%} are needed.",
            where=slide_id,
            fix="Choose one trained on such a panel; the page Models shows what each knows.",
        )
    return share


def estimate_colocalisation(
    services: Services, request: ColocaliseRequest, owner: str | None = None
) -> ColocaliseEstimate:
    """Return cells, candidates and time of a co-localisation, before it is started.

    Raises
    ------
    SpatialFormerError
        If there is no such slide, file, region, type or checkpoint, or no cell is left to ask.
    """
    info = services.checkpoint(request.checkpoint_id)
    if request.slide_id is None:
        return _of_file(file_overview(services, request.source_id or ""), info, request)
    check_regions(services, [request.slide_id], request.roi_ids, owner)
    slide = services.slide(request.slide_id)
    kept = np.asarray(slide.passes_qc, np.bool_)
    found = exposed(slide, info.provenance, info.name, request.cells)
    eligible = kept & found.may_ask
    groups = slide.group(request.groupby or str(slide.meta.default_group))
    asked = eligible & of_types(groups, request.query_types, slide.meta.slide_id)
    asked &= in_regions(slide, request.roi_ids)
    require_queries(asked, slide.meta.slide_id)
    candidates = _candidates(slide, asked, eligible, request)
    n_queries = min(request.n_queries, int(asked.sum()))
    return ColocaliseEstimate(
        n_queries,
        int(asked.sum()),
        int(eligible.sum()),
        candidates,
        _seconds(info, int(eligible.sum()), n_queries * candidates),
        found.words,
        require_known_panel(services, request.slide_id, info),
        _has_prior(kept, found),
        has_truth=True,
    )


def _has_prior(kept: BoolArray, found: Exposed) -> bool:
    learnt = kept & found.seen
    return bool(learnt.any() and not (learnt & found.may_ask).any())


def _of_file(
    file: Overview, info: CheckpointInfo, request: ColocaliseRequest
) -> ColocaliseEstimate:
    n_queries = min(request.n_queries, file.n_cells)
    around = request.n_far + 200 if file.has_coordinates else request.n_sample
    candidates = float(min(around, max(1, file.n_cells - 1)))
    words = "A file: whether the checkpoint has seen its cells is not known."
    return ColocaliseEstimate(
        n_queries,
        file.n_cells,
        file.n_cells,
        candidates,
        _seconds(info, file.n_cells, n_queries * candidates),
        words,
        None,
        has_prior=False,
        has_truth=file.has_coordinates,
    )


def _candidates(
    slide: Slide, asked: BoolArray, eligible: BoolArray, request: ColocaliseRequest
) -> float:
    """Return the mean number of candidates, counted around some of the query cells."""
    from scipy.spatial import cKDTree

    xy: DoubleArray = np.asarray(slide.xy_um, np.float64)
    rows = np.flatnonzero(asked)
    rows = rows[:: max(1, len(rows) // _PROBED)]
    tree = cKDTree(xy[eligible])
    within = [
        tree.query_ball_point(xy[rows], radius, return_length=True) - 1
        for radius in (request.radius_um, request.reach_um)
    ]
    ring = within[1] - within[0]
    if request.n_ring is not None:
        ring = np.minimum(ring, request.n_ring)
    far = np.minimum(request.n_far, int(eligible.sum()) - 1 - within[1])
    return float(np.mean(within[0] + ring + far))


def _seconds(info: CheckpointInfo, n_cells: int, n_pairs: float) -> float:
    if info.architecture == "two-tower":
        return _S_START + n_cells * _S_PER_CELL + n_pairs * _S_PER_TOWER_PAIR
    return _S_START + n_pairs * _S_PER_READ_PAIR
