"""The verb ``spillover``."""

from __future__ import annotations

from typing import Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress
from spatialformer_core.errors import SpatialFormerError


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("spillover")(spillover)


def spillover(
    slide: Annotated[str, typer.Argument(help="Slide id.")],
    *,
    groupby: Annotated[
        str | None, typer.Option(help="Cell types; without, the slide's default grouping.")
    ] = None,
    erosion_um: Annotated[float, typer.Option(help="Transcripts this deep in a cell stay.")] = 1.5,
    nuclei: Annotated[
        bool, typer.Option("--nuclei", help="Count over nuclei instead of in eroded cells.")
    ] = False,
    near_um: Annotated[float, typer.Option(help="A source cell is beside a cell up to here.")] = 15,
    far_um: Annotated[float, typer.Option(help="... and far from it beyond here.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Find genes that are counted in a type because they spilled over from its neighbours.

    The result is kept with the slide; screens with the same grouping read it.
    """
    from dataclasses import asdict

    from spatialformer_core.config import validate
    from spatialformer_core.qc import SpilloverSettings
    from spatialformer_core.service import open_services
    from spatialformer_core.service.spillover import measure_spillover

    values = {"erosion_um": erosion_um, "near_um": near_um, "far_um": far_um}
    settings = validate(SpilloverSettings, values, "spillover")
    opened = open_services().slide(slide)
    chosen = groupby or opened.meta.default_group
    if chosen is None:
        raise SpatialFormerError(
            "The slide has no cell types.", where=slide, fix="Ingest it with --labels."
        )
    report = measure_spillover(
        opened, chosen, settings, in_nuclei=nuclei, progress=terminal_progress()
    )
    if as_json:
        emit_json({**asdict(report), "folder": str(report.folder)})
        return
    say(
        f"Of {report.tested:,} pairs of a gene and a type {report.flagged:,} are spillover, "
        f"{report.depends_on_distance - report.flagged:,} are spillover or contact; "
        f"{report.transcripts_deep / max(report.transcripts, 1):.0%} of "
        f"{report.transcripts:,} transcripts lie deep inside; table in {report.folder}"
    )
    if report.top:
        table(list(report.top[0]), [list(row.values()) for row in report.top])
