"""Files: atomic writes, safe joins, hashes and the home folder.

Every write of the core goes through this file: a reader never sees half a file or half a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from spatialformer_core.errors import SpatialFormerError

MANIFEST = "COMPLETE.json"
"""Written last into a folder; a folder without it does not exist for readers."""

_PARTIAL = ".partial-"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_CHUNK = 1 << 20


def home() -> Path:
    """Return the folder that holds slides, jobs and checkpoints (``$SPATIALFORMER_HOME``)."""
    return Path(os.environ.get("SPATIALFORMER_HOME", ".spatialformer")).resolve()


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can safely name a file.

    Raises
    ------
    SpatialFormerError
        If it is empty, too long, or holds anything but letters, digits, ``_``, ``.``, ``-``.
    """
    if not _NAME.match(name) or ".." in name or _PARTIAL in name:
        raise SpatialFormerError(
            f"{what} {name[:80]!r} cannot be used as a name.",
            fix="Use 1-64 letters, digits, '_', '.', '-', beginning with a letter or digit.",
        )
    return name


def resolve_under(root: Path, relative: str | Path) -> Path:
    """Join and resolve ``relative`` below ``root``; refuse whatever leads outside.

    Raises
    ------
    SpatialFormerError
        If the path is absolute, climbs out, or a link leads outside.
    """
    part = Path(relative)
    outside = SpatialFormerError(
        f"{str(relative)[:200]!r} leads outside the allowed folder.", where=str(root)
    )
    # The lexical check comes first: resolving a hostile path may already touch other disks.
    if part.is_absolute() or ".." in part.parts or "\x00" in str(relative):
        raise outside
    real_root = root.resolve()
    resolved = (real_root / part).resolve()
    if not resolved.is_relative_to(real_root):
        raise outside
    return resolved


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under ``path`` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{_PARTIAL}{uuid.uuid4().hex}")
    try:
        with partial.open(mode, encoding=None if mode == "wb" else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically (keys sorted, so that equal values give equal bytes)."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, "w") as stream:
        stream.write(text + "\n")


def read_json(path: Path, max_bytes: int = 64 * _CHUNK) -> Any:
    """Read JSON.

    Raises
    ------
    SpatialFormerError
        If the file is missing, larger than ``max_bytes`` or no JSON.
    """
    if not path.is_file():
        raise SpatialFormerError("A JSON file was expected and is not there.", where=str(path))
    if path.stat().st_size > max_bytes:
        raise SpatialFormerError(
            f"The file is larger than the {max_bytes:,} bytes allowed.", where=str(path)
        )
    try:
        return json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SpatialFormerError(f"The file is no JSON: {error}.", where=str(path)) from error


@contextlib.contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Build a folder beside ``path``; it appears there whole, or not at all.

    The manifest with the SHA-256 of every file is written last, then the folder is renamed.

    Parameters
    ----------
    path
        Where the folder shall appear.
    replace
        Whether a folder that is there already gives way.

    Raises
    ------
    SpatialFormerError
        If something is there already and ``replace`` is False.
    """
    if path.exists() and not replace:
        raise SpatialFormerError(
            f"{path.name!r} exists already.",
            where=str(path.parent),
            fix="Choose another name or remove it first.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}{_PARTIAL}{uuid.uuid4().hex}")
    partial.mkdir()
    try:
        yield partial
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(folder: Path, path: Path) -> None:
    """Write the manifest of a folder that was built beside ``path``, then rename it to ``path``.

    What is there already gives way.
    """
    write_json(folder / MANIFEST, {"files": _hashes(folder)})
    _sync_folder(folder)
    if path.exists():
        discarded = path.with_name(f"{path.name}{_PARTIAL}{uuid.uuid4().hex}")
        path.rename(discarded)
        folder.rename(path)
        shutil.rmtree(discarded)
    else:
        folder.rename(path)
    _sync_folder(path.parent)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): sha256_file(p) for p in files}


def is_complete(folder: Path) -> bool:
    """Tell whether a folder was finished by `atomic_directory`."""
    return _PARTIAL not in folder.name and (folder / MANIFEST).is_file()


def verify_directory(folder: Path) -> list[str]:
    """Return one sentence per file of the manifest that is missing or changed."""
    expected: dict[str, str] = read_json(folder / MANIFEST)["files"]
    problems = []
    for name, digest in expected.items():
        path = resolve_under(folder, name)
        if not path.is_file():
            problems.append(f"{name} is missing.")
        elif sha256_file(path) != digest:
            problems.append(f"{name} has changed since it was written.")
    return problems


def sweep_partials(folder: Path) -> int:
    """Remove what interrupted writers left in a folder; return how many entries."""
    count = 0
    for path in folder.glob(f"*{_PARTIAL}*") if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        count += 1
    return count
