"""Options of the verb ``screen``, each with its help; the verb itself would be too long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Slides = Annotated[list[str], typer.Argument(help="Slide ids.", metavar="SLIDE...")]
Checkpoints = Annotated[
    list[str],
    typer.Option(help="Id of a checkpoint, or its folder; further ones tell what they agree on."),
]
Groupby = Annotated[str, typer.Option(help="Grouping of the cells.")]
Groups = Annotated[tuple[str, str], typer.Option(help="Left and right cell type.")]
OutFolder = Annotated[Path, typer.Option(help="Folder for the results; it must not exist.")]
Roi = Annotated[
    Path | None, typer.Option(help="Regions, GeoJSON in um; without, the whole slides.")
]
Versus = Annotated[
    Path | None,
    typer.Option(help="Other regions, GeoJSON: compare near pairs with theirs, not with far ones."),
]
Unit = Annotated[str, typer.Option(help="auto, donor, slide, roi or block.")]
Test = Annotated[
    str,
    typer.Option(help="units, or published: d against 0 over cell pairs, for comparison only."),
]
Knockout = Annotated[str, typer.Option(help="delete or mask.")]
Mode = Annotated[
    str, typer.Option(help="exact, screened (cross-encoders), or auto: by the time it takes.")
]
Control = Annotated[
    str | None,
    typer.Option(
        help="Control knock-outs: subtract (without --test published), beside (of the raw ones) "
        "or none."
    ),
]
Genes = Annotated[
    str | None, typer.Option(help="Genes to knock out, A,B,C or a file; all without.")
]
KnockoutSets = Annotated[
    Path | None, typer.Option(help="Gene sets to knock out together, GMT or JSON.")
]
FarFrom = Annotated[
    str,
    typer.Option(
        "--far", help="Far pairs: around the near ones, or outside all regions (other zones too)."
    ),
]
Counts = Annotated[
    str,
    typer.Option(help="Transcripts read: cell, eroded (1.5 um inside the outline) or nucleus."),
]
Radius = Annotated[float, typer.Option(help="Largest distance of near pairs.")]
MaxPairs = Annotated[int, typer.Option(help="Near pairs used per unit.")]
MinSupport = Annotated[int, typer.Option(help="Cell pairs of a unit that must carry both genes.")]
Seed = Annotated[int, typer.Option(help="Of the choice of cell pairs and controls.")]
NullRuns = Annotated[
    int, typer.Option(help="Screens with near and far exchanged within units: what they reject.")
]
NullCheckpoint = Annotated[
    str | None, typer.Option(help="A checkpoint trained on shuffled labels, for comparison.")
]
LigandReceptor = Annotated[
    str | None,
    typer.Option("--lr", help="Ligand-receptor table (CSV), or liana for the installed one's."),
]
GeneSetFiles = Annotated[
    list[Path] | None, typer.Option("--gmt", help="Gene sets to compare with; may be repeated.")
]
Liana = Annotated[
    bool,
    typer.Option("--liana", help="Rank beside liana's CellPhoneDB, CellChat and Moran scores."),
]
Figures = Annotated[bool, typer.Option(help="Draw the figures into the folder.")]
Shards = Annotated[int | None, typer.Option(help="Parts that the work is cut into.")]
Workers = Annotated[int, typer.Option(help="Local processes; 0: this one.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://...")]
GpuWorkers = Annotated[
    bool, typer.Option("--gpu-workers", help="Dask workers must have the resource GPU.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with what a stopped screen left beside --out.")
]
AllowSimulated = Annotated[bool, typer.Option("--allow-simulated", help="Marks every output.")]
