"""Tiled, pyramidal OME-TIFF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TILE: Final = 512
_SMALLEST_LEVEL_PX: Final = 512


def _halve(picture: NDArray[Any]) -> NDArray[Any]:
    """Return the picture at half the size: the mean of each 2 x 2 block."""
    h, w = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    total = picture[0:h:2, 0:w:2].astype(np.uint32)
    total += picture[1:h:2, 0:w:2]
    total += picture[0:h:2, 1:w:2]
    total += picture[1:h:2, 1:w:2]
    return ((total + 2) // 4).astype(picture.dtype)


def _pyramid(picture: NDArray[Any]) -> list[NDArray[Any]]:
    levels = [picture]
    while max(levels[-1].shape[:2]) > _SMALLEST_LEVEL_PX:
        levels.append(_halve(levels[-1]))
    return levels


def write_rgb_pyramid(path: Path, picture: NDArray[Any], pixel_size_um: float) -> None:
    """Write an RGB picture ``(h, w, 3)`` uint8 as JPEG tiles with half-size levels."""
    metadata = {"axes": "YXS", **_physical(pixel_size_um)}
    _write(path, picture, metadata, photometric="rgb", compression="jpeg",
           compressionargs={"level": 85})  # fmt: skip


def write_stain_pyramid(
    path: Path, picture: NDArray[Any], pixel_size_um: float, channel: str
) -> None:
    """Write one channel ``(h, w)`` uint16, losslessly compressed, with half-size levels."""
    metadata = {"axes": "YX", "Channel": {"Name": channel}, **_physical(pixel_size_um)}
    _write(path, picture, metadata, photometric="minisblack", compression="zlib",
           compressionargs={"level": 1}, predictor=True)  # fmt: skip


def _physical(pixel_size_um: float) -> dict[str, Any]:
    return {
        "PhysicalSizeX": pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_size_um,
        "PhysicalSizeYUnit": "µm",
    }


def _write(path: Path, picture: NDArray[Any], metadata: dict[str, Any], **options: Any) -> None:
    import tifffile

    first, *smaller = _pyramid(picture)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(first, subifds=len(smaller), metadata=metadata, tile=(_TILE, _TILE), **options)
        for level in smaller:
            writer.write(level, subfiletype=1, tile=(_TILE, _TILE), **options)
