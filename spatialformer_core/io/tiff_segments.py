"""JPEG and JPEG 2000 tiles state their own size, which the decoders believe: it is compared first.

tifffile bounds the other codings by the size of a tile.
"""

from __future__ import annotations

import struct
from typing import Any

from tifffile import COMPRESSION

_HEAD_BYTES = 1 << 16
_JPEG = {COMPRESSION.JPEG}
_JPEG_2000 = {
    COMPRESSION.APERIO_JP2000_YCBC,
    COMPRESSION.APERIO_JP2000_RGB,
    COMPRESSION.JPEG_2000_LOSSY,
    COMPRESSION.JPEG2000,
}
_BOUNDED = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.ZSTD,
}
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""Markers of a JPEG that carry its height and width."""
_BARE = {0x01, *range(0xD0, 0xDA)}
_SIZ = b"\xff\x4f\xff\x51"


def check_segments(page: Any) -> None:
    """Refuse a page whose tiles or strips state another size than the page gives them.

    Raises
    ------
    ValueError
        If one is larger than a tile, states no size, or has a coding that is not read.
    """
    if page.compression in _BOUNDED:
        return
    if page.compression not in _JPEG | _JPEG_2000:
        raise ValueError(f"its coding {page.compression!s} is not read")
    size = _jpeg_size if page.compression in _JPEG else _jpeg2000_size
    height, width = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    )
    stream = page.parent.filehandle
    for offset, stored in zip(page.dataoffsets, page.databytecounts, strict=True):
        if stored == 0:
            continue
        stream.seek(offset)
        stated = size(stream.read(min(stored, _HEAD_BYTES)))
        if stated is None or stated[0] > height or stated[1] > width:
            raise ValueError(f"a tile of {height} x {width} pixels states {stated}")


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Return height and width that a JPEG stream states, None if it states none."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return int(height), int(width)
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", head, at + 2)[0])
    return None


def _jpeg2000_size(head: bytes) -> tuple[int, int] | None:
    """Return height and width that a bare JPEG 2000 codestream states, None if it states none."""
    # Searched for further behind, the mark could be a decoy in front of the real one.
    if not head.startswith(_SIZ) or len(head) < 24:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", head, 8)
    return int(bottom - top), int(right - left)
