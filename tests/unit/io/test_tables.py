"""Transcripts, outlines and labels in every spelling that instruments use."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.labels import read_labels
from spatialformer_core.io.polygons import read_polygons
from spatialformer_core.io.transcripts import read_transcripts

IDS = np.array(["10", "11", "12"])
GENES = ("A", "B")
CELL = [11, 10, -1, 12, 99, 11]
NAMES = ["B", "BLANK_1", "A", "A", "B", "A"]
TEXT = [str(c) if c != -1 else None for c in CELL]

SPELLINGS = {
    "text": pa.array(TEXT, pa.string()),
    "unassigned": pa.array([t or "UNASSIGNED" for t in TEXT], pa.string()),
    "bytes": pa.array([t and t.encode() for t in TEXT], pa.binary()),
    "integer": pa.array(CELL, pa.int32()),
    "dictionary": pa.array(TEXT, pa.string()).dictionary_encode(),
}


def write(path, cell, names=NAMES, **columns):
    n = len(names)
    table = {"x_location": np.arange(n, dtype=np.float32), "y_location": np.ones(n)}
    table |= {"feature_name": names, "cell_id": cell} | columns
    pq.write_table(pa.table(table), path, row_group_size=2)
    return path


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_cell_ids_in_every_spelling(tmp_path, spelling: str) -> None:
    path = write(tmp_path / "t.parquet", SPELLINGS[spelling])
    found = read_transcripts(path, IDS, GENES)
    assert found.cell.tolist() == [1, 0, -1, 2, -1, 1]
    assert found.n_unlisted_cell == 1
    gene = found.gene_of_feature[found.feature]
    assert gene.tolist() == [1, -1, 0, 0, 1, 0]
    assert found.xyz_um.tolist() == [[i, 1] for i in range(6)]
    assert found.qv is None
    assert sorted(found.feature_names) == ["A", "B", "BLANK_1"]


def test_depth_quality_and_progress(tmp_path) -> None:
    path = write(
        tmp_path / "t.parquet", SPELLINGS["text"], z_location=np.arange(6.0), qv=np.arange(6) * 10
    )
    calls = []
    found = read_transcripts(path, IDS, GENES, lambda *a: calls.append(a[:2]))
    assert found.xyz_um[:, 2].tolist() == list(range(6))
    assert found.qv.tolist() == [0, 10, 20, 30, 40, 50]
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_location": np.full(6, np.nan)}, "missing or infinite"),
        ({"y_location": ["a"] * 6}, "numbers expected"),
        ({"feature_name": ["A", None] * 3}, "no feature_name"),
        ({"x_location": [None] + [1.0] * 5}, "missing or infinite"),
    ],
)
def test_bad_transcripts_are_refused(tmp_path, change, message: str) -> None:
    table = pq.read_table(write(tmp_path / "t.parquet", SPELLINGS["text"]))
    for name, values in change.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(SpatialFormerError, match=message):
        read_transcripts(tmp_path / "t.parquet", IDS, GENES)


def test_empty_transcripts_and_missing_columns_are_refused(tmp_path) -> None:
    table = pq.read_table(write(tmp_path / "t.parquet", SPELLINGS["text"]))
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    with pytest.raises(SpatialFormerError, match="0 transcripts"):
        read_transcripts(tmp_path / "none.parquet", IDS, GENES)
    pq.write_table(table.drop_columns(["x_location"]), tmp_path / "less.parquet")
    with pytest.raises(SpatialFormerError, match="x_location expected"):
        read_transcripts(tmp_path / "less.parquet", IDS, GENES)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.int64()])
def test_outlines_come_in_cell_order(tmp_path, kind) -> None:
    cell = pa.array([12] * 3 + [99] * 3 + [10] * 4).cast(pa.string())
    cell = cell.cast(kind) if kind != pa.int64() else cell.cast(pa.int64())
    xy = np.arange(20.0).reshape(10, 2)
    table = pa.table({"cell_id": cell, "vertex_x": xy[:, 0], "vertex_y": xy[:, 1]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=4)
    found, n_unlisted = read_polygons(tmp_path / "p.parquet", IDS)
    assert found.indptr.tolist() == [0, 4, 4, 7]
    assert np.array_equal(found.xy_um, xy[[6, 7, 8, 9, 0, 1, 2]])
    assert n_unlisted == 3
    with pytest.raises(SpatialFormerError, match="None of its cell ids"):
        read_polygons(tmp_path / "p.parquet", np.array(["x", "y"]))


def test_labels(tmp_path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("﻿cell_id,group,zone\n12,T cell,\n10,Tumour,core\n77,Tumour,rim\n")
    found = read_labels(path, tmp_path, IDS)
    assert (found.n_unknown, found.n_unlabelled) == (1, 1)
    assert found.groups["cell_type"].categories == ("T cell", "Tumour")
    assert found.groups["cell_type"].codes.tolist() == [1, -1, 0]
    assert found.groups["zone"].categories == ("core",)
    assert found.groups["zone"].codes.tolist() == [0, -1, -1]


def test_labels_may_be_gzipped_and_names_quoted(tmp_path) -> None:
    text = 'cell_id,"zone, wide"\n12,"T cell, naive"\n10, Tumour \n'
    (tmp_path / "l.csv.gz").write_bytes(gzip.compress(text.encode()))
    ((name, found),) = read_labels(tmp_path / "l.csv.gz", tmp_path, IDS).groups.items()
    assert name == "zone, wide"
    assert found.categories == ("T cell, naive", "Tumour")
    assert found.codes.tolist() == [1, -1, 0]


def test_instrument_clusters(tmp_path) -> None:
    (tmp_path / "c.csv").write_text("Barcode,Cluster\n10,2\n11,1\n12,2\n")
    found = read_labels(tmp_path / "c.csv", tmp_path, IDS).groups["cluster"]
    assert [found.categories[c] for c in found.codes] == ["2", "1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "cell_id and group expected"),
        ("cell_id\n10\n", "cell_id and group expected"),
        ("cell_id,group\n77,x\n", "None of its 1 cell ids"),
        ("cell_id,group\n", "None of its 0 cell ids"),
        ("cell_id,group\n10,x\n10,y\n", "more than once"),
        ("cell_id,group\n10,x,y\n", "Expected 2 columns"),
        ("cell_id,group\n10,\xff\n", "invalid UTF8"),
        ("cell_id,group\n" + "".join(f"{i},g{i}\n" for i in range(1_001)), "1,001 different"),
        ("cell_id,group\n10," + "x" * 600 + "\n", "different labels"),
        ("cell_id,group\n" + "x" * 600 + ",y\n", "longer than 128"),
        (",".join(["cell_id", *"abcdefghijklmnopqrstuvwxyzABCDEFG"]) + "\n", "cell_id and group"),
        ("cell_id," + "x" * 200_000 + "\n", "no header"),
    ],
)
def test_bad_labels_are_refused(tmp_path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpatialFormerError, match=message):
        read_labels(tmp_path / "l.csv", tmp_path, IDS)
