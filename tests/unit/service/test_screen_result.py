"""Screens on stored slides beside known pairs, gene sets, other checkpoints, and their examples."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import ScreenRequest
from spatialformer_core.service.screen import estimate_screen, run_screen_request
from spatialformer_core.service.screen_examples import example_pairs
from spatialformer_core.slides import SlideStore, ingest

N_GENES = 14
GENES = [f"GENE{k:02d}" for k in range(N_GENES)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import anndata
    import pyarrow as pa
    import pyarrow.parquet as pq

    from spatialformer_core.config import QcThresholds, SampleMetadata
    from spatialformer_core.model import build, preset_config, save_checkpoint
    from spatialformer_core.vocabulary import build_vocabulary

    folder = tmp_path_factory.mktemp("source") / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(0)
    n = 900
    xy = rng.random((n, 2)) * (1400.0, 700.0)
    counts = rng.poisson(1.2, (n, N_GENES)).astype(np.int32)
    ids = [f"c{i}" for i in range(n)]
    kind = pd.Categorical(np.array(["A", "B"])[rng.integers(0, 2, n)])
    table = anndata.AnnData(
        counts, obs=pd.DataFrame({"cell_type": kind}, index=ids), var=pd.DataFrame(index=GENES)
    )
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene = (np.repeat(a, counts[counts > 0]) for a in np.nonzero(counts))
    place = xy[cell] + rng.uniform(-3, 3, (len(cell), 2))
    columns = {
        "cell_id": [ids[i] for i in cell],
        "feature_name": [GENES[i] for i in gene],
        "x_location": place[:, 0],
        "y_location": place[:, 1],
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    home = tmp_path_factory.mktemp("home")
    sample = SampleMetadata(
        donor="P1", block="1", condition="D", tissue="Lung", species="Human", assay="Xenium"
    )
    store = SlideStore(home)
    ingest(
        folder, store, name="Mixed", sample=sample, qc=QcThresholds(min_transcripts=5, min_genes=3)
    )
    slide = store.open("mixed")
    vocabulary = build_vocabulary([(slide.genes, slide.counts)], [sample])
    for seed, name in enumerate(("one", "two", "three")):
        import torch

        torch.manual_seed(seed)
        model = build(preset_config("two-tower", "tiny", len(vocabulary)))
        facts = {"simulated": False, "trained_on": []}
        save_checkpoint(home / "checkpoints" / name, model, vocabulary, facts, "A card.")
    return store


def request(**changes):
    values = {
        "slide_ids": ("mixed",),
        "groupby": "cell_type",
        "group_left": "A",
        "group_right": "B",
        "checkpoint_id": "one",
        "max_pairs_per_unit": 10,
        "control": "none",
        **changes,
    }
    return ScreenRequest(**values)


def run(store, wanted, out):
    with files.atomic_directory(out) as folder:
        run_screen_request(store, wanted, store.root.parent / "checkpoints" / "one", folder)
    return files.read_json(out / "screen.json"), pd.read_parquet(out / "pairs.parquet")


@pytest.fixture(scope="module")
def screened(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    (folder / "lr.csv").write_text("ligand,receptor\nGENE00,GENE01_GENE02\nGENE05,ABSENT\n")
    (folder / "sets.gmt").write_text("SET\t\tGENE00\tGENE01\tGENE02\tGENE03\n")
    wanted = request(
        agreement_ids=("two", "three"),
        ligand_receptor=str(folder / "lr.csv"),
        gene_set_files=(str(folder / "sets.gmt"),),
        null_checkpoint_id="two",
    )
    out = folder / "out"
    return out, *run(store, wanted, out)


def test_known_pairs_are_marked_in_both_orientations(screened):
    _, info, table = screened
    known = table[table["is_ligand_receptor"]]
    found = set(zip(known["gene_left"], known["gene_right"], known["ligand"], strict=True))
    assert found == {
        ("GENE00", "GENE01", "left"),
        ("GENE00", "GENE02", "left"),
        ("GENE01", "GENE00", "right"),
        ("GENE02", "GENE00", "right"),
    }
    assert info["ligand_receptor"]["testable"] == 4
    assert info["ligand_receptor"]["gene_pairs"] == 3
    assert "is_ligand_receptor" not in info["not_computed"]


def test_without_p_values_no_gene_set_is_tested_and_the_reason_is_given(screened):
    out, info, _ = screened
    assert not info["p_values"]
    assert "no p-values" in info["enrichment"]["not_computed"]
    assert "GO cellular component" in info["enrichment"]["pointer"]
    assert len(pd.read_csv(out / "gene_sets.csv")) == 0


def test_three_checkpoints_stand_beside_each_other(screened):
    out, info, table = screened
    assert info["agreement"]["checkpoints"] == ["one", "two", "three"]
    assert (table["n_checkpoints"] == 3).all()
    assert table["agree"].between(2 / 3, 1).all()
    long = pd.read_parquet(out / "agreement.parquet")
    assert long.groupby("checkpoint").size().to_dict() == dict.fromkeys(
        ("one", "two", "three"), len(table)
    )
    assert set(long["scope"]) == {"describes this section only"}
    assert info["null_checkpoint"]["checkpoint"]["name"] == "two"
    # The stored request runs the same screen again.
    assert ScreenRequest(**info["request"]).agreement_ids == ("two", "three")


def test_examples_of_a_row_carry_both_genes_with_their_transcripts(store, screened):
    out, _, table = screened
    row = table.iloc[0]
    examples = example_pairs(store, out, (row.gene_left, row.gene_right), n=4)
    assert len(examples) == 4
    slide = store.open("mixed")
    cell_type = np.array(slide.group("cell_type").categories)[slide.group("cell_type").codes]
    copies = []
    for pair in examples:
        assert (cell_type[pair.left.row], cell_type[pair.right.row]) == ("A", "B")
        assert pair.distance_um <= 30
        for cell in (pair.left, pair.right):
            assert cell.cell_id == slide.cell_ids[cell.row]
            assert cell.outline_um is None
            for gene, places in ((row.gene_left, cell.first_um), (row.gene_right, cell.second_um)):
                assert len(places) == slide.counts[cell.row, slide.genes.index(gene)]
                assert np.abs(places[:, :2] - cell.xy_um).max(initial=0) <= 3.1
        copies.append(min(len(pair.left.first_um), len(pair.right.second_um)))
    assert copies[-1] > 0
    assert copies == sorted(copies, reverse=True)
    assert example_pairs(store, out, ("ABSENT", "GENE00")) == []


def test_regions_are_compared_with_other_regions(store, tmp_path):
    def square(name, x):
        ring = [[x, 50], [x + 300, 50], [x + 300, 650], [x, 650], [x, 50]]
        return {
            "type": "Feature",
            "properties": {"name": name, "unit": name},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }

    def collection(*features):
        return json.dumps({"type": "FeatureCollection", "features": features})

    wanted = request(
        regions_geojson=collection(square("a", 50), square("c", 700)),
        versus_geojson=collection(square("b", 370), square("d", 1050)),
        unit="roi",
    )
    assert "3 of each" in estimate_screen(store, wanted).reason_no_p
    info, table = run(store, wanted, tmp_path / "out")
    assert info["pairs"]["far_source"] == "versus"
    units = {unit["unit"]: unit for unit in info["units"]["used"]}
    assert set(units) == {"mixed: a", "mixed: c", "versus mixed: b", "versus mixed: d"}
    assert units["versus mixed: b"]["n_near"] == 0
    assert table["d_low"].notna().any()
    with pytest.raises(SpatialFormerError, match="both sides"):
        estimate_screen(store, wanted.model_copy(update={"versus_geojson": wanted.regions_geojson}))


def test_a_reference_that_cannot_be_read_stops_the_screen_before_it_starts(store, tmp_path):
    wanted = request(ligand_receptor=str(tmp_path / "absent.csv"))
    with pytest.raises(SpatialFormerError, match=r"absent\.csv"):
        run(store, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
