"""Resumable states of a run: what must survive a kill, without pickle.

A state is a folder ``step-000001234`` with tensors (safetensors) and numbers (JSON), renamed into
place; dropout, masks and draws follow from seed and step, so no random state is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from spatialformer_core import files
from spatialformer_core.corpus import Corpus, manifest
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.trainer.recipe import TrainRecipe

KEPT = 3
_TENSORS, _NUMBERS = "tensors.safetensors", "numbers.json"
_FREE = {"tensorboard", "card", "save_every", "threads"}
"""Fields of a recipe that may change between two runs of the same training."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A state as read from disk.

    Attributes
    ----------
    numbers
        Step, time, counts, best scores.
    tensors
        ``module.*``, ``best.*``, ``average.*`` and ``adamw.INDEX.NAME``.
    """

    numbers: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below a prefix, without it."""
        at = len(prefix) + 1
        return {k[at:]: v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}


def fingerprint(recipe: TrainRecipe, corpus: Corpus) -> str:
    """Return a hash of everything that decides the numbers of a run."""
    values = recipe.model_dump(mode="json", exclude=_FREE)
    content = files.sha256_file(corpus.path / manifest.NAME)
    text = json.dumps([values, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_state(
    folder: Path,
    numbers: dict[str, Any],
    module: nn.Module,
    weights: Mapping[str, Mapping[str, Tensor]],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write a state; older ones beyond the last three go once it is whole.

    ``weights`` are further sets of the network's weights by name (``best``, ``average``).
    """
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    for which, values in weights.items():
        tensors |= {f"{which}.{k}": v for k, v in values.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adamw.{index}.{name}": value for name, value in state.items()}
    blob = safetensors.torch.save({k: _plain(v) for k, v in tensors.items()})
    target = folder / f"step-{numbers['step']:09d}"
    with files.atomic_directory(target, replace=True) as partial:
        with files.atomic_write(partial / _TENSORS) as stream:
            stream.write(blob)
        files.write_json(partial / _NUMBERS, numbers)
    for old in _states(folder)[:-KEPT]:
        shutil.rmtree(old)


def _plain(value: Any) -> Tensor:
    """Return a tensor that shares its storage with no other: safetensors refuses that."""
    return torch.as_tensor(value).detach().cpu().clone().contiguous()


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if files.is_complete(path))


def latest_state(folder: Path, wanted: str) -> Saved | None:
    """Return the newest whole state, None if there is none.

    A state that was damaged on disk is passed over for the one before it.

    Raises
    ------
    SpatialFormerError
        If the states are of another recipe or corpus.
    """
    for path in reversed(_states(folder)):
        if files.verify_directory(path):
            continue
        numbers = files.read_json(path / _NUMBERS)
        if numbers.get("fingerprint") != wanted:
            raise SpatialFormerError(
                "An unfinished run of the same name was made with another recipe or corpus.",
                where=str(folder),
                fix="Give the run another name, or remove that folder (`--replace` does).",
            )
        try:
            return Saved(numbers, safetensors.torch.load_file(path / _TENSORS))
        except safetensors.SafetensorError as error:
            raise SpatialFormerError(f"The state cannot be read: {error}.", str(path)) from error
    return None


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the moments of AdamW back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
