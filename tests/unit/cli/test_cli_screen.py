"""The verb ``screen``: what each option does to the result, what is refused, and ``rerun``."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.perturbation import liana_ranks
from spatialformer_core.slides import SlideStore, ingest

GENES = [f"GENE{k:02d}" for k in range(12)]
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="D", tissue="Lung", species="Human", assay="Xenium"
)


def save(home, slide, name, seed, genes=None, *, simulated=False):
    import torch

    from spatialformer_core.model import build, preset_config, save_checkpoint
    from spatialformer_core.vocabulary import build_vocabulary

    torch.manual_seed(seed)
    chosen = slide.genes if genes is None else genes
    vocabulary = build_vocabulary([(chosen, slide.counts[:, : len(chosen)])], [SAMPLE])
    model = build(preset_config("two-tower", "tiny", len(vocabulary)))
    facts = {"simulated": simulated, "trained_on": []}
    save_checkpoint(home / "checkpoints" / name, model, vocabulary, facts, "A card.")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A slide of 600 mixed cells of types A and B, and one of C far from all, and checkpoints."""
    import anndata

    folder = tmp_path_factory.mktemp("source") / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(0)
    xy = rng.random((600, 2)) * (1000.0, 600.0)
    kind = np.array(["A", "B"])[rng.integers(0, 2, 600)]
    xy[0], kind[0] = (1400.0, 300.0), "C"
    counts = rng.poisson(1.5, (600, len(GENES))).astype(np.int32) + 1
    obs = pd.DataFrame({"cell_type": pd.Categorical(kind)}, index=[f"c{i}" for i in range(600)])
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    home = tmp_path_factory.mktemp("home")
    qc = QcThresholds(min_transcripts=5, min_genes=3)
    ingest(folder, SlideStore(home), name="Mixed", sample=SAMPLE, qc=qc)
    slide = SlideStore(home).open("mixed")
    for seed, name in enumerate(("one", "two", "three")):
        save(home, slide, name, seed)
    save(home, slide, "narrow", 0, GENES[:5])
    save(home, slide, "simulated", 0, simulated=True)
    return home


@pytest.fixture
def run(run, home, monkeypatch):
    """Run the command line on the home."""
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    return run


SCREEN = ["screen", "mixed", "--groupby", "cell_type", "--max-pairs-per-unit", "10"]
FEW = [*SCREEN, "--groups", "A", "B", "--checkpoint", "one", "--no-figures"]
FEW += ["--genes", "GENE00,GENE01,GENE02"]


def read(out):
    return files.read_json(out / "screen.json"), pd.read_parquet(out / "pairs.parquet")


def regions(path, *squares):
    features = [
        {
            "type": "Feature",
            "properties": {"name": name, "unit": name},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + w, y], [x + w, y + w], [x, y + w], [x, y]]],
            },
        }
        for name, x, y, w in squares
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_models_nulls_tables_mode_and_control_are_in_the_result(run, tmp_path):
    (tmp_path / "lr.csv").write_text("ligand,receptor\nGENE00,GENE01\n")
    (tmp_path / "sets.gmt").write_text("S\t\tGENE00\tGENE01\tGENE02\n")
    out = tmp_path / "out"
    more = ["--checkpoint", "two", "--checkpoint", "three", "--null-checkpoint", "two"]
    more += ["--null-runs", "2", "--mode", "exact", "--control", "beside", "--unit", "block"]
    more += ["--lr", tmp_path / "lr.csv", "--gmt", tmp_path / "sets.gmt", "--knockout", "mask"]
    code, told, err = run(*FEW, *more, "--out", out)
    assert code == 0, err
    info, table = read(out)
    assert info["agreement"]["checkpoints"] == ["one", "two", "three"]
    assert (table["n_checkpoints"] == 3).all()
    assert info["null_screens"]["runs"] == 2
    assert info["null_checkpoint"]["checkpoint"]["name"] == "two"
    assert (info["mode"], info["control"], info["units"]["kind"]) == ("exact", "beside", "block")
    assert info["request"]["knockout"] == "mask"
    np.testing.assert_allclose(table["d_diff"], table["d_raw"])
    assert table["d_controlled"].notna().all()
    assert info["ligand_receptor"]["testable"] == 2  # GENE00-GENE01 and GENE01-GENE00
    assert info["enrichment"]["libraries"] == {"sets.gmt": 1}
    assert set(table["gene_left"]) == {"GENE00", "GENE01", "GENE02"}
    assert "Ligand-receptor pairs of lr.csv that were tested: 2." in told
    assert "3 checkpoints: interactions correlate" in told


def test_sets_of_genes_and_the_published_test(run, tmp_path):
    (tmp_path / "sets.txt").write_text("FIRST: GENE00, GENE01\nSECOND\tnote\tGENE02\tGENE03\n")
    out = tmp_path / "out"
    wanted = [*SCREEN, "--groups", "A", "B", "--checkpoint", "one", "--no-figures"]
    wanted += ["--knockout-sets", tmp_path / "sets.txt", "--test", "published"]
    code, told, err = run(*wanted, "--out", out)
    assert code == 0, err
    info, table = read(out)
    assert set(table["gene_left"]) == {"FIRST", "SECOND"}
    assert info["control"] == "none"
    assert info["published_test"]["tested"] == 3  # both directions of a pair together
    assert "PUBLISHED TEST" in told


def test_near_pairs_of_other_regions_are_compared_with(run, tmp_path):
    roi = regions(tmp_path / "roi.geojson", ("a", 0, 0, 480))
    other = regions(tmp_path / "versus.geojson", ("b", 500, 0, 480))
    out = tmp_path / "out"
    code, _, err = run(*FEW, "--roi", roi, "--versus", other, "--unit", "roi", "--out", out)
    assert code == 0, err
    info, table = read(out)
    assert info["pairs"]["far_source"] == "versus"
    assert {unit["unit"] for unit in info["units"]["used"]} == {"mixed: a", "versus mixed: b"}
    assert table["q"].isna().all()
    assert "3 of each" in info["no_p_reason"]


def test_lianas_scores_stand_beside(run, tmp_path):
    pytest.importorskip("liana", reason="liana is not installed (extra [baselines])")
    out = tmp_path / "out"
    code, told, err = run(*FEW, "--lr", "liana", "--liana", "--out", out)
    assert code == 0, err
    info, table = read(out)
    ranks = pd.read_csv(out / "liana.csv")
    assert len(ranks) == len(table)
    assert set(ranks["scope"]) == {"describes this section only"}
    assert {"rank_interaction", "cellphonedb", "cellchat", "moran"} <= set(ranks)
    assert info["ligand_receptor"]["resource"] == "liana consensus"
    assert info["ligand_receptor"]["interactions"] > 4000
    assert f"liana {info['liana']['version']} on the" in told
    near = pd.read_parquet(out / "cell_pairs.parquet").query("side == 'near'")
    used = near["cell_left"].nunique() + near["cell_right"].nunique()
    assert info["liana"]["cells"] == used


def test_without_liana_the_screen_is_made_and_says_why(run, tmp_path, monkeypatch):
    monkeypatch.setattr(liana_ranks, "is_installed", lambda: False)
    out = tmp_path / "out"
    code, told, err = run(*FEW, "--liana", "--out", out)
    assert code == 0, err
    assert "liana is not installed; install the extra [baselines]." in told
    assert not (out / "liana.csv").exists()
    assert "[baselines]" in read(out)[0]["not_computed"]["liana"]


def test_a_screen_is_run_again_from_what_it_tells(run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    roi = regions(tmp_path / "roi.geojson", ("a", 0, 0, 900))
    assert run(*FEW, "--roi", roi, "--seed", 3, "--out", first)[0] == 0
    roi.unlink()  # the facts hold the regions themselves
    code, _, err = run("rerun", first / "screen.json", "--no-figures", "--out", second)
    assert code == 0, err
    before, after = read(first), read(second)
    pd.testing.assert_frame_equal(before[1], after[1])
    assert before[0]["request"] == after[0]["request"]
    (tmp_path / "facts.json").write_text("{}")
    code, _, err = run("rerun", tmp_path / "facts.json", "--out", tmp_path / "third")
    assert (code, "tells no screen" in err) == (2, True)
    other = ["--checkpoint", "two", "--no-figures", "--out", tmp_path / "other"]
    code, _, err = run("rerun", first, *other)
    assert code == 0
    assert "is not the one of the first screen" in err


OUTSIDE, TWO, TINY = ("far", 3000, 0, 50), (("a", 0, 0, 300), ("b", 200, 0, 300)), ("t", 0, 0, 70)


@pytest.mark.parametrize(
    ("options", "squares", "message"),
    [
        (["--groups", "A", "B"], [OUTSIDE], "outside the slide"),
        (["--groups", "A", "B"], TWO, "overlap"),
        (["--groups", "A", "B"], [TINY], "types meet"),
        (["--groups", "A", "C"], [], "types meet"),
        (["--groups", "A", "Z"], [], "no type 'Z'"),
        (["--groups", "A", "B", "--groupby", "niche"], [], "no grouping 'niche'"),
        (["--groups", "A", "B", "--checkpoint", "narrow"], [], "knows 42%"),
        (["--groups", "A", "B", "--checkpoint", "simulated"], [], "simulated tissue"),
        (["--groups", "A", "B", "--mode", "screened"], [], "two-tower"),
        (["--groups", "A", "B", "--genes", "NOT,THESE"], [], "none of the chosen genes"),
        (["--groups", "A", "B", "--unit", "cell"], [], "unit"),
        (["--groups", "A", "B", "--test", "wilcoxon"], [], "test"),
        (["--groups", "A", "B", "--null-runs", "-1"], [], "null_runs"),
        (["--groups", "A", "B", "--lr", "absent.csv"], [], "absent.csv"),
        (["--groups", "A", "B", "--gmt", "absent.gmt"], [], "absent.gmt"),
        (["--groups", "A", "B", "--knockout-sets", "absent.gmt"], [], "does not exist"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(run, tmp_path, options, squares, message):
    wanted = ["--checkpoint", "one"] if "--checkpoint" not in options else []
    where = []
    if squares:
        where = ["--roi", regions(tmp_path / "roi.geojson", *squares), "--unit", "roi"]
    if "--groupby" in options:
        options = [part for part in options if part not in ("--groupby", "niche")]
        base = ["screen", "mixed", "--groupby", "niche"]
    else:
        base = SCREEN
    out = tmp_path / "out"
    code, told, err = run(*base, *options, *wanted, *where, "--out", out)
    assert (code, told) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not out.exists()
