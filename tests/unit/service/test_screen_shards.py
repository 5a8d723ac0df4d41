"""Shards of a screen in processes of their own, from the checkpoint on disk (slow: torch each)."""

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import Engine
from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.service.screen import run_screen_request
from spatialformer_core.service.screen_work import Execution
from spatialformer_core.slides import SlideStore

GENES = [f"GENE{k:02d}" for k in range(24)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    import anndata

    from spatialformer_core.config import QcThresholds, SampleMetadata
    from spatialformer_core.model import build, preset_config, save_checkpoint
    from spatialformer_core.slides import ingest
    from spatialformer_core.vocabulary import build_vocabulary

    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (1200, len(GENES))).astype(np.int32)
    ids = [f"c{i}" for i in range(len(counts))]
    kind = pd.Categorical(np.array(["A", "B"])[rng.integers(0, 2, len(counts))])
    table = anndata.AnnData(
        counts, obs=pd.DataFrame({"kind": kind}, index=ids), var=pd.DataFrame(index=GENES)
    )
    table.obsm["spatial"] = rng.random((len(counts), 2)) * (1500.0, 900.0)
    table.write_h5ad(folder / "mixed.h5ad")
    sample = SampleMetadata(
        donor="P1", block="1", condition="H", tissue="Lung", species="Human", assay="Xenium"
    )
    store = SlideStore(folder)
    qc = QcThresholds(min_transcripts=10, min_genes=5)
    ingest(folder / "mixed.h5ad", store, name="Mixed", sample=sample, qc=qc)
    slide = store.open("mixed")
    vocabulary = build_vocabulary([(slide.genes, slide.counts)], [sample])
    for name in ("two-tower", "cross-encoder"):
        model = build(preset_config(name, "tiny", len(vocabulary)))
        facts = {"simulated": False, "trained_on": []}
        save_checkpoint(folder / "checkpoints" / name, model, vocabulary, facts, "A card.")
    return folder


def screened(home, out, name, execution=None, **changes):
    request = ScreenRequest(
        slide_ids=("mixed",),
        groupby="kind",
        group_left="A",
        group_right="B",
        checkpoint_id=name,
        max_pairs_per_unit=10,
        **changes,
    )
    out.mkdir()
    folder = home / "checkpoints" / name
    return run_screen_request(SlideStore(home), request, folder, out, execution=execution)


def compare(one, other):
    keys = ["gene_left", "gene_right"]
    one, other = (t.sort_values(keys).reset_index(drop=True) for t in (one.table, other.table))
    assert one[keys].equals(other[keys])
    for name in ("d_near", "d_diff", "epsilon", "probability"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@pytest.mark.slow
def test_local_processes_give_the_table_of_one_process(home, tmp_path):
    whole = screened(home, tmp_path / "whole", "two-tower")
    execution = Execution(tmp_path / "shards", Engine(workers=2), n_shards=2)
    compare(whole, screened(home, tmp_path / "parts", "two-tower", execution))
    assert len(list((tmp_path / "shards" / "exact").glob("shard-*"))) == 2


@pytest.mark.slow
def test_both_stages_of_a_cross_encoder_run_in_local_processes(home, tmp_path):
    changes = {"mode": "screened", "candidates": 8, "genes": tuple(GENES[:5])}
    whole = screened(home, tmp_path / "whole", "cross-encoder", **changes)
    execution = Execution(tmp_path / "shards", Engine(workers=1), n_shards=2)
    parts = screened(home, tmp_path / "parts", "cross-encoder", execution, **changes)
    compare(whole, parts)
    assert parts.info["mode"] == "screened"


@pytest.mark.slow
def test_a_cluster_gives_the_table_of_one_process(home, tmp_path):
    distributed = pytest.importorskip("distributed")
    whole = screened(home, tmp_path / "whole", "two-tower")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        engine = Engine(scheduler=cluster.scheduler_address)
        execution = Execution(tmp_path / "shards", engine, n_shards=2)
        compare(whole, screened(home, tmp_path / "parts", "two-tower", execution))


def test_a_changed_slide_is_noticed_by_the_process_of_a_shard(home, tmp_path):
    from spatialformer_core.perturbation.farm import make_one

    request = ScreenRequest(
        slide_ids=("mixed",),
        groupby="kind",
        group_left="A",
        group_right="B",
        checkpoint_id="two-tower",
        max_pairs_per_unit=10,
    )
    params = {
        "work": "another plan",
        "loader": "spatialformer_core.service.screen_work:load_work",
        "params": {
            "home": str(home),
            "checkpoint": str(home / "checkpoints" / "two-tower"),
            "request": request.model_dump(mode="json"),
        },
        "stage": "exact",
        "folder": str(tmp_path),
        "shard": [0, 0, 3],
    }
    with pytest.raises(SpatialFormerError, match="not what they were"):
        make_one(params, tmp_path, lambda: False)
