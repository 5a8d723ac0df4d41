"""Damaged copies of every form: one sentence that names the file, and a store as it was."""

from __future__ import annotations

import gzip
import json
import zlib
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
TABLES = ("cells", "transcripts", "cell_boundaries", "nucleus_boundaries")
MEX = "cell_feature_matrix"
BANNER = b"%%MatrixMarket matrix coordinate integer general\n"
FORMS = {
    "parquet": (*(f"{table}.parquet" for table in TABLES), f"{MEX}.h5"),
    "csv.gz": (*(f"{table}.csv.gz" for table in TABLES), MEX),
    "zarr.zip": ("cells.zarr.zip", "transcripts.zarr.zip", f"{MEX}.zarr.zip"),
}
FILES = [
    ("parquet", name) for name in FORMS["parquet"]
] + [
    ("csv.gz", name) for name in (*FORMS["csv.gz"][:4], *(f"{MEX}/{part}" for part in (
        "barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz")))
] + [("zarr.zip", name) for name in FORMS["zarr.zip"]]  # fmt: skip


def refused(source: Path) -> str:
    """Ingest; return the sentence, after checking that the store stayed empty."""
    store = SlideStore(source.parent / "home")
    with pytest.raises(SpatialFormerError) as error:
        ingest(source, store, name="x", sample=SAMPLE, qc=QcThresholds())
    assert not list(store.root.glob("*")), "the store changed"
    sentence = str(error.value)
    assert str(source.parent) not in sentence, "a path of the server in a message"
    assert "spatialformer-" not in sentence, "a scratch folder in a message"
    return sentence


@pytest.fixture
def folder_of(all_forms, tmp_path):
    """Return a copy of the slide in one form."""
    return lambda form: all_forms.variant(tmp_path / "source", *FORMS[form])


@pytest.fixture
def change(all_forms, folder_of, xenium_forms):
    """Change a table, written in one form, and return its folder and the file's name."""

    def apply(form: str, table: str, edit) -> tuple[Path, str]:
        folder = folder_of(form)
        changed = edit(pq.read_table(all_forms.folder / f"{table}.parquet"))
        path = folder / f"{table}.{form}"
        if form == "parquet":
            pq.write_table(changed, path)
        else:
            xenium_forms.write_csv(path, changed)
        return folder, path.name

    return apply


def put(column: str, values):
    """Return an edit that gives a column other values, from the old ones."""

    def edit(table: pa.Table) -> pa.Table:
        new = values(table.column(column).to_pylist())
        return table.set_column(table.schema.get_field_index(column), column, pa.array(new))

    return edit


def first(value):
    return lambda old: [value, *old[1:]]


FAULTS = {
    "words for numbers": ("cells", put("x_centroid", lambda old: ["x"] * len(old)), ""),
    "NaN": ("cells", put("y_centroid", first(float("nan"))), "missing or infinite"),
    "infinite": ("cells", put("x_centroid", first(float("inf"))), "missing or infinite"),
    "in metres": ("cells", put("x_centroid", lambda old: [1e9] * len(old)), "micrometres"),
    "same id": ("cells", put("cell_id", lambda old: [old[1], *old[1:]]), "more than once"),
    "no id": ("cells", put("cell_id", first(None)), "empty or longer"),
    "long id": ("cells", put("cell_id", first("é" * 200)), "empty or longer"),
    "unknown cell": ("cells", put("cell_id", first("stranger")), "not in the matrix"),
    "no cells": ("cells", lambda t: t.slice(0, 0), "no cells"),
    "no column": ("cells", lambda t: t.drop_columns(["x_centroid"]), "x_centroid expected"),
    "transcript words": ("transcripts", put("x_location", lambda old: ["x"] * len(old)), ""),
    "transcript NaN": ("transcripts", put("x_location", first(float("nan"))), "missing or"),
    "transcript -inf": ("transcripts", put("z_location", first(float("-inf"))), "missing or"),
    "no feature name": ("transcripts", put("feature_name", first(None)), "no feature_name"),
    "quality in words": ("transcripts", put("qv", lambda old: ["x"] * len(old)), ""),
    "flag in words": ("transcripts", put("overlaps_nucleus", lambda o: ["x"] * len(o)), ""),
    "no transcripts": ("transcripts", lambda t: t.slice(0, 0), "0 transcripts"),
    "no place": ("transcripts", lambda t: t.drop_columns(["y_location"]), "y_location expected"),
    "outline NaN": ("cell_boundaries", put("vertex_x", first(float("nan"))), "missing or"),
    "outlines of others": ("cell_boundaries", put("cell_id", lambda o: ["x"] * len(o)), "None of"),
    "no outlines": ("cell_boundaries", lambda t: t.slice(0, 0), "None of its cell ids"),
    "nucleus infinite": ("nucleus_boundaries", put("vertex_y", first(float("inf"))), "missing or"),
    "nucleus without x": ("nucleus_boundaries", lambda t: t.drop_columns(["vertex_x"]), "vertex_x"),
}


@pytest.mark.parametrize("form", ["parquet", "csv.gz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_bad_rows_are_refused(change, fault: str, form: str) -> None:
    table, edit, message = FAULTS[fault]
    folder, name = change(form, table, edit)
    sentence = refused(folder)
    assert message in sentence
    assert name in sentence


@pytest.mark.parametrize("form", ["parquet", "csv.gz"])
def test_names_in_any_script_are_read(change, folder_of, form: str) -> None:
    table, name = "transcripts", "Größe_基因"
    folder, _ = change(form, table, put("feature_name", first(name)))
    assert name in read_source(folder).transcripts.feature_names


@pytest.mark.security
@pytest.mark.parametrize("keep", [0, 3, 0.3, 0.7, -1])
@pytest.mark.parametrize(("form", "name"), FILES)
def test_truncated_files_are_refused(folder_of, form: str, name: str, keep: float) -> None:
    folder = folder_of(form)
    path = folder / name
    data = path.read_bytes()
    end = int(keep) if keep in (0, 3, -1) else int(len(data) * keep)
    path.write_bytes(data[:end])
    assert path.name in refused(folder)


@pytest.mark.security
@pytest.mark.parametrize(("form", "name"), FILES)
def test_noise_is_an_error_of_ours_or_harmless(folder_of, form: str, name: str) -> None:
    folder = folder_of(form)
    path = folder / name
    whole = path.read_bytes()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(6):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 12):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            read_source(folder)
        except SpatialFormerError:
            continue


@pytest.mark.security
@pytest.mark.parametrize("name", ["cells.csv.gz", "transcripts.csv.gz", f"{MEX}/features.tsv.gz"])
def test_a_header_without_end_is_refused(folder_of, name: str) -> None:
    folder = folder_of("csv.gz")
    noise = np.random.default_rng(0).integers(97, 123, 2_000_000, np.uint8).tobytes()
    (folder / name).write_bytes(gzip.compress(noise, 1))
    assert "line is longer than" in refused(folder)


@pytest.mark.security
@pytest.mark.parametrize(
    ("name", "head", "body"),
    [
        ("cells.csv.gz", b"cell_id,x_centroid,y_centroid\n", b"a,1,1\n"),
        ("transcripts.csv.gz", b"feature_name,x_location,y_location\n", b"a,1,1\n"),
        (f"{MEX}/matrix.mtx.gz", BANNER + b"22 36 9\n", b"1 1 1\n"),
        (f"{MEX}/barcodes.tsv.gz", b"", b"a\n"),
    ],
)
def test_text_that_expands_without_end_is_refused(folder_of, name, head, body) -> None:
    folder = folder_of("csv.gz")
    (folder / name).write_bytes(gzip.compress(head + body * (25_000_000 // len(body)), 6))
    sentence = refused(folder)
    assert "expands to more than" in sentence
    assert Path(name).name in sentence


HEADS = {
    "only comments": (BANNER.decode() + "%\n" * 2_000, "declares '%'"),
    "other banner": ("%%MatrixMarket matrix array real general\n2 2\n", "does not begin with"),
    "other size": (BANNER.decode() + "9 9 1\n1 1 1\n", "declares"),
    "no size": (BANNER.decode() + "%\n", "declares ''"),
    "huge size": (BANNER.decode() + "22 36 99999999999\n", "entries"),
    "too few": (BANNER.decode() + "22 36 2\n1 1 1\n", "do not fit"),
    "beyond": (BANNER.decode() + "22 36 1\n23 1 1\n", "do not fit"),
    "from zero": (BANNER.decode() + "22 36 1\n0 1 1\n", "do not"),
    "negative": (BANNER.decode() + "22 36 1\n1 1 -1\n", "do not"),
    "too large": (BANNER.decode() + "22 36 1\n1 1 9999999999\n",
                  "do not"),
    "fraction": ("%%MatrixMarket matrix coordinate real general\n22 36 1\n1 1 0.5\n", "cannot be"),
    "two columns": (BANNER.decode() + "22 36 1\n1 1\n", "cannot"),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_bad_matrix_text_is_refused(folder_of, head: str) -> None:
    text, message = HEADS[head]
    folder = folder_of("csv.gz")
    (folder / MEX / "matrix.mtx.gz").write_bytes(gzip.compress(text.encode()))
    sentence = refused(folder)
    assert message in sentence
    assert "matrix.mtx.gz" in sentence


def test_a_panel_without_genes_is_refused_in_every_form(all_forms, xenium_forms, folder_of) -> None:
    import zarr

    folder = folder_of("csv.gz")
    path = folder / MEX / "features.tsv.gz"
    text = gzip.decompress(path.read_bytes()).replace(b"Gene Expression", b"Negative Control")
    path.write_bytes(gzip.compress(text))
    assert "Unknown panel" in refused(folder)
    for part in path.parent.iterdir():
        part.unlink()
    path.parent.rmdir()
    store = zarr.storage.ZipStore(folder / f"{MEX}.zarr.zip", mode="w")
    attributes = {"feature_keys": ["a"], "feature_ids": ["a"], "feature_types": ["blank"]}
    group = zarr.group(store, zarr_format=2).create_group("cell_features", attributes=attributes)
    n = all_forms.tissue.n_cells
    group.create_array("cell_id", data=xenium_forms.id_numbers(n))
    for name, values in {"data": [1], "indices": [0], "indptr": [0, 1]}.items():
        group.create_array(name, data=np.array(values, np.uint32))
    store.close()
    assert "Unknown panel" in refused(folder)
    with h5py.File(folder / f"{MEX}.h5", "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = all_forms.tissue.ids.astype("S")
        matrix["data"] = matrix["indices"] = np.zeros(0, np.int32)
        matrix["indptr"] = np.zeros(n + 1, np.int32)
        for name in ("name", "id", "feature_type"):
            matrix[f"features/{name}"] = np.array([], "S1")
    assert "none of the 0 features is a gene" in refused(folder)


@pytest.mark.parametrize("name", ["experiment.xenium", "gene_panel.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a":' * 5_000])
def test_damaged_json_is_refused(folder_of, name: str, text: str) -> None:
    folder = folder_of("parquet")
    (folder / name).write_text(text)
    assert name in refused(folder)


@pytest.mark.parametrize(
    "panel", [{}, {"payload": 3}, {"payload": {"targets": [3, {"type": 4}, {"type": {}}]}}]
)
def test_a_panel_of_another_shape_gives_no_ids(folder_of, panel) -> None:
    folder = folder_of("parquet")
    (folder / "gene_panel.json").write_text(json.dumps(panel))
    assert read_source(folder).cells.gene_ids is None


@pytest.mark.security
@pytest.mark.parametrize(("form", "name"), FILES)
def test_links_out_of_the_folder_are_refused(folder_of, tmp_path, form: str, name: str) -> None:
    folder = folder_of(form)
    path = folder / name
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    assert "leads outside" in refused(folder)


def test_no_scratch_is_left(folder_of, tmp_path, monkeypatch) -> None:
    import tempfile

    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    folder = folder_of("csv.gz")
    read_source(folder)
    (folder / "transcripts.csv.gz").write_bytes(b"x")
    refused(folder)
    assert not list((tmp_path / "scratch").iterdir())
