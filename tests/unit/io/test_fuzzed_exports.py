"""Broken copies of every export: the right sentence, the file named, the store as it was."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source, spatialdata_store_guard
from spatialformer_core.slides import SlideStore, ingest

SAMPLE = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
Change = Callable[[Path], None]


def check_refused(source: Path, file: str, message: str, **options) -> None:
    """Ingest must fail with a sentence that names the file, and leave no trace."""
    store = SlideStore(source.parent / "home")
    with pytest.raises(SpatialFormerError) as error:
        ingest(source, store, name="x", sample=SAMPLE, qc=QcThresholds(), **options)
    assert re.search(message, str(error.value))
    assert file in str(error.value.where)
    assert not list(store.root.glob("*")), "the store changed"
    assert str(source.parent) not in str(error.value), "a path of the server in a message"


@pytest.fixture(scope="module")
def tissue(bundles):
    """Six cells are enough to break."""
    return bundles.Tissue(n_cells=6, genes=["A", "B", "C"], controls=["NegPrb1"])


# ---------------------------------------------------------------- text tables


def cut(n: int) -> Callable[[str], str]:
    return lambda text: text[:-n]


def put(column: int, value: str) -> Callable[[str], str]:
    """Replace one value of the first row."""

    def change(text: str) -> str:
        lines = text.split("\n")
        fields = lines[1].split(",")
        fields[column] = value
        return "\n".join([lines[0], ",".join(fields), *lines[2:]])

    return change


def twice(text: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[:2], *lines[1:]])


def header_only(text: str) -> str:
    return text.split("\n", maxsplit=1)[0] + "\n"


def rename(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def huge_header(text: str) -> str:
    return '"' + "x" * 1_100_000 + '",' + text


def controls_only(text: str) -> str:
    return re.sub(r'"[ABC]"', '"NegPrb1"', text)


TX, MATRIX, META = "S1_tx_file.csv", "S1_exprMat_file.csv", "S1_metadata_file.csv"
COSMX = {
    "cut within a row": (TX, cut(20), "cannot be read"),
    "text for a number": (TX, put(2, "abc"), "cannot be read"),
    "NaN": (TX, put(2, "nan"), "missing or infinite"),
    "infinite": (TX, put(3, "inf"), "missing or infinite"),
    "no value": (TX, put(2, ""), "missing or infinite"),
    "no gene": (TX, put(7, ""), "names no gene"),
    "impossible cell": (TX, put(1, "-7"), "impossible"),
    "empty": (TX, lambda _: "", "empty"),
    "header alone": (TX, header_only, "no transcript"),
    "column renamed": (TX, rename("target", "gene"), "target expected"),
    "no positions": (TX, lambda t: t.replace("_px", "_pixel"), "no columns of positions"),
    "huge header": (TX, huge_header, "longer than"),
    "not text": (TX, lambda _: "\udcff\udcfe", "UTF-8"),
    "metres": (TX, put(2, "1e12"), "one metre"),
    "cell twice": (META, twice, "more than once"),
    "no cells": (META, header_only, "no cells"),
    "fraction": (MATRIX, put(2, "0.5"), "fractions"),
    "negative": (MATRIX, put(2, "-1"), "negative"),
    "counts of NaN": (MATRIX, put(2, "nan"), "negative or not finite"),
    "gene twice": (MATRIX, rename('"B"', '"A"'), "occurs twice"),
    "no genes": (MATRIX, lambda t: t.replace('"', "").replace("A,B,C", "N1,N2,N3")
                 .replace("N1,N2,N3", "NegPrb7,NegPrb8,NegPrb9"), "Unknown panel"),
    "field of view twice": ("S1_fov_positions_file.csv", twice, "more than once"),
    "outlines of others": ("S1-polygons.csv", lambda t: re.sub(r"\n[12],", "\n9,", t), "None of"),
    "outline of NaN": ("S1-polygons.csv", put(2, "nan"), "missing or infinite"),
}  # fmt: skip


def change_text(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text
    path.write_bytes(change(text).encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("fault", COSMX)
def test_broken_cosmx(exports, tissue, tmp_path, fault: str) -> None:
    file, change, message = COSMX[fault]
    folder = exports.write_cosmx(tmp_path / "source", tissue)
    change_text(folder / file, change)
    check_refused(folder, file, message, um_per_px=0.12)


def test_cosmx_of_controls_alone(exports, tissue, tmp_path) -> None:
    folder = exports.write_cosmx(tmp_path / "source", tissue)
    (folder / MATRIX).unlink()
    change_text(folder / TX, controls_only)
    check_refused(folder, TX, "Unknown panel", um_per_px=0.12)


def test_two_slides_in_a_cosmx_folder(exports, tissue, tmp_path) -> None:
    folder = exports.write_cosmx(tmp_path / "source", tissue)
    shutil.copy(folder / TX, folder / "S2_tx_file.csv")
    check_refused(folder, "source", "of the same kind", um_per_px=0.12)


@pytest.mark.parametrize("cut_at", [10, -10])
def test_truncated_gzip(exports, tissue, tmp_path, cut_at: int) -> None:
    folder = exports.write_cosmx(tmp_path / "source", tissue, suffix=".csv.gz")
    path = folder / f"{TX}.gz"
    path.write_bytes(path.read_bytes()[:cut_at])
    check_refused(folder, path.name, "truncated", um_per_px=0.12)


def test_gzip_that_expands_without_end(exports, tissue, tmp_path) -> None:
    folder = exports.write_cosmx(tmp_path / "source", tissue, suffix=".csv.gz")
    path = folder / f"{TX}.gz"
    head, row = gzip.decompress(path.read_bytes()).split(b"\n")[:2]
    path.write_bytes(gzip.compress(head + b"\n" + (row + b"\n") * 600_000))
    check_refused(folder, path.name, "expands to more", um_per_px=0.12)


COUNTS, CELLS, TRANSCRIPTS = "cell_by_gene.csv", "cell_metadata.csv", "detected_transcripts.csv"
MERSCOPE = {
    "cut within a row": (TRANSCRIPTS, cut(20), "cannot be read"),
    "text for a number": (TRANSCRIPTS, put(2, "abc"), "cannot be read"),
    "NaN": (TRANSCRIPTS, put(2, "nan"), "missing or infinite"),
    "infinite": (TRANSCRIPTS, put(3, "-inf"), "missing or infinite"),
    "header alone": (TRANSCRIPTS, header_only, "no transcript"),
    "empty": (TRANSCRIPTS, lambda _: "", "empty"),
    "column renamed": (TRANSCRIPTS, rename("gene", "target"), "gene expected"),
    "centre of NaN": (CELLS, put(3, "nan"), "missing or infinite"),
    "cell twice": (CELLS, twice, "more than once"),
    "no ids": (CELLS, rename("EntityID", "volume2"), "ids of cells"),
    "no cells": (CELLS, header_only, "no cells"),
    "other cells": (CELLS, lambda t: re.sub(r"\n\"", '\n"9', t), "no cell in common"),
    "row twice": (COUNTS, twice, "more than once"),
    "fraction": (COUNTS, put(1, "0.5"), "fractions"),
    "gene twice": (COUNTS, rename('"B"', '"A"'), "occurs twice"),
    "no genes": (COUNTS, lambda t: t.replace('"A","B","C"', '"Blank-7","Blank-8","Blank-9"'),
                 "Unknown panel"),
    "huge header": (COUNTS, huge_header, "longer than"),
    "matrix of words": ("images/micron_to_mosaic_pixel_transform.csv", lambda _: "a b", "numbers"),
    "matrix of zeros": (
        "images/micron_to_mosaic_pixel_transform.csv", lambda _: "0 0 0\n0 0 0\n0 0 1", "inverted"
    ),
    "matrix too small": ("images/micron_to_mosaic_pixel_transform.csv", lambda _: "1 0", "3x3"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MERSCOPE)
def test_broken_merscope(exports, tissue, tmp_path, fault: str) -> None:
    file, change, message = MERSCOPE[fault]
    folder = exports.write_merscope(tmp_path / "source", tissue)
    change_text(folder / file, change)
    check_refused(folder, file.rpartition("/")[2], message)


def geometry(path: Path, values: list, kind: pa.DataType | None = None) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("Geometry")
    column = pa.array(values * len(table), kind or pa.binary())
    pq.write_table(table.set_column(place, "Geometry", column), path)


OUTLINES = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "truncated"),
    "no shapes": (lambda p: geometry(p, [b"\x01\x02"]), "damaged"),
    "numbers": (lambda p: geometry(p, [1.0], pa.float64()), "holds no outlines"),
    "nothing": (lambda p: geometry(p, [None]), "None of its outlines"),
    "empty": (lambda p: pq.write_table(pq.read_table(p).slice(0, 0), p), "None of its outlines"),
    "without shapes": (
        lambda p: pq.write_table(pq.read_table(p).drop_columns(["Geometry"]), p), "no column"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", OUTLINES)
def test_broken_outlines(exports, tissue, tmp_path, fault: str) -> None:
    change, message = OUTLINES[fault]
    folder = exports.write_merscope(tmp_path / "source", tissue)
    change(folder / "cell_boundaries.parquet")
    check_refused(folder, "cell_boundaries.parquet", message)


# ---------------------------------------------------------------- .h5ad


def into(name: str, values) -> Callable[[h5py.File], None]:
    """Replace a dataset, by values or by what a function of the old ones gives."""

    def change(file: h5py.File) -> None:
        new = values(file[name][:]) if callable(values) else np.asarray(values)
        del file[name]
        kind = h5py.string_dtype() if new.dtype.kind in "UO" else None
        file.create_dataset(name, data=new.astype(object) if kind else new, dtype=kind)

    return change


H5AD = {
    "NaN": (into("obsm/spatial", np.full((6, 2), np.nan)), "missing or infinite"),
    "infinite": (into("obsm/spatial", np.full((6, 2), np.inf)), "missing or infinite"),
    "texts for numbers": (into("obsm/spatial", ["a"] * 6), "should hold numbers"),
    "one column": (into("obsm/spatial", np.zeros(6)), "two columns"),
    "no coordinates": (lambda f: f.pop("obsm"), "no coordinates"),
    "cell twice": (into("obs/_index", ["a"] * 6), "more than once"),
    "no cells": (into("obs/_index", lambda old: old[:0]), "no cells"),
    "numbers for genes": (into("var/_index", np.arange(4)), "should hold text"),
    "no genes": (into("var/is_gene", np.zeros(4, bool)), "Unknown panel"),
    "gene twice": (into("var/_index", ["A", "A", "C", "NegPrb1"]), "occurs twice"),
    "counts of text": (into("X/data", lambda old: old.astype(str)), "holds"),
    "pointers of fractions": (into("X/indptr", lambda old: old + 0.5), "declared shape"),
    "shape of words": (lambda f: f["X"].attrs.update(shape="many"), "states shape"),
    "three sizes": (lambda f: f["X"].attrs.update(shape=[1, 2, 3]), "states shape"),
    "obs of numbers": (lambda f: (f.pop("obs"), f.create_dataset("obs", data=[1.0])), "no column"),
    "header that lies": (
        lambda f: f.create_dataset("obs/big", shape=(1 << 33,), dtype="f8", chunks=(1 << 16,)),
        "declares",
    ),
    "nothing": (lambda f: [f.pop(name) for name in list(f)], "no X, obs, var"),
}


@pytest.mark.parametrize("fault", H5AD)
def test_broken_h5ad(bundles, tissue, tmp_path, fault: str) -> None:
    change, message = H5AD[fault]
    path = tmp_path / "source.h5ad"
    bundles.write_h5ad(path, tissue)
    with h5py.File(path, "a") as file:
        change(file)
    check_refused(path, "source.h5ad", message)


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_truncated_h5ad(bundles, tissue, tmp_path, keep: float) -> None:
    path = tmp_path / "source.h5ad"
    bundles.write_h5ad(path, tissue)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)] if 0 < keep < 1 else whole[: int(keep)])
    check_refused(path, "source.h5ad", "empty|damaged")


# ---------------------------------------------------------------- SpatialData


@pytest.fixture(scope="module")
def whole(exports, tissue, tmp_path_factory) -> Path:
    return exports.write_spatialdata(tmp_path_factory.mktemp("stores") / "s.zarr", tissue)


def points(change: Callable[[pa.Table], pa.Table]) -> Change:
    def edit(store: Path) -> None:
        path = store / "points/transcripts/points.parquet/part.0.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return edit


def column(name: str, value) -> Change:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        values = pa.array([value] * len(table))
        return table.set_column(place, name, values)

    return points(change)


def array(name: str, value) -> Change:
    """Fill an array of the table with one value."""

    def edit(store: Path) -> None:
        import zarr

        zarr.open_array(store / "tables/table" / name, mode="r+")[...] = value

    return edit


def truncate(pattern: str) -> Change:
    def edit(store: Path) -> None:
        path = max(store.glob(pattern), key=lambda p: p.stat().st_size)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return edit


def header(name: str, **values) -> Change:
    def edit(store: Path) -> None:
        path = store / name / "zarr.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def remove(*names: str) -> Change:
    def edit(store: Path) -> None:
        for name in names:
            shutil.rmtree(store / name)

    return edit


POINTS = "points/transcripts"
STORE = {
    "truncated points": (truncate(f"{POINTS}/*/*.parquet"), "part.0.parquet", "truncated"),
    "truncated outlines": (truncate("shapes/cell*/*.parquet"), "shapes.parquet", "truncated"),
    "truncated counts": (truncate("tables/table/X/data/c/*"), "source.zarr", "cannot be read"),
    "truncated ids": (truncate("tables/table/obs/cell_id/c/*"), "source.zarr", "cannot be read"),
    "truncated header": (truncate("images/he_image/zarr.json"), "images/he_image", "no JSON"),
    "text for a number": (column("x", "abc"), "source.zarr", "cannot be read"),
    "NaN": (column("x", np.nan), POINTS, "missing or infinite"),
    "infinite": (column("y", np.inf), POINTS, "missing or infinite"),
    "no gene": (column("feature_name", None), POINTS, "names no gene|cannot be read"),
    "no points": (points(lambda t: t.slice(0, 0)), POINTS, "no transcript"),
    "cell twice": (array("obs/cell_id", "cell-1"), "source.zarr", "more than once"),
    "centres of NaN": (array("obsm/spatial", np.nan), "source.zarr", ""),
    "fractions": (array("X/data", 0.5), "tables/table", "fractions"),
    "gene twice": (array("var/_index", "A"), "tables/table", "occurs twice"),
    "controls alone": (array("var/_index", "NegPrb1"), "tables/table", "Unknown panel"),
    "counts of another type": (
        header("tables/table/X/data", data_type="float64"), "source.zarr", "cannot be read"
    ),
    "unknown type": (header("tables/table/X/data", data_type="pickle"), "X/data", "has type"),
    "no cells": (remove("tables", "shapes"), "source.zarr", "no cells"),
    "no counts": (remove("tables", "points"), "tables", "no points to count"),
}  # fmt: skip


@pytest.mark.parametrize("fault", STORE)
def test_broken_store(whole, tmp_path, fault: str) -> None:
    change, file, message = STORE[fault]
    source = Path(shutil.copytree(whole, tmp_path / "source.zarr"))
    change(source)
    if fault == "centres of NaN":
        # The outlines say it too, so nothing is lost.
        assert np.isfinite(read_source(source).cells.xy_um).all()
        return
    check_refused(source, file, message)


def test_empty_store(tmp_path) -> None:
    source = tmp_path / "source.zarr"
    (source / "points").mkdir(parents=True)
    (source / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    check_refused(source, "source.zarr", "no cells")


def test_huge_header_of_a_store(whole, tmp_path, monkeypatch) -> None:
    source = Path(shutil.copytree(whole, tmp_path / "source.zarr"))
    monkeypatch.setattr(spatialdata_store_guard, "MAX_JSON_BYTES", 100)
    check_refused(source, "zarr.json", "larger than 100 bytes")


# ---------------------------------------------------------------- names of any script


def test_names_of_any_script_are_kept(bundles, exports, tmp_path) -> None:
    names = ["β-Catenin", "基因", "Ген 1"]
    tissue = bundles.Tissue(n_cells=6, genes=names, controls=["NegPrb1"])
    bundles.write_h5ad(tmp_path / "a.h5ad", tissue)
    sources = [
        exports.write_cosmx(tmp_path / "Lunge-ä", tissue),
        exports.write_merscope(tmp_path / "область", tissue),
        tmp_path / "a.h5ad",
    ]
    for source in sources:
        scale = {"um_per_px": 0.12} if source.name == "Lunge-ä" else {}
        assert read_source(source, **scale).cells.genes == tuple(names)
