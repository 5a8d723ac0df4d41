"""SpatialData folders that try to reach other files, or to lie: refused before zarr opens them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import read_source, spatialdata_store, spatialdata_store_guard

pytestmark = pytest.mark.security


@pytest.fixture(scope="module")
def stores(bundles, tmp_path_factory) -> dict[int, Path]:
    """A sound store in either version of zarr; copy from them."""
    path = Path(__file__).parents[1] / "unit" / "io" / "exports.py"
    spec = importlib.util.spec_from_file_location("spatialformer_test_exports_security", path)
    exports = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exports)
    folder, tissue = tmp_path_factory.mktemp("stores"), bundles.Tissue(n_cells=6)
    return {
        version: exports.write_spatialdata(folder / f"v{version}.zarr", tissue, version=version)
        for version in (2, 3)
    }


class Copies(dict[int, Path]):
    """Copies of the stores, made when they are asked for."""

    def __init__(self, stores: dict[int, Path], folder: Path) -> None:
        super().__init__()
        self.stores, self.folder = stores, folder

    def __missing__(self, version: int) -> Path:
        store = self.stores[version]
        self[version] = Path(shutil.copytree(store, self.folder / store.name))
        return self[version]


@pytest.fixture
def copied(stores, tmp_path):
    """Copies of the stores, and a folder beside them that must not be read."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "c").mkdir()
    np.full(1000, 77.0).tofile(tmp_path / "private" / "0")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "private" / "part.0.parquet")
    return Copies(stores, tmp_path)


def refused(store: Path, monkeypatch) -> str:
    """Return the sentence; opening the store by the library at all is a failure."""

    def opened(_root: Path) -> None:
        pytest.fail("the library opened the store")

    monkeypatch.setattr(spatialdata_store, "_open", opened)
    with pytest.raises(SpatialFormerError) as error:
        read_source(store)
    assert str(store.parent) not in str(error.value)
    return str(error.value)


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


LINKS = {
    "a chunk": ("tables/table/obsm/spatial/c/0/0", "0"),
    "a folder": ("tables/table/X", ""),
    "points": ("points/transcripts/points.parquet/part.0.parquet", "part.0.parquet"),
    "a header": ("zarr.json", "0"),
}


@pytest.mark.parametrize("what", LINKS)
def test_link_out_of_the_store(copied, monkeypatch, what: str) -> None:
    inside, outside = LINKS[what]
    path = copied[3] / inside
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(copied[3].parent / "private" / outside)
    if what == "a header":
        (copied[3] / ".zgroup").write_text("{}")
    assert "link" in refused(copied[3], monkeypatch)


def test_pipe_in_a_store(copied, monkeypatch) -> None:
    os.mkfifo(copied[3] / "points" / "pipe")
    assert "no file" in refused(copied[3], monkeypatch)


def test_parquet_index_that_names_other_files(copied, monkeypatch) -> None:
    folder = copied[3] / "points" / "transcripts" / "points.parquet"
    shutil.copy(folder / "part.0.parquet", folder / "_metadata")
    assert "other files" in refused(copied[3], monkeypatch)


ARRAY = "tables/table/obsm/spatial"
HUGE = [1 << 30, 1 << 10]


def v3_chunk(path: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": HUGE}}
    edit(path / "zarr.json", chunk_grid=grid)


LIES = {
    "shape, version 3": (3, lambda p: edit(p / "zarr.json", shape=HUGE), "declares"),
    "shape, version 2": (2, lambda p: edit(p / ".zarray", shape=HUGE), "declares"),
    "chunk, version 3": (3, v3_chunk, "chunk declares"),
    "chunk, version 2": (2, lambda p: edit(p / ".zarray", chunks=HUGE), "chunk declares"),
    "negative shape": (3, lambda p: edit(p / "zarr.json", shape=[-1, 2]), "has shape"),
    "shape of words": (2, lambda p: edit(p / ".zarray", shape="many"), "has shape"),
    "dimensions": (3, lambda p: edit(p / "zarr.json", shape=[1] * 40), "has shape"),
    "pickle": (2, lambda p: edit(p / ".zarray", filters=[{"id": "pickle"}]), "codec 'pickle'"),
    "codec": (3, lambda p: edit(p / "zarr.json", codecs=[{"name": "evil"}]), "codec 'evil'"),
    "codec in a shard": (
        3,
        lambda p: edit(
            p / "zarr.json",
            codecs=[
                {
                    "name": "sharding_indexed",
                    "configuration": {"chunk_shape": [6, 2], "codecs": [{"name": "evil"}]},
                }
            ],
        ),
        "codec 'evil'",
    ),
    "codecs of numbers": (3, lambda p: edit(p / "zarr.json", codecs=5), "codec '5'"),
    "type": (2, lambda p: edit(p / ".zarray", dtype=[["a", "<f8"]]), "has type"),
    "list": (2, lambda p: (p / ".zarray").write_text("[]"), "no object"),
    "depth": (3, lambda p: (p / "zarr.json").write_text("[" * 100_000), "no JSON"),
}


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies(copied, monkeypatch, lie: str) -> None:
    version, change, message = LIES[lie]
    change(copied[version] / ARRAY)
    assert message in refused(copied[version], monkeypatch)


def zstd_bomb() -> bytes:
    import zarr.codecs  # registers numcodecs
    from numcodecs.zstd import Zstd

    assert zarr.codecs
    return bytes(Zstd().encode(b"\0" * (1 << 24)))


CHUNKS = {
    "zstd, version 3": (3, zstd_bomb, "says that it holds 16,777,216"),
    "blosc, version 2": (
        2, lambda: b"\x02\x01\x21\x08" + b"\xff\xff\xff\x7f" + b"\0" * 8, "holds 2,147,483,647"
    ),
    "no size": (3, lambda: b"\x28\xb5\x2f\xfd\x00\x58" + b"\0" * 12, "how large it is"),
    "no frame": (3, lambda: b"plain", "how large it is"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHUNKS)
def test_chunk_that_claims_memory(copied, monkeypatch, what: str) -> None:
    version, content, message = CHUNKS[what]
    chunk = next(p for p in (copied[version] / ARRAY).rglob("0*") if p.is_file())
    chunk.write_bytes(content())
    assert message in refused(copied[version], monkeypatch)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 65_791, 65_792, 70_000, 1 << 21])
def test_size_that_a_zstd_frame_states(size: int) -> None:
    from numcodecs.zstd import Zstd

    from spatialformer_core.io.spatialdata_store_chunks import _zstd

    assert _zstd(bytes(Zstd().encode(b"x" * size))[:18]) == size


def test_consolidated_headers_are_checked_too(copied, monkeypatch) -> None:
    """zarr reads the copy of all headers at the root, whatever the headers themselves say."""
    path = copied[3] / "zarr.json"
    values = json.loads(path.read_text())
    inner = values["consolidated_metadata"]["metadata"]
    inner[ARRAY]["shape"] = HUGE
    path.write_text(json.dumps(values))
    assert "declares" in refused(copied[3], monkeypatch)
    entry = json.loads((copied[2] / ARRAY / ".zarray").read_text())
    for name in ("../private", "/etc"):
        metadata = {"metadata": {f"{name}/.zarray": entry}, "zarr_consolidated_format": 1}
        (copied[2] / ".zmetadata").write_text(json.dumps(metadata))
        assert "describes an array at" in refused(copied[2], monkeypatch)


@pytest.mark.parametrize("path", ["../../private", "/etc", "a\\..\\b", 3])
def test_level_of_an_image_that_lies_elsewhere(copied, monkeypatch, path) -> None:
    for version, name in ((3, "zarr.json"), (2, ".zattrs")):
        header = copied[version] / "images" / "he_image" / name
        values = json.loads(header.read_text())
        holder = values["attributes"]["ome"] if version == 3 else values
        holder["multiscales"][0]["datasets"][0]["path"] = path
        header.write_text(json.dumps(values))
        assert "level of the image" in refused(copied[version], monkeypatch)


def test_too_many_objects_and_too_deep(copied, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(spatialdata_store_guard, "MAX_OBJECTS", 20)
        assert "more than 20 objects" in refused(copied[3], patch)
    deep = copied[3].joinpath(*["d"] * 30)
    deep.mkdir(parents=True)
    assert "too deeply" in refused(copied[3], monkeypatch)


def test_noise_in_headers_is_an_error_of_ours_or_harmless(copied) -> None:
    """Damaged copies of every header and table: refused in a sentence, or read."""
    rng = np.random.default_rng(0)
    paths = sorted(p for p in copied[3].rglob("*") if p.is_file())
    refusals = 0
    for path in rng.choice(np.array(paths, object), 20, replace=False):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 10):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_source(copied[3])
        except SpatialFormerError:
            refusals += 1
        path.write_bytes(whole)
    assert refusals > 5


def test_one_long_name_does_not_widen_every_row(tmp_path):
    import h5py

    from spatialformer_core.io.hdf5 import read_texts

    with h5py.File(tmp_path / "x.h5", "w") as store:
        ids = store.create_dataset("ids", 700_000, h5py.string_dtype(), compression="gzip")
        ids[0] = "a" * 500
        with pytest.raises(SpatialFormerError, match="700,000 texts, the longest of 500"):
            read_texts(ids, tmp_path / "x.h5")
