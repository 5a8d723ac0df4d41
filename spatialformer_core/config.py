"""One configuration way: frozen pydantic models, read from YAML recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spatialformer_core.errors import SpatialFormerError

_MAX_RECIPE_BYTES = 1 << 20


class FrozenModel(BaseModel):
    """Immutable settings; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def validate(kind: type[Model], values: Any, where: str) -> Model:
    """Return ``kind(**values)``.

    Raises
    ------
    SpatialFormerError
        With every offending field in one sentence.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'value'}: {e['msg']}"
            for e in error.errors(include_url=False)
        )
        raise SpatialFormerError(f"Invalid {kind.__name__}: {problems}.", where=where) from error


def load_recipe(path: Path, kind: type[Model], changes: Iterable[str] = ()) -> Model:
    """Read a YAML recipe.

    Parameters
    ----------
    path, kind
        The file, and what it describes.
    changes
        ``FIELD=VALUE`` instead of what the file says, the value in YAML; dots lead into the fields
        of a field.

    Raises
    ------
    SpatialFormerError
        If the file is missing, too large, no YAML, or has unknown or invalid fields.
    """
    if not path.is_file():
        raise SpatialFormerError("The recipe file does not exist.", where=str(path))
    if path.stat().st_size > _MAX_RECIPE_BYTES:
        raise SpatialFormerError("The recipe file is larger than 1 MB.", where=str(path))
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpatialFormerError(f"The recipe is no YAML: {error}.", where=str(path)) from error
    values = values if values is not None else {}
    for change in changes:
        _set(values, change)
    return validate(kind, values, str(path))


def _set(values: Any, change: str) -> None:
    name, equals, text = change.partition("=")
    *outer, last = name.split(".")
    at = values
    for part in outer:
        at = at.setdefault(part, {}) if isinstance(at, dict) else None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        at = None
    if not equals or not isinstance(at, dict):
        raise SpatialFormerError(
            "A field of the recipe cannot be set like this.",
            where=change,
            fix="FIELD=VALUE, for example seed=1 or model.changes.dropout=0.2.",
        )
    at[last] = value


class SampleMetadata(FrozenModel):
    """What a slide is; asked for at ingest, never guessed.

    ``donor`` and ``block`` are the replicate units; the other four become the meta tokens.
    """

    donor: str = Field(min_length=1, max_length=64)
    block: str = Field(min_length=1, max_length=64)
    condition: str = Field(min_length=1, max_length=64)
    tissue: str = Field(min_length=1, max_length=64)
    species: str = Field(min_length=1, max_length=64)
    assay: str = Field(min_length=1, max_length=64)


class QcThresholds(FrozenModel):
    """Which transcripts and cells are analysed (paper section 4.1)."""

    min_qv: float = Field(default=20.0, ge=0)
    min_transcripts: int = Field(default=30, ge=1)
    min_genes: int = Field(default=10, ge=1)


Knockout = Literal["delete", "mask"]
