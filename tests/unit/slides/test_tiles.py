"""Tiles of a viewer equal the pixels of the image."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.pyramid import write_pyramid
from spatialformer_core.io.records import ImageSource
from spatialformer_core.slides import tiles
from spatialformer_core.slides.meta import ChannelMeta, ImageMeta


class FakeSlide:
    """The two things that tiles ask a slide for."""

    def __init__(self, meta: ImageMeta, path) -> None:
        self._meta, self._path = meta, path

    def image(self, name: str) -> ImageMeta:
        assert name == self._meta.name
        return self._meta

    def image_path(self, name: str):
        return self._path


def make(bundles, folder, kind: str):
    source = folder / "source.ome.tif"
    pixels = (bundles.write_stain if kind == "stain" else bundles.write_he)(source)
    target = folder / "built" / "x.ome.tif"
    target.parent.mkdir()
    info = write_pyramid(ImageSource("x", kind, (source,), np.eye(3)), target)
    channels = [
        ChannelMeta(name=n, low=lo, high=hi)
        for n, (lo, hi) in zip(info.channels, info.limits, strict=True)
    ]
    meta = ImageMeta(
        name="x", kind=kind, channels=channels, width=info.width, height=info.height,
        levels=info.levels, tile_px=512, um_from_px=np.eye(3).tolist(), pixel_size_um=1,
    )  # fmt: skip
    assert [p.name for p in target.parent.iterdir()] == ["x.ome.tif"]
    return pixels, FakeSlide(meta, target), info


def test_stain_tiles_are_the_stretched_pixels(bundles, tmp_path) -> None:
    pixels, slide, info = make(bundles, tmp_path, "stain")
    assert (info.width, info.height, info.levels) == (741, 700, 2)
    for channel, (low, high) in enumerate(info.limits):
        tile = tiles.image_tile(slide, "x", channel, z=0, x=1, y=1)
        part = pixels[channel, 512:, 512:].astype(np.float64)
        grey = np.rint(np.clip((part - low) / (high - low), 0, 1) * 255)
        assert tile.shape == (188, 229, 3)
        assert np.abs(tile - grey[..., None]).max() <= 1
    both = tiles.image_tile(slide, "x", None, z=0, x=0, y=0).astype(int)
    assert np.array_equal(both, tiles.image_tile(slide, "x", [1, 0], z=0, x=0, y=0))
    assert np.ptp(both, axis=2).max() > 50


def test_overlay_adds_lanes_without_overflow() -> None:
    plane = np.full((4, 4), 255, np.uint8)
    meta = ChannelMeta(name="c", low=0, high=255)
    tile = tiles._overlay([plane] * 12, [meta] * 12, list(range(12)))
    assert tile.dtype == np.uint8
    assert (tile == 255).all()
    alone = tiles._overlay([plane], [meta], [5])
    assert (alone == 255).all()


def test_he_tiles_and_their_jpegs(bundles, tmp_path) -> None:
    pixels, slide, info = make(bundles, tmp_path, "he")
    assert (info.width, info.height, info.levels) == (1000, 900, 2)
    for x, y, shape in [(0, 0, (512, 512)), (1, 1, (388, 488))]:
        tile = tiles.image_tile(slide, "x", None, z=0, x=x, y=y)
        part = pixels[512 * y : 512 * y + shape[0], 512 * x : 512 * x + shape[1]]
        assert tile.shape == (*shape, 3)
        assert np.abs(tile.astype(int) - part).mean() < 2
        jpeg = tiles.image_tile_jpeg(slide, "x", None, z=0, x=x, y=y)
        assert jpeg[:3] == b"\xff\xd8\xff"
        assert np.abs(imagecodecs.jpeg8_decode(jpeg).astype(int) - part).mean() < 3
    small = tiles.image_tile(slide, "x", None, z=1, x=0, y=0)
    mean = pixels[:900, :1000].reshape(450, 2, 500, 2, 3).mean((1, 3))
    assert np.abs(small - mean).mean() < 2


@pytest.mark.parametrize(
    "zxy", [(2, 0, 0), (-1, 0, 0), (0, 2, 0), (0, 0, 2), (0, -1, 0), (1, 1, 0)]
)
def test_tile_outside_is_refused(bundles, tmp_path, zxy) -> None:
    _, slide, _ = make(bundles, tmp_path, "stain")
    z, x, y = zxy
    with pytest.raises(SpatialFormerError, match="no tile"):
        tiles.image_tile(slide, "x", 0, z=z, x=x, y=y)


@pytest.mark.parametrize("channels", [2, -1, [], [0, 0]])
def test_unknown_channel_is_refused(bundles, tmp_path, channels) -> None:
    _, slide, _ = make(bundles, tmp_path, "stain")
    with pytest.raises(SpatialFormerError):
        tiles.image_tile(slide, "x", channels, z=0, x=0, y=0)


def test_replaced_image_is_read_anew(bundles, tmp_path) -> None:
    _, slide, _ = make(bundles, tmp_path, "stain")
    before = tiles.image_tile(slide, "x", 0, z=0, x=0, y=0)
    path = slide.image_path("x")
    new = tmp_path / "new.tif"
    source = ImageSource("x", "stain", (tmp_path / "source.ome.tif",), np.eye(3))
    import tifffile

    tifffile.imwrite(source.paths[0], np.full((2, 700, 741), 9, np.uint16), ome=True)
    write_pyramid(source, new)
    new.replace(path)
    assert not np.array_equal(before, tiles.image_tile(slide, "x", 0, z=0, x=0, y=0))
