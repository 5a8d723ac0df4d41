"""Zip archives and the Zarr arrays in them: what lies or leads elsewhere is refused unread."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
import zlib

import numcodecs
import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import archive, read_source
from spatialformer_core.io.archive import open_archive
from spatialformer_core.io.zarr_zip import open_array

pytestmark = pytest.mark.security
META = {
    "zarr_format": 2,
    "shape": [5, 3],
    "chunks": [2, 2],
    "dtype": "<u2",
    "order": "C",
    "fill_value": 7,
    "compressor": None,
    "filters": None,
}
VALUES = np.arange(15, dtype="<u2").reshape(5, 3)


def put(path, members: dict[str, bytes], method=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)


def chunked(pack=bytes, order="C") -> dict[str, bytes]:
    """Chunks of VALUES without the last one."""
    found = {}
    for i, j in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]:
        chunk = np.full((2, 2), 9, "<u2")
        part = VALUES[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        chunk[: part.shape[0], : part.shape[1]] = part
        found[f"a/{i}.{j}"] = pack(chunk.tobytes(order))
    return found


def read(path, dimensions=2) -> np.ndarray:
    with open_archive(path, path.parent) as opened:
        return open_array(opened, "a", dimensions).read()


def refused(path, dimensions=2) -> str:
    with pytest.raises(SpatialFormerError) as error:
        read(path, dimensions)
    assert path.name in str(error.value)
    assert str(path.parent) not in str(error.value)
    return str(error.value)


CODINGS = {
    "none": (None, bytes),
    "zlib": ({"id": "zlib"}, zlib.compress),
    "gzip": ({"id": "gzip"}, numcodecs.GZip().encode),
    "blosc lz4": ({"id": "blosc"}, numcodecs.Blosc("lz4").encode),
    "blosc zstd": ({"id": "blosc"}, numcodecs.Blosc("zstd").encode),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("coding", CODINGS)
def test_arrays_come_back(tmp_path, coding, method, order) -> None:
    compressor, pack = CODINGS[coding]
    meta = META | {"compressor": compressor, "order": order}
    put(
        tmp_path / "a.zip", {"a/.zarray": json.dumps(meta).encode(), **chunked(pack, order)}, method
    )
    expected = VALUES.copy()
    # A chunk that is not there holds the fill value.
    expected[4, 2] = 7
    assert np.array_equal(read(tmp_path / "a.zip"), expected)
    with open_archive(tmp_path / "a.zip", tmp_path) as opened:
        array = open_array(opened, "a", 2)
        assert np.array_equal(array.region((1, 4), (1, 3)), expected[1:4, 1:3])
        assert array.region((3, 3), (0, 3)).shape == (0, 3)


METADATA = {
    "version 3": {"zarr_format": 3},
    "no version": {"zarr_format": None},
    "lying shape": {"shape": [1 << 40, 3]},
    "shape without data": {"shape": [1 << 14, 1 << 13], "chunks": [1 << 10, 1 << 10]},
    "huge chunks": {"chunks": [1 << 20, 1 << 20]},
    "many chunks": {"shape": [1 << 14, 1 << 13], "chunks": [1, 1]},
    "no chunks": {"chunks": [0, 2]},
    "negative": {"shape": [-1, 3]},
    "fraction": {"shape": [5.5, 3]},
    "true": {"shape": [True, 3]},
    "one dimension": {"shape": [5], "chunks": [2]},
    "no list": {"shape": "5"},
    "objects": {"dtype": "|O"},
    "text": {"dtype": "<U8"},
    "fields": {"dtype": [["a", "<u2"]]},
    "pickle": {"filters": [{"id": "pickle"}]},
    "pickled chunks": {"compressor": {"id": "pickle"}},
    "unknown codec": {"compressor": {"id": "lzma"}},
    "nameless codec": {"compressor": {}},
    "order": {"order": "X"},
    "separator": {"dimension_separator": "../"},
    "fill": {"fill_value": "7"},
    "fill beyond": {"fill_value": 1 << 20},
    "fill of NaN": {"fill_value": "NaN"},
}


@pytest.mark.parametrize("lie", METADATA)
def test_metadata_that_lies_is_refused(tmp_path, lie) -> None:
    meta = META | METADATA[lie]
    put(tmp_path / "a.zip", {"a/.zarray": json.dumps(meta).encode(), **chunked()})
    assert "Array 'a'" in refused(tmp_path / "a.zip")


def lying_blosc(data: bytes) -> bytes:
    packed = bytearray(numcodecs.Blosc("lz4").encode(data))
    packed[4:8] = struct.pack("<I", (1 << 31) - 100)
    return bytes(packed)


CHUNKS = {
    "short": (None, lambda data: data[:-1]),
    "long": (None, lambda data: data + b"x"),
    "no zlib": ({"id": "zlib"}, bytes),
    "cut zlib": ({"id": "zlib"}, lambda data: zlib.compress(data)[:-6]),
    "zlib bomb": ({"id": "zlib"}, lambda data: zlib.compress(bytes(900_000))),
    "blosc bomb": ({"id": "blosc"}, lying_blosc),
    "cut blosc": ({"id": "blosc"}, lambda data: numcodecs.Blosc("lz4").encode(data)[:-3]),
    "short blosc": ({"id": "blosc"}, lambda data: data[:5]),
    "empty": ({"id": "blosc"}, lambda _: b""),
}


@pytest.mark.parametrize("lie", CHUNKS)
def test_chunks_that_lie_are_refused(tmp_path, lie) -> None:
    compressor, pack = CHUNKS[lie]
    meta = json.dumps(META | {"compressor": compressor}).encode()
    put(tmp_path / "a.zip", {"a/.zarray": meta, **chunked(pack)})
    assert "chunk" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "C:evil",
                                  "a\nevil", "x" * 600])  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(tmp_path, name) -> None:
    put(tmp_path / "a.zip", {"a/.zarray": json.dumps(META).encode(), name: b"x"})
    assert "a member named" in refused(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/.zarray", json.dumps(META))
        file.writestr("a/.zarray", "{}")
    assert "twice" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path, kind) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("a/.zarray")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(tmp_path / "a.zip")


def patched(path, offset: int, value: bytes) -> None:
    """Write into the first record of the central directory."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, struct.pack("<H", 1), "encrypted"),
        (10, struct.pack("<H", 12), "zip method 12"),
        (24, struct.pack("<I", 1 << 31), "declares 2,147,483,648 bytes but stores"),
        (20, struct.pack("<I", 1 << 20), "stored bytes in a file of"),
        (42, struct.pack("<I", 1 << 20), "damaged"),
    ],
)
def test_a_directory_that_lies_is_refused(tmp_path, offset, value, message) -> None:
    put(tmp_path / "a.zip", {"a/.zarray": json.dumps(META).encode(), **chunked()})
    patched(tmp_path / "a.zip", offset, value)
    assert message in refused(tmp_path / "a.zip")


def test_a_small_member_that_expands_is_refused(tmp_path) -> None:
    put(tmp_path / "a.zip", {"a/.zarray": b" " * (70 << 20)}, zipfile.ZIP_DEFLATED)
    assert "67,108,864 are allowed" in refused(tmp_path / "a.zip")


def test_too_many_members_are_refused_before_they_are_listed(tmp_path, monkeypatch) -> None:
    put(tmp_path / "a.zip", {"a/.zarray": json.dumps(META).encode(), **chunked()})
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "declares 6 members" in refused(tmp_path / "a.zip")


def test_many_members_are_counted_in_zip64(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    put(tmp_path / "a.zip", chunked())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 10 : end + 12] = b"\xff\xff"
    (tmp_path / "a.zip").write_bytes(data)
    assert archive._declared_members(tmp_path / "a.zip") == 5
    at = data.rindex(b"PK\x06\x06")
    data[at + 32 : at + 40] = struct.pack("<Q", 1 << 40)
    (tmp_path / "a.zip").write_bytes(data)
    assert "declares 1,099,511,627,776 members" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff", b'{"a":' * 9_000])
def test_metadata_must_be_an_object(tmp_path, text) -> None:
    put(tmp_path / "a.zip", {"a/.zarray": text})
    assert "a/.zarray" in refused(tmp_path / "a.zip")


def replaced(folder, name: str, member: str, change) -> None:
    """Write an archive again with one member changed."""
    with zipfile.ZipFile(folder / name) as file:
        members = {info: file.read(info) for info in file.namelist()}
    members[member] = change(members[member])
    put(folder / name, members)


def numbers(dtype: str, change):
    """Return an edit of a chunk that blosc packed."""

    def edit(data: bytes) -> bytes:
        values = np.frombuffer(numcodecs.Blosc().decode(data), dtype).copy()
        change(values)
        return bytes(numcodecs.Blosc("lz4").encode(values))

    return edit


def fill(value):
    return lambda values: values.fill(value)


def attribute(key: str, value):
    return lambda data: json.dumps(json.loads(data) | {key: value}).encode()


WRONG = {
    "cell beyond": ("cells", "polygon_sets/1/cell_index/0", numbers("<u4", fill(99)), "beyond 36"),
    "vertices beyond": ("cells", "polygon_sets/1/num_vertices/0", numbers("<i4", fill(99)), "fit"),
    "polygons missing": ("cells", "polygon_sets/1/num_vertices/.zarray", attribute("shape", [35]),
                         "do not fit"),
    "no columns": ("cells", "cell_summary/.zattrs", attribute("column_names", None), "columns []"),
    "mask beyond": ("cells", "masks/1/0.0", numbers("<u4", fill(99)), "names no polygon"),
    "masks differ": ("cells", "masks/0/.zarray", attribute("shape", [200, 200]), "differ in size"),
    "vertex NaN": ("cells", "polygon_sets/1/vertices/0.0", numbers("<f4", fill(np.nan)),
                   "missing or infinite"),
    "no genes": ("transcripts", ".zattrs", attribute("gene_names", []), "gene_names"),
    "fewer genes": ("transcripts", ".zattrs", attribute("gene_names", ["A"]), "beyond gene_names"),
    "place NaN": ("transcripts", "grids/0/0,0/location/0.0", numbers("<f4", fill(np.nan)),
                  "missing or infinite"),
    "place far": ("transcripts", "grids/0/0,0/location/0.0", numbers("<f4", fill(1e9)),
                  "micrometres"),
    "rows differ": ("transcripts", "grids/0/0,0/valid/.zarray", attribute("shape", [3, 1]),
                    "rows are expected"),
    "two coordinates": ("transcripts", "grids/0/0,0/location/.zarray", lambda d: json.dumps(
        json.loads(d) | {"shape": [json.loads(d)["shape"][0], 2]}).encode(), "has shape"),
    "feature types": ("cell_feature_matrix", "cell_features/.zattrs",
                      attribute("feature_types", ["gene"]), "differ in number"),
    "pointers": ("cell_feature_matrix", "cell_features/indptr/0", numbers("<u4", fill(3)),
                 "declared shape"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_arrays_that_do_not_fit_are_refused(all_forms, tmp_path, fault) -> None:
    stem, member, change, message = WRONG[fault]
    names = ("cells.zarr.zip", "transcripts.zarr.zip", "cell_feature_matrix.zarr.zip")
    folder = all_forms.variant(tmp_path / "source", *names)
    replaced(folder, f"{stem}.zarr.zip", member, change)
    with pytest.raises(SpatialFormerError) as error:
        read_source(folder)
    assert message in str(error.value)
    assert ".zarr.zip" in str(error.value)
