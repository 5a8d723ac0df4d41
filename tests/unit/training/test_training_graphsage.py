"""The door ``training.graphsage`` on a small slide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import silent
from spatialformer_core.slides import SlideStore, ingest
from spatialformer_core.transcript_graph import load_gene_embedding
from spatialformer_core.transcript_graph.fit import SageRecipe
from spatialformer_core.vocabulary import Vocabulary, build_vocabulary
from training import common, graphsage
from training.corpus import CorpusRecipe

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
SPLIT = {"block_um": 80.0, "gap_um": 15.0, "fractions": (0.6, 0.2, 0.2), "patches": 1}
RECIPE = graphsage.GraphsageRecipe(
    name="tiny",
    corpus="tiny",
    dims=2,
    radius_um=6.0,
    held_out_pairs=300,
    network=SageRecipe(width=8, hidden=8, size=8, steps=5, batch=32, fan_out=(3, 3)),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory, bundles):
    """A slide, and what the door reads of a corpus: its facts and its vocabulary."""
    folder = tmp_path_factory.mktemp("graphsage")
    tissue = bundles.Tissue(n_cells=500)
    source = bundles.write_table_folder(folder / "source", tissue)
    store = SlideStore(folder / "home")
    qc = QcThresholds(min_transcripts=10, min_genes=3)
    ingest(source, store, name="tiny", sample=SAMPLE, qc=qc)
    recipe = CorpusRecipe.model_validate({"name": "tiny", "slides": ("tiny",), "split": SPLIT})
    facts = {"corpus": recipe.model_dump(mode="json")}
    files.write_json(common.facts_file(folder / "home", "tiny"), facts)
    slide = store.open("tiny")
    # One gene of the vocabulary is not on the slide, one of the slide is not in the vocabulary.
    genes = (*slide.genes[:-1], "ZZZ")
    vocabulary = build_vocabulary([(genes, slide.counts)], [SAMPLE])
    corpus = common.corpus_folder(folder / "home", "tiny")
    corpus.mkdir(parents=True)
    Vocabulary(vocabulary.words, tuple(sorted(genes)), np.ones(len(genes), np.float32)).save(
        corpus / "vocabulary.json"
    )
    return folder / "home"


def test_the_door_writes_a_finished_embedding(home):
    out = graphsage.train(RECIPE, home, progress=silent)
    vocabulary = Vocabulary.load(out / "vocabulary.json")
    embedding = load_gene_embedding(out, vocabulary)
    unknown = set(vocabulary.gene_ids(["ZZZ"]).tolist())
    genes = set(range(vocabulary.gene_offset, len(vocabulary)))
    assert set(np.flatnonzero(embedding.learnt)) == genes - unknown
    assert np.abs(embedding.table[embedding.learnt]).sum(axis=1).min() > 0
    report = files.read_json(out / "report.json")
    auroc = {row["method"]: row for row in report["rows"] if row["metric"] == "auroc"}
    assert set(auroc) == {"graphsage", "untrained", "gene_pair_prior", "always"}
    assert auroc["always"]["value"] == auroc["always"]["low"] == 0.5
    assert auroc["graphsage"]["low"] <= auroc["graphsage"]["value"] <= auroc["graphsage"]["high"]
    assert report["provenance"]["simulated"] is False
    with pytest.raises(SpatialFormerError, match="exists already"):
        graphsage.train(RECIPE, home, progress=silent)


def test_the_order_of_the_slides_genes_changes_nothing(home, monkeypatch):
    one = load(graphsage.train(RECIPE, home, progress=silent, replace=True))
    slide_class = type(SlideStore(home).open("tiny"))
    genes = SlideStore(home).open("tiny").genes
    order = np.random.default_rng(0).permutation(len(genes))
    place = np.argsort(order)
    original = slide_class.transcripts_by_cell

    def reordered(self):
        found = original(self)
        gene = place[np.asarray(found.gene)].astype(np.uint16)
        return type(found)(found.indptr, found.xyz_um, gene, found.qv)

    monkeypatch.setattr(slide_class, "genes", tuple(genes[k] for k in order))
    monkeypatch.setattr(slide_class, "transcripts_by_cell", reordered)
    other = load(graphsage.train(RECIPE, home, progress=silent, replace=True))
    np.testing.assert_array_equal(one.table, other.table)


def load(folder):
    return load_gene_embedding(folder, Vocabulary.load(folder / "vocabulary.json"))


def test_train_and_held_out_cells_do_not_touch_and_the_budget_holds(home):
    material = graphsage._material(RECIPE, home)
    sides = [graphsage.gene_graph(material, RECIPE, code) for code in (0, 1)]
    a, b = (side.graph.xyz_um[:, :2] for side in sides)
    assert min(len(a), len(b)) > 500
    # Cells are 15 um apart and transcripts lie within a few um of their cell.
    assert cKDTree(a).query(b)[0].min() > RECIPE.radius_um / 2
    small = RECIPE.model_copy(update={"max_transcripts": 5000})
    kept = graphsage.gene_graph(material, small, 0).graph.n
    assert 0 < kept <= 5000 < len(a)


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(SpatialFormerError, match="no corpus 'tiny'"):
        graphsage.train(RECIPE, tmp_path, progress=silent)
