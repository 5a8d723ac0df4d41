"""The scverse faces on an AnnData that scanpy made."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from scipy import sparse

from spatialformer_core import pp, tl
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.keys import Obsm, Obsp, Uns
from spatialformer_core.vocabulary import Vocabulary

GENES = ["GA", "GB", "GC", "GD"]
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
VOCABULARY = Vocabulary(
    words=("tissue:lung",), genes=("GA", "GB", "GC", "GX"), gene_medians=np.ones(4, np.float32)
)


def tissue(n=240, seed=0):
    """Cells over 1.2 mm; in type a, GA and GB lie in one spot, in type b in two spots."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 1200, (n, 2))
    kind = np.array(["a", "b"])[rng.integers(0, 2, n)]
    rows = []
    for cell in range(n):
        apart = 0.0 if kind[cell] == "a" else 40.0
        noise = int(rng.integers(0, 9))
        genes = (("GA", 0, 4), ("GB", apart, 4), ("GC", apart, 3), ("GD", 90, noise))
        for gene, shift, copies in genes:
            # GC lies beside GB in both types, in two cells of three; GD lies alone.
            for _ in range(copies if gene != "GC" or cell % 3 else 2):
                x, y = xy[cell] + rng.normal(0, 0.3, 2) + [shift, 0]
                rows.append((f"c{cell}", gene, x, y, 0.0, 30.0))
    names = ["cell_id", "feature_name", "x_location", "y_location", "z_location", "qv"]
    transcripts = pd.DataFrame(rows, columns=names)
    counts = pd.crosstab(transcripts["cell_id"], transcripts["feature_name"])
    counts = counts.reindex([f"c{i}" for i in range(n)]).reindex(columns=GENES, fill_value=0)
    adata = anndata.AnnData(
        sparse.csr_matrix(counts.to_numpy(np.float32)),
        obs=pd.DataFrame({"kind": pd.Categorical(kind)}, index=list(counts.index)),
        var=pd.DataFrame(index=GENES),
    )
    adata.obsm["spatial"] = xy
    return adata, transcripts


@pytest.fixture(scope="module")
def measured():
    adata, transcripts = tissue()
    pp.cooccurrence(adata, transcripts)
    return adata


def test_cooccurrence_writes_named_columns(measured):
    matrix = measured.obsm[Obsm.COOCCURRENCE]
    entry = measured.uns[Uns.SPATIALFORMER]["cooccurrence"]
    assert list(entry["pairs"]) == ["GA|GB", "GA|GC", "GB|GC"]
    in_a = (measured.obs["kind"] == "a").to_numpy()
    third = np.arange(240) % 3 > 0
    expected = np.column_stack([in_a, in_a & third, third])
    assert (matrix.toarray() == expected).all()
    assert (entry["radius_um"], entry["min_copies"], entry["dims"]) == (5.0, 3, 2)


def test_order_of_transcripts_genes_and_cells_does_not_matter(measured):
    adata, transcripts = tissue()
    shuffled = adata[::-1, ["GD", "GB", "GA", "GC"]].copy()
    renamed = transcripts.rename(columns={"x_location": "x", "y_location": "y"})
    renamed["cell_id"] = renamed["cell_id"].astype("category")
    copy = pp.cooccurrence(shuffled, renamed.sample(frac=1, random_state=0), copy=True)
    assert Obsm.COOCCURRENCE not in shuffled.obsm
    again = copy.obsm[Obsm.COOCCURRENCE].toarray()[::-1]
    assert (again == measured.obsm[Obsm.COOCCURRENCE].toarray()).all()


def test_quality_quality_control_and_dask():
    import dask.dataframe as dd

    adata, transcripts = tissue(30)
    transcripts.loc[transcripts["cell_id"] == "c1", "qv"] = 10.0
    adata.obs["passes_qc"] = np.arange(30) != 4
    assert pp.cooccurrence(adata, dd.from_pandas(transcripts, npartitions=2)) is None
    n_pairs = np.diff(adata.obsm[Obsm.COOCCURRENCE].indptr)
    assert n_pairs[1] == n_pairs[4] == 0
    assert n_pairs[2] > 0


def test_transcripts_that_do_not_fit():
    adata, transcripts = tissue(10)
    with pytest.raises(SpatialFormerError, match="no column y_location or y"):
        pp.cooccurrence(adata, transcripts.drop(columns="y_location"))
    with pytest.raises(SpatialFormerError, match="No transcript belongs"):
        pp.cooccurrence(adata, transcripts.assign(cell_id="other"))
    transcripts.loc[3, "x_location"] = np.nan
    with pytest.raises(SpatialFormerError, match="not finite"):
        pp.cooccurrence(adata, transcripts)


def test_gene_pairs_on_an_anndata(measured, tmp_path):
    adata = measured.copy()
    assert tl.gene_pairs(adata, "kind", n_described=1, min_cells=5) is None
    entry = adata.uns[Uns.SPATIALFORMER]["gene_pairs"]
    table = entry["table"].set_index("pair")
    assert set(table["group"]) == {"a"}
    assert table.loc["GA|GB", "effect"] == pytest.approx(1.0, abs=0.01)
    assert abs(table.loc["GB|GC", "effect"]) < 0.2
    assert table.loc["GB|GC", "q"] > 0.05
    info = json.loads(entry["info"])
    assert info["units"][0]["kind"] == "block"
    assert info["settings"]["min_copies"] == 3
    assert "version" in adata.uns[Uns.SPATIALFORMER]
    assert adata.uns[Uns.SPATIALFORMER]["cooccurrence"]["dims"] == 2
    adata.write_h5ad(tmp_path / "kept.h5ad")
    again = anndata.read_h5ad(tmp_path / "kept.h5ad")
    changed = tl.gene_pairs(again, "kind", n_described=1, min_cells=5, copy=True)
    pd.testing.assert_frame_equal(
        changed.uns[Uns.SPATIALFORMER]["gene_pairs"]["table"], entry["table"]
    )


def test_donors_and_missing_groups(measured):
    adata = measured.copy()
    adata.obs["donor"] = [f"P{i % 8}" for i in range(240)]
    adata.obs["arm"] = [("sick", "well")[i % 2] for i in range(240)]
    adata.obs.loc["c0", "kind"] = None
    tl.gene_pairs(adata, "arm", donor_key="donor", per_cell_test=False, n_described=0)
    info = json.loads(adata.uns[Uns.SPATIALFORMER]["gene_pairs"]["info"])
    assert info["units"][0] | {"group": ""} == {
        "group": "",
        "reference": "well",
        "kind": "donor",
        "block_um": None,
        "n_units": 8,
        "paired": False,
        "no_p_reason": None,
    }
    tl.gene_pairs(adata, "kind", per_cell_test=False, n_described=0)
    table = adata.uns[Uns.SPATIALFORMER]["gene_pairs"]["table"]
    assert table["cells_group"].max() + table["cells_reference"].max() <= 239


def test_what_gene_pairs_refuses(measured):
    adata, _ = tissue(20)
    with pytest.raises(SpatialFormerError, match="not measured"):
        tl.gene_pairs(adata, "kind")
    with pytest.raises(SpatialFormerError, match="no column 'type'"):
        tl.gene_pairs(measured, "type")
    with pytest.raises(SpatialFormerError, match="unit"):
        tl.gene_pairs(measured, "kind", unit="cell")
    logged = measured.copy()
    scanpy.pp.normalize_total(logged)
    scanpy.pp.log1p(logged)
    with pytest.raises(SpatialFormerError, match="raw counts"):
        tl.gene_pairs(logged, "kind")
    logged.layers["counts"] = measured.X
    tl.gene_pairs(logged, "kind", layer="counts", per_cell_test=False, n_described=0, min_cells=5)
    with pytest.raises(SpatialFormerError, match="no layer"):
        tl.gene_pairs(logged, "kind", layer="raw")
    nowhere = measured.copy()
    nowhere.obsm["spatial"][3, 0] = np.inf
    with pytest.raises(SpatialFormerError, match="finite"):
        tl.gene_pairs(nowhere, "kind")
    nowhere.obs["donor"] = None
    with pytest.raises(SpatialFormerError, match="have no donor"):
        tl.gene_pairs(nowhere, "kind", donor_key="donor")


def test_filter_slide_marks_and_subsets():
    adata, _ = tissue(12)
    limits = QcThresholds(min_transcripts=14, min_genes=4)
    counts = adata.X.toarray()
    assert pp.filter_slide(adata, qc=limits) is None
    assert (adata.obs["n_transcripts"] == counts.sum(1)).all()
    expected = (counts.sum(1) >= 14) & ((counts > 0).sum(1) >= 4)
    assert 0 < expected.sum() < 12
    assert (adata.obs["passes_qc"] == expected).all()
    smaller = pp.filter_slide(adata, qc=limits, subset=True, copy=True)
    assert (smaller.n_obs, adata.n_obs) == (expected.sum(), 12)
    adata.var_names = ["GA", "GA", "GC", "GD"]
    with pytest.raises(SpatialFormerError, match="there twice"):
        pp.filter_slide(adata)
    adata.var_names_make_unique()
    adata.obs_names = ["c"] * 12
    with pytest.raises(SpatialFormerError, match="obs_names"):
        pp.filter_slide(adata)


def test_tokens_are_ranks_of_known_genes():
    counts = np.array([[5, 9, 1, 7], [0, 0, 0, 3], [2, 2, 0, 0]])
    obs, var = pd.DataFrame(index=list("xyz")), pd.DataFrame(index=GENES)
    adata = anndata.AnnData(counts.astype(np.float32), obs=obs, var=var)
    assert pp.tokenize(adata, VOCABULARY, SAMPLE) is None
    ranks = adata.obsm[Obsm.TOKENS]
    first = VOCABULARY.gene_offset
    assert ranks.shape == (3, len(VOCABULARY))
    assert ranks[:, first : first + 4].toarray().tolist() == [[2, 1, 3, 0], [0] * 4, [1, 2, 0, 0]]
    entry = adata.uns[Uns.SPATIALFORMER]["tokens"]
    assert entry["vocabulary"] == VOCABULARY.fingerprint
    assert list(entry["unknown_genes"]) == ["GD"]
    assert (entry["unknown_counts"], entry["empty_cells"]) == (10, 1)
    assert entry["meta"][1] == VOCABULARY.meta_ids(SAMPLE)[1]
    kept = pp.tokenize(adata, VOCABULARY, SAMPLE, max_genes=1, copy=True)
    assert kept.obsm[Obsm.TOKENS].nnz == 2
    adata.var_names = list("WXYZ")
    with pytest.raises(SpatialFormerError, match="knows none"):
        pp.tokenize(adata, VOCABULARY, SAMPLE)


def test_neighbours_within_the_radius():
    adata, _ = tissue(200)
    adata.obs["passes_qc"] = np.arange(200) != 7
    assert pp.cell_pairs(adata, radius_um=60.0) is None
    found = adata.obsp[Obsp.NEIGHBORS].toarray()
    xy = adata.obsm["spatial"]
    near = np.linalg.norm(xy[:, None] - xy[None], axis=2) <= 60.0
    np.fill_diagonal(near, val=False)
    near[7] = near[:, 7] = False
    assert (found == near).all()
    assert adata.uns[Uns.SPATIALFORMER]["neighbors"]["radius_um"] == 60.0
    del adata.obsm["spatial"]
    with pytest.raises(SpatialFormerError, match="no coordinates"):
        pp.cell_pairs(adata)
