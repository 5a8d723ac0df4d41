"""Simulated tissues as a screen sees them, made in memory, and such without any relation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spatialformer_core.arrays import CellTokens, DoubleArray
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.perturbation import Region, Tissue
from spatialformer_core.progress import Cancel, never, silent
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import TYPE_INDEX, load_panel
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.slide import SimulatedSlide, simulate_slide
from spatialformer_core.simulate.truth import granuloma_rois
from spatialformer_core.slides.roi import parse_rois, select_cells
from spatialformer_core.vocabulary import Vocabulary, tokenise

TissueKind = Literal["planted", "dealt", "unplanted"]

_META = {
    "block": "1",
    "condition": "Disease",
    "tissue": "Lung",
    "species": "Human",
    "assay": "Xenium",
}


@dataclass(frozen=True, slots=True)
class TissueSize:
    """Size of the suite's tissues.

    Attributes
    ----------
    cells, granulomas
        Cells of a slide, and its granulomas: the replicates.
    """

    cells: int
    granulomas: int


def make_tissue(
    kind: TissueKind,
    seed: int,
    size: TissueSize,
    vocabulary: Vocabulary,
    cancel: Cancel = never,
) -> Tissue:
    """Simulate a slide and return it as a screen of macrophages and T cells sees it.

    Parameters
    ----------
    kind
        ``planted``: as it is simulated. ``dealt``: the same, then the expression of all cells of
        a type is dealt out among them anew, so that nothing says who lies where beside the types.
        ``unplanted``: the simulator's tissue without planted relations; zones of the tissue,
        and spillover from neighbours, remain.
    seed, size
        Of the slide.
    vocabulary
        Of the checkpoint.

    Raises
    ------
    Cancelled
        If the user cancels.
    """
    settings = SimulationSettings(
        seed=seed,
        cells=size.cells,
        granulomas=size.granulomas,
        donor=f"suite-{seed}",
        he=False,
        planted=kind != "unplanted",
    )
    slide = simulate_slide(settings, silent, cancel)
    counts = slide.matrix()[:, : load_panel().n_genes].tocsr()
    if kind == "dealt":
        counts = counts[dealt_order(slide.cell_type, seed)]
    return as_tissue(slide, counts, vocabulary)


def dealt_order(cell_type: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Return whose expression each cell is given: another cell's of its type, at random."""
    rng = stream(seed, "dealt")
    order = np.arange(len(cell_type))
    for code in np.unique(cell_type):
        mine = np.flatnonzero(cell_type == code)
        order[mine] = rng.permutation(mine)
    return order


def as_tissue(slide: SimulatedSlide, counts: Any, vocabulary: Vocabulary) -> Tissue:
    """Return a simulated slide with the given counts (scipy CSR, the panel's genes) as a record."""
    xy_um = np.asarray(slide.outlines.centroid_um, np.float64)
    sample = SampleMetadata(donor=slide.settings.donor, **_META)
    ids = vocabulary.gene_ids(load_panel().genes)
    cells, _ = tokenise(counts, ids, vocabulary, vocabulary.meta_ids(sample))
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    limits = QcThresholds()
    kept = (depth >= limits.min_transcripts) & (np.diff(counts.indptr) >= limits.min_genes)
    return Tissue(
        slide_id=f"simulated {slide.settings.seed}",
        donor=slide.settings.donor,
        simulated=True,
        xy_um=xy_um,
        left=kept & (slide.cell_type == TYPE_INDEX[planted.MACROPHAGE]),
        right=kept & (slide.cell_type == TYPE_INDEX[planted.T_CELL]),
        depth=depth,
        presence=_presence(cells, vocabulary),
        seen=np.zeros(slide.n_cells, np.bool_),
        regions=_granulomas(slide, xy_um),
        cells=cells,
    )


def _granulomas(slide: SimulatedSlide, xy_um: DoubleArray) -> tuple[Region, ...]:
    """Return one region per granuloma; a cell between two that touch is the first one's."""
    side = slide.tissue.side_um
    rois = parse_rois(json.dumps(granuloma_rois(slide)), "suite", (0.0, 0.0, side, side))
    taken = np.zeros(len(xy_um), np.bool_)
    regions = []
    for roi in rois:
        inside = select_cells(xy_um, roi.polygon) & ~taken
        taken |= inside
        regions.append(Region(roi.name, roi.unit, inside))
    return tuple(regions)


def _presence(cells: CellTokens, vocabulary: Vocabulary) -> Any:
    column = cells.tokens - vocabulary.gene_offset
    ones = np.ones(len(column), np.int32)
    shape = (cells.n_cells, len(vocabulary.genes))
    return sparse.csr_matrix((ones, column, cells.indptr), shape=shape)
