"""The verb ``rerun``: a screen once more, from the facts that a screen leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spatialformer_core.cli import screen_options as options
from spatialformer_core.cli.output import AsJson, emit_json, note, say
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenRequest

FILE = "screen.json"


def rerun(
    screen: Annotated[Path, typer.Argument(help="screen.json of a screen, or its folder.")],
    *,
    out: options.OutFolder,
    checkpoint: Annotated[
        str | None, typer.Option(help="Id or folder, where the checkpoint lies elsewhere now.")
    ] = None,
    figures: options.Figures = True,
    workers: options.Workers = 0,
    resume: options.Resume = False,
    as_json: AsJson = False,
) -> None:
    """Run a screen again with the settings that its result tells."""
    from spatialformer_core.cli.screening import carried_out
    from spatialformer_core.service import open_services
    from spatialformer_core.service.checkpoints import find_checkpoint

    request, before = _told(screen)
    services = open_services()
    folder = find_checkpoint(services.home, checkpoint or request.checkpoint_id)
    request = request.model_copy(update={"checkpoint_id": folder.name})
    view = carried_out(
        services,
        request,
        folder,
        out,
        engine=(workers, None, {}),
        shards=None,
        resume=resume,
        figures=figures,
    )
    if view.info["checkpoint"]["id"] != before.get("id"):
        note(f"The checkpoint {folder.name!r} is not the one of the first screen.")
    if as_json:
        emit_json({"out": str(out), "n_rows": len(view.table), **view.info})
        return
    say(str(view.info["verdict"]))
    say(f"{len(view.table):,} gene pairs in {out}")


def _told(path: Path) -> tuple[ScreenRequest, dict[str, Any]]:
    """Return the request of a finished screen, and what it says of its checkpoint."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service import ScreenRequest

    file = path / FILE if path.is_dir() else path
    facts = files.read_json(file)
    if not isinstance(facts, dict) or "request" not in facts:
        raise SpatialFormerError(
            "This file tells no screen.", str(file), f"Give the {FILE} of a result."
        )
    return validate(ScreenRequest, facts["request"], "screen"), facts.get("checkpoint") or {}
