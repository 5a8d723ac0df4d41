"""Verbs of the checkpoints: ``models list|show|pull`` and ``convert``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from spatialformer_core.cli.output import AsJson, emit_json, note, say, table, terminal_progress
from spatialformer_core.errors import SpatialFormerError

CheckSlide = Annotated[
    str | None,
    typer.Option(help="Slide id: hide tokens of its cells and compare both attention layouts."),
]
_LAYOUTS = ("auto", "head-major", "split")
_INPUTS = ("auto", "paired", "single")
_FAMILIES = ("spatialformer",)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    verbs = typer.Typer(help="List, show and fetch checkpoints.")
    verbs.command("list")(list_models)
    verbs.command("show")(show)
    verbs.command("pull")(pull)
    app.add_typer(verbs, name="models", no_args_is_help=True)
    app.command("convert")(convert)


def list_models(*, as_json: AsJson = False) -> None:
    """List the checkpoints."""
    from spatialformer_core.service import open_services

    found = open_services().checkpoints()
    if as_json:
        entries = [asdict(info) for info in found]
        for entry in entries:
            del entry["card"], entry["provenance"]
        emit_json({"models": entries})
        return
    if not found:
        say("No checkpoint found.")
        return
    table(
        ("id", "architecture", "size", "genes", "simulated", "trained on"),
        [
            (
                info.id,
                info.architecture,
                info.preset,
                info.n_genes,
                info.simulated,
                ", ".join(info.trained_on),
            )
            for info in found
        ],
    )


def show(checkpoint: str, *, as_json: AsJson = False) -> None:
    """Show a checkpoint's model card."""
    from spatialformer_core.service import open_services

    info = open_services().checkpoint(checkpoint)
    if as_json:
        emit_json(asdict(info))
    else:
        say(info.card or f"{info.name} has no model card.")


def pull(
    name: Annotated[str, typer.Argument(help="An official checkpoint, e.g. published-71-pair.")],
    *,
    url: Annotated[str | None, typer.Option(help="A mirror (https) instead of figshare.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the fetched file too.")] = False,
    check_slide: CheckSlide = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an official checkpoint (resumes where it broke off) and convert it."""
    from spatialformer_core.service import open_services
    from spatialformer_core.service.pull import PullOptions, pull_checkpoint

    services = open_services()
    told = pull_checkpoint(
        services.home,
        name,
        PullOptions(url=url, keep=keep),
        check_slide=services.slide(check_slide) if check_slide else None,
        progress=terminal_progress(),
    )
    _tell(told, services.home / "checkpoints" / name, as_json=as_json)


def convert(  # noqa: PLR0913 - one parameter per option
    source: Annotated[Path, typer.Argument(help="The official file (.ckpt, .pt).")],
    out: Annotated[Path, typer.Argument(help="Checkpoint folder to write.")],
    *,
    family: Annotated[str, typer.Option(help="Model family: spatialformer.")] = "spatialformer",
    layout: Annotated[str, typer.Option(help="auto, head-major or split.")] = "auto",
    input_type: Annotated[
        str, typer.Option("--input", help="auto, paired or single: what it was trained on.")
    ] = "auto",
    base: Annotated[
        Path | None, typer.Option(help="The model that a file of LoRA factors alone belongs to.")
    ] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Without: twice the rank.")] = None,
    check_slide: CheckSlide = None,
    as_json: AsJson = False,
) -> None:
    """Convert an official checkpoint into a checkpoint folder; nothing in the file is executed."""
    from spatialformer_core.service import open_services
    from spatialformer_core.service.convert import ConvertOptions, convert_spatialformer

    _one_of(family, _FAMILIES, "--family")
    options = ConvertOptions(
        layout=_one_of(layout, _LAYOUTS, "--layout"),
        input_type=_one_of(input_type, _INPUTS, "--input"),
        base=base,
        lora_alpha=lora_alpha,
    )
    told = convert_spatialformer(
        source,
        out,
        options,
        check_slide=open_services().slide(check_slide) if check_slide else None,
        progress=terminal_progress(),
    )
    _tell(told, out, as_json=as_json)


def _one_of(value: str, allowed: tuple[str, ...], where: str) -> Any:
    if value not in allowed:
        raise SpatialFormerError(
            f"{value!r} is none of {', '.join(allowed)}.", where=where, fix="Choose one of them."
        )
    return None if value == "auto" else value


def _tell(told: dict[str, Any], out: Path, *, as_json: bool) -> None:
    check = told["self_check"]
    if check is None:
        note("The attention layout was not checked; --check-slide SLIDE compares both.")
    else:
        note(
            f"Self-check on {check['slide']}: {check['verdict']}. Hidden tokens cost "
            f"{check['chosen']['nats']:.3f} nats in layout {told['layout']}, "
            f"{check['other']['nats']:.3f} in the other, "
            f"{check['chosen']['baseline_nats']:.3f} by gene frequency."
        )
    if as_json:
        emit_json({**told, "out": str(out)})
        return
    say(f"{told['name']}: layout {told['layout']} ({told['layout_from']}); in {out}")
