"""Verbs of the checkpoints: ``models list`` and ``models show``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    verbs = typer.Typer(help="List and show the shipped and registered checkpoints.")
    verbs.command("list")(list_models)
    verbs.command("show")(show)
    app.add_typer(verbs, name="models", no_args_is_help=True)


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
