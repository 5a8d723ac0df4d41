"""Train a model: ``python -m training.pretrain recipe.yaml``, also under ``torchrun``.

The same door trains from scratch, from another checkpoint's encoder (``warm_start``), or further
with all heads (``continue_from``; `training.finetune` insists on it). A run that was stopped is
taken up by the same command.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from spatialformer_core import files
from spatialformer_core.config import load_recipe
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import Checkpoint, load_checkpoint
from spatialformer_core.progress import Cancel, Progress, never, silent
from spatialformer_core.trainer import (
    Background,
    Teacher,
    TrainRecipe,
    checkpoint_teacher,
    fit,
    mean_teacher,
)
from spatialformer_core.vocabulary import Vocabulary
from training import common
from training.teacher import plain_towers

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What Slurm sends before the time limit (``--signal=TERM@120``) and on preemption."""


def train(
    recipe: TrainRecipe,
    home: Path,
    out: Path,
    *,
    progress: Progress = common.report,
    cancel: Cancel = never,
) -> Path:
    """Train a recipe on its corpus; return the checkpoint folder.

    Raises
    ------
    SpatialFormerError
        If the corpus is not there or not whole, or training fails.
    """
    folder = common.corpus_folder(home, recipe.corpus)
    facts_file = common.facts_file(home, recipe.corpus)
    if not folder.is_dir() or not facts_file.is_file():
        raise SpatialFormerError(
            f"There is no corpus {recipe.corpus!r}.",
            where=str(folder.parent),
            fix="Build it with `python -m training.corpus`.",
        )
    facts = files.read_json(facts_file)
    corpus = Corpus.load(folder)
    background = Background(
        simulated=bool(facts["simulated_slides"]),
        facts=facts,
        start=_start(recipe, home, out),
        gene_table=_gene_table(recipe, home, corpus.vocabulary),
        teacher=_teacher(recipe, corpus, home, out, progress),
    )
    return fit(recipe, corpus, out, background, progress=progress, cancel=cancel)


def _start(recipe: TrainRecipe, home: Path, out: Path) -> Checkpoint | None:
    if recipe.starts_from is None:
        return None
    return load_checkpoint(common.find_checkpoint(home, out.parent, recipe.starts_from))


def _gene_table(recipe: TrainRecipe, home: Path, vocabulary: Vocabulary) -> Any:
    if recipe.gene_embedding is None:
        return None
    import torch

    from spatialformer_core.transcript_graph import load_gene_embedding

    folder = common.gene_embedding_folder(home, recipe.gene_embedding)
    return torch.from_numpy(load_gene_embedding(folder, vocabulary).table)


def _teacher(
    recipe: TrainRecipe, corpus: Corpus, home: Path, out: Path, progress: Progress
) -> Teacher | None:
    wanted = recipe.teacher
    if wanted is None:
        return None
    if wanted.checkpoint is None:
        return plain_towers(corpus, wanted, recipe.seed, progress)
    names = wanted.checkpoint
    names = (names,) if isinstance(names, str) else names
    folders = [common.find_checkpoint(home, out.parent, name) for name in names]
    return mean_teacher([checkpoint_teacher(load_checkpoint(f), corpus) for f in folders])


def stop_on_signal() -> Cancel:
    """Return a cancel that says yes once the process was asked to end."""
    asked = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: asked.set())
    return asked.is_set


def door(arguments: argparse.Namespace) -> Path:
    """Train what the command line names."""
    recipe = load_recipe(arguments.recipe, TrainRecipe, arguments.changes)
    home = arguments.home or files.home()
    out = arguments.out or common.checkpoint_folder(home, recipe.name)
    is_first = os.environ.get("RANK", "0") == "0"
    if arguments.replace and is_first:
        for old in (out, out.with_name(f"{out.name}.run")):
            shutil.rmtree(old, ignore_errors=True)
    progress = common.report if is_first else silent
    return train(recipe, home, out, progress=progress, cancel=stop_on_signal())


def main() -> int:
    """Train the recipe named on the command line."""
    parser = common.parser("Train a model.")
    parser.add_argument("--out", type=Path, default=None, help="checkpoint folder")
    return common.run(door, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
