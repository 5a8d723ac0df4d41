"""Gene pairs of stored slides: co-occurrence is measured once, groups from cells or samples."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from spatialformer_core import files
from spatialformer_core.cli import app
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.cooccurrence import CooccurrenceSettings
from spatialformer_core.service.gene_pairs import (
    GenePairRequest,
    run_gene_pairs,
    run_gene_pairs_job,
    stored_cooccurrence,
)
from spatialformer_core.service.kinds import resolve

# A radius beyond the cell links all of its transcripts to each other.
WIDE = {"radius_um": 12.0, "permutations": 3}
QUICK = {"per_cell_test": False, "n_described": 0}


def request(**changes):
    values = {"slide_ids": ("tiny",), "groupby": "cell_type", "settings": QUICK}
    return GenePairRequest(**{**values, "cooccurrence": WIDE, **changes})


def test_pairs_of_the_tiny_slide(services, tmp_path):
    result = run_gene_pairs(services.store, request(), tmp_path)
    table = result.table.set_index(["group", "pair"])
    # MARK has three copies in all cells of type A and nowhere else.
    marked = table.loc[("A", "GENE0|MARK")]
    assert (marked["share_group"], marked["share_reference"]) == (1.0, 0.0)
    assert (marked["cells_group"], marked["cells_reference"]) == (16, 34)
    assert marked["null_cells"] == 16
    assert marked["null_expected"] == pytest.approx(16)
    assert np.isnan(marked["p"])
    # Type A's cells are all deeper than the others: depth and type cannot be told apart.
    assert marked["effect"] == pytest.approx(0)
    assert table.loc[("A", "GENE0|GENE1"), "share_group"] == 1.0
    assert result.info["cells"] == 50
    assert result.info["marks"] == ["One donor: this describes this section only."]
    assert "cells of both groups: 1; 6 are needed" in result.info["verdict"]
    facts = files.read_json(tmp_path / "gene_pairs.json")
    assert facts["provenance"]["slides"][0]["cooccurrence"]["settings"]["radius_um"] == 12.0
    assert facts["provenance"]["request"]["groupby"] == "cell_type"
    written = {path.name for path in tmp_path.iterdir()}
    assert {"gene_pairs.parquet", "gene_pairs.csv", "network.graphml", "NOTES.txt"} <= written
    assert (
        b"this section only"
        in pq.read_schema(tmp_path / "gene_pairs.parquet").metadata[b"spatialformer"]
    )


def test_cooccurrence_is_measured_once_per_settings(services):
    slide = services.slide("tiny")
    first = stored_cooccurrence(slide, CooccurrenceSettings(**WIDE))
    stamp = (first / "cells.parquet").stat().st_mtime_ns
    assert stored_cooccurrence(slide, CooccurrenceSettings(**WIDE)) == first
    assert (first / "cells.parquet").stat().st_mtime_ns == stamp
    other = stored_cooccurrence(slide, CooccurrenceSettings(radius_um=12.0, permutations=0))
    assert other != first
    assert first.is_relative_to(slide.user_folder)


def test_without_permutations_there_is_no_null(services, tmp_path):
    settings = {"radius_um": 12.0, "permutations": 0}
    result = run_gene_pairs(services.store, request(cooccurrence=settings), tmp_path)
    assert result.table["null_z"].isna().all()


def test_what_cannot_be_compared(services, tmp_path):
    store = services.store
    with pytest.raises(SpatialFormerError, match="1 group"):
        run_gene_pairs(store, request(groupby="condition"), tmp_path)
    with pytest.raises(SpatialFormerError, match="no grouping 'niche'"):
        run_gene_pairs(store, request(groupby="niche"), tmp_path)
    with pytest.raises(SpatialFormerError, match="twice"):
        run_gene_pairs(store, request(slide_ids=("tiny", "tiny")), tmp_path)
    with pytest.raises(SpatialFormerError, match="No cell of group 'Z'"):
        run_gene_pairs(store, request(within=("cell_type", "Z")), tmp_path)
    with pytest.raises(SpatialFormerError, match="1 group"):
        run_gene_pairs(store, request(within=("cell_type", "A")), tmp_path)
    assert list(tmp_path.glob("*.parquet")) == []


def test_as_a_job(services, tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(services.home))
    assert resolve("gene-pairs") is run_gene_pairs_job
    params = json.loads(request().model_dump_json())
    run_gene_pairs_job(params, tmp_path, lambda *_: None, lambda: False)
    assert (tmp_path / "network.graphml").is_file()


def test_two_donors_one_per_arm(services, table_folder, tmp_path):
    from spatialformer_core.config import QcThresholds, SampleMetadata
    from spatialformer_core.slides import ingest

    sample = SampleMetadata(
        donor="P2", block="1", condition="Healthy", tissue="Lung", species="Human", assay="Xenium"
    )
    limits = QcThresholds(min_transcripts=10, min_genes=3)
    ingest(table_folder, services.store, name="Other", sample=sample, qc=limits)
    both = request(slide_ids=("tiny", "other"), groupby="condition")
    result = run_gene_pairs(services.store, both, tmp_path)
    assert result.table["p"].isna().all()
    assert "there are 1 and 1; 3 of each are needed" in result.info["verdict"]
    assert result.table["null_cells"].max() == 100  # both slides
    np.testing.assert_allclose(result.table["effect"], 0, atol=1e-12)


def test_the_verb_prints_one_object_and_leaves_nothing_on_bad_input(
    services, tmp_path, monkeypatch
):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(services.home))

    def run(*arguments):
        return CliRunner().invoke(app, ["gene-pairs", "tiny", "--radius-um", "12", *arguments])

    out = tmp_path / "out"
    done = run("--groupby", "cell_type", "--groups", "A", "B", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout.splitlines()[-1])
    assert value["out"] == str(out)
    assert value["n_rows"] == len(pq.read_table(out / "gene_pairs.parquet"))
    assert value["closeness_verdict"].startswith("Whether closeness")
    bad = run("--groupby", "niche", "--out", str(tmp_path / "bad"))
    assert isinstance(bad.exception, SpatialFormerError)
    assert "Groupings: cell_type" in str(bad.exception)
    assert not (tmp_path / "bad").exists()
