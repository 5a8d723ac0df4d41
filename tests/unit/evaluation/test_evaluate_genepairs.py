"""The suite ``genepairs``: on a small simulated slide, from store to report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.cooccurrence import named_matrix
from spatialformer_core.evaluation.genepairs import DRAWS, markdown, null_rows, planted_rows
from spatialformer_core.gene_pairs import PairCells
from spatialformer_core.service.evaluate_gene_pairs import (
    GenePairEvaluation,
    run_gene_pair_evaluation,
)
from spatialformer_core.simulate import SimulationSettings, planted, simulate
from spatialformer_core.slides import SlideStore, ingest
from spatialformer_core.stats import Placed

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    home = tmp_path_factory.mktemp("simulated")
    settings = SimulationSettings(
        seed=3, cells=2000, he=False, pixel_size_um=4.0, he_pixel_size_um=4.0
    )
    simulate(home / "bundle", settings)
    store = SlideStore(home)
    ingest(home / "bundle", store, name="lung", sample=SAMPLE, qc=QcThresholds())
    asked = {"slide_ids": ("lung",), "groupby": "cell_type", "settings": {"n_pairs": 600}}
    request = GenePairEvaluation.model_validate({"gene_pairs": asked, "draws": 2})
    out = home / "out"
    out.mkdir()
    return run_gene_pair_evaluation(store, request, out), out


@pytest.mark.slow
def test_report_has_every_way_to_draw_and_is_written(report):
    value, out = report
    null = [row for row in value["rows"] if row["task"] == "type_one_error"]
    assert {row["split"] for row in null} >= set(DRAWS)
    assert files.read_json(out / "report.json") == value
    assert "type_one_error" in (out / "report.md").read_text()
    assert (out / "gene_pairs" / "network.graphml").is_file()


@pytest.mark.slow
def test_tests_over_units_keep_their_level_and_tests_over_cells_do_not(report):
    rows = {
        (row["split"], row["method"]): row["value"]
        for row in report[0]["rows"]
        if row["task"] == "type_one_error"
    }
    # Two draws: wide bounds.
    # Forty cells in the smaller group are too few units for any p.
    assert ("cells, 2 : 98", "spatialformer") not in rows
    ours = [rows[name, "spatialformer"] for name in DRAWS if name != "cells, 2 : 98"]
    assert max(ours) < 0.1
    assert rows["deeper cells more often", "scanpy_per_cell"] > 0.3


@pytest.mark.slow
def test_planted_pairs_stand_out_from_permuted_labels_and_decoys_do_not(report):
    rows = {
        (row["split"], row["method"]): row["value"]
        for row in report[0]["rows"]
        if row["task"] == "planted_pairs"
    }
    assert rows["planted", "permuted"] > 0.3
    assert rows["decoys", "permuted"] == 0.0
    assert rows["planted", "scanpy_per_cell"] >= rows["planted", "spatialformer"]


def test_null_groups_of_any_cells():
    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(8)]
    names = [f"{a}|{b}" for i, a in enumerate(genes) for b in genes[i + 1 :]]
    counts = rng.poisson(4, (900, 8))
    present = sparse.csr_matrix(rng.random((900, len(names))) < 0.3)
    placed = Placed(np.zeros(900, np.int64), rng.uniform(0, 2900, (900, 2)), ("s",), ("P",))
    matrix = named_matrix(present, names, genes)
    cells = PairCells(matrix, sparse.csr_matrix(counts), counts.sum(1).astype(float), placed)
    rows = null_rows(cells, 3)
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    even = next(
        row
        for row in rows
        if (row["split"], row["method"]) == ("cells, half and half", "spatialformer")
    )
    assert 0 <= even["value"] < 0.2
    assert even["seeds"] == 3
    text = markdown({"rows": rows})
    assert "| patches of 50 um |" in text
    assert "scanpy_per_cell" in text


def test_calls_are_counted_per_pair_in_its_own_types():
    rule = next(rule for rule in planted.COLOCALISED_PAIRS if rule.cell_types)
    decoy = next(rule for rule in planted.COLOCALISATION_DECOYS if rule.cell_types)
    one = {"effect": 0.2, "q": 0.01, "percell_q": 0.01, "null_z": 9.0}
    names = ["|".join(sorted(r.genes)) for r in (rule, decoy)]
    table = pd.DataFrame(
        [
            {**one, "pair": names[0], "group": rule.cell_types[0]},
            {**one, "pair": names[1], "group": "another type", "null_z": 1.0},
        ]
    )
    value = {(row["split"], row["method"]): row["value"] for row in planted_rows(table)}
    n = sum(bool(r.cell_types) for r in planted.COLOCALISED_PAIRS)
    assert value["planted", "spatialformer"] == pytest.approx(1 / n)
    assert value["planted", "permuted"] == pytest.approx(1 / n)
    assert value["decoys", "spatialformer"] == value["decoys", "permuted"] == 0
