"""Zip archives read in place, member by member: nothing is unpacked, no name becomes a path."""

from __future__ import annotations

import contextlib
import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard

MAX_MEMBERS = 4_000_000
MAX_NAME = 512
MAX_JSON_BYTES = 1 << 26

_FREE_BYTES = 1 << 26
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES = 22, 56, 20
_MAX_COMMENT = 1 << 16
_ENCRYPTED = 0x1
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
"""What zipfile raises on damaged archives; it has no common error."""


def _refuse(what: str, path: Path, fix: str | None = None) -> SpatialFormerError:
    return SpatialFormerError(what, where=path.name, fix=fix)


class Archive:
    """An open archive whose directory passed the checks.

    Attributes
    ----------
    sizes
        Stored bytes of each member that is a file, by name.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        self._members = {info.filename: info for info in file.infolist() if not info.is_dir()}
        self.sizes = {name: info.compress_size for name, info in self._members.items()}

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a member.

        Raises
        ------
        SpatialFormerError
            If it is not there, damaged, or declares more than ``max_bytes``.
        """
        info = self._members.get(name)
        if info is None:
            raise _refuse(f"The archive holds no {name[:80]!r}.", self.path)
        if info.file_size > max_bytes:
            raise _refuse(
                f"{name[:80]!r} declares {info.file_size:,} bytes; {max_bytes:,} are allowed.",
                self.path,
            )
        try:
            return self._file.read(info)
        except _FAULTS as error:
            raise self._damaged(name, error) from error

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[io.RawIOBase]:
        """Open a member for reading piece by piece.

        Raises
        ------
        SpatialFormerError
            If it is not there or damaged.
        """
        info = self._members.get(name)
        if info is None:
            raise _refuse(f"The archive holds no {name[:80]!r}.", self.path)
        try:
            member = self._file.open(info)
        except _FAULTS as error:
            raise self._damaged(name, error) from error
        with member:
            yield _Member(member, lambda error: self._damaged(name, error))

    def _damaged(self, name: str, error: Exception) -> SpatialFormerError:
        return _refuse(
            f"{name[:80]!r} is damaged: {str(error)[:160]}.", self.path, "Copy it again."
        )

    def json(self, name: str) -> dict[str, Any]:
        """Return a member that holds a JSON object.

        Raises
        ------
        SpatialFormerError
            If it is not there, too large, or no JSON object.
        """
        try:
            values = json.loads(self.read(name, MAX_JSON_BYTES))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise _refuse(f"{name[:80]!r} is no JSON: {str(error)[:160]}.", self.path) from error
        if not isinstance(values, dict):
            raise _refuse(f"{name[:80]!r} holds no object.", self.path)
        return values


class _Member(io.RawIOBase):
    """A member that is read; whatever zipfile raises meanwhile becomes our error."""

    def __init__(
        self, source: IO[bytes], damaged: Callable[[Exception], SpatialFormerError]
    ) -> None:
        super().__init__()
        self._source, self._fault = source, damaged

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._source.read(len(buffer))
        except _FAULTS as error:
            raise self._fault(error) from error
        buffer[: len(block)] = block
        return len(block)


@contextlib.contextmanager
def open_archive(path: Path, folder: Path) -> Iterator[Archive]:
    """Open a zip archive after checking its directory.

    Raises
    ------
    SpatialFormerError
        If it is no zip or truncated; has absurdly many members; holds a link, an encrypted
        member, two of one name, or a name that is absolute, climbs out or is no plain text; or
        if members overlap or declare more than their stored bytes can hold.
    """
    guard.check_file(path, folder)
    try:
        declared = _declared_members(path)
        if declared > MAX_MEMBERS:
            raise _refuse(f"The archive declares {declared:,} members.", path)
        file = zipfile.ZipFile(path)
    except _FAULTS as error:
        raise _refuse(
            f"The file is no zip archive, or it is truncated: {str(error)[:160]}.",
            path,
            "Copy it again.",
        ) from error
    with file:
        _check_members(file.infolist(), path)
        yield Archive(path, file)


def _declared_members(path: Path) -> int:
    """Return the number of members that the end record declares, before the list is read."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        stream.seek(max(size - _END_BYTES - _MAX_COMMENT, 0))
        tail = stream.read()
        at = tail.rfind(_END)
        if at < 0:
            raise zipfile.BadZipFile("no end record")
        count = int(struct.unpack_from("<H", tail, at + 10)[0])
        if count != (1 << 16) - 1 or at < _LOCATOR_BYTES:
            return count
        locator = tail[at - _LOCATOR_BYTES : at]
        if not locator.startswith(_LOCATOR):
            return count
        stream.seek(min(int(struct.unpack_from("<Q", locator, 8)[0]), size))
        end = stream.read(_END64_BYTES)
        if not end.startswith(_END64):
            raise zipfile.BadZipFile("no zip64 end record")
        return int(struct.unpack_from("<Q", end, 32)[0])


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> None:
    seen: set[str] = set()
    size = path.stat().st_size
    for info in members:
        name = info.filename
        if not _is_plain(name):
            raise _refuse(f"The archive holds a member named {name[:80]!r}.", path)
        if name in seen:
            raise _refuse(f"The archive holds {name[:80]!r} twice.", path)
        seen.add(name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refuse(f"{name[:80]!r} is a link or a device, which is not followed.", path)
        if info.flag_bits & _ENCRYPTED:
            raise _refuse(f"{name[:80]!r} is encrypted.", path)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refuse(f"{name[:80]!r} uses zip method {info.compress_type}.", path)
        most = info.compress_size * guard.MAX_COMPRESSION_RATIO
        if info.compress_type == zipfile.ZIP_STORED:
            most = info.compress_size
        if info.file_size > most:
            raise _refuse(
                f"{name[:80]!r} declares {info.file_size:,} bytes but stores "
                f"{info.compress_size:,}.",
                path,
            )
    stored = sum(info.compress_size for info in members)
    if stored > size:
        raise _refuse(
            f"Its members declare {stored:,} stored bytes in a file of {size:,}.",
            path,
            "Copy it again.",
        )


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        0 < len(name) <= MAX_NAME
        and name.isprintable()
        and not name.startswith("/")
        and ".." not in parts
        and not any(mark in name for mark in "\\:")
    )
