"""Slides that lie on the server and may be registered: pages see ids and names, never paths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

_ID_LENGTH = 16
_FILE_DEPTH = 3
_MAX_VISITED = 20_000
_FILES = {
    ".tif": "image",
    ".tiff": "image",
    ".csv": "table",
    ".ckpt": "weights",
    ".pt": "weights",
}


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A folder or file below an allow-listed root.

    Attributes
    ----------
    id
        Opaque; the only thing that a page hands back.
    name
        Path below its root, for people.
    kind
        What it looks like: one of the kinds of `io.source.FORMATS`.
    """

    id: str
    name: str
    kind: str


def list_sources(roots: tuple[Path, ...], limit: int) -> list[SourceEntry]:
    """Return what may be registered, at most ``limit`` entries, sorted within each root."""
    found: list[SourceEntry] = []
    for entry, _ in _walk(roots):
        if len(found) == limit:
            break
        found.append(entry)
    return found


def source_path(roots: tuple[Path, ...], source_id: str) -> Path:
    """Return the path behind an id.

    Raises
    ------
    SpatialFormerError
        If no source of that id lies below the roots (any more).
    """
    for entry, path in _walk(roots):
        if entry.id == source_id:
            return path
    raise SpatialFormerError(
        f"There is no source {source_id[:40]!r}; it may have been moved or removed.",
        fix="Reload the list of sources.",
    )


def list_files(roots: tuple[Path, ...], limit: int) -> list[SourceEntry]:
    """Return images (``.tif``), tables (``.csv``) and published weights (``.ckpt``, ``.pt``).

    They lie in a root or up to three folders below it; at most ``limit`` of each kind.
    """
    found: dict[str, list[SourceEntry]] = {kind: [] for kind in ("image", "table", "weights")}
    for entry, _ in _walk_files(roots):
        if len(found[entry.kind]) < limit:
            found[entry.kind].append(entry)
    return [entry for kind in found.values() for entry in kind]


def file_path(roots: tuple[Path, ...], file_id: str, kind: str) -> Path:
    """Return the path behind the id of a file.

    Raises
    ------
    SpatialFormerError
        If no such file of that kind lies below the roots (any more).
    """
    for entry, path in _walk_files(roots):
        if (entry.id, entry.kind) == (file_id, kind):
            return path
    raise SpatialFormerError(
        f"There is no {kind} {file_id[:40]!r}; it may have been moved or removed.",
        fix="Reload the list of files.",
    )


def _walk_files(roots: tuple[Path, ...]) -> Iterator[tuple[SourceEntry, Path]]:
    """Yield the files that may go with a slide; a zarr store's inside and links out are none."""
    visited = 0
    for index, root in enumerate(roots):
        folders = [(root, 0)]
        while folders:
            folder, depth = folders.pop(0)
            for path in _children(folder):
                visited += 1
                if visited > _MAX_VISITED:
                    return
                if path.is_dir() and depth < _FILE_DEPTH and path.suffix != ".zarr":
                    folders.append((path, depth + 1))
                kind = _FILES.get(path.suffix.lower())
                if kind and path.is_file() and _is_inside(root, path):
                    name = str(path.relative_to(root))
                    yield SourceEntry(_digest(index, name), name, kind), path


def _digest(index: int, name: str) -> str:
    return hashlib.sha256(f"{index}\0{name}".encode()).hexdigest()[:_ID_LENGTH]


def _walk(roots: tuple[Path, ...]) -> Iterator[tuple[SourceEntry, Path]]:
    """Yield the sources one or two levels below each root; links leading outside are no sources."""
    for index, root in enumerate(roots):
        for child in _children(root):
            kind = _kind(child)
            candidates = [(child, kind)] if kind else [(p, _kind(p)) for p in _children(child)]
            for path, what in candidates:
                if what is None or not _is_inside(root, path):
                    continue
                name = str(path.relative_to(root))
                yield SourceEntry(_digest(index, name), name, what), path


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except PermissionError:
        return []


def _is_inside(root: Path, path: Path) -> bool:
    try:
        files.resolve_under(root, path.relative_to(root))
    except SpatialFormerError:
        return False
    return True


def _kind(path: Path) -> str | None:
    """Guess from names alone; whether it can be read shows when it is ingested."""
    from spatialformer_core.io.source import format_of

    try:
        found = format_of(path)
    except OSError:
        return None
    return None if found is None else found.kind
