"""The verb ``cooccurrence``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress

OutFolder = Annotated[Path, typer.Option(help="Folder for the results; it must not exist.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("cooccurrence")(cooccurrence)


def cooccurrence(  # noqa: PLR0913 - one parameter per option
    slide: Annotated[str, typer.Argument(help="Slide id.")],
    *,
    out: OutFolder,
    radius_um: Annotated[float, typer.Option(help="Largest distance of linked copies.")] = 5.0,
    min_copies: Annotated[int, typer.Option(help="Copies of each gene in a community.")] = 3,
    dims: Annotated[int, typer.Option(help="2 as in the paper, or 3.")] = 2,
    n_seeds: Annotated[int, typer.Option(help="Searches for communities that vote.")] = 1,
    permutations: Annotated[
        int, typer.Option(help="Of the gene labels, to tell what follows from counts; 0 = none.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of the permutations and the searches.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Find which genes sit together inside the cells of a slide."""
    from dataclasses import asdict

    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service import open_services
    from spatialformer_core.service.cooccurrence import CooccurrenceSettings, write_cooccurrence

    values = {"radius_um": radius_um, "min_copies": min_copies, "dims": dims}
    values |= {"n_seeds": n_seeds, "permutations": permutations, "seed": seed}
    settings = validate(CooccurrenceSettings, values, "cooccurrence")
    opened = open_services().slide(slide)
    with files.atomic_directory(out) as folder:
        report = write_cooccurrence(opened, settings, folder, progress=terminal_progress())
    if as_json:
        emit_json({**asdict(report), "out": str(out)})
        return
    say(
        f"{report.gene_pairs:,} gene pairs in {report.cells_with_pairs:,} of {report.cells:,} "
        f"cells; tables in {out}"
    )
    if report.top:
        table(list(report.top[0]), [list(row.values()) for row in report.top])
