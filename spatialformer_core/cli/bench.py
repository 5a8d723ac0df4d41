"""``spatialformer bench``: the performance figures."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from spatialformer_core.cli.output import AsJson, emit_json, note, say, table, terminal_progress
from spatialformer_core.config import validate


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bench")(bench)


def bench(  # noqa: PLR0913 - every option of the verb is a parameter
    *,
    stage: Annotated[str, typer.Option(help="data, model, screen or app.")] = "data",
    only: Annotated[list[str] | None, typer.Option(help="Only this figure; may repeat.")] = None,
    scale: Annotated[float, typer.Option(help="Share of the full input sizes.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Repeats of each timing.")] = 3,
    whole: Annotated[bool, typer.Option("--whole", help="Also 40 M transcripts.")] = False,
    slide: Annotated[
        Path | None,
        typer.Option(help="Folder of a real slide: ingested (data), screened (screen)."),
    ] = None,
    peer_python: Annotated[
        Path | None, typer.Option(help="Python of an environment with the published package.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the slides of stage app (3.5 GB).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print performance figures as ratios taken in one run.

    A ratio above 1 means that ours is faster. Times are CPU seconds unless the unit says
    otherwise, so that a busy machine changes them little.
    """
    from spatialformer_core.bench import BenchOptions, run
    from spatialformer_core.bench.model import cpu_flags

    options = validate(
        BenchOptions,
        {
            "scale": scale,
            "rounds": rounds,
            "whole": whole,
            "slide": slide,
            "peer_python": peer_python,
            "cache": cache,
        },
        "bench",
    )
    flags = " ".join(cpu_flags())
    note(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {flags}")
    progress = terminal_progress()
    rows = list(run(stage, options, only=tuple(only or ()), progress=progress))  # type: ignore[arg-type]
    shown: list[tuple[Any, ...]] = [
        (row.name, row.ours, row.reference, row.ratio, row.limit, row.passed, row.unit)
        for row in rows
    ]
    table(("name", "ours", "reference", "ratio", "limit", "passed", "unit"), shown)
    for text in dict.fromkeys(row.reference_is for row in rows if row.reference is not None):
        say(f"reference: {text}")
    if as_json:
        emit_json({"rows": [row.model_dump(mode="json") for row in rows]})
