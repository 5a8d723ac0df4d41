"""The published vocabulary of 6,065 tokens."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import CLS, MASK, PAD, SEP, UNKNOWN, load_published, tokenise
from spatialformer_core.vocabulary.published import PUBLISHED_FILE

SAMPLE = SampleMetadata(
    donor="d", block="b", condition="Disease", tissue="Lymph Node", species="Human", assay="CosMx"
)


def test_every_published_token_has_one_place_and_only_unknown_is_ours():
    loaded = load_published()
    assert len(loaded.own_ids) == 6065
    assert len(loaded.vocabulary) == 6066
    assert loaded.published_ids[[PAD, CLS, MASK, SEP, UNKNOWN]].tolist() == [0, 1, 2, 1949, -1]
    assert (loaded.published_ids[loaded.own_ids] == np.arange(6065)).all()
    assert len(loaded.vocabulary.genes) == 6037
    # Condition, tissue, species, assay in the published numbers.
    assert loaded.published_ids[loaded.vocabulary.meta_ids(SAMPLE)].tolist() == [26, 16, 3, 7]


def test_ranks_are_counts_over_published_medians_ties_by_gene_name():
    v = load_published().vocabulary
    genes = ["CD3E", "A2M", "EPCAM", "nope"]
    ids = v.gene_ids(genes)
    ids_of = dict(zip(genes, ids.tolist(), strict=True))
    medians = {gene: float(v.medians[i]) for gene, i in ids_of.items() if i >= 0}
    counts = np.array([[4 * medians["CD3E"], 4 * medians["A2M"], 8 * medians["EPCAM"], 7]])
    cells, report = tokenise(sp.csr_matrix(counts.astype(int)), ids, v, v.meta_ids(SAMPLE))
    assert cells.row(0).tolist() == [ids_of["EPCAM"], ids_of["A2M"], ids_of["CD3E"]]
    assert (report.unknown_columns.tolist(), report.unknown_counts) == ([3], 7)


def test_shipped_file_holds_what_was_published(shared_data):
    published = json.loads((shared_data / "vocab" / "tokenv5.json").read_text())
    shipped = json.loads(PUBLISHED_FILE.read_text())
    assert {token: i for i, token in enumerate(shipped["tokens"])} == published

    class Numbers(pickle.Unpickler):
        """Reads a dict of numpy numbers and nothing else."""

        def find_class(self, module, name):
            allowed = {
                ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,
                ("numpy", "dtype"): np.dtype,
            }
            return allowed[module, name]

    with (shared_data / "vocab" / "spatialformer_gene_median.pkl").open("rb") as stream:
        medians = Numbers(stream).load()
    v = load_published().vocabulary
    expected = [float(medians.get(gene, 1.0)) for gene in v.genes]
    np.testing.assert_array_equal(v.gene_medians, np.array(expected, np.float32))
    lacking = sorted(gene for gene in v.genes if gene not in medians)
    assert shipped["without_median"] == lacking


@pytest.mark.parametrize("change", ["drop", "repeat", "word", "median"])
def test_a_damaged_file_is_refused(tmp_path, change):
    content = json.loads(PUBLISHED_FILE.read_text())
    if change == "drop":
        content["tokens"].remove("<SEP>")
    elif change == "repeat":
        content["tokens"][30] = content["tokens"][31]
    elif change == "word":
        content["words"]["tissue"].append("Moon")
    else:
        content["medians"]["FOO"] = 2.0
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SpatialFormerError):
        load_published(path)
