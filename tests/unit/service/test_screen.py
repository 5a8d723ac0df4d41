import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import TEST, TRAIN, VALIDATION, split_by_recipe
from spatialformer_core.perturbation import COLUMNS, ScreenRequest
from spatialformer_core.service.evaluate import EvaluationRequest, run_evaluate_job, run_evaluation
from spatialformer_core.service.screen import (
    estimate_screen,
    run_screen_job,
    run_screen_request,
    screen_result,
)
from spatialformer_core.service.training_cells import exposure, training_split
from spatialformer_core.slides import SlideStore, ingest

N_GENES = 24
GENES = [f"GENE{k:02d}" for k in range(N_GENES)]
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
BLOCKS = {
    "block_um": 100.0,
    "gap_um": 50.0,
    "fractions": [0.6, 0.15, 0.25],
    "patches": 1,
    "seed": 0,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("screen-source") / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(0)
    n = 2000
    xy = rng.random((n, 2)) * (2000.0, 1000.0)
    counts = rng.poisson(1.5, (n, N_GENES)).astype(np.int32)
    kind = rng.integers(0, 2, n)
    ids = [f"c{i}" for i in range(n)]
    obs = pd.DataFrame({"cell_type": pd.Categorical(np.array(["A", "B"])[kind])}, index=ids)
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))
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
    return folder


def save_checkpoint(home, slide, name, genes=None, **provenance):
    from spatialformer_core.model import build, preset_config
    from spatialformer_core.model import save_checkpoint as save
    from spatialformer_core.vocabulary import build_vocabulary

    chosen = slide.genes if genes is None else genes
    vocabulary = build_vocabulary([(chosen, slide.counts[:, : len(chosen)])], [SAMPLE])
    model = build(preset_config("two-tower", "tiny", len(vocabulary)))
    facts = {"simulated": False, "trained_on": [], **provenance}
    save(home / "checkpoints" / name, model, vocabulary, facts, "A card.")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, source):
    home = tmp_path_factory.mktemp("screen-home")
    store = SlideStore(home)
    qc = QcThresholds(min_transcripts=10, min_genes=5)
    ingest(source, store, name="Mixed", sample=SAMPLE, qc=qc)
    slide = store.open("mixed")
    kept = np.asarray(slide.passes_qc)
    codes = split_by_recipe(slide.xy_um, BLOCKS)
    names = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    counts = {name: int(np.sum(codes[kept] == code)) for name, code in names.items()}
    trained = {
        "trained_on": [{"slide": "mixed", "donor": "P1", "split": counts}],
        "blocks": {"mixed": BLOCKS},
    }
    save_checkpoint(home, slide, "foreign")
    save_checkpoint(home, slide, "own", **trained)
    save_checkpoint(home, slide, "simulated", simulated=True)
    save_checkpoint(home, slide, "narrow", genes=slide.genes[:8])
    return home


@pytest.fixture
def store(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "home")
    monkeypatch.setenv("SPATIALFORMER_HOME", str(tmp_path / "home"))
    return SlideStore(tmp_path / "home")


def request(**changes):
    values = {
        "slide_ids": ("mixed",),
        "groupby": "cell_type",
        "group_left": "A",
        "group_right": "B",
        "checkpoint_id": "foreign",
        "max_pairs_per_unit": 10,
        **changes,
    }
    return ScreenRequest(**values)


def square(name, x, y, side=300.0):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


def test_a_job_gives_the_pairs_that_the_estimate_announced(store, tmp_path):
    wanted = request()
    estimate = estimate_screen(store, wanted)
    assert not estimate.seconds_measured
    out = tmp_path / "out"
    with files.atomic_directory(out) as folder:
        run_screen_job(wanted.model_dump(mode="json"), folder, lambda *_: None, lambda: False)
    view = screen_result(out)
    assert list(view.table.columns) == list(COLUMNS)
    assert len(view.table) == estimate.n_tested > 0
    assert view.info["pairs"]["near_used"] == estimate.n_near
    assert view.info["pairs"]["far_used"] == estimate.n_far
    assert view.info["cost"]["encodings"] == estimate.forwards
    assert view.info["cost"]["head_evaluations"] == estimate.evaluations
    assert view.info["gate"]["cells"] == "unseen"
    assert view.table["co_occurs"].notna().all()
    # The request in the result runs the same screen again.
    assert ScreenRequest(**view.info["request"]) == wanted
    assert estimate_screen(store, wanted).seconds_measured


def test_the_estimate_needs_no_torch(store):
    code = (
        "import sys; from pathlib import Path\n"
        "from spatialformer_core.slides import SlideStore\n"
        "from spatialformer_core.perturbation import ScreenRequest\n"
        "from spatialformer_core.service.screen import estimate_screen\n"
        f"request = ScreenRequest.model_validate_json({request().model_dump_json()!r})\n"
        f"estimate_screen(SlideStore(Path({str(store.root.parent)!r})), request)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_regions_given_or_saved_are_the_replicates(store):
    from spatialformer_core.slides import parse_rois

    text = collection(square("one", 100, 100), square("two", 600, 100))
    given = estimate_screen(store, request(regions_geojson=text, unit="roi"))
    assert given.n_units == 2
    assert "6 are needed" in given.reason_no_p
    slide = store.open("mixed")
    rois = parse_rois(text, "mixed")
    for roi in rois:
        slide.save_roi(roi)
    saved = estimate_screen(store, request(roi_ids=tuple(roi.roi_id for roi in rois), unit="roi"))
    assert saved.units == given.units
    turned = collection(square("two", 600, 100), square("one", 100, 100))
    assert estimate_screen(store, request(regions_geojson=turned, unit="roi")) == given


def test_a_file_for_several_slides_is_read_by_each_slide(store):
    from spatialformer_core.service.screen_regions import _of_slide

    one, two, three = square("one", 100, 100), square("two", 600, 100), square("any", 100, 600)
    one["properties"]["slide_id"] = "mixed"
    two["properties"]["slide_id"] = "other"
    text = collection(one, two, three)
    names = [
        feature["properties"]["name"]
        for feature in json.loads(_of_slide(text, "mixed", ("mixed", "other")))["features"]
    ]
    assert names == ["one", "any"]
    assert _of_slide(collection(two), "mixed", ("mixed", "other")) is None
    # A region of a slide that is not screened is a mistake, and is refused, not ignored.
    with pytest.raises(SpatialFormerError, match="other"):
        estimate_screen(store, request(regions_geojson=text, unit="roi"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_left": "Z"}, "no type 'Z'"),
        ({"groupby": "nothing"}, "no grouping"),
        ({"slide_ids": ("absent",)}, "absent"),
        ({"checkpoint_id": "absent"}, "no checkpoint"),
        ({"checkpoint_id": "narrow"}, "33%"),
        ({"checkpoint_id": "simulated"}, "simulated tissue"),
        ({"roi_ids": ("absent",)}, "no region"),
        ({"regions_geojson": collection(square("x", 9000, 9000))}, "outside the slide"),
        (
            {"regions_geojson": collection(square("a", 0, 0), square("b", 200, 0))},
            "overlap",
        ),
        (
            {
                "regions_geojson": collection(
                    {
                        "type": "Feature",
                        "properties": {"name": "bow"},
                        "geometry": {
                            "type": "Polygon",
                            "coordinates": [[[0, 0], [300, 300], [300, 0], [0, 300], [0, 0]]],
                        },
                    }
                )
            },
            "crosses itself",
        ),
    ],
)
def test_what_cannot_be_screened_is_said_in_the_estimate(store, changes, message):
    with pytest.raises(SpatialFormerError, match=message):
        estimate_screen(store, request(**changes))


def test_a_simulated_checkpoint_that_is_allowed_marks_the_result(store, tmp_path):
    wanted = request(checkpoint_id="simulated", allow_simulated=True)
    assert any("SIMULATED" in mark for mark in estimate_screen(store, wanted).marks)
    folder = store.root.parent / "checkpoints" / "simulated"
    view = run_screen_request(store, wanted, folder, tmp_path)
    assert any("SIMULATED" in mark for mark in view.info["marks"])
    assert "SIMULATED" in (tmp_path / "NOTES.txt").read_text()


def test_cells_seen_in_training_follow_from_the_stored_recipe(store):
    slide = store.open("mixed")
    own = files.read_json(store.root.parent / "checkpoints" / "own" / "provenance.json")
    codes = training_split(slide, own)
    np.testing.assert_array_equal(codes, split_by_recipe(slide.xy_um, BLOCKS))
    known = exposure(slide, own)
    np.testing.assert_array_equal(known.seen, np.isin(codes, (TRAIN, VALIDATION)))
    # Cells of the gaps were not seen, but their neighbours were: they open no gate.
    np.testing.assert_array_equal(known.held_out, codes == TEST)
    foreign = exposure(slide, {"simulated": False, "trained_on": []})
    assert foreign.held_out.all()
    assert not foreign.seen.any()
    # Counts that do not fit the recipe: nobody can tell, and nobody guesses.
    own["trained_on"][0]["split"]["train"] += 1
    assert training_split(slide, own) is None
    assert exposure(slide, own) is None


def test_an_evaluation_uses_the_blocks_that_training_left_out(store, tmp_path):
    folder = store.root.parent / "checkpoints" / "own"
    settings = {
        "n_queries": 50,
        "n_train_pairs": 100,
        "tower_pairs": 4000,
        "seeds": [0],
        "negatives": ["easy"],
    }
    wanted = EvaluationRequest(slide_id="mixed", checkpoint_id="own", settings=settings)
    report = run_evaluation(store, wanted, folder, tmp_path)
    assert {row["method"] for row in report["rows"]} >= {"spatialformer", "type_pair_prior"}
    assert report["provenance"]["checkpoint"]["slide_was_trained_on"]
    slide = store.open("mixed")
    codes = split_by_recipe(slide.xy_um, BLOCKS)[np.asarray(slide.passes_qc)]
    counted = report["provenance"]["cells_per_split_code"]
    assert counted["2"] == int(np.sum(codes == TEST))
    assert (tmp_path / "report.md").is_file()
    # The same weights under another name, asked in the same run: the same answers.
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    (tmp_path / "two").mkdir()
    report = run_evaluation(store, wanted, folder, tmp_path / "two", others=(again,))
    values = {row["method"]: row["value"] for row in report["rows"] if row["metric"] == "auroc"}
    assert values["spatialformer"] == values["spatialformer:again"]
    ahead = {(row["method"], row["against"]): row["value"] for row in report["differences"]}
    assert ahead["spatialformer:again", "spatialformer"] == 0
    text = (tmp_path / "two" / "report.md").read_text()
    assert "| spatialformer:again ahead of |" in text
    with pytest.raises(ValueError, match="beside a first one"):
        EvaluationRequest(slide_id="mixed", also=("again",))


def test_an_evaluation_without_a_model_is_a_job_of_baselines(store, tmp_path):
    params = {
        "slide_id": "mixed",
        "settings": {
            "n_queries": 50,
            "n_train_pairs": 100,
            "tower_pairs": 4000,
            "seeds": [0],
            "negatives": ["easy"],
        },
        "split": BLOCKS,
    }
    run_evaluate_job(params, tmp_path, lambda *_: None, lambda: False)
    report = files.read_json(tmp_path / "report.json")
    assert "spatialformer" not in {row["method"] for row in report["rows"]}
    with pytest.raises(SpatialFormerError, match="simulated tissue"):
        run_evaluate_job(
            {**params, "checkpoint_id": "simulated"}, tmp_path, lambda *_: None, lambda: False
        )
