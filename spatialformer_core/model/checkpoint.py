"""Checkpoint folders: the only form in which weights are stored and loaded.

``weights.safetensors config.yaml vocabulary.json provenance.json MODEL_CARD.md``. Nothing in it is
executed. A checkpoint is read completely and checked before a number is computed with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml

from spatialformer_core import files
from spatialformer_core.config import load_recipe
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model.config import ModelConfig
from spatialformer_core.model.spatialformer import SpatialFormer
from spatialformer_core.vocabulary import Vocabulary

WEIGHTS = "weights.safetensors"
CONFIG = "config.yaml"
VOCABULARY = "vocabulary.json"
PROVENANCE = "provenance.json"
CARD = "MODEL_CARD.md"

_READ = (WEIGHTS, CONFIG, VOCABULARY, PROVENANCE)
_HEADER_BYTES = 1 << 20
_FIX = "Copy the checkpoint folder again, or train it again from its recipe."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network with everything that is needed to use it rightly.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU.
    config, vocabulary
        Its shapes and its tokens.
    provenance
        What it was trained on and how; ``simulated`` is True if any slide was.
    name
        Name of the folder.
    id
        SHA-256 (16 hex digits) over weights, configuration and vocabulary.
    """

    model: SpatialFormer
    config: ModelConfig
    vocabulary: Vocabulary
    provenance: dict[str, Any]
    name: str
    id: str

    @property
    def simulated(self) -> bool:
        """Whether any slide that it was trained on is simulated."""
        return bool(self.provenance["simulated"])


def save_checkpoint(
    folder: Path,
    model: SpatialFormer,
    vocabulary: Vocabulary,
    provenance: Mapping[str, Any],
    card: str,
    *,
    replace: bool = False,
) -> None:
    """Write a checkpoint folder; it appears whole or not at all.

    Raises
    ------
    SpatialFormerError
        If the folder exists (and ``replace`` is False), the vocabulary is not the model's, the
        provenance does not say whether it is simulated, or a weight is not finite.
    """
    _check_vocabulary(model.config, vocabulary, str(folder))
    _check_provenance(provenance, str(folder))
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    _check_finite(weights, str(folder))
    stored = {**provenance, "vocabulary_fingerprint": vocabulary.fingerprint}
    with files.atomic_directory(folder, replace=replace) as partial:
        # The header metadata ties the weights to their vocabulary, whatever else is swapped.
        blob = safetensors.torch.save(weights, {"vocabulary": vocabulary.fingerprint})
        with files.atomic_write(partial / WEIGHTS) as stream:
            stream.write(blob)
        with files.atomic_write(partial / CONFIG, "w") as stream:
            yaml.safe_dump(model.config.model_dump(mode="json"), stream, sort_keys=True)
        vocabulary.save(partial / VOCABULARY)
        files.write_json(partial / PROVENANCE, stored)
        with files.atomic_write(partial / CARD, "w") as stream:
            stream.write(card)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder, checked, in evaluation mode.

    Raises
    ------
    SpatialFormerError
        If a file is missing, changed or damaged; if keys, shapes or types of the weights are not
        those of the configuration; if a weight is not finite; if the vocabulary is another one.
    """
    where = folder.name
    _check_files(folder)
    config = load_recipe(folder / CONFIG, ModelConfig)
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    _check_vocabulary(config, vocabulary, where)
    provenance = files.read_json(folder / PROVENANCE)
    _check_provenance(provenance, where)
    # Without storage: the shapes are known before anything of that size is allocated.
    with torch.device("meta"):
        model = SpatialFormer(config)
    weights = _read_weights(folder / WEIGHTS, model, vocabulary)
    _check_finite(weights, where)
    model.load_state_dict(weights, strict=True, assign=True)
    _restore_buffers(model)
    model.eval()
    model.requires_grad_(requires_grad=False)
    return Checkpoint(model, config, vocabulary, provenance, folder.name, content_id(folder))


def content_id(folder: Path) -> str:
    """Return the id of a checkpoint folder: a hash over weights, configuration, vocabulary."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, CONFIG, VOCABULARY):
        digest.update(files.sha256_file(folder / name).encode())
    return digest.hexdigest()[:16]


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise SpatialFormerError(
            "There is no such checkpoint folder.",
            where=folder.name,
            fix="Name a folder that holds " + ", ".join(_READ) + ".",
        )
    missing = [name for name in (*_READ, files.MANIFEST) if not (folder / name).is_file()]
    if missing:
        raise SpatialFormerError(
            f"The checkpoint is incomplete: {', '.join(missing)} missing.", folder.name, _FIX
        )
    # The card is for people and may be edited; the other files must be what was written.
    changed = [p for p in files.verify_directory(folder) if not p.startswith(CARD)]
    if changed:
        raise SpatialFormerError(f"The checkpoint is damaged: {changed[0]}", folder.name, _FIX)


def _check_vocabulary(config: ModelConfig, vocabulary: Vocabulary, where: str) -> None:
    if len(vocabulary.tokens) != config.n_tokens:
        raise SpatialFormerError(
            f"The model has {config.n_tokens} tokens, the vocabulary {len(vocabulary.tokens)}.",
            where,
            "Weights and vocabulary belong together; take both from one checkpoint.",
        )


def _check_provenance(provenance: Any, where: str) -> None:
    if not isinstance(provenance, Mapping) or not isinstance(provenance.get("simulated"), bool):
        raise SpatialFormerError(
            "The provenance does not say whether the training data were simulated "
            "('simulated': true or false).",
            where,
        )


def _check_finite(weights: Mapping[str, torch.Tensor], where: str) -> None:
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise SpatialFormerError(f"Weight {key!r} holds NaN or infinity.", where, _FIX)


def _read_weights(
    path: Path, model: SpatialFormer, vocabulary: Vocabulary
) -> dict[str, torch.Tensor]:
    expected = model.state_dict()
    n_bytes = sum(v.numel() * v.element_size() for v in expected.values())
    if path.stat().st_size > n_bytes + _HEADER_BYTES:
        raise SpatialFormerError(
            f"The weights file is larger than its configuration allows ({n_bytes:,} bytes).",
            path.parent.name,
            _FIX,
        )
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            fingerprint = (stream.metadata() or {}).get("vocabulary")
            keys = set(stream.keys())
            _check_keys(keys, set(expected), path.parent.name)
            weights = {key: stream.get_tensor(key) for key in sorted(keys)}
    except safetensors.SafetensorError as error:
        raise SpatialFormerError(
            f"The weights file cannot be read: {error}.", path.parent.name, _FIX
        ) from error
    if fingerprint != vocabulary.fingerprint:
        raise SpatialFormerError(
            "The weights were trained with another vocabulary than the one beside them.",
            path.parent.name,
            "Take weights and vocabulary from one checkpoint.",
        )
    for key, value in weights.items():
        wanted = expected[key]
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            raise SpatialFormerError(
                f"Weight {key!r} is {tuple(value.shape)} {value.dtype}, the configuration wants "
                f"{tuple(wanted.shape)} {wanted.dtype}.",
                path.parent.name,
                _FIX,
            )
    return weights


def _check_keys(found: set[str], expected: set[str], where: str) -> None:
    if found != expected:
        missing, surplus = sorted(expected - found)[:3], sorted(found - expected)[:3]
        raise SpatialFormerError(
            f"The weights do not fit the configuration: missing {missing}, unexpected {surplus}.",
            where,
            _FIX,
        )


def _restore_buffers(model: SpatialFormer) -> None:
    """Compute again what is not stored (ALiBi slopes) and was built without storage."""
    from spatialformer_core.model.layers import AttentionBlock, alibi_slopes

    for module in model.modules():
        if isinstance(module, AttentionBlock):
            module.slopes = alibi_slopes(module.n_heads).to(torch.get_default_dtype())
