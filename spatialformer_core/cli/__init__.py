"""The command line: ``spatialformer VERB``.

Exit codes: 0 done; 2 bad input (one sentence on stderr: what was found, where, what to do);
1 a fault of ours. With ``--json`` the last line on stdout is one JSON object.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from spatialformer_core import __version__
from spatialformer_core.cli import (
    bench,
    checkpoints,
    embed,
    evaluate,
    gene_pairs,
    jobs,
    science,
    screen,
    serving,
    slides,
    spillover,
    tissue,
    vocabularies,
)
from spatialformer_core.errors import SpatialFormerError

__all__ = ["app", "main"]

EXIT_BAD_INPUT = 2

app = typer.Typer(
    name="spatialformer",
    help="Which genes sit together in cells, and which gene pairs hold cells together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_ASK = (tissue, slides, science, screen, embed, evaluate, gene_pairs, spillover)
_KEEP = (checkpoints, vocabularies, jobs, serving, bench)
for _room in (*_ASK, *_KEEP):
    _room.register(app)


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except SpatialFormerError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
