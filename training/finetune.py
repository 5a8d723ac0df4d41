"""Train a checkpoint further: ``python -m training.finetune recipe.yaml``.

A recipe of `training.pretrain` that names ``continue_from``: all weights learn on, or only the
low-rank changes of ``lora``. The corpus must be built with the checkpoint's own vocabulary.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spatialformer_core.config import load_recipe
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.trainer import TrainRecipe
from training import common, pretrain


def _door(arguments: argparse.Namespace) -> Path:
    if load_recipe(arguments.recipe, TrainRecipe, arguments.changes).continue_from is None:
        raise SpatialFormerError(
            "The recipe names no checkpoint to continue.",
            where=str(arguments.recipe),
            fix="Set continue_from, or use `python -m training.pretrain`.",
        )
    return pretrain.door(arguments)


def main() -> int:
    """Fine-tune the checkpoint that the recipe on the command line names."""
    parser = common.parser("Train a checkpoint further.")
    parser.add_argument("--out", type=Path, default=None, help="checkpoint folder")
    return common.run(_door, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
