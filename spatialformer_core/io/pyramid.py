"""Image pyramids: any microscope TIFF in, one tiled OME-TIFF of our own layout out.

H&E becomes JPEG tiles (a browser takes them as they are), stains stay lossless. Levels halve until
an image fits one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from spatialformer_core import progress as progress_
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, images
from spatialformer_core.io.records import ImageSource
from spatialformer_core.io.tiff_segments import check_segments

TILE_PX = 512
JPEG_QUALITY = 88
_IN_MEMORY_BYTES = 1 << 29
_STRIP_ROWS = 1_024
_HISTOGRAM_PIXELS = 4_000_000
_LOW_PERCENTILE, _HIGH_PERCENTILE = 1.0, 99.7

Image = NDArray[Any]
"""Colour ``(height, width, 3)`` or stain channels ``(channels, height, width)``."""


@dataclass(frozen=True, slots=True)
class PyramidInfo:
    """What was written.

    Attributes
    ----------
    width, height
        Size at full resolution in pixels.
    levels
        Number of resolutions.
    channels
        Channel names; ``("rgb",)`` for colour.
    limits
        Per channel the intensities to show as black and as full colour.
    """

    width: int
    height: int
    levels: int
    channels: tuple[str, ...]
    limits: tuple[tuple[float, float], ...]


def write_pyramid(
    source: ImageSource,
    target: Path,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> PyramidInfo:
    """Convert an image to our pyramid.

    Parameters
    ----------
    target
        The file to write, in a folder that is still being built (scratch files lie beside it).

    Raises
    ------
    SpatialFormerError
        If the image is damaged, or its pixels are neither 8 nor 16 bits.
    """
    scratch = _Scratch(target)
    try:
        level, names = _decode(source, scratch)
        levels = [level]
        while max(_size(levels[-1])) > TILE_PX:
            progress_.check(cancel)
            levels.append(_halved(levels[-1], scratch))
        progress(0.5, 1.0, f"Writing image {source.name}")
        _write(levels, names, source, target)
        height, width = _size(level)
        limits = _limits(levels) if source.kind == "stain" else ((0.0, 255.0),)
        return PyramidInfo(width, height, len(levels), names, limits)
    finally:
        scratch.remove()


class _Scratch:
    """Arrays in memory while small, else in files beside the target that are removed again."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._paths: list[Path] = []

    def array(self, shape: tuple[int, ...], dtype: Any) -> Image:
        if int(np.prod(shape)) * np.dtype(dtype).itemsize <= _IN_MEMORY_BYTES:
            return np.zeros(shape, dtype)
        path = self._target.with_name(f"{self._target.name}.scratch{len(self._paths)}")
        self._paths.append(path)
        return np.memmap(path, dtype, "w+", shape=shape)

    def remove(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)


def _size(level: Image) -> tuple[int, int]:
    height, width = level.shape[:2] if level.shape[-1] == 3 else level.shape[1:]
    return int(height), int(width)


def _decode(source: ImageSource, scratch: _Scratch) -> tuple[Image, tuple[str, ...]]:
    if source.pixels is not None:
        return _decode_array(source, scratch)
    with ExitStack() as stack:
        files = [stack.enter_context(guard.open_tiff(p, p.parent)) for p in source.paths]
        try:
            if source.kind == "he":
                return _decode_colour(files[0], scratch), ("rgb",)
            return _decode_stains(files, source, scratch)
        except guard.TIFF_FAULTS as error:
            raise SpatialFormerError(
                f"The image is damaged: {str(error)[:160]}.",
                where=source.paths[0].name,
                fix="Copy it again, or leave it out.",
            ) from error


def _decode_array(source: ImageSource, scratch: _Scratch) -> tuple[Image, tuple[str, ...]]:
    """Copy pixels that lie in another container, in strips."""
    pixels, colour = source.pixels, source.kind == "he"
    n_channels, height, width = pixels.shape
    out = scratch.array((height, width, 3) if colour else pixels.shape, pixels.dtype)
    try:
        for top in range(0, height, _STRIP_ROWS):
            rows = slice(top, top + _STRIP_ROWS)
            for channel in range(n_channels):
                target = out[rows, :, channel] if colour else out[channel, rows]
                target[:] = np.asarray(pixels[channel, rows])
    except guard.TIFF_FAULTS as error:
        raise SpatialFormerError(
            f"The image is damaged: {str(error)[:160]}.",
            where=source.name,
            fix="Copy the source again, or leave the image out.",
        ) from error
    if colour:
        return out, ("rgb",)
    return out, source.channels or tuple(f"channel {i + 1}" for i in range(n_channels))


def _decode_colour(tif: tifffile.TiffFile, scratch: _Scratch) -> Image:
    page = tif.pages.first
    out = scratch.array((page.imagelength, page.imagewidth, 3), np.uint8)
    if page.samplesperpixel == 3 and page.planarconfig == tifffile.PLANARCONFIG.CONTIG:
        _checked(page).asarray(out=out)
    elif page.samplesperpixel == 3:
        planes = scratch.array(page.shape, np.uint8)
        out[:] = np.moveaxis(_checked(page).asarray(out=planes), 0, -1)
    else:
        for colour, plane in enumerate(images.equal_pages(tif)[:3]):
            out[..., colour] = _checked(plane).asarray()
    return out


def _decode_stains(
    files: list[tifffile.TiffFile], source: ImageSource, scratch: _Scratch
) -> tuple[Image, tuple[str, ...]]:
    pages: list[Any] = []
    names: list[str] = []
    for tif, path in zip(files, source.paths, strict=True):
        xml = guard.ome_xml(tif, path)
        own = _channel_pages(tif, path, several=len(files) > 1)
        stated = images.channel_names(xml)
        if len(files) > 1 and len(stated) == len(files):
            stated = [stated[len(pages)]]
        pages += own
        names += [
            stated[i] if i < len(stated) and stated[i] else f"channel {len(names) + i + 1}"
            for i in range(sum(page.samplesperpixel for page in own))
        ]
    if len(source.channels) == len(names):
        names = list(source.channels)
    where = source.paths[0].name
    first = pages[0]
    if first.dtype not in (np.uint8, np.uint16):
        raise SpatialFormerError(f"Pixels are {first.dtype}; 8 or 16 bits expected.", where=where)
    if any(p.shape != first.shape or p.dtype != first.dtype for p in pages):
        raise SpatialFormerError("Its channels differ in size.", where=where)
    if len(names) > guard.MAX_CHANNELS:
        raise SpatialFormerError(f"It has {len(names)} channels.", where=where)
    out = scratch.array((len(names), first.imagelength, first.imagewidth), first.dtype)
    per_page = len(names) // len(pages)
    for position, page in enumerate(pages):
        _decode_page(page, out[position * per_page : (position + 1) * per_page], scratch)
    return out, tuple(names)


def _decode_page(page: Any, out: Image, scratch: _Scratch) -> None:
    """Decode a page of one or several channels into ``(channels, height, width)``."""
    if len(out) == 1:
        _checked(page).asarray(out=out[0])
        return
    decoded = _checked(page).asarray(out=scratch.array(page.shape, page.dtype))
    separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    out[:] = decoded if separate else np.moveaxis(decoded, -1, 0)


def _checked(page: Any) -> Any:
    """Return a page whose tiles state no other size than its own."""
    check_segments(page)
    return page


def _channel_pages(tif: tifffile.TiffFile, path: Path, *, several: bool) -> list[Any]:
    same = images.equal_pages(tif)
    if several:
        return same[:1]
    pixels = images.ome_pixels(guard.ome_xml(tif, path))
    if pixels is None:
        return same
    depth, n_channels = int(pixels.get("SizeZ", "1")), int(pixels.get("SizeC", "1"))
    # A file that was cut between two planes still opens, with the later ones gone.
    n_planes = len(same) * same[0].samplesperpixel
    if n_planes < max(depth, n_channels):
        raise SpatialFormerError(
            f"It holds {n_planes} of the {max(depth, n_channels)} planes that it declares.",
            where=path.name,
            fix="Copy it again.",
        )
    # Of a z-stack the middle plane is nearest to focus.
    return [same[depth // 2]] if depth > 1 else same[:n_channels]


def _halved(level: Image, scratch: _Scratch) -> Image:
    """Return the mean of each 2x2 block; the last odd row or column is repeated."""
    height, width = _size(level)
    colour = level.shape[-1] == 3
    half = ((height + 1) // 2, (width + 1) // 2)
    shape = (*half, 3) if colour else (level.shape[0], *half)
    out = scratch.array(shape, level.dtype)
    planes: Iterator[tuple[Image, Image]] = (
        iter([(level, out)]) if colour else iter(zip(level, out, strict=True))
    )
    for plane, target in planes:
        for top in range(0, height, _STRIP_ROWS):
            strip = np.asarray(plane[top : top + _STRIP_ROWS])
            pad = [(0, strip.shape[0] % 2), (0, width % 2)] + [(0, 0)] * (strip.ndim - 2)
            strip = np.pad(strip, pad, mode="edge").astype(np.uint32)
            mean = strip[::2, ::2] + strip[1::2, ::2] + strip[::2, 1::2] + strip[1::2, 1::2]
            target[top // 2 : top // 2 + len(mean)] = (mean + 2) // 4
    return out


def _write(levels: list[Image], names: tuple[str, ...], source: ImageSource, target: Path) -> None:
    colour = source.kind == "he"
    options: dict[str, Any] = {"tile": (TILE_PX, TILE_PX)}
    if colour:
        options |= {"compression": "jpeg", "compressionargs": {"level": JPEG_QUALITY}}
        options |= {"photometric": "rgb"}
    else:
        options |= {"compression": "zlib", "predictor": True, "photometric": "minisblack"}
    metadata: dict[str, Any] = {"axes": "YXS" if colour else "CYX"}
    metadata |= {"Name": source.name}
    if not colour:
        metadata |= {"Channel": {"Name": list(names)}}
    with tifffile.TiffWriter(target, bigtiff=True, ome=True) as writer:
        writer.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, metadata=None, **options)


def _limits(levels: list[Image]) -> tuple[tuple[float, float], ...]:
    small = next((lv for lv in levels if np.prod(_size(lv)) <= _HISTOGRAM_PIXELS), levels[-1])
    limits = []
    for plane in small:
        lit = plane[plane > 0]
        if len(lit) == 0:
            limits.append((0.0, 1.0))
            continue
        low, high = np.percentile(lit, [_LOW_PERCENTILE, _HIGH_PERCENTILE])
        # One value only (a mask, say) would show black if it were the lower limit too.
        limits.append((float(low), float(high)) if high > low else (0.0, float(high)))
    return tuple(limits)
