"""Whole folders: what is read, and the one sentence for each that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source
from spatialformer_core.slides import SlideStore, ingest

SAMPLE = SampleMetadata(
    donor="d", block="b", condition="c", tissue="t", species="s", assay="Xenium"
)


def refused(source: Path, **options) -> str:
    """Ingest; return the sentence, after checking that the store stayed empty."""
    store = SlideStore(source.parent / "home")
    with pytest.raises(SpatialFormerError) as error:
        ingest(source, store, name="x", sample=SAMPLE, qc=QcThresholds(), **options)
    assert not list(store.root.glob("*")), "the store changed"
    assert str(source.parent) not in str(error.value), "a path of the server in a message"
    return str(error.value)


@pytest.fixture
def table(bundles, tmp_path) -> Path:
    return bundles.write_table_folder(tmp_path / "source", bundles.Tissue())


@pytest.fixture
def xenium(bundles, tmp_path) -> Path:
    return bundles.write_xenium(tmp_path / "source", bundles.Tissue())


def edit(path: Path, change) -> None:
    with h5py.File(path, "a") as file:
        change(file)


def put(file, name: str, values, **options) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


TEXT = h5py.string_dtype()
H5AD_FAULTS = {
    "no coordinates": (lambda f: f.pop("obsm"), "no coordinates"),
    "NaN coordinates": (
        lambda f: put(f, "obsm/spatial", np.full((40, 2), np.nan)),
        "missing or infinite",
    ),
    "too few coordinates": (lambda f: put(f, "obsm/spatial", np.ones((39, 2))), "40 cells"),
    "coordinates in metres": (
        lambda f: put(f, "obsm/spatial", np.full((40, 2), 1e7)),
        "micrometres",
    ),
    "duplicate ids": (
        lambda f: put(f, "obs/_index", np.array(["a"] * 40, object), dtype=TEXT),
        "occur more than once",
    ),
    "fewer ids": (
        lambda f: put(f, "obs/_index", np.array(["a", "b"], object), dtype=TEXT),
        "2 cells x 22 features",
    ),
    "only controls": (lambda f: put(f, "var/is_gene", np.zeros(22, bool)), "Unknown panel"),
    "flags that are no flags": (lambda f: put(f, "var/is_gene", np.zeros(22)), "true or false"),
    "fractions": (lambda f: f["X/data"].write_direct(f["X/data"][:] + 0.5), "fractions"),
    "negative": (lambda f: f["X/data"].write_direct(-f["X/data"][:]), "negative"),
    "NaN": (lambda f: f["X/data"].write_direct(f["X/data"][:] * np.float32("nan")), "not finite"),
    "index beyond": (
        lambda f: f["X/indices"].write_direct(f["X/indices"][:] + 30),
        "declared shape",
    ),
    "falling pointers": (
        lambda f: f["X/indptr"].write_direct(f["X/indptr"][:][::-1].copy()),
        "declared shape",
    ),
    "no X": (lambda f: f.pop("X"), "no X"),
    "no obs": (lambda f: f.pop("obs"), "no obs"),
    "codes beyond": (
        lambda f: put(f, "obs/celltype_marker/codes", np.full(40, 9, np.int8)),
        "do not fit",
    ),
    "empty": (lambda f: [f.pop(name) for name in list(f)], "no X, obs, var"),
}


@pytest.mark.parametrize("fault", H5AD_FAULTS)
def test_bad_h5ad(table, fault: str) -> None:
    change, message = H5AD_FAULTS[fault]
    edit(table / "cells.h5ad", change)
    sentence = refused(table)
    assert message in sentence
    assert "cells.h5ad" in sentence


def test_folder_that_is_no_bundle(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no source that can be read" in refused(tmp_path / "empty")
    assert "does not exist" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "no source that can be read" in refused(tmp_path / "file")


def test_table_folder_without_transcripts(table) -> None:
    (table / "transcripts.parquet").unlink()
    data = read_source(table)
    assert data.transcripts.n == 0
    assert data.missing[0].startswith("No transcripts")


def test_optional_parts_are_reported(table) -> None:
    (table / "cell_boundaries.parquet").unlink()
    data = read_source(table)
    assert data.polygons is None
    assert sorted(sentence.split(":")[0] for sentence in data.missing) == [
        "No image.",
        "No qv column",
        "No z_location column",
        "cell_boundaries.parquet",
    ]


def test_other_layouts_of_the_same_cells_agree(table) -> None:
    """CSC or dense X, coordinates in obs, and control names instead of flags."""
    expected = read_source(table).cells

    def change(file) -> None:
        dense = np.zeros((40, 22), np.float32)
        x = file["X"]
        for row in range(40):
            part = slice(x["indptr"][row], x["indptr"][row + 1])
            dense[row, x["indices"][part]] = x["data"][part]
        del file["X"], file["var/is_gene"]
        file["X"] = dense
        xy = file["obsm/spatial"][:]
        del file["obsm"]
        file["obs/x_centroid"], file["obs/y_centroid"] = xy.T

    edit(table / "cells.h5ad", change)
    found = read_source(table).cells
    assert (found.counts != expected.counts).nnz == 0
    assert found.genes == expected.genes
    assert found.control_names == expected.control_names
    assert np.array_equal(found.xy_um, expected.xy_um)


def test_labels_given_by_the_user(table) -> None:
    labels = table.parent / "labels.csv"
    labels.write_text("cell_id,group\ncell-3,A\ncell-4,B\nnobody,A\n")
    data = read_source(table, labels=labels)
    assert data.cells.groups["cell_type"].codes.tolist()[3:5] == [0, 1]
    assert data.notes["labels_of_unknown_cells"] == 1
    labels.write_text("cell_id,group\nx,A\n")
    assert "None of its 1 cell ids" in refused(table, labels=labels)
    labels.unlink()
    assert "is not there" in refused(table, labels=labels)


def test_default_group_must_exist(table) -> None:
    assert "Groupings: celltype_marker" in refused(table, default_group="nothing")


def test_he_needs_its_alignment(table, bundles) -> None:
    he = table.parent / "he.tif"
    bundles.write_he(he, size=100)
    assert "needs its alignment" in refused(table, he=he)
    affine = table.parent / "a.csv"
    affine.write_text("1,0,0\n0,1,0\n0,0,1\n")
    assert "morphology image" in refused(table, he=he, he_affine=affine)
    assert "without its image" in refused(table, he_affine=affine)
    bundles.write_stain(table / "morphology.ome.tif", pixel_um=0.25, size=100)
    images = read_source(table, he=he, he_affine=affine).images
    assert [(i.name, i.um_from_px[0, 0]) for i in images] == [("morphology", 0.25), ("he", 0.25)]
    affine.write_text("1,0,90000\n0,1,0\n0,0,1\n")
    assert "puts it beside the slide" in refused(table, he=he, he_affine=affine)


@pytest.mark.parametrize("name", ["cells.parquet", "cell_feature_matrix.h5", "transcripts.parquet"])
def test_xenium_without_a_needed_file(xenium, name: str) -> None:
    (xenium / name).unlink()
    assert f"lacks {name}" in refused(xenium)


def test_xenium_cells_and_matrix_must_agree(xenium) -> None:
    table = pq.read_table(xenium / "cells.parquet")
    ids = table.column("cell_id").to_pylist()
    other = pa.array(["stranger", *ids[1:]])
    pq.write_table(table.set_column(0, "cell_id", other), xenium / "cells.parquet")
    assert "1 of 40 cells are not in the matrix" in refused(xenium)


def test_xenium_matrix_in_another_order_is_put_right(xenium) -> None:
    expected = read_source(xenium).cells
    table = pq.read_table(xenium / "cells.parquet")
    order = np.random.default_rng(0).permutation(40)
    pq.write_table(table.take(order), xenium / "cells.parquet")
    found = read_source(xenium).cells
    assert found.cell_ids.tolist() == expected.cell_ids[order].tolist()
    assert np.array_equal(found.counts.toarray(), expected.counts.toarray()[order])


def test_xenium_panel_of_controls_alone(xenium) -> None:
    def change(file) -> None:
        kinds = file["matrix/features/feature_type"]
        kinds[...] = np.array([b"Negative Control"] * len(kinds))

    edit(xenium / "cell_feature_matrix.h5", change)
    assert "Unknown panel" in refused(xenium)


@pytest.mark.parametrize("value", ["x", -1, 0, [1], True, 1e9])
def test_xenium_pixel_size_must_be_one(xenium, value) -> None:
    (xenium / "experiment.xenium").write_text(json.dumps({"pixel_size": value}))
    assert "pixel_size" in refused(xenium)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_xenium_experiment_must_be_json(xenium, text: str) -> None:
    (xenium / "experiment.xenium").write_text(text)
    assert refused(xenium)


def test_xenium_parts_that_may_be_absent(xenium) -> None:
    assert read_source(xenium).simulated is False
    for name in ("experiment.xenium", "gene_panel.json", "cell_boundaries.parquet"):
        (xenium / name).unlink()
    (xenium / "truth.json").write_text("{}")
    data = read_source(xenium)
    told = {sentence.split(":")[0] for sentence in data.missing}
    assert {"experiment.xenium", "gene_panel.json", "cell_boundaries.parquet"} <= told
    assert data.simulated
    assert data.counts_min_qv == 20


def test_real_toy_bundle_copes_with_what_it_lacks(shared_data, tmp_path) -> None:
    store = SlideStore(tmp_path / "home")
    source = shared_data / "xenium_toy_bundle"
    report = ingest(source, store, name="toy", sample=SAMPLE, qc=QcThresholds())
    assert (report.cells_in, report.transcripts_in) == (526, 5260)
    told = " ".join(report.missing)
    assert "experiment.xenium" in told
    assert "gene_panel.json" in told
    assert "pixel size is not known" in told
    slide = store.open("toy")
    table = pq.read_table(source / "cells.parquet").to_pandas()
    # Its transcripts are a sample; the matrix is whole and agrees with the instrument's own totals.
    assert np.array_equal(slide.n_transcripts, table.transcript_counts)
    assert slide.meta.has_z
    assert slide.meta.mismatch["median_ratio"] < 0.5
    polygons = slide.polygons()
    assert np.all(np.diff(polygons.indptr) == 13)
