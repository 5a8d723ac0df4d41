"""The verb ``screen``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spatialformer_core.cli import screen_options as options
from spatialformer_core.cli.output import AsJson, emit_json, say, table
from spatialformer_core.cli.rerun import rerun
from spatialformer_core.cli.screening import read_text

if TYPE_CHECKING:
    from spatialformer_core.service import ScreenView

_TOP = 10


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("screen")(screen)
    app.command("rerun")(rerun)


def screen(  # noqa: PLR0913 - one parameter per option
    slides: options.Slides,
    *,
    checkpoint: options.Checkpoints,
    groupby: options.Groupby,
    groups: options.Groups,
    out: options.OutFolder,
    roi: options.Roi = None,
    versus: options.Versus = None,
    unit: options.Unit = "auto",
    test: options.Test = "units",
    knockout: options.Knockout = "delete",
    mode: options.Mode = "auto",
    control: options.Control = None,
    genes: options.Genes = None,
    knockout_sets: options.KnockoutSets = None,
    radius_um: options.Radius = 30.0,
    far_from: options.FarFrom = "around",
    counts: options.Counts = "cell",
    max_pairs_per_unit: options.MaxPairs = 400,
    min_support: options.MinSupport = 5,
    seed: options.Seed = 0,
    null_runs: options.NullRuns = 0,
    null_checkpoint: options.NullCheckpoint = None,
    ligand_receptor: options.LigandReceptor = None,
    gene_set_files: options.GeneSetFiles = None,
    liana: options.Liana = False,
    figures: options.Figures = True,
    shards: options.Shards = None,
    workers: options.Workers = 0,
    scheduler: options.Scheduler = None,
    gpu_workers: options.GpuWorkers = False,
    resume: options.Resume = False,
    allow_simulated: options.AllowSimulated = False,
    as_json: AsJson = False,
) -> None:
    """Screen which gene pairs hold two cell types together: near against far cell pairs."""
    values: dict[str, Any] = {"slide_ids": slides, "groupby": groupby, "unit": unit}
    values |= {"test": test, "mode": mode}
    values |= {"group_left": groups[0], "group_right": groups[1], "knockout": knockout}
    # The published test is about the raw effects.
    values |= {"control": control or ("none" if test == "published" else "subtract")}
    values |= {"radius_um": radius_um, "max_pairs_per_unit": max_pairs_per_unit, "seed": seed}
    values |= {"min_support": min_support, "null_runs": null_runs, "far_from": far_from}
    values |= {"counts": counts}
    values |= {"null_checkpoint_id": null_checkpoint, "allow_simulated": allow_simulated}
    values |= {"ligand_receptor": _absolute(ligand_receptor), "liana": liana}
    values |= {"gene_set_files": [str(path.resolve()) for path in gene_set_files or ()]}
    values |= {"regions_geojson": roi and read_text(roi)}
    values |= {"versus_geojson": versus and read_text(versus)}
    engine = (workers, scheduler, {"GPU": 1.0} if gpu_workers else {})
    given = (checkpoint, genes, knockout_sets)
    execution = {"engine": engine, "shards": shards, "resume": resume, "figures": figures}
    view = _run(values, given, out, execution)
    if as_json:
        emit_json({"out": str(out), "n_rows": len(view.table), **view.info})
    else:
        _say_screen(view, out)


def _run(
    values: dict[str, Any],
    given: tuple[list[str], str | None, Path | None],
    out: Path,
    execution: dict[str, Any],
) -> ScreenView:
    from spatialformer_core.cli.screening import carried_out, named_genes, named_sets
    from spatialformer_core.config import validate
    from spatialformer_core.service import ScreenRequest, open_services
    from spatialformer_core.service.checkpoints import find_checkpoint

    services = open_services()
    checkpoints, genes, knockout_sets = given
    folder = find_checkpoint(services.home, checkpoints[0])
    values |= {"checkpoint_id": folder.name, "agreement_ids": checkpoints[1:]}
    values |= {"genes": named_genes(genes), "knockout_sets": named_sets(knockout_sets)}
    request = validate(ScreenRequest, values, "screen")
    return carried_out(services, request, folder, out, **execution)


def _say_screen(view: ScreenView, out: Path) -> None:
    info = view.info
    for mark in info["marks"]:
        say(mark)
    say(str(info["verdict"]))
    columns = ["gene_left", "gene_right", "n_pairs", "d_diff", "d_low", "d_high", "epsilon", "q"]
    recall = info["measured_recall"]
    if recall is not None:
        say(
            f"Measured recall of the strongest {recall['top']} gene pairs in {recall['within']} "
            f"candidates, {recall['cell_pairs']} random cell pairs: {recall['d']:.1%} by effect, "
            f"{recall['epsilon']:.1%} by interaction."
        )
    known, sets = info.get("ligand_receptor"), info.get("enrichment")
    if known is not None:
        say(f"Ligand-receptor pairs of {known['resource']} that were tested: {known['testable']}.")
    if sets is not None:
        why = sets["not_computed"] or f"{sets['significant']:,} with q < 0.05"
        say(f"Gene sets: {sets['tested']:,} tested, {why}. {sets['pointer'] or ''}".rstrip())
    if view.info["request"]["liana"]:
        say(info["liana"]["sentence"] if "liana" in info else info["not_computed"]["liana"] + ".")
    if "agreement" in info:
        say(info["agreement"]["sentence"])
    flagged = view.table["spillover"].eq(other=True).fillna(value=False).astype(bool)
    if flagged.any():
        say(f"{int(flagged.sum()):,} gene pairs marked as spillover are not listed here.")
    rows = view.table.loc[~flagged, columns].head(_TOP).itertuples(index=False, name=None)
    table(columns, list(rows))
    say(f"{len(view.table):,} gene pairs in {out}")


def _absolute(source: str | None) -> str | None:
    """Return a path that holds wherever the stored request is run again; ``liana`` is none."""
    if source is None or source == "liana":
        return source
    return str(Path(source).resolve())
