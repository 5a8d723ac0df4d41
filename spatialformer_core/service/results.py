"""What a job left behind, for a page: its log and its files, by name and never by path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

MAX_SERVED_BYTES = 1 << 28
"""Larger files are not sent through the browser: Streamlit would hold them in memory."""

_MAX_FILES = 200


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file of a result.

    Attributes
    ----------
    name
        Its path within the result, with ``/``.
    n_bytes
        Its size in bytes.
    """

    name: str
    n_bytes: int


def result_files(folder: Path) -> list[ResultFile]:
    """Return the files of a result folder by name, 200 at most; links are none."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    listed = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found]
    shown = [ResultFile(name, size) for name, size in listed if name != files.MANIFEST]
    return shown[:_MAX_FILES]


def read_result_file(folder: Path, name: str) -> bytes:
    """Return the content of one file of a result.

    Raises
    ------
    SpatialFormerError
        If the result has no file of that name, or it is larger than a browser should be sent.
    """
    size = {file.name: file.n_bytes for file in result_files(folder)}.get(name)
    if size is None:
        raise SpatialFormerError(f"The result has no file {name[:80]!r}.", fix="Reload the page.")
    if size > MAX_SERVED_BYTES:
        raise SpatialFormerError(
            f"{name} has {size:,} bytes; up to {MAX_SERVED_BYTES:,} go through the browser.",
            fix="Copy it on the server; it lies in the job's folder of the home folder.",
        )
    return files.resolve_under(folder, Path(name)).read_bytes()


def without_paths(text: str, home: Path, roots: tuple[Path, ...]) -> str:
    """Return a log with the server's folders replaced by what they are."""
    for number, root in enumerate(roots):
        text = text.replace(str(root), f"slide_roots[{number}]")
    return text.replace(str(home), "$SPATIALFORMER_HOME")
