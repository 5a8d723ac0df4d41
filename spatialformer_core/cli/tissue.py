"""Verbs that make tissue: ``simulate`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, terminal_progress
from spatialformer_core.errors import SpatialFormerError


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("simulate")(simulate)
    app.command("demo")(demo)


def simulate(  # noqa: PLR0913 - one parameter per option
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    *,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal slides.")] = 1,
    cells: Annotated[int, typer.Option(help="Number of segmented cells.")] = 20_000,
    depth: Annotated[float, typer.Option(help="Transcripts per cell, 1 = lung panel.")] = 1.0,
    donor: Annotated[
        str | None, typer.Option(help="Donor with its own gene effects; without, simulated-1.")
    ] = None,
    granulomas: Annotated[
        int | None, typer.Option(help="Number of granulomas; without, one per 2,000 cells.")
    ] = None,
    he: Annotated[bool, typer.Option(help="Write an H&E picture.")] = True,
    planted: Annotated[bool, typer.Option(help="--no-planted: a null tissue.")] = True,
    healthy: Annotated[int, typer.Option(help="Healthy donors of a cohort.")] = 0,
    disease: Annotated[int, typer.Option(help="Diseased donors of a cohort.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a lung-like tissue with planted truth as a Xenium bundle, or a cohort of them."""
    values: dict[str, Any] = {"seed": seed, "cells": cells, "depth": depth, "he": he}
    values |= {"planted": planted}
    alone = {"donor": donor, "granulomas": granulomas}
    alone = {name: value for name, value in alone.items() if value is not None}
    if healthy or disease:
        if alone:
            raise SpatialFormerError(
                "A cohort names its donors and lays out their granulomas itself.",
                where=", ".join(f"--{name}" for name in alone),
                fix="Leave these options out, or simulate one slide without --healthy, --disease.",
            )
        report, told = _cohort(out, {**values, "healthy": healthy, "disease": disease})
    else:
        report, told = _slide(out, {**values, **alone})
    if as_json:
        emit_json(report)
    else:
        say(told)


def _slide(out: Path, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from spatialformer_core.config import validate
    from spatialformer_core.simulate import SimulationSettings
    from spatialformer_core.simulate import simulate as run

    settings = validate(SimulationSettings, values, "simulate")
    report = run(out, settings, progress=terminal_progress())
    return report.model_dump(mode="json"), (
        f"{report.name}: {report.cells:,} cells, {report.genes} genes, {report.transcripts:,} "
        f"transcripts, {report.granulomas} granulomas in {report.seconds:.0f} s."
    )


def _cohort(out: Path, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from spatialformer_core.config import validate
    from spatialformer_core.simulate import CohortSettings, simulate_cohort

    settings = validate(CohortSettings, values, "simulate")
    report = simulate_cohort(out, settings, progress=terminal_progress())
    return report.model_dump(mode="json"), (
        f"{report.name}: {report.healthy} healthy and {report.disease} diseased donors, "
        f"{report.transcripts:,} transcripts in {report.seconds:.0f} s. All at once: "
        f"spatialformer ingest --cohort {out / report.sheet}"
    )


def demo(*, as_json: AsJson = False) -> None:
    """Prepare the demo slide (simulated lung) in the home folder; nothing if it is there."""
    from spatialformer_core import files
    from spatialformer_core.service.demo import prepare_demo

    prepared = prepare_demo(files.home(), progress=terminal_progress())
    if as_json:
        emit_json({"slide_id": prepared.slide_id, "created": prepared.created})
    elif prepared.created:
        say(f"The demo slide {prepared.slide_id!r} is ready.")
    else:
        say(f"The demo slide {prepared.slide_id!r} was there already.")
