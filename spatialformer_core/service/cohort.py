"""Many slides from one sheet: everything is checked before the first slide is read."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spatialformer_core import progress as progress_
from spatialformer_core.config import QcThresholds, SampleMetadata, validate
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.slides import IngestReport, SlideStore, ingest

SAMPLE_COLUMNS = ("donor", "block", "condition", "tissue", "species", "assay")
REQUIRED_COLUMNS = ("source", "name", *SAMPLE_COLUMNS)
FILE_COLUMNS = ("he", "he_affine", "labels")
OPTIONAL_COLUMNS = (*FILE_COLUMNS, "um_per_px")
MAX_ROWS = 10_000

_MAX_BYTES = 1 << 22
_MAX_PROBLEMS = 50
_MAX_NAME = 64
_FIX = (
    f"Columns: {','.join(REQUIRED_COLUMNS)}, and if needed {','.join(OPTIONAL_COLUMNS)}; paths are "
    "relative to the sheet."
)

Status = Literal["ingested", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One slide of a sheet.

    Attributes
    ----------
    line
        Its line in the file, the header being line 1.
    options
        H&E image, its alignment, labels and scale, as `slides.ingest` takes them.
    is_done
        Whether the store holds this slide already, of the same source, sample and thresholds.
    """

    line: int
    name: str
    slide_id: str
    source: Path
    sample: SampleMetadata
    options: dict[str, Any]
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class CohortResult:
    """What became of one row."""

    line: int
    name: str
    slide_id: str
    status: Status
    report: IngestReport | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        values = dataclasses.asdict(dataclasses.replace(self, report=None))
        return values | {"report": self.report and self.report.model_dump(mode="json")}


def read_cohort(sheet: Path, store: SlideStore, qc: QcThresholds) -> list[CohortRow]:
    """Read a cohort sheet and check every row of it.

    Parameters
    ----------
    sheet
        CSV with the columns ``source,name,donor,block,condition,tissue,species,assay`` and
        optionally ``he,he_affine,labels,um_per_px``.
    store
        Where the slides shall go: a name that another slide has is a problem of the row.

    Raises
    ------
    SpatialFormerError
        With every problem of the sheet in one message, each with its line.
    """
    header, rows = _read_sheet(sheet)
    _check_header(header, sheet)
    if not rows or len(rows) > MAX_ROWS:
        raise SpatialFormerError(
            f"The sheet names {len(rows):,} slides; 1 to {MAX_ROWS:,} are expected.", sheet.name
        )
    found: list[CohortRow] = []
    problems: list[str] = []
    for line, values in rows:
        if len(values) != len(header):
            problems.append(f"line {line}: {len(values)} values, {len(header)} expected")
            continue
        row, wrong = _check_row(line, dict(zip(header, values, strict=True)), sheet.parent)
        if row is not None:
            row, taken = _compare(row, store, qc)
            twin = next((r for r in found if r.slide_id == row.slide_id), None)
            wrong = taken if twin is None else [f"same name as line {twin.line}"]
            found.append(row)
        problems += [f"line {line}: {sentence}" for sentence in wrong]
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        text = "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise SpatialFormerError(
            f"The sheet has {len(problems)} problem{'s' if len(problems) > 1 else ''}, and no "
            f"slide was read. {text}.",
            where=sheet.name,
            fix=_FIX,
        )
    return found


def _read_sheet(sheet: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    if not sheet.is_file():
        raise SpatialFormerError("The cohort sheet does not exist.", where=sheet.name, fix=_FIX)
    if sheet.stat().st_size > _MAX_BYTES:
        raise SpatialFormerError(f"Larger than {_MAX_BYTES:,} bytes.", where=sheet.name, fix=_FIX)
    try:
        with sheet.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [v.strip() for v in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpatialFormerError(f"The sheet is no CSV: {error}.", sheet.name, _FIX) from error
    return header, [(line, row) for line, row in rows if any(row)]


def _check_header(header: list[str], sheet: Path) -> None:
    known = {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}
    problems = [f"{name} is missing" for name in REQUIRED_COLUMNS if name not in header]
    problems += [f"{name[:40]!r} is unknown" for name in header if name not in known]
    problems += [f"{name} occurs twice" for name in sorted(known) if header.count(name) > 1]
    if problems:
        raise SpatialFormerError(f"Columns: {', '.join(problems)}.", where=sheet.name, fix=_FIX)


def _check_row(line: int, values: dict[str, str], base: Path) -> tuple[CohortRow | None, list[str]]:
    """Return a row, or None and what is wrong with it."""
    from spatialformer_core.io.source import format_of
    from spatialformer_core.slides.store import slug

    wrong: list[str] = []
    sample, slide_id = None, ""
    try:
        sample = validate(SampleMetadata, {k: values[k] for k in SAMPLE_COLUMNS}, "sample")
    except SpatialFormerError as error:
        wrong.append(error.message.rstrip("."))
    if len(values["name"]) > _MAX_NAME:
        wrong.append(f"name is longer than {_MAX_NAME} characters")
    try:
        slide_id = slug(values["name"])
    except SpatialFormerError as error:
        wrong.append(error.message.rstrip("."))
    source = base / values["source"]
    if not values["source"] or not source.exists():
        wrong.append(f"source {values['source'][:80]!r} does not exist")
    elif format_of(source.resolve()) is None:
        wrong.append(f"source {values['source'][:80]!r} is of no kind that can be read")
    options, bad = _options(values, base)
    wrong += bad
    if wrong or sample is None:
        return None, wrong
    return CohortRow(line, values["name"], slide_id, source, sample, options), []


def _options(values: dict[str, str], base: Path) -> tuple[dict[str, Any], list[str]]:
    wrong: list[str] = []
    options: dict[str, Any] = {
        name: base / values[name] for name in FILE_COLUMNS if values.get(name)
    }
    for name, path in options.items():
        if not path.is_file():
            wrong.append(f"{name} {values[name][:80]!r} does not exist")
    if "he_affine" in options and "he" not in options:
        wrong.append("he_affine is given without he")
    if values.get("um_per_px"):
        try:
            options["um_per_px"] = float(values["um_per_px"])
        except ValueError:
            wrong.append(f"um_per_px {values['um_per_px'][:40]!r} is no number")
    return options, wrong


def _compare(row: CohortRow, store: SlideStore, qc: QcThresholds) -> tuple[CohortRow, list[str]]:
    """Tell whether a row's slide is there already, or another one of its name."""
    if not store.exists(row.slide_id):
        return row, []
    meta = store.open(row.slide_id).meta
    pairs = {
        "source": (meta.source, row.source.resolve().name),
        "sample metadata": (meta.sample, row.sample),
        "thresholds": (meta.qc, qc),
    }
    differing = [what for what, (there, here) in pairs.items() if there != here]
    if differing:
        return row, [
            f"a slide {row.slide_id!r} exists already with other {' and '.join(differing)}; give "
            "another name or remove it first"
        ]
    return dataclasses.replace(row, is_done=True), []


def ingest_cohort(
    rows: list[CohortRow],
    store: SlideStore,
    qc: QcThresholds,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> list[CohortResult]:
    """Take the slides of a checked sheet into the store, one after another.

    A slide that is there already is skipped, so that a sheet can be run again after a row was
    mended; a slide that cannot be read does not stop the others.

    Raises
    ------
    Cancelled
        If it was cancelled; slides that were done by then stay.
    """
    results: list[CohortResult] = []
    for position, row in enumerate(rows):
        identity = (row.line, row.name, row.slide_id)
        if row.is_done:
            results.append(CohortResult(*identity, "skipped"))
            continue
        inner = progress_.staged(progress, position / len(rows), (position + 1) / len(rows))
        try:
            report = ingest(
                row.source,
                store,
                name=row.name,
                sample=row.sample,
                qc=qc,
                progress=_named(inner, row.name),
                cancel=cancel,
                **row.options,
            )
        except Cancelled:
            raise
        except SpatialFormerError as error:
            results.append(CohortResult(*identity, "failed", error=str(error)))
        else:
            results.append(CohortResult(*identity, "ingested", report))
    return results


def _named(progress: progress_.Progress, name: str) -> progress_.Progress:
    return lambda done, total, message: progress(done, total, f"{name}: {message}")
