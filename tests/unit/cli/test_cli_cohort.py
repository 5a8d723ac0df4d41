"""``ingest --cohort``: a sheet is checked whole, a slide that fails does not stop the others."""

from __future__ import annotations

import csv
import json

import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.service import cohort
from spatialformer_core.slides import SlideStore

COLUMNS = ["source", "name", "donor", "block", "condition", "tissue", "species", "assay"]
QC = QcThresholds()


@pytest.fixture
def sources(bundles, tmp_path):
    """Three small slides beside each other; the second one's transcripts are cut."""
    for seed, name in enumerate("abc"):
        bundles.write_table_folder(tmp_path / "in" / name, bundles.Tissue(seed=seed))
    path = tmp_path / "in" / "b" / "transcripts.parquet"
    path.with_suffix(".whole").write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-30])
    return tmp_path / "in"


def row(source: str, **other: str) -> dict[str, str]:
    values = {"source": source, "name": f"Slide {source}", "donor": f"P-{source}", "block": "1"}
    values |= {"condition": "IPF", "tissue": "Lung", "species": "Human", "assay": "Xenium"}
    return values | other


def sheet(folder, *rows: dict[str, str], columns=COLUMNS):
    path = folder / "sheet.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_one_bad_slide_does_not_stop_the_others_and_a_second_run_completes(
    run, sources, monkeypatch
) -> None:
    path = sheet(sources, row("a"), row("b"), row("c"))
    code, out, err = run("ingest", "--cohort", path, "--json")
    assert code == 2
    report = json.loads(out.splitlines()[-1])
    assert [slide["status"] for slide in report["slides"]] == ["ingested", "failed", "ingested"]
    assert (report["ingested"], report["skipped"], report["failed"]) == (2, 0, 1)
    assert "transcripts.parquet" in report["slides"][1]["error"]
    assert report["slides"][1]["line"] == 3
    assert report["slides"][0]["report"]["cells_in"] == 40
    assert "1 of 3 slides could not be read" in err
    store = SlideStore(files.home())
    assert [meta.slide_id for meta in store.list()] == ["slide-a", "slide-c"]
    assert store.open("slide-c").meta.sample.donor == "P-c"

    whole = sources / "b" / "transcripts.whole"
    whole.rename(sources / "b" / "transcripts.parquet")
    read = []
    ingest = cohort.ingest

    def counted(source, *arguments, **options):
        read.append(source.name)
        return ingest(source, *arguments, **options)

    monkeypatch.setattr(cohort, "ingest", counted)
    code, out, _ = run("ingest", "--cohort", path)
    assert code == 0
    assert read == ["b"]
    words = [line.split() for line in out.splitlines()[1:4]]
    assert [line[3] for line in words] == ["skipped", "ingested", "skipped"]


def test_all_problems_of_a_sheet_come_in_one_message(run, sources, bundles) -> None:
    (sources / "empty").mkdir()
    columns = [*COLUMNS, "he", "he_affine", "um_per_px"]
    path = sheet(
        sources,
        row("a", donor="", he="nowhere.tif"),
        row("nothing"),
        row("a", name="Same"),
        row("c", name="same!"),
        row("c", name="///"),
        row("empty"),
        row("c", he_affine="a/cells.h5ad", um_per_px="x"),
        columns=columns,
    )
    with path.open("a") as stream:
        stream.write("\na,b\n")
    code, out, err = run("ingest", "--cohort", path, "--json")
    assert (code, out) == (2, "")
    for part in (
        "The sheet has 9 problems, and no slide was read",
        "line 2: Invalid SampleMetadata: donor",
        "line 2: he 'nowhere.tif' does not exist",
        "line 3: source 'nothing' does not exist",
        "line 5: same name as line 4",
        "line 6: Name '///' holds no letter or digit",
        "line 7: source 'empty' is of no kind that can be read",
        "line 8: he_affine is given without he",
        "line 8: um_per_px 'x' is no number",
        "line 10: 2 values, 11 expected",
    ):
        assert part in err, part
    assert not list(SlideStore(files.home()).list())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "source is missing"),
        ("source,name\n", "donor is missing"),
        (",".join([*COLUMNS, "colour"]) + "\n", "'colour' is unknown"),
        (",".join([*COLUMNS, "name"]) + "\n", "name occurs twice"),
        (",".join(COLUMNS) + "\n", "names 0 slides"),
        ("\xff", "no CSV"),
    ],
)
def test_sheets_that_are_none(tmp_path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpatialFormerError, match=message) as error:
        cohort.read_cohort(tmp_path / "s.csv", SlideStore(tmp_path / "home"), QC)
    assert str(tmp_path) not in str(error.value)


def test_another_slide_of_that_name_is_a_problem(run, sources) -> None:
    assert run("ingest", "--cohort", sheet(sources, row("a")))[0] == 0
    for changed, what in (
        (row("a", donor="P9"), "sample metadata"),
        (row("c", name="Slide a"), "source and sample"),
    ):
        code, _, err = run("ingest", "--cohort", sheet(sources, changed))
        assert code == 2
        assert f"exists already with other {what}" in err
    code, _, err = run("ingest", "--cohort", sheet(sources, row("a")), "--min-genes", 3)
    assert (code, "other thresholds" in err) == (2, True)


def test_a_sheet_stands_alone(run, sources) -> None:
    code, _, err = run("ingest", sources / "a", "--cohort", "s.csv", "--donor", "P1")
    assert (code, "donor, SOURCE" in err) == (2, True)
    code, _, err = run("ingest")
    assert (code, "--cohort SHEET" in err) == (2, True)


def test_cancelling_stops_the_whole_sheet(sources, tmp_path) -> None:
    store = SlideStore(tmp_path / "home")
    rows = cohort.read_cohort(sheet(sources, row("a"), row("c")), store, QC)
    with pytest.raises(Cancelled):
        cohort.ingest_cohort(rows, store, QC, cancel=lambda: True)
    assert not store.list()


def test_a_simulated_cohort_comes_with_its_sheet(run, tmp_path) -> None:
    out = tmp_path / "sim"
    few = ["--healthy", 1, "--disease", 1, "--cells", 200, "--no-he"]
    code, told, _ = run("simulate", out, *few, "--json")
    assert code == 0
    report = json.loads(told)
    assert (report["healthy"], report["disease"], report["cells"]) == (1, 1, 400)
    rows = list(csv.DictReader((out / report["sheet"]).read_text("utf-8").splitlines()))
    assert [line["condition"] for line in rows] == ["healthy", "disease"]
    assert all((out / line["source"]).is_dir() for line in rows)


@pytest.mark.parametrize("options", [("--granulomas", 3), ("--donor", "P1")])
def test_a_cohort_takes_no_options_of_a_single_slide(run, tmp_path, options) -> None:
    code, _, err = run("simulate", tmp_path / "sim", "--disease", 1, *options)
    assert (code, "A cohort names its donors" in err, options[0] in err) == (2, True, True)
    assert not (tmp_path / "sim").exists()
