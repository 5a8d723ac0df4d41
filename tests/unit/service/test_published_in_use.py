"""A converted cross-encoder does what any checkpoint does: evaluation and screen of a slide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.evaluation.colocalisation import ColocalisationSettings
from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.service.convert import convert_spatialformer
from spatialformer_core.service.evaluate import METHOD, EvaluationRequest, run_evaluation
from spatialformer_core.service.screen import run_screen_job, screen_result
from spatialformer_core.slides import SlideStore, ingest
from spatialformer_core.vocabulary import load_published

pytestmark = pytest.mark.slow

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
N_CELLS, N_GENES = 1500, 10


def table_folder(folder, genes):
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rng = np.random.default_rng(0)
    xy = rng.random((N_CELLS, 2)) * (1600.0, 800.0)
    counts = rng.poisson(2.0, (N_CELLS, N_GENES)).astype(np.int32)
    ids = [f"c{k}" for k in range(N_CELLS)]
    types = pd.Categorical(np.array(["A", "B"])[rng.integers(0, 2, N_CELLS)])
    table = anndata.AnnData(
        counts, obs=pd.DataFrame({"cell_type": types}, index=ids), var=pd.DataFrame(index=genes)
    )
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene = (np.repeat(axis, counts[counts > 0]) for axis in np.nonzero(counts))
    place = xy[cell] + rng.uniform(-3, 3, (len(cell), 2))
    columns = {
        "cell_id": [ids[k] for k in cell],
        "feature_name": [genes[k] for k in gene],
        "x_location": place[:, 0],
        "y_location": place[:, 1],
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, published):
    folder = tmp_path_factory.mktemp("published-home")
    genes = list(load_published().vocabulary.genes[200 : 200 + N_GENES])
    store = SlideStore(folder)
    qc = QcThresholds(min_transcripts=5, min_genes=3)
    ingest(table_folder(folder / "lung", genes), store, name="Lung", sample=SAMPLE, qc=qc)
    torch.save(published.lightning(published.published_state()), folder / "official.ckpt")
    convert_spatialformer(folder / "official.ckpt", folder / "checkpoints" / "official")
    return folder


def test_it_is_evaluated_beside_the_baselines(home, tmp_path):
    request = EvaluationRequest(
        slide_id="lung",
        settings=ColocalisationSettings(
            negatives=("easy",),
            n_queries=60,
            n_train_pairs=400,
            tower_pairs=2000,
            seeds=(0,),
            by_distance=False,
        ),
    )
    (tmp_path / "out").mkdir()
    report = run_evaluation(
        SlideStore(home), request, home / "checkpoints" / "official", tmp_path / "out"
    )
    scores = {row["method"]: row["value"] for row in report["rows"] if row["metric"] == "auroc"}
    # Random weights on random tissue.
    assert 0.2 < scores[METHOD] < 0.8
    told = report["provenance"]["checkpoint"]
    assert told["architecture"] == "cross-encoder"
    assert told["slide_was_trained_on"] is None


def test_it_screens(home, tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    request = ScreenRequest(
        slide_ids=("lung",),
        groupby="cell_type",
        group_left="A",
        group_right="B",
        checkpoint_id="official",
        max_pairs_per_unit=10,
    )
    out = tmp_path / "screen"
    with files.atomic_directory(out) as folder:
        run_screen_job(request.model_dump(mode="json"), folder, lambda *_: None, lambda: False)
    view = screen_result(out)
    assert len(view.table) > 0
    assert set(view.table["gene_left"]) <= set(load_published().vocabulary.genes)
    assert np.isfinite(view.table["d_diff"]).any()
