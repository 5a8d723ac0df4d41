"""The verbs ``embed`` and ``colocalise``: what a model makes of cells of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service.colocalise import ColocalisationView
    from spatialformer_core.service.model_cells import ModelCells

_WORDS = ("condition", "tissue", "species", "assay")
_TOP = 12

Input = Annotated[str, typer.Argument(help="Slide id, or any .h5ad file of raw counts.")]
CheckpointOption = Annotated[str, typer.Option(help="Id of a checkpoint, or its folder.")]
Word = Annotated[str | None, typer.Option(help="Of the cells of a file; a slide knows its own.")]
MetaOption = Annotated[
    str, typer.Option(help="given, or masked: condition, tissue, species and assay hidden.")
]
IgnoreCase = Annotated[bool, typer.Option(help="Cd3e is CD3E (mouse, human).")]
Out = Annotated[Path | None, typer.Option(help="Folder for the results; it must not exist.")]
AllowSimulated = Annotated[bool, typer.Option("--allow-simulated", help="Marks every output.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("embed")(embed)
    app.command("colocalise")(colocalise)


def embed(  # noqa: PLR0913 - one parameter per option
    source: Input,
    *,
    checkpoint: CheckpointOption,
    out: Out = None,
    level: Annotated[str, typer.Option(help="cell, or gene: means over cells.")] = "cell",
    meta: MetaOption = "given",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    umap: Annotated[int, typer.Option(help="Cells on a map (UMAP), at most; 0 = no map.")] = 0,
    condition: Word = None,
    tissue: Word = None,
    species: Word = None,
    assay: Word = None,
    ignore_case: IgnoreCase = False,
    seed: Annotated[int, typer.Option(help="Of the map.")] = 0,
    allow_simulated: AllowSimulated = False,
    as_json: AsJson = False,
) -> None:
    """Embed the cells of a slide or of any .h5ad (CLS states), or the genes."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service.embed import EmbedRequest, run_embedding

    words = dict(zip(_WORDS, (condition, tissue, species, assay), strict=True))
    cells, folder, shared = _open(source, checkpoint, words)
    values = {"level": level, "precision": precision, "n_umap": umap, "seed": seed, "meta": meta}
    values |= {"ignore_case": ignore_case, "allow_simulated": allow_simulated}
    request = validate(EmbedRequest, {**shared, **values}, "embed")
    target = out or Path(f"{Path(cells.name).stem}-embedding")
    with files.atomic_directory(target) as partial:
        facts = run_embedding(cells, request, folder, partial, progress=terminal_progress())
    if as_json:
        emit_json({"out": str(target), **facts})
        return
    _say_marks(facts)
    rows = "genes" if level == "gene" else "cells"
    say(f"{facts['n_rows']:,} {rows} in {facts['n_dims']} dimensions; {target}/embedding.parquet")


def colocalise(  # noqa: PLR0913 - one parameter per option
    source: Input,
    *,
    checkpoint: CheckpointOption,
    groupby: Annotated[str | None, typer.Option(help="Grouping with the cell types.")] = None,
    out: Out = None,
    cells: Annotated[
        str, typer.Option(help="auto, all, or held_out: unseen by the checkpoint.")
    ] = "auto",
    meta: MetaOption = "given",
    k: Annotated[int, typer.Option(help="Predicted neighbours per cell.")] = 20,
    threshold: Annotated[
        float | None, typer.Option(help="Instead: every candidate of at least this score.")
    ] = None,
    queries: Annotated[int, typer.Option(help="Cells that are asked about, at most.")] = 2_000,
    radius_um: Annotated[float, typer.Option(help="Of true neighbours.")] = 30.0,
    reach_um: Annotated[float, typer.Option(help="All cells within it are candidates.")] = 300.0,
    ring: Annotated[
        int | None, typer.Option(help="Candidates drawn between radius and reach; all without.")
    ] = None,
    far: Annotated[int, typer.Option(help="Candidates drawn beyond the reach.")] = 300,
    sample: Annotated[int, typer.Option(help="Candidates of cells without coordinates.")] = 2_000,
    condition: Word = None,
    tissue: Word = None,
    species: Word = None,
    assay: Word = None,
    ignore_case: IgnoreCase = False,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    allow_simulated: AllowSimulated = False,
    as_json: AsJson = False,
) -> None:
    """Predict neighbours from expression: observed over expected by type, recall, JSD."""
    from spatialformer_core import files
    from spatialformer_core.config import validate
    from spatialformer_core.service.colocalise import ColocaliseRequest, run_colocalisation

    words = dict(zip(_WORDS, (condition, tissue, species, assay), strict=True))
    opened, folder, shared = _open(source, checkpoint, words)
    values = {"groupby": groupby, "cells": cells, "meta": meta, "k": k, "threshold": threshold}
    values |= {"n_queries": queries, "radius_um": radius_um, "reach_um": reach_um, "n_far": far}
    values |= {"n_ring": ring, "n_sample": sample, "ignore_case": ignore_case, "seed": seed}
    values |= {"allow_simulated": allow_simulated}
    request = validate(ColocaliseRequest, {**shared, **values}, "colocalise")
    target = out or Path(f"{Path(opened.name).stem}-colocalisation")
    with files.atomic_directory(target) as partial:
        view = run_colocalisation(opened, request, folder, partial, progress=terminal_progress())
    if as_json:
        emit_json({"out": str(target), **view.info})
    else:
        _say_colocalisation(view, target)


def _open(
    source: str, checkpoint: str, words: dict[str, str | None]
) -> tuple[ModelCells, Path, dict[str, Any]]:
    """Return the cells, the checkpoint's folder, and what a request says of both."""
    from spatialformer_core.config import SampleMetadata, validate
    from spatialformer_core.service import open_services
    from spatialformer_core.service.checkpoints import find_checkpoint
    from spatialformer_core.service.model_cells import cells_of_file, cells_of_slide

    services = open_services()
    folder = find_checkpoint(services.home, checkpoint)
    given = {key: value for key, value in words.items() if value is not None}
    path = Path(source)
    if path.suffix != ".h5ad":
        if given:
            raise SpatialFormerError(
                f"--{next(iter(given))} was given for a slide, which knows its own sample.",
                fix="Leave it out.",
            )
        cells = cells_of_slide(services.slide(source))
        return cells, folder, {"slide_id": source, "checkpoint_id": folder.name}
    sample = None
    if given:
        missing = [f"--{key}" for key in words if key not in given]
        if missing:
            raise SpatialFormerError(
                f"The sample is incomplete: {', '.join(missing)} missing.",
                fix="Give all four, or none with --meta masked.",
            )
        # Donor and block are replicate units; no token is made of them.
        sample = validate(SampleMetadata, {**given, "donor": "-", "block": "-"}, "sample")
    cells = cells_of_file(path, sample)
    return cells, folder, {"checkpoint_id": folder.name, "sample": sample}


def _say_marks(facts: dict[str, Any]) -> None:
    for mark in facts["marks"]:
        say(mark)
    known = facts["input"]
    say(
        f"{known['genes_known']:,} of {known['genes']:,} genes known, "
        f"{known['share_of_vocabulary_measured']:.0%} of the checkpoint's genes measured"
    )


def _say_colocalisation(view: ColocalisationView, target: Path) -> None:
    _say_marks(view.info)
    say(view.info["exposure"])
    say(view.info["verdict"])
    for note in view.info["notes"]:
        say(note)
    # Over all types the two recalls are the same.
    shown = (view.types["type"] == "all") & (view.types["metric"] != "recall_as_neighbour")
    every = view.types[shown]
    columns = ["candidates", "method", "metric", "value", "low", "high"]
    if len(every):
        say("")
        table(columns, list(every[columns].itertuples(index=False, name=None)))
    own = view.pairs[(view.pairs["source"] == "spatialformer") & (view.pairs["expected"] >= 1)]
    own = own[own["candidates"] == own["candidates"].iloc[-1]] if len(own) else own
    columns = ["type", "neighbour_type", "observed", "expected", "ratio", "low", "high"]
    top = own.sort_values("ratio", ascending=False)[columns].head(_TOP)
    say("")
    table(columns, list(top.itertuples(index=False, name=None)))
    say(f"Tables in {target}")
