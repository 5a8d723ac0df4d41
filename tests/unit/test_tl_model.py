"""Embeddings and neighbours on an AnnData that scanpy made."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from scipy import sparse

from spatialformer_core import pp, tl
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import cls_states, gene_means, make_scorer
from spatialformer_core.keys import Obsm, Obsp, Uns, Varm
from spatialformer_core.model import Checkpoint, build, preset_config, save_checkpoint
from spatialformer_core.vocabulary import GeneNames, Vocabulary, tokenise

GENES = tuple(f"G{k:02d}" for k in range(30))
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
OTHER = SAMPLE.model_copy(update={"tissue": "Liver"})
VOCABULARY = Vocabulary(
    words=("tissue:liver", "tissue:lung"), genes=GENES, gene_medians=np.ones(30, np.float32)
)


def network(architecture="two-tower"):
    model = build(preset_config(architecture, "tiny", len(VOCABULARY)), seed=4).eval()
    return Checkpoint(model, model.config, VOCABULARY, {"simulated": False}, "toy", "0" * 16)


def cells(n=120, seed=0, *, placed=True):
    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(0.7, (n, 30)).astype(np.float32))
    obs = pd.DataFrame(
        {"kind": pd.Categorical(np.array(["a", "b"])[rng.integers(0, 2, n)])},
        index=[f"cell{i}" for i in range(n)],
    )
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(GENES)))
    if placed:
        adata.obsm["spatial"] = rng.uniform(0, 500, (n, 2))
    return adata


def tokens(adata, sample=SAMPLE):
    ids, meta = VOCABULARY.gene_ids(GENES), VOCABULARY.meta_ids(sample)
    return tokenise(adata.X, ids, VOCABULARY, meta)[0]


def test_cell_level_is_the_cls_state():
    adata, checkpoint = cells(), network()
    assert tl.embed(adata, checkpoint, sample=SAMPLE) is None
    expected = cls_states(checkpoint.model, tokens(adata))
    np.testing.assert_allclose(adata.obsm[Obsm.EMBEDDING], expected, atol=1e-5)
    entry = adata.uns[Uns.SPATIALFORMER]["embedding"]
    assert (entry["level"], entry["meta"], entry["checkpoint"]) == ("cell", "given", "toy")
    assert entry["vocabulary"] == VOCABULARY.fingerprint
    assert json.loads(entry["input"])["genes_known"] == 30


def test_order_of_cells_and_genes_does_not_matter():
    adata, checkpoint = cells(), network()
    order = np.random.default_rng(3).permutation(120)
    shuffled = adata[order].copy()[:, ::-1].copy()
    for one in (adata, shuffled):
        tl.embed(one, checkpoint, sample=SAMPLE)
        tl.predict_neighbors(one, checkpoint, sample=SAMPLE, k=4, n_far=20)
        tl.colocalise(one, checkpoint, "kind", sample=SAMPLE, k=4, n_far=20, n_queries=50)
    np.testing.assert_array_equal(shuffled.obsm[Obsm.EMBEDDING], adata.obsm[Obsm.EMBEDDING][order])
    one, other = (a.obsp[Obsp.NEIGHBORS].toarray() for a in (adata, shuffled))
    np.testing.assert_array_equal(other, one[np.ix_(order, order)])
    tables = [a.uns[Uns.SPATIALFORMER]["colocalisation"]["pairs"] for a in (adata, shuffled)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize("level", ["cell", "gene", "pair"])
def test_masked_meta_hides_what_the_sample_is(level):
    adata, checkpoint = cells(20), network()
    pairs = (["cell3"], ["cell7"]) if level == "pair" else None

    def states(**options):
        done = tl.embed(adata, checkpoint, level=level, pairs=pairs, copy=True, **options)
        where = {"cell": done.obsm, "gene": done.varm}.get(level)
        if where is None:
            return done.uns[Uns.SPATIALFORMER]["pair_embedding"]["vectors"]
        return where["X_spatialformer"]

    given = [states(sample=sample) for sample in (SAMPLE, OTHER)]
    assert np.nanmax(np.abs(given[0] - given[1])) > 1e-4
    masked = [states(sample=sample, meta="masked") for sample in (SAMPLE, OTHER, None)]
    np.testing.assert_array_equal(masked[0], masked[1])
    np.testing.assert_array_equal(masked[0], masked[2])
    assert Uns.SPATIALFORMER not in adata.uns


def test_gene_level_is_a_mean_and_unknown_genes_have_none():
    adata, checkpoint = cells(40), network()
    adata.var_names = ["NEW", *GENES[1:]]
    tl.embed(adata, checkpoint, level="gene", sample=SAMPLE)
    known = adata[:, 1:]
    ids, meta = VOCABULARY.gene_ids(GENES[1:]), VOCABULARY.meta_ids(SAMPLE)
    found = gene_means(checkpoint.model, tokenise(known.X, ids, VOCABULARY, meta)[0])
    assert np.isnan(adata.varm[Varm.EMBEDDING][0]).all()
    np.testing.assert_allclose(adata.varm[Varm.EMBEDDING][1:], found.mean, atol=1e-5)


def test_pairs_by_name_or_number_are_the_same_in_both_orders():
    adata, checkpoint = cells(20), network("cross-encoder")
    one = tl.embed(
        adata, checkpoint, level="pair", pairs=([2, 5], [9, 1]), sample=SAMPLE, copy=True
    )
    names = (["cell9", "cell1"], ["cell2", "cell5"])
    tl.embed(adata, checkpoint, level="pair", pairs=names, sample=SAMPLE)
    first, second = (a.uns[Uns.SPATIALFORMER]["pair_embedding"] for a in (one, adata))
    np.testing.assert_array_equal(first["vectors"], second["vectors"])
    assert list(second["left"]) == names[0]
    for bad in ((["cell2"], ["nobody"]), ([0], [20]), ([0], [1, 2])):
        with pytest.raises(SpatialFormerError, match=r"no cell|no pairs"):
            tl.embed(adata, checkpoint, level="pair", pairs=bad, sample=SAMPLE)


def test_predictions_are_the_best_scores_and_survive_the_disk(tmp_path):
    adata, checkpoint = cells(), network()
    adata.obs["passes_qc"] = np.arange(120) % 6 > 0
    adata.obs["asked"] = np.arange(120) < 9
    tl.predict_neighbors(
        adata, checkpoint, sample=SAMPLE, k=5, queries="asked", reach_um=200.0, n_far=0
    )
    matrix = adata.obsp[Obsp.NEIGHBORS].toarray()
    scorer = make_scorer(checkpoint)
    encoded = scorer.encode(tokens(adata))
    score = 1 / (1 + np.exp(-scorer.score_grid(encoded, encoded)))
    passes = adata.obs["passes_qc"].to_numpy()
    xy = adata.obsm["spatial"]
    for cell in range(120):
        may = passes & (np.linalg.norm(xy - xy[cell], axis=1) <= 200) & (np.arange(120) != cell)
        best = np.argsort(-np.where(may, score[cell], -1))[:5]
        wanted = sorted(best) if passes[cell] and cell < 9 else []
        assert np.flatnonzero(matrix[cell]).tolist() == wanted
        np.testing.assert_allclose(matrix[cell, wanted], score[cell, wanted], atol=1e-5)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert again.uns[Uns.SPATIALFORMER]["neighbors"]["predicted"]
    pp.cell_pairs(adata)
    assert adata.obsp[Obsp.NEIGHBORS].dtype == bool
    assert "predicted" not in adata.uns[Uns.SPATIALFORMER]["neighbors"]


@pytest.mark.parametrize("candidates", ["sample", "embedding"])
def test_cells_without_coordinates(candidates, tmp_path):
    adata, checkpoint = cells(60, placed=False), network()
    tl.predict_neighbors(adata, checkpoint, candidates=candidates, meta="masked", n_sample=20, k=3)
    degree = np.diff(adata.obsp[Obsp.NEIGHBORS].indptr)
    assert (degree >= 1).all()
    tl.colocalise(adata, checkpoint, "kind", meta="masked")
    entry = adata.uns[Uns.SPATIALFORMER]["colocalisation"]
    assert set(entry["pairs"]["candidates"]) == {"cells"}
    assert "no coordinates" in entry["verdict"]
    adata.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(SpatialFormerError, match="coordinates"):
        tl.predict_neighbors(adata, checkpoint, candidates="place", meta="masked")


def test_colocalise_on_part_of_a_slide_with_a_prior_from_the_rest():
    adata, checkpoint = cells(), network()
    adata.obs["left"] = adata.obsm["spatial"][:, 0] < 250
    adata.obs["rest"] = adata.obsm["spatial"][:, 0] > 300
    tl.colocalise(
        adata, checkpoint, "kind", sample=SAMPLE, queries="left", elsewhere="rest", radius_um=60.0
    )
    entry = adata.uns[Uns.SPATIALFORMER]["colocalisation"]
    info = json.loads(entry["info"])
    assert info["n_candidates"] == int(adata.obs["left"].sum())
    assert "type_pair_prior" in info["methods"]
    assert set(entry["pairs"]["candidates"]) == {"slide", "reach"}
    with pytest.raises(SpatialFormerError, match="no column"):
        tl.colocalise(adata, checkpoint, "kind", sample=SAMPLE, queries="kind")


def test_genes_go_by_id_and_scanpy_made_objects_are_read(tmp_path):
    checkpoint = network()
    folder = tmp_path / "toy"
    save_checkpoint(folder, checkpoint.model, VOCABULARY, {"simulated": False}, "A card.")
    adata = cells(50)
    expected = tl.embed(adata, folder, sample=SAMPLE, copy=True).obsm[Obsm.EMBEDDING]
    scanpy.pp.calculate_qc_metrics(adata, inplace=True, percent_top=None)
    adata.layers["counts"] = adata.X.copy()
    scanpy.pp.normalize_total(adata)
    scanpy.pp.log1p(adata)
    with pytest.raises(SpatialFormerError, match="no counts"):
        tl.embed(adata, folder, sample=SAMPLE)
    table = {f"ENSG{k:011d}": gene for k, gene in enumerate(GENES)}
    adata.var_names = list(table)
    tl.embed(adata, str(folder), sample=SAMPLE, layer="counts", names=GeneNames(table))
    np.testing.assert_allclose(adata.obsm[Obsm.EMBEDDING], expected, atol=1e-6)


def test_what_a_model_cannot_read_is_refused():
    adata, checkpoint = cells(20), network()
    with pytest.raises(SpatialFormerError, match="not known") as told:
        tl.embed(adata, checkpoint)
    assert "masked" in told.value.fix
    foreign = adata.copy()
    foreign.var_names = [f"X{k}" for k in range(20)] + list(GENES[20:])
    with pytest.raises(SpatialFormerError, match=r"knows 33% of the 30 genes.*33%"):
        tl.embed(foreign, checkpoint, sample=SAMPLE)
    with pytest.raises(SpatialFormerError, match="pairs"):
        tl.embed(adata, checkpoint, level="pair", sample=SAMPLE)
    with pytest.raises(SpatialFormerError, match="Unknown option"):
        tl.embed(adata, checkpoint, sample=SAMPLE, layers="X")
    with pytest.raises(SpatialFormerError, match="no column"):
        tl.colocalise(adata, checkpoint, "none", sample=SAMPLE)


def test_a_transcriptome_that_holds_the_panel_is_read():
    adata, checkpoint = cells(20), network()
    more = anndata.AnnData(
        sparse.csr_matrix(np.ones((20, 200), np.float32)),
        obs=adata.obs,
        var=pd.DataFrame(index=[f"T{k}" for k in range(200)]),
    )
    whole = anndata.concat([adata, more], axis=1, merge="same")
    tl.embed(whole, checkpoint, sample=SAMPLE)
    tl.embed(adata, checkpoint, sample=SAMPLE)
    np.testing.assert_array_equal(whole.obsm[Obsm.EMBEDDING], adata.obsm[Obsm.EMBEDDING])
