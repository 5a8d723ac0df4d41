"""Train a model: ``python -m training.pretrain recipe.yaml``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.config import load_recipe
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import load_checkpoint
from spatialformer_core.progress import Cancel, Progress, never
from spatialformer_core.trainer import Background, TrainRecipe, fit
from training import common


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
    start = None
    if recipe.warm_start is not None:
        start = load_checkpoint(common.find_checkpoint(home, out.parent, recipe.warm_start))
    return fit(
        recipe,
        Corpus.load(folder),
        out,
        Background(simulated=bool(facts["simulated_slides"]), facts=facts, start=start),
        progress=progress,
        cancel=cancel,
    )


def _door(arguments: argparse.Namespace) -> Path:
    recipe = load_recipe(arguments.recipe, TrainRecipe)
    home = arguments.home or files.home()
    out = arguments.out or common.checkpoint_folder(home, recipe.name)
    if arguments.replace:
        shutil.rmtree(out, ignore_errors=True)
    return train(recipe, home, out)


def main() -> int:
    """Train the recipe named on the command line."""
    parser = common.parser("Train a model.")
    parser.add_argument("--out", type=Path, default=None, help="checkpoint folder")
    return common.run(_door, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
