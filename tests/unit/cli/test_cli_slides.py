"""The verbs of the slide store on a tiny Xenium-like source, in this process."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

METADATA = {
    "donor": "P1",
    "block": "B2",
    "condition": "Disease",
    "tissue": "Lung",
    "species": "Human",
    "assay": "Xenium",
}
OPTIONS = [part for field, value in METADATA.items() for part in (f"--{field}", value)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twenty cells of five genes; the first five cells have two transcripts."""
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("source") / "twenty"
    folder.mkdir()
    counts = np.full((20, 5), 4, np.int32)
    counts[:5] = [2, 0, 0, 0, 0]
    ids = [f"c{i}" for i in range(20)]
    genes = [f"G{i}" for i in range(5)]
    obs = pd.DataFrame({"cell_type": pd.Categorical(["A", "B"] * 10)}, index=ids)
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    xy = np.stack([np.arange(20) * 10.0, np.zeros(20)], axis=1)
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene = (np.repeat(a, counts[counts > 0]) for a in np.nonzero(counts))
    columns = {
        "cell_id": np.array(ids)[cell],
        "feature_name": np.array(genes)[gene],
        "x_location": xy[cell, 0] + gene,
        "y_location": xy[cell, 1] + gene % 2,
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    return folder


def ingest(run, source, *more):
    limits = ["--min-transcripts", 10, "--min-genes", 3]
    return run("ingest", source, "--name", "Twenty", *OPTIONS, *limits, *more)


def test_ingest_list_show_verify_remove(run, source):
    code, out, err = ingest(run, source, "--json")
    assert code == 0
    report = json.loads(out.splitlines()[-1])
    assert report["slide_id"] == "twenty"
    assert (report["cells_in"], report["cells_kept"]) == (20, 15)
    assert (report["transcripts_in"], report["transcripts_kept"]) == (310, 310)
    # Cells 0-4 fail: A B A B A.
    assert report["retention_per_type"] == {"A": [10, 7], "B": [10, 8]}
    assert report["missing"]
    assert "100%" in err

    code, out, _ = run("slides", "list", "--json")
    assert code == 0
    (slide,) = json.loads(out)["slides"]
    assert slide["sample"] == METADATA
    assert slide["qc"] == {"min_qv": 20.0, "min_transcripts": 10, "min_genes": 3}

    code, out, _ = run("slides", "show", "twenty")
    assert code == 0
    assert "donor=P1" in out
    assert re.search(r"A +10 +7 +70\.0%", out)

    assert run("slides", "verify", "twenty")[:2] == (0, "Slide twenty is intact.\n")
    assert run("slides", "remove", "twenty")[0] == 0
    assert json.loads(run("slides", "list", "--json")[1]) == {"slides": []}
    assert "No slide yet" in run("slides", "list")[1]


def test_people_read_the_same_figures(run, source):
    code, out, _ = ingest(run, source)
    assert code == 0
    assert "15 of 20 pass QC (75.0%)" in out
    assert re.search(r"A +10 +7 +70\.0%", out)


def test_a_name_that_is_taken_and_a_damaged_slide(run, source, tmp_path):
    assert ingest(run, source)[0] == 0
    code, out, err = ingest(run, source)
    assert (code, out) == (2, "")
    assert "exists already" in err
    (path,) = (tmp_path / "home" / "slides" / "twenty" / "index").glob("xy_um.npy")
    path.write_bytes(b"x")
    code, out, err = run("slides", "verify", "twenty", "--json")
    assert code == 2
    told = json.loads(out)
    assert (told["intact"], told["missing"], told["extra"]) == (False, [], [])
    assert told["changed"] == ["index/xy_um.npy"]
    assert "xy_um.npy" in told["problems"][0]
    assert "damaged" in err
    assert "slides rebuild twenty" in err
    assert run("slides", "rebuild", "twenty")[:2] == (
        0,
        "The index of slide twenty is written anew (format 2).\n",
    )
    assert run("slides", "verify", "twenty")[0] == 0
    (path.parents[1] / "meta.json").unlink()
    (path.parents[1] / "left-over").write_text("x")
    code, out, err = run("slides", "verify", "twenty", "--json")
    assert code == 2
    assert (json.loads(out)["missing"], json.loads(out)["extra"]) == (["meta.json"], ["left-over"])
    assert "ingest its source again" in err
    code, out, err = run("slides", "rebuild", "twenty")
    assert (code, out) == (2, "")
    assert "meta.json" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["slides", "show", "nowhere"],
        ["slides", "remove", "../slides"],
        ["slides", "verify", ""],
        ["cooccurrence", "nowhere", "--out", "out"],
        ["cooccurrence", "nowhere", "--out", "out", "--dims", "4"],
    ],
)
def test_bad_input_ends_with_2_and_one_sentence(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "Traceback" not in err


def test_a_folder_that_is_no_bundle_leaves_the_store_as_it_was(run, source, tmp_path):
    ingest(run, source)
    (tmp_path / "empty").mkdir()
    code, _, err = run("ingest", tmp_path / "empty", "--name", "other", *OPTIONS)
    assert code == 2
    assert "no source that can be read" in err
    assert run("ingest", tmp_path / "nothing", "--name", "other", *OPTIONS)[0] == 2
    slides = json.loads(run("slides", "list", "--json")[1])["slides"]
    assert [slide["slide_id"] for slide in slides] == ["twenty"]


def test_cooccurrence_writes_its_folder_once(run, source, tmp_path):
    ingest(run, source)
    out = tmp_path / "pairs"
    options = ["--min-copies", 4, "--permutations", 2, "--radius-um", 8, "--json"]
    code, stdout, _ = run("cooccurrence", "twenty", "--out", out, *options)
    assert code == 0
    report = json.loads(stdout.splitlines()[-1])
    # In each of the 15 cells five genes with four copies each lie within 5 um: 10 pairs.
    assert (report["cells"], report["cells_with_pairs"], report["gene_pairs"]) == (15, 15, 10)
    assert {row["cells"] for row in report["top"]} == {15}
    assert sorted(path.name for path in out.iterdir()) == [
        "COMPLETE.json",
        "cells.parquet",
        "cooccurrence.json",
        "pairs.parquet",
    ]
    assert run("cooccurrence", "twenty", "--out", out)[0] == 2
    assert run("cooccurrence", "twenty", "--out", tmp_path / "z", "--dims", 3)[0] == 2
    assert not (tmp_path / "z").exists()


GROUPS = ["--groupby", "cell_type", "--groups", "A", "B"]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["screen", "twenty", "--checkpoint", "none", *GROUPS], "no checkpoint 'none'"),
        (["evaluate", "paper", "--slide", "twenty"], "suite"),
        (["evaluate", "colocalisation", "--slide", "nowhere"], "no slide"),
        (["evaluate", "colocalisation", "--slide", "twenty", "--negatives", "odd"], "negatives"),
        (["evaluate", "colocalisation", "--slide", "twenty"], "too small"),
    ],
)
def test_science_refuses_bad_input_and_leaves_no_folder(run, source, tmp_path, verb, said):
    ingest(run, source)
    code, out, err = run(*verb, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out*"))


def test_a_region_file_that_cannot_be_read(run, source, tmp_path):
    ingest(run, source)
    folder = tmp_path / "home" / "checkpoints" / "some"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")
    (tmp_path / "binary.geojson").write_bytes(b"\xff\xfe\x00")
    for name, said in [("missing.geojson", "does not exist"), ("binary.geojson", "no text")]:
        verb = ["screen", "twenty", "--checkpoint", "some", *GROUPS, "--roi", tmp_path / name]
        code, _, err = run(*verb, "--out", tmp_path / "out")
        assert code == 2
        assert said in err


@pytest.mark.parametrize(
    ("suite", "given", "unread"),
    [
        ("screen", ("--slide", "demo"), "--slide"),
        ("screen", ("--groupby", "x", "--negatives", "hard"), "--groupby, --negatives"),
        ("genepairs", ("--slide", "demo", "--checkpoint", "x"), "--checkpoint"),
    ],
)
def test_a_suite_refuses_options_that_it_does_not_read(run, tmp_path, suite, given, unread):
    code, _, err = run("evaluate", suite, *given, "--out", tmp_path / "out")
    assert (code, f"The suite '{suite}' does not read {unread}." in err) == (2, True)
