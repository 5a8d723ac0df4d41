from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Polygons
from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.service.screen_counts import gene_columns, screen_counts
from spatialformer_core.service.vocabularies import known_genes, spelled_as
from spatialformer_core.slides.slide import CellTranscripts

GENES = ("CD3E", "ENSG00000153563", "Cd8a-like")


class Slide(SimpleNamespace):
    """Two square cells of 10 um, three genes; what a screen's counts ask of a slide."""

    genes = GENES
    gene_ids = ("ENSG00000198851.2", "", "")
    meta = SimpleNamespace(slide_id="squares")
    counts = sparse.csr_matrix(np.array([[3, 1, 0], [0, 2, 1]], np.int32))

    def transcripts_by_cell(self):
        xy = [[5, 5], [1, 5], [9.5, 9.5], [5, 4], [25, 5], [20.2, 5], [24, 6]]
        gene = [0, 0, 0, 1, 1, 1, 2]
        over = self.over
        return CellTranscripts(
            np.array([0, 4, 7]),
            np.column_stack([xy, np.zeros(7)]).astype(np.float32),
            np.array(gene, np.int16),
            None,
            None if over is None else np.array(over),
        )

    def polygons(self):
        one = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
        return Polygons(np.array([0, 4, 8]), np.concatenate([one, one + np.array([20, 0])]))


def asked(**changes):
    values = {"slide_ids": ("s",), "groupby": "t", "group_left": "A", "group_right": "B"}
    return ScreenRequest(**values, checkpoint_id="c", **changes)


def test_counts_are_those_of_cells_of_their_insides_or_of_nuclei():
    slide = Slide(over=[True, False, False, True, False, False, True])
    assert screen_counts(slide, asked()) is slide.counts
    eroded = screen_counts(slide, asked(counts="eroded"))
    np.testing.assert_array_equal(eroded.toarray(), [[1, 1, 0], [0, 1, 1]])
    # The transcript one um inside its outline counts where half an um is enough.
    shallow = screen_counts(slide, asked(counts="eroded", erosion_um=0.4))
    np.testing.assert_array_equal(shallow.toarray(), [[3, 1, 0], [0, 1, 1]])
    nucleus = screen_counts(slide, asked(counts="nucleus"))
    np.testing.assert_array_equal(nucleus.toarray(), [[1, 1, 0], [0, 0, 1]])


def test_a_source_that_does_not_know_nuclei_is_told():
    with pytest.raises(SpatialFormerError, match="over nuclei"):
        screen_counts(Slide(over=None), asked(counts="nucleus"))


def test_genes_are_known_by_symbol_and_by_their_id():
    vocabulary = SimpleNamespace(genes=("CD3E", "CD8A", "VIM"), gene_offset=9)
    vocabulary.gene_ids = lambda names: np.array(
        [9 + vocabulary.genes.index(n) if n in vocabulary.genes else -1 for n in names], np.int32
    )
    slide = Slide(over=None)
    assert spelled_as(slide, vocabulary).how == ("exact", "ensembl", "unknown")
    assert gene_columns(slide, vocabulary).tolist() == [0, 1, -1]
    found = known_genes(slide, vocabulary)
    assert found.known == GENES[:2]
    assert found.unknown == GENES[2:]
    assert found.fraction == pytest.approx(2 / 3)
    # Two columns of the slide may be one gene.
    twice = Slide(over=None)
    twice.genes = ("CD8A", "ENSG00000153563", "VIM")
    assert gene_columns(twice, vocabulary).tolist() == [1, 1, 2]
