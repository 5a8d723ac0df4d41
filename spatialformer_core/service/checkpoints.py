"""Which checkpoints there are, read from their JSON and card alone: no weights, no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

_SHIPPED = Path(__file__).resolve().parents[2] / "data" / "checkpoints"
SHIPPED = "shipped."
"""Before the name of a shipped checkpoint that has a namesake in the home folder."""

_LOG = logging.getLogger(__name__)
_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a page needs to know about a checkpoint.

    Attributes
    ----------
    id
        Names the checkpoint in requests.
    architecture, preset
        As in its ``config.yaml``.
    simulated
        Whether it was trained on simulated tissue only.
    trained_on
        Names of the slides (provenance).
    n_tokens, n_genes
        Size of its vocabulary.
    card
        The model card, Markdown.
    config
        Its ``config.yaml``: sizes of the network.
    """

    id: str
    name: str
    architecture: str
    preset: str
    simulated: bool
    trained_on: tuple[str, ...]
    n_tokens: int
    n_genes: int
    card: str
    provenance: dict[str, Any]
    config: dict[str, Any]


def list_checkpoints(home: Path) -> list[CheckpointInfo]:
    """Return the shipped checkpoints, then those of the home folder.

    A folder that is no readable checkpoint is left out: `show_checkpoint` says what is wrong.
    """
    found = []
    for checkpoint_id, folder in _folders(home):
        try:
            found.append(_read(checkpoint_id, folder))
        except SpatialFormerError as error:
            _LOG.warning("Checkpoint %s cannot be read: %s", checkpoint_id, error)
    return found


def show_checkpoint(home: Path, checkpoint_id: str) -> CheckpointInfo:
    """Return one checkpoint's facts.

    Raises
    ------
    SpatialFormerError
        If there is none of that name, or its files cannot be read.
    """
    return _read(checkpoint_id, checkpoint_folder(home, checkpoint_id))


def checkpoint_folder(home: Path, checkpoint_id: str) -> Path:
    """Return the folder of a checkpoint; of namesakes the home folder's.

    Raises
    ------
    SpatialFormerError
        If there is none of that name.
    """
    known = dict(_folders(home))
    if checkpoint_id not in known:
        raise SpatialFormerError(
            f"There is no checkpoint {checkpoint_id[:80]!r}; there are: "
            f"{', '.join(sorted(known)) or 'none'}.",
            fix="Choose one of them, or put the checkpoint's folder into 'checkpoints' of the "
            "home folder.",
        )
    return known[checkpoint_id]


def find_checkpoint(home: Path, id_or_folder: str) -> Path:
    """Return a checkpoint's folder from its id or, on the command line, from its path.

    Raises
    ------
    SpatialFormerError
        If it is neither an id nor a folder with a checkpoint.
    """
    given = Path(id_or_folder)
    if id_or_folder not in dict(_folders(home)) and (given / "provenance.json").is_file():
        return given.resolve()
    return checkpoint_folder(home, id_or_folder)


def _folders(home: Path) -> Iterator[tuple[str, Path]]:
    own = {folder.name for folder in _in(home / "checkpoints")}
    for folder in _in(_SHIPPED):
        # Who trained or copied a namesake means that one; the shipped one stays within reach.
        yield (f"{SHIPPED}{folder.name}" if folder.name in own else folder.name), folder
    for folder in _in(home / "checkpoints"):
        yield folder.name, folder


def _in(root: Path) -> list[Path]:
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in found if (folder / "provenance.json").is_file()]


def _read(checkpoint_id: str, folder: Path) -> CheckpointInfo:
    from spatialformer_core.vocabulary import Vocabulary

    config = _yaml(folder / "config.yaml")
    provenance = files.read_json(folder / "provenance.json")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("simulated"), bool):
        raise SpatialFormerError(
            "The checkpoint does not say whether it was trained on simulated tissue.",
            where=folder.name,
        )
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    card = folder / "MODEL_CARD.md"
    return CheckpointInfo(
        id=checkpoint_id,
        name=str(provenance.get("name") or folder.name),
        architecture=str(config.get("architecture", "unknown")),
        preset=str(config.get("preset", "unknown")),
        simulated=provenance["simulated"],
        trained_on=_trained_on(provenance),
        n_tokens=len(vocabulary.tokens),
        n_genes=len(vocabulary.genes),
        card=card.read_text("utf-8", "replace")[:_MAX_TEXT_BYTES] if card.is_file() else "",
        provenance=provenance,
        config=config,
    )


def _trained_on(provenance: dict[str, Any]) -> tuple[str, ...]:
    entries = provenance.get("trained_on")
    if not isinstance(entries, list):
        # Converted checkpoints: nobody lists their slides.
        return (str(provenance.get("trained_on_words", "unknown")),)
    return tuple(str(e.get("slide", e)) if isinstance(e, dict) else str(e) for e in entries)


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _MAX_TEXT_BYTES:
        raise SpatialFormerError("The checkpoint has no readable config.yaml.", where=str(path))
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpatialFormerError(f"The file is no YAML: {error}.", where=str(path)) from error
    return value if isinstance(value, dict) else {}
