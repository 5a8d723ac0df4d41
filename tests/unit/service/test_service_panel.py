"""Is my gene on the panel? Answers counted by hand on the tiny slide."""

from __future__ import annotations

import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.panel import MAX_ASKED, find_genes


class Slide:
    """Three genes of four cells, one of which fails QC."""

    genes = ("CD3E", "EPCAM", "Lyz2")
    gene_ids = ("ENSG00000198851", "", "ENSMUSG00000069516")
    passes_qc = (True, True, True, False)

    def gene_column(self, gene):
        return {"CD3E": (2, 0, 1, 9), "EPCAM": (0, 0, 0, 5), "Lyz2": (1, 1, 1, 1)}[gene]


def test_by_symbol_id_and_case():
    found = find_genes(Slide(), "CD3E, epcam\nENSMUSG00000069516.4;CD3E")
    assert [(a.asked, a.gene, a.recognised) for a in found] == [
        ("CD3E", "CD3E", "exact"),
        ("epcam", "EPCAM", "case"),
        ("ENSMUSG00000069516.4", "Lyz2", "ensembl"),
    ]
    assert [(a.transcripts, a.cells) for a in found] == [(3, 2), (0, 0), (3, 3)]


def test_what_is_not_there_has_neighbours():
    (answer,) = find_genes(Slide(), "EPCAN")
    assert (answer.gene, answer.recognised, answer.similar) == (None, "unknown", ("EPCAM",))
    assert find_genes(Slide(), "  ,; ") == []


def test_too_many_names():
    with pytest.raises(SpatialFormerError, match="looked up at once"):
        find_genes(Slide(), " ".join(f"G{i}" for i in range(MAX_ASKED + 1)))
