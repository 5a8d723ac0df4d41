"""The slide store: one folder per slide, whole or not there."""

from __future__ import annotations

import logging
import re
import shutil
import unicodedata
import uuid
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides.meta import FORMAT_VERSION, READABLE, SlideMeta
from spatialformer_core.slides.slide import Slide

_LOG = logging.getLogger(__name__)
_MAX_SLUG = 48

Problems = list[str]
"""One sentence per problem (inside the class, `list` is the method)."""


def slug(name: str) -> str:
    """Return the slide id of a name: lower case, letters, digits and ``-``.

    Raises
    ------
    SpatialFormerError
        If nothing of the name is left.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_SLUG].rstrip("-")
    if not text:
        raise SpatialFormerError(
            f"Name {name[:80]!r} holds no letter or digit.", where="name", fix="Give another name."
        )
    return text


class SlideStore:
    """All slides below a home folder.

    Parameters
    ----------
    home
        The folder of ``$SPATIALFORMER_HOME``.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "slides"

    def path(self, slide_id: str) -> Path:
        """Return where a slide lies, or would lie."""
        if slide_id != slug(slide_id):
            raise SpatialFormerError(f"{slide_id[:80]!r} is no slide id.", where="slide")
        return self.root / slide_id

    def user_path(self, slide_id: str) -> Path:
        """Return the folder of what people added to a slide."""
        return self.path(slide_id).with_name(f"{slide_id}.user")

    def exists(self, slide_id: str) -> bool:
        """Tell whether a slide is there, whole."""
        return files.is_complete(self.path(slide_id))

    def list(self) -> list[SlideMeta]:
        """Return all readable slides, by name; an unreadable one is logged, not hidden silently."""
        found = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if not folder.is_dir() or not files.is_complete(folder):
                continue
            try:
                found.append(_read_meta(folder))
            except SpatialFormerError as error:
                _LOG.warning("Slide %s cannot be read: %s", folder.name, error)
        return sorted(found, key=lambda meta: (meta.name.lower(), meta.slide_id))

    def open(self, slide_id: str) -> Slide:
        """Open a slide.

        Raises
        ------
        SpatialFormerError
            If it is not there or was written by another version.
        """
        folder = self.path(slide_id)
        if not files.is_complete(folder):
            known = ", ".join(meta.slide_id for meta in self.list()) or "none"
            raise SpatialFormerError(
                f"There is no slide {slide_id!r}.", where="slide", fix=f"Slides: {known}."
            )
        return Slide(folder, self.user_path(slide_id), _read_meta(folder))

    def remove(self, slide_id: str) -> None:
        """Remove a slide and what people added to it.

        Raises
        ------
        SpatialFormerError
            If it is not there.
        """
        folder = self.open(slide_id).folder
        # Renamed first: a reader never sees half a slide, and `sweep` ends an interrupted removal.
        gone = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex}")
        folder.rename(gone)
        shutil.rmtree(gone)
        shutil.rmtree(self.user_path(slide_id), ignore_errors=True)

    def verify(self, slide_id: str) -> Problems:
        """Return one sentence per file that is missing or changed; empty if all is well."""
        slide = self.open(slide_id)
        problems = files.verify_directory(slide.folder)
        try:
            slide.rois()
        except SpatialFormerError as error:
            problems.append(f"A saved region cannot be read: {error}")
        return problems

    def sweep(self) -> int:
        """Remove what interrupted writers left; return how many entries."""
        return files.sweep_partials(self.root)


def _read_meta(folder: Path) -> SlideMeta:
    values = files.read_json(folder / "meta.json")
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in READABLE:
        raise SpatialFormerError(
            f"The slide has format {version!r}; formats up to {FORMAT_VERSION} are read.",
            where=folder.name,
            fix="Ingest it again, or open it with the version that wrote it.",
        )
    return validate(SlideMeta, values, folder.name)
