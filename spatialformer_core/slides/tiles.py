"""Image tiles for a viewer, decoded from a slide's pyramids in milliseconds.

Level ``z = 0`` is full resolution; each further level halves it. Tiles at the right and lower edge
are cropped to the image.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides.meta import ChannelMeta, ImageMeta
from spatialformer_core.slides.slide import Slide

RgbTile = NDArray[np.uint8]
Channels = int | Sequence[int] | None

_JPEG_QUALITY = 85
_MAX_OPEN = 16
_PALETTE = np.array(
    [
        [0.25, 0.45, 1.0],
        [1.0, 0.25, 0.85],
        [0.25, 0.9, 0.35],
        [1.0, 0.8, 0.2],
        [0.2, 0.9, 0.95],
        [1.0, 0.4, 0.3],
    ],
    np.float32,
)
"""Colour of each channel in an overlay; one channel alone is grey."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One resolution of one plane: how to decode it and where its tiles lie in the file."""

    page: Any
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    width: int
    height: int


class _Pyramid:
    """A pyramid whose headers were read once; reading a tile then is one ``pread``."""

    def __init__(self, path: Path, image: ImageMeta) -> None:
        n_planes = 1 if image.kind == "he" else len(image.channels)
        with tifffile.TiffFile(path, is_ome=False, _multifile=False) as tif:
            self.planes = [self._levels(tif.pages[plane]) for plane in range(n_planes)]
        self._descriptor = os.open(path, os.O_RDONLY)

    @staticmethod
    def _levels(page: Any) -> list[_Level]:
        levels = []
        for level in (page, *(page.pages or ())):
            _ = level.decode  # built from tags now, while the file is open
            levels.append(
                _Level(
                    level,
                    tuple(level.dataoffsets),
                    tuple(level.databytecounts),
                    int(level.imagewidth),
                    int(level.imagelength),
                )
            )
        return levels

    def raw(self, level: _Level, number: int) -> bytes:
        """Return the stored bytes of one tile."""
        return os.pread(self._descriptor, level.lengths[number], level.offsets[number])

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


class _Cache:
    """The pyramids used last. A slide's images never change, only its folder may be replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, int], _Pyramid] = OrderedDict()

    def get(self, path: Path, image: ImageMeta) -> _Pyramid:
        key = (path, path.stat().st_mtime_ns)
        with self._lock:
            if key not in self._open:
                self._open[key] = _Pyramid(path, image)
            self._open.move_to_end(key)
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
            return self._open[key]


_CACHE = _Cache()


def image_tile(slide: Slide, image: str, channels: Channels, *, z: int, x: int, y: int) -> RgbTile:
    """Return one tile as colours.

    Parameters
    ----------
    image
        Name of the image.
    channels
        One channel (grey), several (each in its own colour, added), or None for all; ignored for
        H&E.
    z, x, y
        Level, column and row of the tile.

    Returns
    -------
    RgbTile
        Shape ``(height, width, 3)``, at most the tile size.

    Raises
    ------
    SpatialFormerError
        If there is no such image, channel, level or tile.
    """
    meta = slide.image(image)
    pyramid = _CACHE.get(slide.image_path(image), meta)
    if meta.kind == "he":
        return _plane_tile(pyramid.planes[0], pyramid, meta, (z, x, y))
    chosen = _chosen(channels, meta)
    planes = [_plane_tile(pyramid.planes[c], pyramid, meta, (z, x, y)) for c in chosen]
    return _overlay(planes, [meta.channels[c] for c in chosen], chosen)


def image_tile_jpeg(
    slide: Slide, image: str, channels: Channels, *, z: int, x: int, y: int
) -> bytes:
    """Return one tile as a JPEG file; see `image_tile`.

    An inner H&E tile is handed on as it is stored.
    """
    import imagecodecs

    meta = slide.image(image)
    if meta.kind == "he":
        pyramid = _CACHE.get(slide.image_path(image), meta)
        level, number, height, width = _place(pyramid.planes[0], meta, (z, x, y))
        if height == width == meta.tile_px and level.page.jpegtables is None:
            return pyramid.raw(level, number)
    colours = image_tile(slide, image, channels, z=z, x=x, y=y)
    return bytes(imagecodecs.jpeg8_encode(colours, level=_JPEG_QUALITY))


def _chosen(channels: Channels, meta: ImageMeta) -> list[int]:
    if channels is None:
        return list(range(len(meta.channels)))
    chosen = [channels] if isinstance(channels, int) else list(channels)
    if not chosen or len(set(chosen)) != len(chosen):
        raise SpatialFormerError("No channel, or one twice, was asked for.", where=meta.name)
    for channel in chosen:
        if not 0 <= channel < len(meta.channels):
            raise SpatialFormerError(
                f"There is no channel {channel}; the image has {len(meta.channels)}.",
                where=meta.name,
            )
    return chosen


def _place(
    levels: list[_Level], meta: ImageMeta, zxy: tuple[int, int, int]
) -> tuple[_Level, int, int, int]:
    """Return the level, the tile's number in it, and its height and width."""
    z, x, y = zxy
    if 0 <= z < len(levels):
        level, tile = levels[z], meta.tile_px
        columns, rows = -(-level.width // tile), -(-level.height // tile)
        if 0 <= x < columns and 0 <= y < rows:
            height = min(tile, level.height - y * tile)
            return level, y * columns + x, height, min(tile, level.width - x * tile)
    raise SpatialFormerError(f"There is no tile z={z} x={x} y={y}.", where=meta.name)


def _plane_tile(
    levels: list[_Level], pyramid: _Pyramid, meta: ImageMeta, zxy: tuple[int, int, int]
) -> NDArray[Any]:
    level, number, height, width = _place(levels, meta, zxy)
    pixels = level.page.decode(
        pyramid.raw(level, number), number, jpegtables=level.page.jpegtables
    )[0]
    tile: NDArray[Any] = pixels[0, :height, :width]
    return tile if meta.kind == "he" else tile[..., 0]


@functools.lru_cache(maxsize=64)
def _stretch(low: float, high: float, n_values: int) -> NDArray[np.float32]:
    """Return the brightness 0..255 of every intensity between two limits."""
    values = np.arange(n_values, dtype=np.float32)
    bright: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1) * 255
    return bright


@functools.lru_cache(maxsize=64)
def _lanes(low: float, high: float, n_values: int, colour: int) -> NDArray[np.uint64]:
    """Return the colour of every intensity, as three 16-bit lanes of one integer."""
    lanes = np.rint(_stretch(low, high, n_values)[:, None] * _PALETTE[colour]).astype(np.uint64)
    red, green, blue = np.ascontiguousarray(lanes.T)
    packed: NDArray[np.uint64] = red | (green << np.uint64(16)) | (blue << np.uint64(32))
    return packed


def _overlay(planes: list[NDArray[Any]], metas: list[ChannelMeta], chosen: list[int]) -> RgbTile:
    """Add the planes, each stretched between its limits by a lookup table, in its colour.

    A pixel's three colours travel as 16-bit lanes of one integer, so that a plane costs one gather
    and one addition: 64 channels of 255 stay within a lane. One plane alone is grey.
    """
    n_values = int(np.iinfo(planes[0].dtype).max) + 1
    if len(planes) == 1:
        grey = np.rint(_stretch(metas[0].low, metas[0].high, n_values)).astype(np.uint8)[planes[0]]
        return np.repeat(grey[..., None], 3, axis=2)
    total = np.zeros(planes[0].shape, np.uint64)
    for plane, meta, channel in zip(planes, metas, chosen, strict=True):
        total += _lanes(meta.low, meta.high, n_values, channel % len(_PALETTE))[plane]
    split = total.astype("<u8", copy=False).view("<u2").reshape(*total.shape, 4)[..., :3]
    tile: RgbTile = np.minimum(split, 255).astype(np.uint8)
    return tile
