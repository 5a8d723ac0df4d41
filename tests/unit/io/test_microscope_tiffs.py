"""Every coding and layout that scanners and instruments write gives the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, images, pyramid
from spatialformer_core.io.records import ImageSource

LOSSLESS = {
    "plain": {},
    "zlib": {"compression": "zlib", "predictor": True},
    "deflate": {"compression": "deflate"},
    "lzw": {"compression": "lzw", "predictor": True},
    "jpeg2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True, "level": 0}},
}
LAYOUTS = {"tiled": {"tile": (64, 48)}, "stripped": {"rowsperstrip": 17}}
SIZE = (150, 130)


@pytest.fixture(scope="module")
def stain() -> np.ndarray:
    """Two smooth 16-bit channels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([1000 + 7 * x + 3 * y, 4000 - 5 * x + 11 * y]).astype(np.uint16)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth colour picture."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([60 + x, 250 - y, 40 + (x + y) // 2], axis=-1).astype(np.uint8)


def write(path, pixels, *, axes: str, pyramidal: bool = False, **options) -> None:
    """Write pixels as OME-TIFF, in whole or with halved levels below them."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        metadata = (
            {"axes": axes, "Channel": {"Name": ["DAPI", "18S"]}}
            if axes == "CYX"
            else {"axes": axes}
        )
        writer.write(pixels, subifds=2 if pyramidal else 0, metadata=metadata, **options)
        for step in (2, 4) if pyramidal else ():
            small = pixels[:, ::step, ::step] if axes == "CYX" else pixels[::step, ::step]
            writer.write(small, subfiletype=1, metadata=None, **options)


def stored(path, tmp_path) -> tuple[pyramid.PyramidInfo, np.ndarray]:
    target = tmp_path / "out.ome.tif"
    info = pyramid.write_pyramid(ImageSource("s", "stain", (path,), np.eye(3)), target)
    return info, tifffile.imread(target)


def decoded(path, tmp_path) -> np.ndarray:
    with guard.open_tiff(path, path.parent) as tif:
        return np.array(pyramid._decode_colour(tif, pyramid._Scratch(tmp_path / "x")))


@pytest.mark.parametrize("pyramidal", [False, True], ids=["flat", "pyramidal"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("coding", LOSSLESS)
def test_stains_keep_every_pixel(tmp_path, stain, coding, layout, pyramidal) -> None:
    path = tmp_path / "s.ome.tif"
    options = LOSSLESS[coding] | LAYOUTS[layout]
    write(path, stain, axes="CYX", pyramidal=pyramidal, photometric="minisblack", **options)
    info, pixels = stored(path, tmp_path)
    assert np.array_equal(pixels, stain)
    assert info.channels == ("DAPI", "18S")


@pytest.mark.parametrize("layout", ["separate", "contig"])
def test_channels_may_be_samples_of_one_page(tmp_path, stain, layout) -> None:
    pixels = stain if layout == "separate" else np.moveaxis(stain, 0, -1)
    path = tmp_path / "s.tif"
    tifffile.imwrite(
        path, pixels, photometric="minisblack", planarconfig=layout, tile=(64, 48), metadata=None
    )
    with tifffile.TiffFile(path) as tif:
        assert (len(tif.pages), tif.pages.first.samplesperpixel) == (1, 2)
    info, found = stored(path, tmp_path)
    assert np.array_equal(found, stain)
    assert info.channels == ("channel 1", "channel 2")


def test_a_flat_pyramid_without_ome_is_its_first_level(tmp_path, stain) -> None:
    path = tmp_path / "s.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2, 4):
            writer.write(stain[0, ::step, ::step], metadata=None)
    assert np.array_equal(stored(path, tmp_path)[1].squeeze(), stain[0])


@pytest.mark.parametrize("pyramidal", [False, True], ids=["flat", "pyramidal"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("coding", LOSSLESS)
def test_he_keeps_every_pixel(tmp_path, picture, coding, layout, pyramidal) -> None:
    path = tmp_path / "he.ome.tif"
    options = LOSSLESS[coding] | LAYOUTS[layout]
    write(path, picture, axes="YXS", pyramidal=pyramidal, photometric="rgb", **options)
    assert images.image_kind(path, tmp_path) == "he"
    assert np.array_equal(decoded(path, tmp_path), picture)


@pytest.mark.parametrize("axes", ["YXS", "SYX", "CYX"])
def test_he_as_samples_planes_or_pages(tmp_path, picture, axes) -> None:
    path = tmp_path / "he.ome.tif"
    planes = np.moveaxis(picture, -1, 0)
    if axes == "YXS":
        write(path, picture, axes=axes, photometric="rgb", tile=(64, 48))
    elif axes == "SYX":
        write(path, planes, axes=axes, photometric="rgb", planarconfig="separate", tile=(64, 48))
    else:
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": axes}, ome=True)
    (tmp_path / "a.csv").write_text("1,0,0\n0,1,0\n0,0,1\n")
    # Who names an image as H&E need not name the file so.
    source = images.he_source(path, tmp_path / "a.csv", 0.5)
    assert np.array_equal(decoded(path, tmp_path), picture)
    info = pyramid.write_pyramid(source, tmp_path / "out.ome.tif")
    assert (info.height, info.width) == SIZE
    found = tifffile.imread(tmp_path / "out.ome.tif").astype(int)
    assert np.abs(found - picture).mean() < 3


@pytest.mark.parametrize("pyramidal", [False, True], ids=["flat", "pyramidal"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lossy_jpeg_is_near(tmp_path, picture, layout, pyramidal) -> None:
    path = tmp_path / "he.ome.tif"
    options = {"tile": (64, 48)} if layout == "tiled" else {"rowsperstrip": 16}
    options |= {"compression": "jpeg", "compressionargs": {"level": 95}, "photometric": "rgb"}
    write(path, picture, axes="YXS", pyramidal=pyramidal, **options)
    found = decoded(path, tmp_path).astype(int)
    assert np.abs(found - picture).mean() < 3
    assert not np.array_equal(found, picture)


def test_other_colours_are_no_he(tmp_path, stain, picture) -> None:
    (tmp_path / "a.csv").write_text("1,0,0\n0,1,0\n0,0,1\n")
    write(tmp_path / "two.ome.tif", stain, axes="CYX", photometric="minisblack")
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16), photometric="rgb")
    for name in ("two.ome.tif", "deep.tif"):
        with pytest.raises(SpatialFormerError, match="three 8-bit colours"):
            images.he_source(tmp_path / name, tmp_path / "a.csv", 0.5)


@pytest.mark.security
@pytest.mark.parametrize("coding", ["jpeg", "jpeg2000"])
def test_a_tile_that_states_another_size_is_refused_undecoded(
    tmp_path, monkeypatch, coding
) -> None:
    """Such a tile of 1.5 kB makes the decoder take 2 GB."""
    import imagecodecs

    encode = {"jpeg": imagecodecs.jpeg8_encode, "jpeg2000": imagecodecs.jpeg2k_encode}[coding]
    options = {"codecformat": "j2k"} if coding == "jpeg2000" else {}
    large = encode(np.zeros((300, 200), np.uint8), **options)
    path = tmp_path / "s.tif"
    with tifffile.TiffWriter(path) as writer:
        options = {"shape": (64, 64), "dtype": "uint8", "tile": (64, 64), "metadata": None}
        writer.write(iter([large]), compression=coding, **options)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    with pytest.raises(SpatialFormerError, match=r"states \(300, 200\)"):
        stored(path, tmp_path)


@pytest.mark.security
def test_other_codings_are_refused(tmp_path, stain) -> None:
    tifffile.imwrite(tmp_path / "s.tif", stain[0], compression="lzma", metadata=None)
    with pytest.raises(SpatialFormerError, match="is not read"):
        stored(tmp_path / "s.tif", tmp_path)
