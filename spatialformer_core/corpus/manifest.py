"""What a corpus says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.cooccurrence import CooccurrenceSettings
from spatialformer_core.corpus.shard import ShardInfo
from spatialformer_core.errors import SpatialFormerError

NAME = "corpus.json"
VOCABULARY = "vocabulary.json"
SLIDES = "slides"
FORMAT_VERSION = 2


class CorpusSettings(FrozenModel):
    """What is the same for every slide of a corpus.

    Attributes
    ----------
    radius_um
        Largest distance of neighbours.
    max_genes
        Keep the highest-ranked genes of each cell only; None keeps all.
    cooccurrence
        How co-occurring genes are found.
    """

    radius_um: float = Field(default=30.0, gt=0)
    max_genes: int | None = Field(default=None, ge=1)
    cooccurrence: CooccurrenceSettings = CooccurrenceSettings()


class Manifest(FrozenModel):
    """Content of ``corpus.json``.

    Attributes
    ----------
    vocabulary
        Fingerprint of the vocabulary beside it.
    digests
        SHA-256 of each slide's own list of file hashes.
    """

    format_version: Literal[2] = 2
    vocabulary: str = Field(min_length=64, max_length=64)
    settings: CorpusSettings
    slides: tuple[ShardInfo, ...] = Field(min_length=1)
    digests: dict[str, str]

    @property
    def simulated(self) -> bool:
        """Whether any slide is simulated tissue."""
        return any(info.simulated for info in self.slides)

    def save(self, folder: Path) -> None:
        """Write the manifest into a corpus folder."""
        files.write_json(folder / NAME, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check the manifest of a finished corpus.

        Raises
        ------
        SpatialFormerError
            If the folder is no finished corpus, of another format, its manifest is not valid, or
            its slides do not belong together.
        """
        fix = "Build it with `python -m training.corpus`."
        if not files.is_complete(folder):
            raise SpatialFormerError("The folder is no finished corpus.", str(folder), fix)
        values = files.read_json(folder / NAME)
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise SpatialFormerError(
                f"The corpus has format {version!r}; format {FORMAT_VERSION} is expected.",
                where=str(folder),
                fix="Build it again.",
            )
        manifest = validate(cls, values, str(folder / NAME))
        for info in manifest.slides:
            files.check_name(info.slide_id, "The slide")
            _check_digest(folder / SLIDES / info.slide_id, manifest.digests.get(info.slide_id))
        check_alike(manifest.slides, manifest.settings)
        return manifest


def check_alike(slides: tuple[ShardInfo, ...], settings: CorpusSettings) -> None:
    """Refuse slides whose co-occurring genes were found in different ways.

    Raises
    ------
    SpatialFormerError
        With the slide's and the corpus's settings.
    """
    for info in slides:
        found, wanted = info.cooccurrence, settings.cooccurrence
        if found is not None and found != wanted:
            raise SpatialFormerError(
                f"Co-occurrence of the slide was computed with {_words(found)}, the corpus has "
                f"{_words(wanted)}; the two cannot be mixed.",
                where=info.slide_id,
                fix="Compute all slides with the same settings.",
            )


def _words(settings: CooccurrenceSettings) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.model_dump().items())


def _check_digest(folder: Path, digest: str | None) -> None:
    path = folder / files.MANIFEST
    if not path.is_file() or files.sha256_file(path) != digest:
        raise SpatialFormerError(
            "The slide in the corpus is not the one that its manifest describes.",
            where=folder.name,
            fix="Build the corpus again.",
        )
