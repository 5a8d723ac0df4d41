"""``spatialformer evaluate``: benchmark suites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spatialformer_core.cli.gene_pairs import evaluate_gene_pairs
from spatialformer_core.cli.output import AsJson, emit_json, say, terminal_progress
from spatialformer_core.cli.science import OutFolder
from spatialformer_core.cli.screen_suite import evaluate_screen
from spatialformer_core.errors import SpatialFormerError

_SEEDS = 3
_NOT_READ = {
    "screen": ("slide", "also", "groupby", "radius-um", "negatives"),
    "genepairs": ("checkpoint", "also", "radius-um", "negatives"),
}

Also = Annotated[
    list[str] | None, typer.Option(help="A further checkpoint on the same pairs; may be repeated.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of seeds; of genepairs, null groups of each kind; of screen, planted "
        "tissues (10).",
    ),
]

Nulls = Annotated[
    int,
    typer.Option(
        min=0, help="Null tissues of screen; up to five further ones lack planted relations only."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(  # noqa: PLR0913 - one parameter per option
    suite: Annotated[str, typer.Argument(help="colocalisation, genepairs or screen")],
    *,
    out: OutFolder,
    slide: Annotated[
        str | None, typer.Option(help="Slide id; screen simulates its own tissues.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Id or folder; without, the baselines alone.")
    ] = None,
    also: Also = None,
    groupby: Annotated[
        str | None, typer.Option(help="Cell types; without, the slide's default grouping.")
    ] = None,
    radius_um: Annotated[
        list[float] | None, typer.Option(help="May be repeated; without, 30.")
    ] = None,
    negatives: Annotated[
        list[str] | None, typer.Option(help="easy, hard, matched; may be repeated.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, or validation to choose among models without opening it.")
    ] = "test",
    queries: Annotated[int, typer.Option(help="Query cells per seed, at most.")] = 5_000,
    train_pairs: Annotated[int, typer.Option(help="Pairs that baselines are fitted on.")] = 60_000,
    tower_pairs: Annotated[
        int, typer.Option(help="Pairs for the baseline of plain towers; 0 leaves it out.")
    ] = 1_000_000,
    seeds: Seeds = None,
    nulls: Nulls = 20,
    allow_simulated: Annotated[
        bool, typer.Option("--allow-simulated", help="Marks the report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a benchmark suite: the checkpoint beside baselines fitted in the same run."""
    asked = {"slide": slide, "checkpoint": checkpoint, "also": also, "groupby": groupby}
    _refuse_what_is_not_read(suite, {**asked, "radius-um": radius_um, "negatives": negatives})
    if suite == "screen":
        evaluate_screen(checkpoint, seeds, nulls, out, as_json=as_json)
        return
    if slide is None:
        raise SpatialFormerError(f"The suite {suite!r} needs a slide.", fix="Add --slide ID.")
    if suite == "genepairs":
        evaluate_gene_pairs(slide, groupby, seeds or _SEEDS, out, as_json=as_json)
        return
    given = {"radii_um": radius_um, "negatives": negatives}
    settings = {
        "part": split,
        "n_queries": queries,
        "n_train_pairs": train_pairs,
        "tower_pairs": tower_pairs,
        "seeds": list(range(seeds or _SEEDS)),
        **{name: value for name, value in given.items() if value},
    }
    values = {"suite": suite, "slide_id": slide, "groupby": groupby, "settings": settings}
    report = _run({**values, "allow_simulated": allow_simulated}, (checkpoint, also or []), out)
    if as_json:
        emit_json({"out": str(out), **report})
    else:
        say((out / "report.md").read_text("utf-8"))


def _refuse_what_is_not_read(suite: str, asked: dict[str, Any]) -> None:
    unread = [f"--{name}" for name in _NOT_READ.get(suite, ()) if asked[name]]
    if unread:
        raise SpatialFormerError(
            f"The suite {suite!r} does not read {', '.join(unread)}.", fix="Leave it out."
        )


def _run(
    values: dict[str, Any], checkpoints: tuple[str | None, list[str]], out: Path
) -> dict[str, Any]:
    """Run a suite into a folder; return its report."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service import open_services
    from spatialformer_core.service.checkpoints import find_checkpoint
    from spatialformer_core.service.evaluate import EvaluationRequest, run_evaluation

    services = open_services()
    checkpoint, also = checkpoints
    others = [find_checkpoint(services.home, one) for one in also]
    folder = None if checkpoint is None else find_checkpoint(services.home, checkpoint)
    values["checkpoint_id"] = None if folder is None else folder.name
    values["also"] = [one.name for one in others]
    request = validate(EvaluationRequest, values, "evaluate")
    with files.atomic_directory(out) as partial:
        return run_evaluation(
            services.store, request, folder, partial, others=others, progress=terminal_progress()
        )
