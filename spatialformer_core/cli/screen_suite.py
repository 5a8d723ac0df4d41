"""``spatialformer evaluate screen``: the suite on simulated tissues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spatialformer_core.cli.output import emit_json, say, terminal_progress
from spatialformer_core.errors import SpatialFormerError


def evaluate_screen(
    checkpoint: str | None, seeds: int | None, nulls: int, out: Path, *, as_json: bool
) -> None:
    """Run the suite ``screen``: planted pairs, decoys and null tissues.

    Raises
    ------
    SpatialFormerError
        Without a checkpoint, or for one that cannot read the simulator's panel.
    """
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.evaluation.screens import ScreenSuiteSettings
    from spatialformer_core.service import open_services
    from spatialformer_core.service.checkpoints import find_checkpoint
    from spatialformer_core.service.evaluate_screen import run_screen_evaluation

    if checkpoint is None:
        raise SpatialFormerError(
            "The suite 'screen' needs a checkpoint.", fix="Add --checkpoint demo-two-tower."
        )
    folder = find_checkpoint(open_services().home, checkpoint)
    values: dict[str, Any] = {"nulls": nulls, "unplanted": min(nulls, 5)}
    values |= {} if seeds is None else {"seeds": seeds}
    settings = validate(ScreenSuiteSettings, values, "evaluate screen")
    with files.atomic_directory(out) as partial:
        report = run_screen_evaluation(folder, settings, partial, progress=terminal_progress())
    if as_json:
        emit_json({"out": str(out), **report})
    else:
        say((out / "report.md").read_text("utf-8"))
