"""What the chunks of a zarr array say of themselves, compared with what the array says of them.

A chunk states how large it is once unpacked, and codecs allocate that before they look further:
a few bytes could claim any amount of memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard

_HEAD_BYTES = 18
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SLACK_BYTES = 1 << 12
_FREE_BYTES = 1 << 26
_FIX = "Write the store again with zarr's own Python package."


def check_chunks(folder: Path, codec: str, expected: int | None, where: str) -> None:
    """Check the size that each chunk of an array states.

    Parameters
    ----------
    folder
        Folder of the array.
    codec
        The codec that packed the chunks.
    expected
        Bytes of a chunk as the array declares it; None where its items have no fixed size.

    Raises
    ------
    SpatialFormerError
        If a chunk states more, or nothing that can be read.
    """
    stated_by = _STATED.get(codec.rpartition(".")[2])
    if stated_by is None:
        return
    for path in _chunk_files(folder):
        size = path.stat().st_size
        with path.open("rb") as stream:
            stated = stated_by(stream.read(_HEAD_BYTES))
        if stated is None:
            raise SpatialFormerError("A chunk does not say how large it is.", where, _FIX)
        most = _FREE_BYTES + size * guard.MAX_COMPRESSION_RATIO
        if stated > (most if expected is None else expected + _SLACK_BYTES):
            raise SpatialFormerError(
                f"A chunk of {size:,} bytes says that it holds {stated:,}.", where, _FIX
            )


def _chunk_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.name != "zarr.json":
            yield path


def _blosc(head: bytes) -> int | None:
    """Read the size from Blosc's header: version, flags, item size, then four bytes."""
    return int(struct.unpack_from("<I", head, 4)[0]) if len(head) >= 16 else None


def _zstd(head: bytes) -> int | None:
    """Read the content size from the header of a Zstandard frame (RFC 8878, 3.1.1.1)."""
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        return None
    descriptor = head[4]
    kind, single = descriptor >> 6, descriptor >> 5 & 1
    place = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[kind]
    field = head[place : place + width]
    if not width or len(field) < width:
        return None
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


_STATED: dict[str, Callable[[bytes], int | None]] = {"blosc": _blosc, "zstd": _zstd}
