"""The verb ``gene-pairs``: which co-occurring gene pairs differ between groups of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress

if TYPE_CHECKING:
    from spatialformer_core.gene_pairs import GenePairResult

_TOP_PER_GROUP = 3
_SHOWN = ("share_group", "share_reference", "effect", "low", "high", "q", "closeness_gain")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("gene-pairs")(gene_pairs)


def gene_pairs(  # noqa: PLR0913 - one parameter per option
    slides: Annotated[list[str], typer.Argument(help="Slide ids.", metavar="SLIDE...")],
    *,
    groupby: Annotated[
        str, typer.Option(help="Grouping of the cells, or donor, block, condition, ...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; it must not exist.")],
    groups: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Group and reference; without, each group against the rest."),
    ] = None,
    within: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Grouping and group: compare the cells of this group only."),
    ] = None,
    unit: Annotated[str, typer.Option(help="auto, donor, slide or block.")] = "auto",
    pairs: Annotated[int, typer.Option(help="Highly variable pairs that are tested.")] = 2000,
    min_cells: Annotated[int, typer.Option(help="Cells that a pair must be in.")] = 10,
    radius_um: Annotated[float, typer.Option(help="Largest distance of linked copies.")] = 5.0,
    min_copies: Annotated[int, typer.Option(help="Copies of each gene in a community.")] = 3,
    dims: Annotated[int, typer.Option(help="2 as in the paper, or 3.")] = 2,
    n_seeds: Annotated[int, typer.Option(help="Searches for communities that vote.")] = 1,
    permutations: Annotated[int, typer.Option(help="Of the gene labels; 0 = none.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the permutations.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Test which co-occurring gene pairs differ between groups, the tissue as replicate."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service import open_services
    from spatialformer_core.service.gene_pairs import GenePairRequest, run_gene_pairs

    measured = {"radius_um": radius_um, "min_copies": min_copies, "dims": dims}
    measured |= {"n_seeds": n_seeds, "permutations": permutations, "seed": seed}
    request = validate(
        GenePairRequest,
        {
            "slide_ids": slides,
            "groupby": groupby,
            "within": within,
            "settings": {"groups": groups, "unit": unit, "n_pairs": pairs, "min_cells": min_cells},
            "cooccurrence": measured,
        },
        "gene-pairs",
    )
    with files.atomic_directory(out) as folder:
        result = run_gene_pairs(
            open_services().store, request, folder, progress=terminal_progress()
        )
    if as_json:
        emit_json({"out": str(out), "n_rows": len(result.table), **result.info})
    else:
        _say(result, out)


def _say(result: GenePairResult, out: Path) -> None:
    for line in (*result.info["marks"], result.info["verdict"], result.info["closeness_verdict"]):
        say(line)
    top = result.table[result.table["effect"] > 0].groupby("group", sort=False)
    columns = ["group", "pair", *_SHOWN]
    rows = top.head(_TOP_PER_GROUP)[columns].itertuples(index=False, name=None)
    table(columns, list(rows))
    say(f"{len(result.table):,} rows in {out}")


def evaluate_gene_pairs(
    slide: str, groupby: str | None, draws: int, out: Path, *, as_json: bool
) -> None:
    """Run the suite ``genepairs``: type-I error and, on a simulated slide, planted pairs."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.errors import SpatialFormerError
    from spatialformer_core.service import open_services
    from spatialformer_core.service.evaluate_gene_pairs import (
        GenePairEvaluation,
        run_gene_pair_evaluation,
    )

    services = open_services()
    types = groupby or services.slide(slide).meta.default_group
    if types is None:
        raise SpatialFormerError("The slide has no grouping of its cells.", where=slide)
    asked = {"slide_ids": [slide], "groupby": types}
    values = {"gene_pairs": asked, "draws": max(2, draws)}
    request = validate(GenePairEvaluation, values, "evaluate genepairs")
    with files.atomic_directory(out) as partial:
        report = run_gene_pair_evaluation(
            services.store, request, partial, progress=terminal_progress()
        )
    if as_json:
        emit_json({"out": str(out), **report})
    else:
        say((out / "report.md").read_text("utf-8"))
