"""Verbs that compute: ``cooccurrence`` and ``screen``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenView

_TOP = 10
_MAX_REGIONS_BYTES = 8_000_000

OutFolder = Annotated[Path, typer.Option(help="Folder for the results; it must not exist.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("cooccurrence")(cooccurrence)
    app.command("screen")(screen)


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


def screen(  # noqa: PLR0913 - one parameter per option
    slides: Annotated[list[str], typer.Argument(help="Slide ids.", metavar="SLIDE...")],
    *,
    checkpoint: Annotated[str, typer.Option(help="Id of a checkpoint, or its folder.")],
    groupby: Annotated[str, typer.Option(help="Grouping of the cells.")],
    groups: Annotated[tuple[str, str], typer.Option(help="Left and right cell type.")],
    out: OutFolder,
    roi: Annotated[
        Path | None, typer.Option(help="Regions, GeoJSON in um; without, the whole slides.")
    ] = None,
    unit: Annotated[str, typer.Option(help="auto, donor, slide, roi or block.")] = "auto",
    knockout: Annotated[str, typer.Option(help="delete or mask.")] = "delete",
    mode: Annotated[
        str, typer.Option(help="exact, screened (cross-encoders), or auto: by the time it takes.")
    ] = "auto",
    control: Annotated[
        str, typer.Option(help="Control knock-outs: subtract, beside (of the raw ones) or none.")
    ] = "subtract",
    genes: Annotated[
        str | None, typer.Option(help="Genes to knock out, A,B,C or a file; all without.")
    ] = None,
    knockout_sets: Annotated[
        Path | None, typer.Option(help="Gene sets to knock out together, GMT or JSON.")
    ] = None,
    radius_um: Annotated[float, typer.Option(help="Largest distance of near pairs.")] = 30.0,
    max_pairs_per_unit: Annotated[int, typer.Option(help="Near pairs used per unit.")] = 400,
    min_support: Annotated[
        int, typer.Option(help="Cell pairs of a unit that must carry both genes.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Of the choice of cell pairs and controls.")] = 0,
    shards: Annotated[int | None, typer.Option(help="Parts that the work is cut into.")] = None,
    workers: Annotated[int, typer.Option(help="Local processes; 0: this one.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler, tcp://...")] = None,
    gpu_workers: Annotated[
        bool, typer.Option("--gpu-workers", help="Dask workers must have the resource GPU.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what a stopped screen left beside --out.")
    ] = False,
    allow_simulated: Annotated[
        bool, typer.Option("--allow-simulated", help="Marks every output.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Screen which gene pairs hold two cell types together: near against far cell pairs."""
    from spatialformer_core.cli.screening import carried_out, named_genes, named_sets
    from spatialformer_core.config import validate
    from spatialformer_core.service import ScreenRequest, open_services
    from spatialformer_core.service.checkpoints import find_checkpoint

    services = open_services()
    folder = find_checkpoint(services.home, checkpoint)
    values = {"unit": unit, "knockout": knockout, "radius_um": radius_um, "seed": seed}
    values |= {"mode": mode, "control": control, "genes": named_genes(genes)}
    values |= {"knockout_sets": named_sets(knockout_sets)}
    values |= {"max_pairs_per_unit": max_pairs_per_unit, "min_support": min_support}
    values |= {"groupby": groupby, "group_left": groups[0], "group_right": groups[1]}
    request = validate(
        ScreenRequest,
        {
            **values,
            "slide_ids": slides,
            "checkpoint_id": folder.name,
            "regions_geojson": None if roi is None else _read_text(roi),
            "allow_simulated": allow_simulated,
        },
        "screen",
    )
    engine = (workers, scheduler, {"GPU": 1.0} if gpu_workers else {})
    view = carried_out(services, request, folder, out, engine=engine, shards=shards, resume=resume)
    if as_json:
        emit_json({"out": str(out), "n_rows": len(view.table), **view.info})
    else:
        _say_screen(view, out)


def _say_screen(view: ScreenView, out: Path) -> None:
    for mark in view.info["marks"]:
        say(mark)
    say(str(view.info["verdict"]))
    columns = ["gene_left", "gene_right", "n_pairs", "d_diff", "d_low", "d_high", "epsilon", "q"]
    recall = view.info["measured_recall"]
    if recall is not None:
        say(
            f"Measured recall of the strongest {recall['top']} gene pairs in {recall['within']} "
            f"candidates, {recall['cell_pairs']} random cell pairs: {recall['d']:.1%} by effect, "
            f"{recall['epsilon']:.1%} by interaction."
        )
    rows = view.table[columns].head(_TOP).itertuples(index=False, name=None)
    table(columns, list(rows))
    say(f"{len(view.table):,} gene pairs in {out}")


def _read_text(path: Path) -> str:
    """Read a small text file that the user names.

    Raises
    ------
    SpatialFormerError
        If it is not there, too large or no text.
    """
    if not path.is_file():
        raise SpatialFormerError("The file with the regions does not exist.", where=str(path))
    if path.stat().st_size > _MAX_REGIONS_BYTES:
        raise SpatialFormerError(
            f"The regions are larger than {_MAX_REGIONS_BYTES:,} bytes.", where=str(path)
        )
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SpatialFormerError(
            "The file with the regions is no text.", where=str(path)
        ) from error
