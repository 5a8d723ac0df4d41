"""What the offline doors share: arguments, places below the home folder, progress, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError


def corpus_folder(home: Path, name: str) -> Path:
    """Return the folder of a corpus."""
    return home / "corpora" / files.check_name(name, "The corpus")


def facts_file(home: Path, name: str) -> Path:
    """Return the file beside a corpus that says how it was made."""
    folder = corpus_folder(home, name)
    return folder.with_name(f"{folder.name}.json")


def checkpoint_folder(home: Path, name: str) -> Path:
    """Return the folder of a checkpoint."""
    return home / "checkpoints" / files.check_name(name, "The checkpoint")


def gene_embedding_folder(home: Path, name: str) -> Path:
    """Return the folder of a gene embedding."""
    return home / "gene_embeddings" / files.check_name(name, "The gene embedding")


def find_checkpoint(home: Path, beside: Path, name: str) -> Path:
    """Return where a checkpoint lies: beside the new one, below the home folder, or shipped.

    Raises
    ------
    SpatialFormerError
        If it is nowhere.
    """
    shipped = Path(__file__).resolve().parents[1] / "data" / "checkpoints"
    for folder in (beside / name, checkpoint_folder(home, name), shipped / name):
        if folder.is_dir():
            return folder
    raise SpatialFormerError(
        f"There is no checkpoint {name!r} to start from.",
        where=str(home / "checkpoints"),
        fix="Train it first.",
    )


def parser(what: str) -> argparse.ArgumentParser:
    """Return the arguments that every door has."""
    made = argparse.ArgumentParser(description=what)
    made.add_argument("recipe", type=Path, help="YAML recipe")
    made.add_argument("--home", type=Path, default=None, help="default: $SPATIALFORMER_HOME")
    made.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="FIELD=VALUE",
        help="instead of what the recipe says, e.g. seed=1 or model.changes.dropout=0.2",
    )
    made.add_argument(
        "--replace", action="store_true", help="remove a result of the same name first"
    )
    return made


def add_engine(made: argparse.ArgumentParser) -> None:
    """Add the arguments that choose where shards are made."""
    made.add_argument("--workers", type=int, default=0, help="local processes; 0: this process")
    made.add_argument("--scheduler", default=None, help="Dask scheduler, tcp://...")
    made.add_argument(
        "--resource",
        action="append",
        default=[],
        type=_resource,
        metavar="NAME=N",
        help="what a Dask worker must have for one shard",
    )


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    return name, float(amount)


def report(done: float, total: float, message: str) -> None:
    """Write progress to stderr."""
    share = done / total if total else 1.0
    sys.stderr.write(f"[{share:4.0%}] {message}\n")
    sys.stderr.flush()


def run(door: Callable[[argparse.Namespace], Path], arguments: argparse.Namespace) -> int:
    """Run a door; return 0, or 2 with one sentence on stderr if the user can mend it."""
    try:
        out = door(arguments)
    except SpatialFormerError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{out}\n")
    return 0
