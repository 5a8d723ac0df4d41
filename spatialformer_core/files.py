"""Files: atomic writes, safe joins, hashes and the home folder.

Every write of the core goes through this file: a reader never sees half a file or half a folder.
What is unfinished carries ``.partial-`` in its name and is locked by its writer. A killed writer's
lock ends with it, so that `sweep_partials` tells what is left over from what is being written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from spatialformer_core import disk
from spatialformer_core.errors import SpatialFormerError

MANIFEST = "COMPLETE.json"
"""Written last into a folder; a folder without it does not exist for readers."""

_PARTIAL = ".partial-"
_ASIDE = f"{_PARTIAL}aside-"
"""Names the old folder while a new one takes its place, where the system cannot swap the two."""

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


def _beside(path: Path, mark: str = _PARTIAL) -> Path:
    return path.with_name(f"{path.name}{mark}{uuid.uuid4().hex}")


@contextlib.contextmanager
def _space(path: Path, partial: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Say in words that the disk is full; a folder speaks for the files in it."""
    try:
        yield
    except (OSError, SpatialFormerError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in disk.FULL:
            raise
        raise disk.full_error(path, disk.size(partial), needed_bytes) from cause


@contextlib.contextmanager
def atomic_write(path: Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under ``path`` only when the block ends without an error.

    Raises
    ------
    SpatialFormerError
        If the disk is full.
    """
    partial = _beside(path)
    try:
        with _space(path, partial):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open(mode, encoding=None if mode == "wb" else "utf-8") as stream:
                disk.lock(stream.fileno())
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def growing(path: Path, *, fresh: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that grows over several runs (an unfinished download) at its end.

    It is safe on disk as far as it was written, also after an error; `finish` gives it its name.

    Parameters
    ----------
    path
        Named so that nobody takes it for the finished file.
    fresh
        Whether it begins anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb" if fresh else "ab") as stream:
        try:
            yield stream
        finally:
            stream.flush()
            os.fsync(stream.fileno())


def finish(unfinished: Path, path: Path) -> None:
    """Give a file written by `growing` its name; a file of that name gives way."""
    unfinished.replace(path)
    _sync_folder(path.parent)


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
def atomic_directory(
    path: Path, *, replace: bool = False, needed_bytes: int | None = None
) -> Iterator[Path]:
    """Build a folder beside ``path``; it appears there whole, or not at all.

    The manifest with the SHA-256 of every file is written last, then the folder is renamed. A
    folder that gives way is swapped with the new one in a single step, so that at any moment one
    of the two is there.

    Parameters
    ----------
    path
        Where the folder shall appear.
    replace
        Whether a folder that is there already gives way.
    needed_bytes
        About how large it becomes; too little free space is then found before the work begins.

    Raises
    ------
    SpatialFormerError
        If something is there already and ``replace`` is False, or the disk is full.
    """
    if path.exists() and not replace:
        raise _taken(path)
    partial = _beside(path)
    with contextlib.ExitStack() as stack, _space(path, partial, needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        if needed_bytes is not None and shutil.disk_usage(path.parent).free < needed_bytes:
            raise disk.full_error(path, 0, needed_bytes)
        stack.callback(os.close, _locked_folder(partial))
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        publish(partial, path, replace=replace)


def _taken(path: Path) -> SpatialFormerError:
    return SpatialFormerError(
        f"{path.name!r} exists already.",
        where=str(path.parent),
        fix="Choose another name or remove it first.",
    )


def _locked_folder(partial: Path) -> int:
    """Make an unfinished folder and lock it; return the descriptor that holds the lock."""
    while True:
        partial.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(partial, os.O_RDONLY)
            disk.lock(descriptor)
            # A sweep may have taken it between its making and its lock.
            if partial.exists():
                return descriptor
            os.close(descriptor)


def publish(folder: Path, path: Path, *, replace: bool = True) -> None:
    """Write the manifest of a folder that was built beside ``path``, then rename it to ``path``.

    Raises
    ------
    SpatialFormerError
        If something is there already and ``replace`` is False.
    """
    write_json(folder / MANIFEST, {"files": _hashes(folder)})
    _sync_folder(folder)
    if replace and path.exists():
        if disk.exchange(folder, path):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _displace(folder, path)
    else:
        try:
            folder.rename(path)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise _taken(path) from error
            raise
    _sync_folder(path.parent)


def _displace(partial: Path, path: Path) -> None:
    """Put a folder in another's place in two steps; `restore_set_aside` mends a kill in between."""
    aside = _beside(path, _ASIDE)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        disk.lock(descriptor)
        path.rename(aside)
        try:
            partial.rename(path)
        except OSError:
            aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(descriptor)


def restore_set_aside(folder: Path) -> int:
    """Bring back folders whose writer was killed between two renames; return how many."""
    count = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name, mark, _ = path.name.partition(_ASIDE)
        target = path.with_name(name)
        if mark and not target.exists() and not disk.is_being_written(path):
            with contextlib.suppress(OSError):  # another process was faster
                path.rename(target)
                count += 1
    return count


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p != folder / MANIFEST):
        if path.is_dir():
            _sync_folder(path)
            continue
        with path.open("rb") as stream:
            # On the disk before the manifest says so: a power cut must not leave empty files.
            os.fsync(stream.fileno())
        found[str(path.relative_to(folder))] = sha256_file(path)
    return found


def is_complete(folder: Path) -> bool:
    """Tell whether a folder was finished by `atomic_directory`."""
    return _PARTIAL not in folder.name and (folder / MANIFEST).is_file()


def is_partial(path: Path) -> bool:
    """Tell whether a file or folder is unfinished by its name."""
    return _PARTIAL in path.name


@dataclass(frozen=True, slots=True)
class Differences:
    """How a folder differs from its manifest: paths below it, ascending."""

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.missing or self.changed or self.extra)

    def sentences(self) -> list[str]:
        """Return one sentence per path."""
        return [
            *(f"{name} is missing." for name in self.missing),
            *(f"{name} has changed since it was written." for name in self.changed),
            *(f"{name} was not there when the manifest was written." for name in self.extra),
        ]


def compare_directory(folder: Path) -> Differences:
    """Compare every file of a folder with its manifest."""
    try:
        expected: dict[str, str] = read_json(folder / MANIFEST)["files"]
        paths = {name: resolve_under(folder, name) for name in expected}
    except (SpatialFormerError, TypeError, KeyError, AttributeError):
        damaged = (MANIFEST,)
        return (
            Differences(changed=damaged) if (folder / MANIFEST).exists() else Differences(damaged)
        )
    missing = tuple(name for name, path in paths.items() if not path.is_file())
    changed = tuple(
        name
        for name, path in paths.items()
        if path.is_file() and sha256_file(path) != expected[name]
    )
    # The manifest of a folder built inside this one may be older than this rule: never extra.
    there = (p for p in folder.rglob("*") if p.name != MANIFEST)
    names = {str(p.relative_to(folder)) for p in there if p.is_symlink() or not p.is_dir()}
    return Differences(missing, changed, tuple(sorted(names - set(expected))))


def verify_directory(folder: Path) -> list[str]:
    """Return one sentence per file of the manifest that is missing or changed."""
    found = compare_directory(folder)
    return Differences(found.missing, found.changed).sentences()


def sweep_partials(folder: Path) -> int:
    """Remove what killed writers left in a folder; return how many entries.

    What is being written stays, and what a killed writer had set aside comes back.
    """
    restore_set_aside(folder)
    count = 0
    for path in folder.glob(f"*{_PARTIAL}*") if folder.is_dir() else ():
        if disk.is_being_written(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        count += 1
    return count
