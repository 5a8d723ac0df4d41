"""Ligand-receptor tables and gene sets of one home folder: pages see ids and names, no paths.

They lie in the folder ``references`` of the home folder. Whoever runs the server may put files
there; what comes through the browser is read once before it is kept.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.enrichment import read_gmt
from spatialformer_core.perturbation.ligand_receptor import read_ligand_receptors

Kind = Literal["ligand-receptor", "gene-sets"]

FOLDER = "references"
PREFIX = "reference:"
"""Begins the id of a reference where a request may hold a path as well."""

MAX_BYTES = 16 << 20
MAX_FILES = 200
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "ligand-receptor": (".csv", ".csv.gz"),
    "gene-sets": (".gmt", ".gmt.gz"),
}
_ID_LENGTH = 16
_BESIDE = "complex_input"


@dataclass(frozen=True, slots=True)
class Reference:
    """One table of a home folder.

    Attributes
    ----------
    id
        Opaque; stands for its path in a request.
    name
        Name of the file.
    kind
        What it is by its ending.
    """

    id: str
    name: str
    kind: Kind


def list_references(home: Path) -> list[Reference]:
    """Return the tables of a home folder by name, `MAX_FILES` at most.

    CellChatDB's table of complexes belongs to the table beside it and is none of its own.
    """
    folder = home / FOLDER
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        kind = _kind(path.name)
        if kind and path.is_file() and not path.is_symlink() and _BESIDE not in path.name:
            found.append(Reference(_id(path.name), path.name, kind))
    return found[:MAX_FILES]


def resolve_reference(home: Path, value: str) -> str:
    """Return the path that a request means: that of an id, anything else as it is.

    Raises
    ------
    SpatialFormerError
        If no reference of that id is there (any more).
    """
    if not value.startswith(PREFIX):
        return value
    for reference in list_references(home):
        if reference.id == value:
            return str(home / FOLDER / reference.name)
    raise SpatialFormerError(
        "The chosen table is not on the server any more.", value[:40], "Choose or upload it again."
    )


def save_reference(home: Path, name: str, content: bytes, kind: Kind) -> Reference:
    """Keep an uploaded table after it has been read once.

    Parameters
    ----------
    home
        The home folder.
    name
        Name of the file, with its ending.
    content
        Its bytes, `MAX_BYTES` at most.
    kind
        What it is meant to be.

    Raises
    ------
    SpatialFormerError
        If it is too large, has another ending, cannot be read as what it is meant to be, or
        another file has its name.
    """
    files.check_name(name, "File")
    if _kind(name) != kind:
        raise SpatialFormerError(
            f"{name[:80]!r} has none of the endings {', '.join(ENDINGS[kind])}."
        )
    if len(content) > MAX_BYTES:
        raise SpatialFormerError(
            f"{name} has {len(content):,} bytes; up to {MAX_BYTES:,} are taken through a browser.",
            fix=f"Put it into the folder {FOLDER!r} of the home folder on the server.",
        )
    _read_once(name, content, kind)
    path = home / FOLDER / name
    if path.is_file() and path.read_bytes() != content:
        raise SpatialFormerError(
            f"There is another file {name!r} already.", fix="Give this one another name."
        )
    if len(list_references(home)) >= MAX_FILES and not path.is_file():
        raise SpatialFormerError(f"There are {MAX_FILES} tables already; remove some of them.")
    with files.atomic_write(path) as stream:
        stream.write(content)
    return Reference(_id(name), name, kind)


def _read_once(name: str, content: bytes, kind: Kind) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with files.atomic_write(path) as stream:
            stream.write(content)
        if kind == "gene-sets":
            read_gmt(path)
        else:
            read_ligand_receptors(path)


def _kind(name: str) -> Kind | None:
    lower = name.lower()
    return next((kind for kind, ends in ENDINGS.items() if lower.endswith(ends)), None)


def _id(name: str) -> str:
    return PREFIX + hashlib.sha256(name.encode()).hexdigest()[:_ID_LENGTH]
