"""Genes under other names: what is recognised, by what, and what stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import (
    GeneNames,
    coverage_report,
    load_published,
    map_genes,
    read_gene_names,
)

KNOWN = ("ACTA2", "CD3E", "PECAM1", "WARS1")
NAMES = GeneNames(
    ensembl={"ENSG00000107796": "ACTA2", "ENSG00000261371": "PECAM1"},
    aliases={"WARS": "WARS1", "CD31": "PECAM1"},
)


def test_each_way_of_recognition():
    panel = ("CD3E", "ENSG00000107796.15", "WARS", "cd3e", "FOO")
    mapping = map_genes(panel, KNOWN, NAMES)
    assert mapping.names == ("CD3E", "ACTA2", "WARS1", "cd3e", "FOO")
    assert mapping.how == ("exact", "ensembl", "alias", "unknown", "unknown")
    assert mapping.tally() == {"exact": 1, "ensembl": 1, "alias": 1, "case": 0, "unknown": 2}
    folded = map_genes(panel, KNOWN, GeneNames(ignore_case=True))
    assert folded.how == ("exact", "unknown", "unknown", "case", "unknown")
    assert folded.merged == ("CD3E",)


def test_ids_beside_the_names_and_vocabularies_of_ids_or_former_symbols():
    by_id = map_genes(("SMA", "X"), KNOWN, NAMES, gene_ids=("ENSG00000107796", ""))
    assert by_id.names == ("ACTA2", "X")
    of_ids = map_genes(("ACTA2",), ("ENSG00000107796",), NAMES)
    assert (of_ids.names, of_ids.how) == (("ENSG00000107796",), ("ensembl",))
    of_former = map_genes(("WARS1",), ("WARS",), NAMES)
    assert (of_former.names, of_former.how) == (("WARS",), ("alias",))


def test_counts_of_one_gene_under_two_names_are_summed():
    mapping = map_genes(("PECAM1", "FOO", "CD31"), KNOWN, NAMES)
    assert mapping.names == ("PECAM1", "FOO")
    assert mapping.merged == ("PECAM1",)
    counts = sp.csr_matrix(np.array([[1, 5, 2], [0, 0, 3]]))
    assert mapping.counts(counts).toarray().tolist() == [[3, 5], [3, 0]]
    report = coverage_report(mapping, counts)
    assert report.genes["unknown"] == ("FOO",)
    assert report.fraction == pytest.approx(2 / 3)
    assert report.count_shares == pytest.approx(
        {"exact": 1 / 11, "ensembl": 0, "alias": 5 / 11, "case": 0, "unknown": 5 / 11}
    )
    assert report.counts_fraction == pytest.approx(6 / 11)
    assert report.to_json()["merged"] == ["PECAM1"]
    with pytest.raises(SpatialFormerError, match="names 3 genes, the counts have 2"):
        coverage_report(mapping, counts[:, :2])


def test_no_counts_and_no_genes_have_no_share():
    report = coverage_report(map_genes((), KNOWN), sp.csr_matrix((0, 0)))
    assert (report.fraction, report.counts_fraction, report.n_genes) == (0.0, 0.0, 0)


def test_before_a_vocabulary_exists_symbols_are_kept_and_ids_replaced():
    mapping = map_genes(("FOO", "ENSG00000107796", "CD31", "ENSG00000999999"), None, NAMES)
    assert mapping.names == ("FOO", "ACTA2", "PECAM1", "ENSG00000999999")
    assert mapping.how == ("exact", "ensembl", "alias", "exact")


def test_tables_are_read_and_ambiguous_names_help_nobody(tmp_path):
    ensembl, aliases, hgnc = (tmp_path / name for name in ("e.csv", "a.csv", "h.tsv"))
    ensembl.write_text("symbol,ensembl\nACTA2,ENSG00000107796.3\nA,ENSG00000000001\n")
    aliases.write_text("previous,approved\nOLD,NEW\nTWO,ONE\nTWO,OTHER\n")
    names = read_gene_names(ensembl, aliases)
    assert names.ensembl == {"ENSG00000107796": "ACTA2", "ENSG00000000001": "A"}
    assert names.aliases == {"OLD": "NEW"}
    hgnc.write_text(
        "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tensembl_gene_id\n"
        "1\tWARS1\tIFP53|WRS\tWARS\tENSG00000140105\n"
        "2\tPECAM1\tCD31\t\tENSG00000261371\n"
    )
    names = read_gene_names(hgnc, hgnc)
    assert names.aliases == {"IFP53": "WARS1", "WRS": "WARS1", "WARS": "WARS1", "CD31": "PECAM1"}
    assert names.ensembl["ENSG00000140105"] == "WARS1"


@pytest.mark.security
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "other columns"), (b"a,b\n1,2\n", "other columns"), (b"\xff\xfe\x00", "no text")],
)
def test_tables_that_are_none_are_refused(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(SpatialFormerError, match=message):
        read_gene_names(path)
    with pytest.raises(SpatialFormerError, match="missing"):
        read_gene_names(tmp_path / "nowhere.csv")


def test_the_shipped_table_names_genes_of_the_published_vocabulary():
    names = read_gene_names()
    assert names.ensembl["ENSG00000121270"] == "ABCC11"
    known = load_published().vocabulary.genes
    mapping = map_genes(tuple(names.ensembl), known, names)
    assert mapping.tally()["ensembl"] > 0.9 * len(names.ensembl)
