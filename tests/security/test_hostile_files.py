"""Files that try to reach other files, or to lie: nothing is read through them."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, read_source
from spatialformer_core.io.images import pixel_size_um
from spatialformer_core.io.pyramid import write_pyramid
from spatialformer_core.io.records import ImageSource

pytestmark = pytest.mark.security
SECRET = 77


@pytest.fixture
def folder(bundles, tmp_path):
    """A sound table folder, and beside it a file that must not be read."""
    (tmp_path / "private").mkdir()
    with h5py.File(tmp_path / "private" / "secret.h5", "w") as file:
        file["x"] = np.full(40, float(SECRET))
    np.full(40, float(SECRET)).tofile(tmp_path / "private" / "secret.bin")
    tifffile.imwrite(tmp_path / "private" / "secret.tif", np.full((64, 64), SECRET, np.uint8))
    return bundles.write_table_folder(tmp_path / "upload", bundles.Tissue())


def external_link(file) -> None:
    del file["obs/cell_area"]
    file["obs/cell_area"] = h5py.ExternalLink("../private/secret.h5", "x")


def soft_link(file) -> None:
    file["obs/again"] = h5py.SoftLink("/obs/cell_area")


def dangling_soft_link(file) -> None:
    file["obs/again"] = h5py.SoftLink("/nowhere")


def external_storage(file) -> None:
    del file["obs/cell_area"]
    file["obs"].create_dataset(
        "cell_area", shape=(40,), dtype="f8", external=[("../private/secret.bin", 0, 320)]
    )


def virtual(file) -> None:
    del file["obs/cell_area"]
    layout = h5py.VirtualLayout((40,), "f8")
    layout[:] = h5py.VirtualSource("../private/secret.h5", "x", (40,))
    file["obs"].create_virtual_dataset("cell_area", layout)


def circle(file) -> None:
    file["obs/loop"] = file["obs"]


def lying_size(file) -> None:
    file["obs"].create_dataset("huge", shape=(1 << 33,), dtype="f8", chunks=(1 << 16,))


def unknown_filter(file) -> None:
    file.create_group("uns").create_dataset("filtered", data=np.arange(4000), compression="lzf")


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (external_link, "ExternalLink"),
        (soft_link, "SoftLink"),
        (dangling_soft_link, "SoftLink"),
        (external_storage, "another file"),
        (virtual, "another file"),
        (circle, "nested too deeply"),
        (lying_size, "declares"),
    ],
)
def test_hdf5_that_leads_elsewhere_is_refused(folder, attack, message: str) -> None:
    with h5py.File(folder / "cells.h5ad", "a") as file:
        attack(file)
    with pytest.raises(SpatialFormerError, match=message):
        read_source(folder)


def test_hdf5_filters_are_an_allow_list(folder, monkeypatch) -> None:
    with h5py.File(folder / "cells.h5ad", "a") as file:
        unknown_filter(file)
    assert read_source(folder).cells.counts.shape[0] == 40
    monkeypatch.setattr(guard, "_FILTERS", {1, 2, 3})
    with pytest.raises(SpatialFormerError, match="filter 32000"):
        read_source(folder)


def test_too_many_hdf5_objects_are_refused(folder, monkeypatch) -> None:
    monkeypatch.setattr(guard, "MAX_HDF5_OBJECTS", 5)
    with pytest.raises(SpatialFormerError, match="more than 5 objects"):
        read_source(folder)


def test_one_heap_entry_shared_by_every_row_is_refused(folder) -> None:
    with h5py.File(folder / "cells.h5ad", "a") as file:
        del file["obs/_index"]
        text = h5py.string_dtype()
        file["obs"].create_dataset(
            "_index", data=np.array(["x" * 100_000] * 40, object), dtype=text
        )
    with pytest.raises(SpatialFormerError, match="more than 512 characters"):
        read_source(folder)


@pytest.mark.parametrize(
    "name", ["cells.h5ad", "transcripts.parquet", "cell_boundaries.parquet", "stain.ome.tif"]
)
def test_symlink_out_of_the_folder_is_refused(folder, name: str) -> None:
    path = folder / name
    outside = folder.parent / "private" / name
    if path.exists():
        path.rename(outside)
    else:
        outside.write_bytes(b"II*\x00")
    path.symlink_to(outside)
    with pytest.raises(SpatialFormerError, match="leads outside"):
        read_source(folder)


def test_symlink_within_the_folder_is_read(folder) -> None:
    (folder / "cells.h5ad").rename(folder / "data.h5")
    (folder / "cells.h5ad").symlink_to("data.h5")
    assert read_source(folder).cells.counts.shape[0] == 40


@pytest.mark.parametrize("cut", [1, 4, 8, 200, 5_000])
@pytest.mark.parametrize("name", ["transcripts.parquet", "cell_boundaries.parquet", "cells.h5ad"])
def test_truncated_file_is_refused(folder, name: str, cut: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SpatialFormerError) as error:
        read_source(folder)
    assert error.value.where == name
    assert error.value.fix


@pytest.mark.parametrize("name", ["transcripts.parquet", "cell_boundaries.parquet", "cells.h5ad"])
def test_noise_in_a_file_is_an_error_of_ours_or_harmless(folder, name: str) -> None:
    """Thirty damaged copies of each file: refused in a sentence, or read."""
    whole = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 20):
            damaged[place] = rng.integers(0, 256)
        (folder / name).write_bytes(damaged)
        try:
            read_source(folder)
        except SpatialFormerError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("name", ["transcripts.parquet", "cells.h5ad"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, b"\0" * 9999])
def test_file_without_content_is_refused(folder, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(SpatialFormerError):
        read_source(folder)


def test_parquet_footer_caps(folder, monkeypatch) -> None:
    monkeypatch.setattr(guard, "MAX_PARQUET_ROWS", 100)
    with pytest.raises(SpatialFormerError, match="declares 2,400 rows"):
        read_source(folder)


def test_parquet_with_many_columns_is_refused(tmp_path) -> None:
    pq.write_table(pa.table({f"c{i}": [1] for i in range(1001)}), tmp_path / "t.parquet")
    with pytest.raises(SpatialFormerError, match="1,001 columns"):
        guard.open_parquet(tmp_path / "t.parquet", tmp_path, ())


def test_small_parquet_that_expands_is_refused(folder) -> None:
    n = 3_000_000
    constant = {"x_location": np.zeros(n, np.float32), "y_location": np.zeros(n, np.float32)}
    table = pa.table(constant | {"feature_name": pa.array(["A"] * n).dictionary_encode()})
    pq.write_table(table, folder / "transcripts.parquet", row_group_size=n)
    assert (folder / "transcripts.parquet").stat().st_size < 50_000
    with pytest.raises(SpatialFormerError, match="3,000,000 rows in"):
        read_source(folder)


def multi_file_tiff(path, target: str) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="64" '
        'SizeY="64" SizeC="2" SizeZ="1" SizeT="1" PhysicalSizeX="1" PhysicalSizeY="1">'
        '<Channel ID="C:0" SamplesPerPixel="1"/><Channel ID="C:1" SamplesPerPixel="1"/>'
        '<TiffData FirstC="0" IFD="0" PlaneCount="1"/><TiffData FirstC="1" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{target}">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=xml, metadata=None)


@pytest.mark.parametrize(
    "target",
    ["../private/secret.tif", "/etc/passwd", "..\\private\\secret.tif", "&#46;&#46;/secret.tif",
     "C:secret.tif", "file:///etc/passwd", ".."],
)  # fmt: skip
def test_tiff_that_names_a_file_elsewhere_is_refused(folder, target: str) -> None:
    multi_file_tiff(folder / "m.ome.tif", target)
    with pytest.raises(SpatialFormerError, match="refers to another file"):
        read_source(folder)


def test_tiff_that_names_a_neighbour_does_not_open_it(folder) -> None:
    tifffile.imwrite(folder / "neighbour.tif", np.full((64, 64), SECRET, np.uint8))
    multi_file_tiff(folder / "m.ome.tif", "neighbour.tif")
    assert pixel_size_um(folder / "m.ome.tif", folder) == 1.0
    source = ImageSource("m", "stain", (folder / "m.ome.tif",), np.eye(3))
    with pytest.raises(SpatialFormerError, match="1 of the 2 planes"):
        write_pyramid(source, folder / "out.tif")
    assert not (folder / "out.tif").exists()


def test_xml_entities_are_refused(folder) -> None:
    xml = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><OME><Image><Pixels/></Image></OME>'
    tifffile.imwrite(
        folder / "m.ome.tif", np.zeros((64, 64), np.uint8), description=xml, metadata=None
    )
    with pytest.raises(SpatialFormerError, match="entities"):
        read_source(folder)


@pytest.mark.parametrize("keep", [4, 100, 0.25, 0.5, 0.75, -1])
def test_truncated_tiff_is_refused(bundles, folder, keep: float) -> None:
    path = folder / "m.ome.tif"
    bundles.write_stain(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)] if 0 < keep < 1 else whole[: int(keep)])

    def take() -> None:
        data = read_source(folder)
        # Its description may be what was cut off: then it cannot be placed, and that is said.
        if data.images:
            write_pyramid(data.images[0], folder / "out.tif")
        else:
            raise SpatialFormerError("; ".join(data.missing))

    with pytest.raises(SpatialFormerError, match=r"m\.ome\.tif"):
        take()


def test_noise_in_a_tiff_is_an_error_of_ours_or_harmless(bundles, folder) -> None:
    path = folder / "m.ome.tif"
    bundles.write_stain(path, size=100)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, 2_000, 8):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            size = pixel_size_um(path, folder)
            write_pyramid(ImageSource("m", "stain", (path,), np.eye(3)), folder / "out.tif")
            assert size is None or size > 0
        except SpatialFormerError:
            refused += 1
    assert refused > 5


def test_tiff_that_declares_an_absurd_size_is_refused(folder) -> None:
    """A 1x1 strip whose header says 2^31 x 2^31."""
    entries = [(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), (258, 3, 1, 8), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)]
    head = b"II*\x00" + struct.pack("<I", 16) + b"\0" * 8 + struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    (folder / "m.ome.tif").write_bytes(head + body + b"\0" * 4)
    with pytest.raises(SpatialFormerError, match="pixels"):
        read_source(folder)


def test_damaged_pixels_are_refused(bundles, folder) -> None:
    bundles.write_stain(folder / "m.ome.tif")
    tifffile.imwrite(
        folder / "m.ome.tif",
        np.random.default_rng(0).integers(0, 255, (600, 600), dtype=np.uint8),
        compression="zlib",
        tile=(256, 256),
    )
    damaged = bytearray((folder / "m.ome.tif").read_bytes())
    with tifffile.TiffFile(folder / "m.ome.tif") as tif:
        offset = tif.pages.first.dataoffsets[0]
    damaged[offset : offset + 200] = b"\xff" * 200
    (folder / "m.ome.tif").write_bytes(damaged)
    source = ImageSource("m", "stain", (folder / "m.ome.tif",), np.eye(3))
    with pytest.raises(SpatialFormerError, match="damaged"):
        write_pyramid(source, folder / "out.tif")
