"""Verbs of the slide store: ``ingest`` and ``slides``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatialformer_core.cli.cohort import ingest_sheet
from spatialformer_core.cli.output import AsJson, emit_json, say, table, terminal_progress
from spatialformer_core.config import QcThresholds, SampleMetadata, validate
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.slides import IngestReport

_QC = QcThresholds()
Source = Annotated[
    Path | None, typer.Argument(help="A folder or file of any kind that can be read.")
]
Cohort = Annotated[
    Path | None, typer.Option(help="CSV with one slide per line, instead of SOURCE.")
]
Metadata = Annotated[str | None, typer.Option(help="Required; never guessed.")]
HeAffine = Annotated[Path | None, typer.Option(help="3x3 matrix or keypoints of the H&E, CSV.")]
UmPerPx = Annotated[float | None, typer.Option(help="Scale of a source that keeps pixels.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("ingest")(ingest)
    verbs = typer.Typer(help="List, show, remove, verify and rebuild the slides of the store.")
    verbs.command("list")(list_slides)
    verbs.command("show")(show)
    verbs.command("remove")(remove)
    verbs.command("verify")(verify)
    verbs.command("rebuild")(rebuild)
    app.add_typer(verbs, name="slides", no_args_is_help=True)


def ingest(  # noqa: PLR0913 - one parameter per option
    source: Source = None,
    *,
    cohort: Cohort = None,
    name: Metadata = None,
    donor: Metadata = None,
    block: Metadata = None,
    condition: Metadata = None,
    tissue: Metadata = None,
    species: Metadata = None,
    assay: Metadata = None,
    he: Annotated[Path | None, typer.Option(help="H&E as OME-TIFF.")] = None,
    he_affine: HeAffine = None,
    labels: Annotated[Path | None, typer.Option(help="CSV cell_id,group.")] = None,
    um_per_px: UmPerPx = None,
    min_qv: Annotated[float, typer.Option(help="Lowest transcript quality.")] = _QC.min_qv,
    min_transcripts: Annotated[int, typer.Option(help="Per cell.")] = _QC.min_transcripts,
    min_genes: Annotated[int, typer.Option(help="Per cell.")] = _QC.min_genes,
    as_json: AsJson = False,
) -> None:
    """Take a slide into the store; prints its id, QC counts and retention per cell type."""
    fields = {"donor": donor, "block": block, "condition": condition, "tissue": tissue}
    fields = {"name": name, **fields, "species": species, "assay": assay}
    thresholds = {"min_qv": min_qv, "min_transcripts": min_transcripts, "min_genes": min_genes}
    qc = validate(QcThresholds, thresholds, "thresholds")
    if cohort is not None:
        _check_alone(
            fields
            | {"SOURCE": source, "he": he, "he-affine": he_affine}
            | {"labels": labels, "um-per-px": um_per_px}
        )
        ingest_sheet(cohort, qc, as_json=as_json)
        return
    if source is None:
        raise SpatialFormerError("Nothing to read.", fix="Give SOURCE, or --cohort SHEET.")
    values = _ask(fields)
    label = values.pop("name")
    sample = validate(SampleMetadata, values, "sample metadata")

    from spatialformer_core.service import open_services
    from spatialformer_core.slides import ingest as run

    report = run(
        source,
        open_services().store,
        name=label,
        sample=sample,
        qc=qc,
        he=he,
        he_affine=he_affine,
        labels=labels,
        um_per_px=um_per_px,
        progress=terminal_progress(),
    )
    if as_json:
        emit_json(report.model_dump(mode="json"))
    else:
        _say_report(report)


def _check_alone(options: dict[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise SpatialFormerError(
            f"--cohort was given together with {', '.join(given)}.",
            fix="The sheet names sources, metadata and files; only the thresholds stand beside it.",
        )


def _ask(values: dict[str, str | None]) -> dict[str, str]:
    """Return all values; what is missing is asked for at a terminal and refused elsewhere.

    Raises
    ------
    SpatialFormerError
        If something is missing and nobody can be asked.
    """
    missing = [key for key, value in values.items() if not (value or "").strip()]
    if missing and not sys.stdin.isatty():
        options = ", ".join(f"--{key}" for key in missing)
        raise SpatialFormerError(
            f"The slide's metadata is incomplete: {options} missing.",
            fix="Donor and block are the replicate units, the others the model's meta tokens; "
            "none of them is guessed.",
        )
    given = {key: (value or "").strip() for key, value in values.items()}
    return {key: given[key] or str(typer.prompt(key.capitalize(), err=True)) for key in given}


def _say_report(report: IngestReport) -> None:
    share = report.cells_kept / report.cells_in if report.cells_in else 0.0
    say(f"Slide {report.slide_id}")
    say(f"cells        {report.cells_kept:,} of {report.cells_in:,} pass QC ({share:.1%})")
    say(f"transcripts  {report.transcripts_kept:,} of {report.transcripts_in:,} kept")
    for reason, count in report.dropped.items():
        if count:
            say(f"  left out: {count:,} {reason.replace('_', ' ')}")
    for sentence in report.missing:
        say(f"  missing: {sentence}")
    for what, value in (report.mismatch or {}).items():
        number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
        say(f"  matrix and transcripts: {what.replace('_', ' ')} {number}")
    rows = [
        (group, n, kept, f"{kept / n:.1%}" if n else "-")
        for group, (n, kept) in report.retention_per_type.items()
    ]
    if rows:
        say("")
        table(("type", "cells", "kept", "share"), rows)


def list_slides(*, as_json: AsJson = False) -> None:
    """List the slides."""
    from spatialformer_core.service import open_services

    slides = open_services().slides()
    if as_json:
        emit_json({"slides": [meta.model_dump(mode="json") for meta in slides]})
        return
    if not slides:
        say("No slide yet. Take one in with: spatialformer ingest SOURCE --name NAME ...")
        return
    table(
        ("id", "name", "donor", "tissue", "condition", "cells", "kept", "genes", "simulated"),
        [
            (
                meta.slide_id,
                meta.name,
                meta.sample.donor,
                meta.sample.tissue,
                meta.sample.condition,
                meta.n_cells,
                meta.n_cells_kept,
                meta.n_genes,
                meta.simulated,
            )
            for meta in slides
        ],
    )


def show(slide_id: str, *, as_json: AsJson = False) -> None:
    """Show one slide: metadata, QC, retention per cell type, regions."""
    from spatialformer_core.service import open_services

    services = open_services()
    meta = services.slide(slide_id).meta
    regions = services.rois(slide_id)
    if as_json:
        names = [{"roi_id": roi.roi_id, "name": roi.name, "unit": roi.unit} for roi in regions]
        emit_json({**meta.model_dump(mode="json"), "rois": names})
        return
    say(f"{meta.name} ({meta.slide_id}), {meta.technology}, from {meta.source}")
    if meta.simulated:
        say("SIMULATED tissue")
    say("  ".join(f"{key}={value}" for key, value in meta.sample.model_dump().items()))
    say(f"{meta.n_cells_kept:,} of {meta.n_cells:,} cells pass QC; {meta.n_genes} genes")
    for image in meta.images:
        if image.alignment_rms_um is not None:
            say(f"{image.name}: keypoints lie {image.alignment_rms_um:.2f} um (RMS) from their fit")
    say(f"groupings: {', '.join(meta.group_keys) or 'none'}")
    say(f"regions: {', '.join(roi.name for roi in regions) or 'none'}")
    retention = services.qc_report(slide_id).retention
    if retention:
        say("")
        table(
            ("type", "cells", "kept", "share"),
            [(row.group, row.cells_in, row.cells_kept, f"{row.share:.1%}") for row in retention],
        )


def remove(slide_id: str, *, as_json: AsJson = False) -> None:
    """Remove a slide with its regions from the store; the source stays as it is."""
    from spatialformer_core.service import open_services

    open_services().store.remove(slide_id)
    if as_json:
        emit_json({"removed": slide_id})
    else:
        say(f"Slide {slide_id} is removed.")


def verify(slide_id: str, *, as_json: AsJson = False) -> None:
    """Compare every file of a slide with the hash that was taken when it was written.

    Raises
    ------
    SpatialFormerError
        If a file is missing, has changed or is too many, or a region cannot be read.
    """
    from spatialformer_core.service import open_services
    from spatialformer_core.slides import is_rebuildable

    store = open_services().store
    found = store.differences(slide_id)
    problems = store.problems_of(slide_id, found)
    if as_json:
        kinds = {"missing": found.missing, "changed": found.changed, "extra": found.extra}
        lists = {kind: list(names) for kind, names in kinds.items()}
        emit_json({"slide_id": slide_id, "intact": not problems, "problems": problems, **lists})
    if problems:
        mendable = bool(found) and is_rebuildable(found)
        raise SpatialFormerError(
            f"Slide {slide_id} is damaged: {' '.join(problems[:5])}",
            fix=f"Run `spatialformer slides rebuild {slide_id}`."
            if mendable
            else "Remove it and ingest its source again.",
        )
    if not as_json:
        say(f"Slide {slide_id} is intact.")


def rebuild(slide_id: str, *, as_json: AsJson = False) -> None:
    """Write the serving index anew from slide.zarr: after damage, or for an older format."""
    from spatialformer_core.service import open_services
    from spatialformer_core.slides import rebuild as run

    store = open_services().store
    before = {meta.slide_id: meta.missing for meta in store.list()}.get(slide_id, ())
    meta = run(store, slide_id, progress=terminal_progress())
    lost = [sentence for sentence in meta.missing if sentence not in before]
    if as_json:
        emit_json({"slide_id": slide_id, "format_version": meta.format_version, "lost": lost})
    else:
        say(f"The index of slide {slide_id} is written anew (format {meta.format_version}).")
        for sentence in lost:
            say(f"  {sentence}")
