"""Cells as a model reads them: its genes by symbol, by Ensembl id, and by letter case if asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import build, preset_config, save_checkpoint
from spatialformer_core.service.convert import _tokens
from spatialformer_core.service.model_cells import ModelCells, ModelCellsRequest, shown_to
from spatialformer_core.vocabulary import build_vocabulary

SYMBOLS = ("CD3E", "CD8A", "VIM")
IDS = ("ENSG00000198851", "ENSG00000153563.4", "VIM")
COUNTS = sparse.csr_matrix(np.array([[3, 1, 0], [0, 2, 1], [1, 1, 4]], np.int32))
SAMPLE = SampleMetadata(
    donor="d", block="b", condition="Healthy", tissue="Lung", species="Human", assay="Xenium"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    vocabulary = build_vocabulary([(SYMBOLS, COUNTS)], [SAMPLE])
    model = build(preset_config("two-tower", "tiny", len(vocabulary)), seed=1)
    folder = tmp_path_factory.mktemp("models") / "own"
    save_checkpoint(folder, model, vocabulary, {"simulated": False, "trained_on": []}, "A card.")
    return folder


def slide_of(genes, gene_ids=None):
    meta = SimpleNamespace(sample=SAMPLE, simulated=False, slide_id="s")
    return SimpleNamespace(
        meta=meta, genes=genes, gene_ids=gene_ids, counts=COUNTS, passes_qc=np.ones(3, np.bool_)
    )


def shown(checkpoint, genes, gene_ids=None, **asked):
    cells = ModelCells(
        name="s",
        slide=slide_of(genes, gene_ids),
        order=np.arange(3),
        cell_ids=np.array(["a", "b", "c"]),
        counts=COUNTS,
        passes_qc=np.ones(3, np.bool_),
        genes=genes,
        gene_ids=gene_ids,
        xy_um=None,
        groups={},
        sample=SAMPLE,
    )
    return shown_to(cells, checkpoint, ModelCellsRequest(checkpoint_id="own", **asked))[1]


@pytest.mark.parametrize(
    ("genes", "gene_ids"), [(IDS, None), (("a", "b", "VIM"), (*IDS[:2], "")), (SYMBOLS, None)]
)
def test_a_slide_of_ensembl_ids_is_read_as_one_of_symbols(checkpoint, genes, gene_ids):
    wanted, found = shown(checkpoint, SYMBOLS), shown(checkpoint, genes, gene_ids)
    np.testing.assert_array_equal(found.token_of_column, wanted.token_of_column)
    np.testing.assert_array_equal(found.cells.tokens, wanted.cells.tokens)
    assert found.facts["genes_known"] == 3


def test_letter_case_counts_unless_it_is_said_not_to(checkpoint):
    mouse = ("Cd3e", "Cd8a", "Vim")
    with pytest.raises(SpatialFormerError, match="knows 0% of the slide's 3 genes"):
        shown(checkpoint, mouse)
    found = shown(checkpoint, mouse, ignore_case=True)
    assert (found.token_of_column >= 0).all()


def test_a_converted_model_is_checked_on_a_slide_of_ensembl_ids():
    vocabulary = build_vocabulary([(SYMBOLS, COUNTS)], [SAMPLE])
    wanted = _tokens(vocabulary, slide_of(SYMBOLS))
    np.testing.assert_array_equal(_tokens(vocabulary, slide_of(IDS)).tokens, wanted.tokens)
    with pytest.raises(SpatialFormerError, match="knows 33%"):
        _tokens(vocabulary, slide_of(("A", "B", "VIM")))
