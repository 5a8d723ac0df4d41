"""Tiles of a slide's image pyramids as JPEG, for the viewer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.slides import Slide

if TYPE_CHECKING:
    from tifffile import TiffPage

JPEG_QUALITY = 85
_TILES_KEPT = 1024
_IMAGES_KEPT = 16


@dataclass(frozen=True, slots=True)
class _Plane:
    """One resolution of one channel."""

    page: TiffPage
    width: int
    height: int
    tile_px: int


def image_tile(slide: Slide, at: tuple[str, int, int, int, int]) -> bytes | None:
    """Return one tile of an image as JPEG; None outside the image.

    Parameters
    ----------
    slide
        The slide.
    at
        Name of the image, channel, level (0: full resolution), column and row of the tile.

    Raises
    ------
    SpatialFormerError
        If the slide has no such image.
    """
    name, channel, level, x, y = at
    image = slide.image(name)
    colour = image.kind == "he"
    if not 0 <= channel < (1 if colour else len(image.channels)):
        return None
    limits = None if colour else (image.channels[channel].low, image.channels[channel].high)
    return _tile(slide.image_path(name), slide.meta.created, (channel, level, x, y), limits)


@functools.lru_cache(maxsize=_TILES_KEPT)
def _tile(
    path: Path,
    version: str,
    at: tuple[int, int, int, int],
    limits: tuple[float, float] | None,
) -> bytes | None:
    import imagecodecs

    channel, level, x, y = at
    planes = _planes(path, version)
    if not 0 <= level < len(planes):
        return None
    plane = planes[level][channel]
    left, top = x * plane.tile_px, y * plane.tile_px
    if not (0 <= left < plane.width and 0 <= top < plane.height):
        return None
    pixels = _decode(path, plane, y * -(-plane.width // plane.tile_px) + x)
    # Tiles at the right and lower edge are padded in the file; the padding is no tissue.
    pixels = pixels[: plane.height - top, : plane.width - left]
    if limits is not None:
        low, high = limits
        scaled = (pixels[..., 0].astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        pixels = np.clip(scaled, 0, 255).astype(np.uint8)
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=JPEG_QUALITY))


def _decode(path: Path, plane: _Plane, number: int) -> NDArray[Any]:
    """Decode one tile, shape ``(tile_px, tile_px, samples)``; an empty one is black."""
    page = plane.page
    size = page.databytecounts[number]
    if size == 0:
        return np.zeros((plane.tile_px, plane.tile_px, page.samplesperpixel), page.dtype)
    with path.open("rb") as stream:
        stream.seek(page.dataoffsets[number])
        data = stream.read(size)
    decoded = page.decode(data, number, jpegtables=page.jpegtables)[0]
    if decoded is None:
        return np.zeros((plane.tile_px, plane.tile_px, page.samplesperpixel), page.dtype)
    return decoded.reshape(decoded.shape[-3:])


@functools.lru_cache(maxsize=_IMAGES_KEPT)
def _planes(path: Path, version: str) -> list[list[_Plane]]:
    """Return the planes of an image by level and channel; the file is closed again.

    ``version`` tells an image from another one that lay under the same path before.
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        levels = tif.series[0].levels
        return [[_plane(page) for page in level.pages] for level in levels]


def _plane(page: Any) -> _Plane:
    full: TiffPage = page.aspage()
    _ = full.decode  # read from the file's tags now, while it is open
    return _Plane(full, full.imagewidth, full.imagelength, full.tilewidth)
