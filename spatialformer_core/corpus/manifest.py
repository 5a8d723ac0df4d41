"""What a corpus says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.corpus.shard import ShardInfo
from spatialformer_core.errors import SpatialFormerError

NAME = "corpus.json"
VOCABULARY = "vocabulary.json"


class Manifest(FrozenModel):
    """Content of ``corpus.json``."""

    format_version: Literal[1] = 1
    vocabulary: str = Field(min_length=64, max_length=64)
    radius_um: float = Field(gt=0)
    max_genes: int | None = Field(default=None, ge=1)
    slides: tuple[ShardInfo, ...] = Field(min_length=1)

    def save(self, folder: Path) -> None:
        """Write the manifest into a corpus folder."""
        files.write_json(folder / NAME, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check the manifest of a finished corpus.

        Raises
        ------
        SpatialFormerError
            If the folder is no finished corpus or its manifest is not valid.
        """
        if not files.is_complete(folder):
            raise SpatialFormerError(
                "The folder is no finished corpus.",
                where=str(folder),
                fix="Build it with `python -m training.corpus`.",
            )
        manifest = validate(cls, files.read_json(folder / NAME), str(folder / NAME))
        for info in manifest.slides:
            files.check_name(info.slide_id, "The slide")
        return manifest
