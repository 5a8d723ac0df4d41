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
_REMOVED = ".partial-removed-"

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
        return self._is_there(self.path(slide_id))

    def _is_there(self, folder: Path) -> bool:
        if files.is_complete(folder):
            return True
        # A writer may have been killed while the old slide had another name.
        return files.restore_set_aside(self.root) > 0 and files.is_complete(folder)

    def list(self) -> list[SlideMeta]:
        """Return all readable slides, by name; an unreadable one is logged, not hidden silently."""
        found = []
        files.restore_set_aside(self.root)
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
        if not self._is_there(folder):
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
        folder = self.path(slide_id)
        if not self._is_there(folder):
            self.open(slide_id)  # says which slides there are
        # Renamed first: a reader never sees half a slide, and `sweep` ends an interrupted removal.
        gone = folder.with_name(f"{folder.name}{_REMOVED}{uuid.uuid4().hex}")
        folder.rename(gone)
        self._finish_removal(gone)

    def _finish_removal(self, gone: Path) -> None:
        """Delete what was removed. Its regions go first: their slide is gone for good."""
        user = gone.with_name(f"{gone.name.partition(_REMOVED)[0]}.user")
        shutil.rmtree(user, ignore_errors=True)
        shutil.rmtree(gone, ignore_errors=True)

    def differences(self, slide_id: str) -> files.Differences:
        """Compare every file of a slide with the hash that was taken when it was written.

        Raises
        ------
        SpatialFormerError
            If there is nothing of this id.
        """
        folder = self.path(slide_id)
        if not self._is_there(folder) and not folder.is_dir():
            self.open(slide_id)  # says which slides there are
        return files.compare_directory(folder)

    def verify(self, slide_id: str) -> Problems:
        """Return one sentence per file that is missing, changed or too many; empty if all is well.

        Regions of interest are checked too: they may change, but they must be readable.
        """
        return self.problems_of(slide_id, self.differences(slide_id))

    def problems_of(self, slide_id: str, found: files.Differences) -> Problems:
        """Return the sentences of `verify` where the comparison is made already."""
        problems = found.sentences()
        try:
            slide = self.open(slide_id)
        except SpatialFormerError as error:
            return [*problems, f"The slide cannot be opened: {error}"]
        try:
            slide.rois()
        except SpatialFormerError as error:
            problems.append(f"A saved region cannot be read: {error}")
        return problems

    def sweep(self) -> int:
        """Remove what killed writers left; return how many entries."""
        for gone in self.root.glob(f"*{_REMOVED}*") if self.root.is_dir() else ():
            self._finish_removal(gone)
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
