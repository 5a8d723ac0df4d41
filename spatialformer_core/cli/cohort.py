"""``ingest --cohort``: many slides from one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spatialformer_core.cli.output import emit_json, note, say, table, terminal_progress
from spatialformer_core.config import QcThresholds
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service.cohort import CohortResult


def ingest_sheet(sheet: Path, qc: QcThresholds, *, as_json: bool) -> None:
    """Take all slides of a sheet into the store and say what became of each.

    Raises
    ------
    SpatialFormerError
        If the sheet has a problem (nothing is read then), or a slide could not be read (the
        others are in the store).
    """
    from spatialformer_core.service import open_services
    from spatialformer_core.service.cohort import ingest_cohort, read_cohort

    store = open_services().store
    rows = read_cohort(sheet, store, qc)
    results = ingest_cohort(rows, store, qc, terminal_progress())
    counts = {
        status: sum(result.status == status for result in results)
        for status in ("ingested", "skipped", "failed")
    }
    if as_json:
        emit_json({"slides": [result.as_json() for result in results], **counts})
    else:
        _say(results)
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        note(f"Line {result.line}, {result.name}: {result.error}")
    if failed:
        raise SpatialFormerError(
            f"{len(failed)} of {len(results)} slides could not be read; "
            f"{counts['ingested']} were taken in, {counts['skipped']} were there already.",
            where=sheet.name,
            fix="Mend those rows and run the sheet again: slides that are done are skipped.",
        )


def _say(results: list[CohortResult]) -> None:
    table(
        ("line", "name", "status", "cells", "kept", "transcripts"),
        [
            (
                result.line,
                result.name,
                result.status,
                result.report and result.report.cells_in,
                result.report and result.report.cells_kept,
                result.report and result.report.transcripts_in,
            )
            for result in results
        ],
    )
    for result in results:
        for sentence in result.report.missing if result.report else ():
            say(f"  {result.name}: missing: {sentence}")
