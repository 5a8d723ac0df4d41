"""Counts that a screen reads: all of a cell's, or only those that cannot be a neighbour's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.qc import counts_within
from spatialformer_core.service.spillover import inside, over_nuclei
from spatialformer_core.service.vocabularies import spelled_as

if TYPE_CHECKING:
    from spatialformer_core.arrays import IntArray
    from spatialformer_core.slides import Slide
    from spatialformer_core.vocabulary import Vocabulary


def screen_counts(slide: Slide, request: ScreenRequest) -> Any:
    """Return counts, scipy CSR ``(n_cells, n_genes)``.

    Raises
    ------
    SpatialFormerError
        If the slide has no transcripts, outlines or nuclei, where the request needs them.
    """
    if request.counts == "cell":
        return slide.counts
    found = slide.transcripts_by_cell()
    nuclear = request.counts == "nucleus"
    kept = over_nuclei(slide, found) if nuclear else inside(slide, found, request.erosion_um)
    return counts_within(found.indptr, np.asarray(found.gene), len(slide.genes), kept)


def gene_columns(slide: Slide, vocabulary: Vocabulary) -> IntArray:
    """Return the vocabulary's column of each gene of a slide, -1 where unknown.

    Two genes of the slide may be one of the vocabulary.
    """
    mapping = spelled_as(slide, vocabulary)
    ids = vocabulary.gene_ids(mapping.names)[mapping.column]
    columns: IntArray = np.where(ids >= 0, ids - vocabulary.gene_offset, -1).astype(np.int32)
    return columns
