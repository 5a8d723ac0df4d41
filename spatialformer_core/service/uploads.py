"""Small files that come through the browser: checked, then kept below the home as sources.

Each upload is a folder of its own that appears whole or not at all. What lies in it is read later
by the same guarded readers as a file that the server's owner put there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from spatialformer_core import files
from spatialformer_core.disk import size, size_text
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.settings import UPLOADS

if TYPE_CHECKING:
    from spatialformer_core.service.facade import Services

SUFFIXES = ("h5ad", "zip", "csv", "tif", "tiff")
"""What may be uploaded, without the dot."""

_CHUNK = 1 << 20
_MB = 1_000_000
_MAX_STEM = 48
_MAX_MEMBERS = 20_000
_LEFT_OUT = ("__MACOSX/", ".DS_Store", files.MANIFEST)


class Readable(Protocol):
    """Whatever gives its bytes piece by piece."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return at most ``size`` bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was uploaded: its name below the uploads, and what it takes on the disk."""

    name: str
    n_bytes: int


def save_upload(services: Services, name: str, content: Readable) -> Upload:
    """Check an uploaded file and keep it; a zip archive is unpacked.

    Parameters
    ----------
    name
        Its name on the visitor's computer; only letters, digits, ``_``, ``-`` of it are kept.
    content
        Its bytes, read from the present position.

    Raises
    ------
    SpatialFormerError
        If it is of another kind, too large, damaged or hostile, or the uploads are full.
    """
    suffix = Path(name).suffix.lower()
    if suffix.lstrip(".") not in SUFFIXES:
        raise SpatialFormerError(
            f"Files {suffix[:20]!r} are not taken.",
            where=name[-80:],
            fix=f"Upload one of: {', '.join('.' + s for s in SUFFIXES)}.",
        )
    root = services.home / UPLOADS
    _check_room(services, root)
    stem = _free_name(root, Path(name).stem)
    limit = services.config.limits.max_upload_mb * _MB
    with files.atomic_directory(root / stem) as folder:
        # A folder with cells.h5ad would be taken for a table folder, which holds more than that.
        own = f"{stem if stem.lower() != 'cells' else 'uploaded-cells'}{suffix}"
        path = folder / own
        if not _copy(content, path, limit, "The file"):
            raise SpatialFormerError("The file is empty.", where=name[-80:], fix="Choose it again.")
        if suffix == ".zip":
            _unpack(path, folder, services.config.limits.max_unpacked_mb * _MB)
            path.unlink()
            _check_source(folder)
        else:
            _CHECKS[suffix](path)
    return Upload(stem, size(root / stem))


def list_uploads(services: Services) -> list[Upload]:
    """Return what was uploaded, by name."""
    root = services.home / UPLOADS
    found = (path for path in root.iterdir() if files.is_complete(path)) if root.is_dir() else ()
    return [Upload(path.name, size(path)) for path in sorted(found)]


def delete_upload(services: Services, name: str) -> None:
    """Delete an upload for good; slides that were read from it stay.

    Raises
    ------
    SpatialFormerError
        If there is none of this name, or a job that waits or runs may read it.
    """
    root = services.home / UPLOADS
    folder = files.resolve_under(root, files.check_name(name, "Upload"))
    if not files.is_complete(folder):
        raise SpatialFormerError(f"There is no upload {name[:60]!r}.", fix="Reload the page.")
    if any(job.kind in ("ingest", "change") and not job.is_ended for job in services.jobs()):
        raise SpatialFormerError(
            "A slide is being read or changed, perhaps from this file.",
            where=name,
            fix="Delete it when that is done.",
        )
    shutil.rmtree(folder)


def _check_room(services: Services, root: Path) -> None:
    limits = services.config.limits
    files.sweep_partials(root)
    there = list_uploads(services)
    total = sum(upload.n_bytes for upload in there)
    if len(there) >= limits.max_uploads or total >= limits.max_uploads_mb * _MB:
        raise SpatialFormerError(
            f"{len(there)} uploads take {size_text(total)}; {limits.max_uploads} and "
            f"{size_text(limits.max_uploads_mb * _MB)} are allowed.",
            fix="Delete uploads that are not needed any more.",
        )


def _free_name(root: Path, stem: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:_MAX_STEM] or "upload"
    number = 2
    name = plain
    while (root / name).exists():
        name, number = f"{plain}-{number}", number + 1
    return name


def _copy(source: Readable, path: Path, limit: int, what: str) -> int:
    """Write a stream into a file and return its bytes; a lie about its size ends here."""
    n_bytes = 0
    with files.growing(path, fresh=True) as stream:
        while block := source.read(_CHUNK):
            n_bytes += len(block)
            if n_bytes > limit:
                raise SpatialFormerError(
                    f"{what} is larger than the {size_text(limit)} allowed.",
                    fix="Let the server's owner put it into one of the folders of `slide_roots`.",
                )
            stream.write(block)
    return n_bytes


def _unpack(path: Path, folder: Path, limit: int) -> None:
    """Unpack an archive whose directory the guard has passed, below its own folder."""
    from spatialformer_core.io.archive import open_archive

    with open_archive(path, folder) as archive:
        # A member of the archive's own name would be written over what is read.
        names = [n for n in archive.sizes if not _is_left_out(n) and n != path.name]
        if len(names) > _MAX_MEMBERS:
            raise SpatialFormerError(
                f"The archive holds {len(names):,} files; {_MAX_MEMBERS:,} are allowed.",
                fix="Let the server's owner put the folder into one of `slide_roots`.",
            )
        left = limit
        for name in names:
            target = files.resolve_under(folder, name)
            try:
                with archive.stream(name) as stream:
                    left -= _copy(stream, target, left, "What the archive unpacks to")
            except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
                raise SpatialFormerError(
                    f"{name[:80]!r} is both a file and a folder in the archive.", where=path.name
                ) from error


def _is_left_out(name: str) -> bool:
    return name.startswith(_LEFT_OUT[0]) or PurePosixPath(name).name in _LEFT_OUT[1:]


def _check_source(folder: Path) -> None:
    from spatialformer_core.io.source import FORMATS, format_of

    inside = [path for path in folder.iterdir() if path.is_dir() or path.suffix == ".h5ad"]
    if not any(format_of(path) for path in (folder, *inside)):
        raise SpatialFormerError(
            "The archive holds no slide that can be read.",
            fix=f"Zip a folder of one of these: {'; '.join(entry.holds for entry in FORMATS)}.",
        )


def _check_h5ad(path: Path) -> None:
    from spatialformer_core.io.guard import open_hdf5

    with open_hdf5(path, path.parent) as file:
        absent = [name for name in ("X", "obs", "var") if name not in file]
    if absent:
        raise SpatialFormerError(
            f"It has no {', '.join(absent)}; an AnnData file is expected.", where=path.name
        )


def _check_table(path: Path) -> None:
    from spatialformer_core.io import delimited

    if len(delimited.columns(path, path.parent)) < 2:
        raise SpatialFormerError(
            "The table has one column only.",
            where=path.name,
            fix="Separate columns by commas: labels are 'cell_id,group'.",
        )


def _check_image(path: Path) -> None:
    from spatialformer_core.io.guard import open_tiff

    open_tiff(path, path.parent).close()


_CHECKS: dict[str, Callable[[Path], Any]] = {
    ".h5ad": _check_h5ad,
    ".csv": _check_table,
    ".tif": _check_image,
    ".tiff": _check_image,
}
