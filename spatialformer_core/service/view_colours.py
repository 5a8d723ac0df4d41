"""Colours of cells beyond groupings and genes: quality, two genes together, results of jobs.

Bytes are laid out as `service.view.SlideView.group_codes` says.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobQueue
from spatialformer_core.service.cooccurrence import CELLS, FACTS, CooccurrenceSettings
from spatialformer_core.service.gene_pairs import cooccurrence_folder
from spatialformer_core.service.palette import UNASSIGNED, group_colours
from spatialformer_core.service.view import with_header

if TYPE_CHECKING:
    from spatialformer_core.jobs import Job
    from spatialformer_core.slides import Slide

VALUES = {
    "n_transcripts": ("Transcripts", "transcripts per cell"),
    "n_genes": ("Genes", "distinct genes per cell"),
    "area_um2": ("Area", "µm² per cell"),
    "density": ("Transcripts per area", "transcripts per µm² of the cell"),
}
"""What can be shown of every cell's quality: name, unit."""

RESULTS = {"embed": "embedding.parquet"}
"""Kinds of jobs with one row per cell, and the table that holds them: clusters, niches."""

_UNNAMED = 65_535
_LEVELS = 65_534
_NEITHER, _LEFT, _RIGHT, _BOTH, _TOGETHER = "#B4BDC2", "#E69F00", "#56B4E9", "#009E73", "#C2185B"


@dataclass(frozen=True, slots=True)
class ResultColour:
    """A column of a finished job that cells can be coloured by.

    Attributes
    ----------
    job_id, column
        Where it is.
    label
        What it is, for people.
    """

    job_id: str
    column: str
    label: str


def value_codes(slide: Slide, name: str) -> bytes:
    """Return a quality figure of each cell as ``u16`` (65535: not known).

    The value is ``offset + code * scale``; ``low`` and ``high`` are the 0.5th and 99.5th
    percentile, which the colours span at first.

    Raises
    ------
    SpatialFormerError
        If it is none of `VALUES`.
    """
    if name not in VALUES:
        raise SpatialFormerError(
            f"Cells have no value {name[:40]!r}.", fix=f"There are: {', '.join(VALUES)}."
        )
    if name == "density":
        area_um2 = np.asarray(slide.area_um2, np.float64)
        known = np.where(area_um2 > 0, area_um2, np.nan)
        values = np.asarray(slide.n_transcripts, np.float64) / known
    else:
        column = {"n_transcripts": "n_transcripts", "n_genes": "n_genes_per_cell"}.get(name, name)
        values = np.asarray(getattr(slide, column), np.float64)
    label, unit = VALUES[name]
    return _scaled(values, {"name": label, "unit": unit})


def pair_codes(slide: Slide, left: str, right: str) -> bytes:
    """Return which of two genes each cell has: neither, one, both, or both together.

    *Together* means that they co-occur inside the cell, by the newest measurement of the slide
    (page *Gene pairs*); without one, cells with both genes are one group.

    Raises
    ------
    SpatialFormerError
        If a gene is not on the slide's panel, or both are the same.
    """
    if left == right:
        raise SpatialFormerError("A pair needs two different genes.", fix="Choose another one.")
    present = [np.asarray(slide.gene_column(gene)) > 0 for gene in (left, right)]
    codes = (present[0] + 2 * present[1]).astype(np.uint8)
    names = ["neither", f"{left} only", f"{right} only", "both"]
    colours = [_NEITHER, _LEFT, _RIGHT, _BOTH]
    measured = newest_cooccurrence(slide)
    note = "Co-occurrence is not measured on this slide yet: compare groups on page Gene pairs."
    if measured is not None:
        folder, settings = measured
        codes[_cells_with_pair(slide, folder, left, right)] = 4
        names[3:] = ["both, apart", "both, together"]
        colours.append(_TOGETHER)
        note = (
            f"Together: at least {settings.min_copies} copies of each in one community of "
            f"transcripts linked within {settings.radius_um:g} µm."
        )
    header = _group_header(f"{left} + {right}", names, colours, codes.astype(np.int64), slide)
    return with_header(header | {"ordered": True, "faint": [0], "note": note}, codes.tobytes())


def newest_cooccurrence(slide: Slide) -> tuple[Path, CooccurrenceSettings] | None:
    """Return the newest co-occurrence measured on a slide as it is now, with its settings."""
    found = []
    for facts in slide.user_folder.glob(f"cooccurrence/*/{FACTS}"):
        try:
            settings = validate(CooccurrenceSettings, files.read_json(facts)["settings"], "")
        except (SpatialFormerError, KeyError, TypeError):
            continue  # written by a version that measured something else
        # A folder of another version or of an older ingest has another name.
        if facts.parent == cooccurrence_folder(slide, settings) and files.is_complete(facts.parent):
            found.append((facts.stat().st_mtime_ns, facts.parent, settings))
    return max(found, key=lambda entry: entry[0])[1:] if found else None


def _cells_with_pair(slide: Slide, folder: Path, left: str, right: str) -> NDArray[np.intp]:
    """Return the rows of the cells in which two genes co-occur."""
    import pyarrow.parquet as pq

    either = [
        [("gene_left", "==", a), ("gene_right", "==", b)] for a, b in ((left, right), (right, left))
    ]
    table = pq.read_table(folder / CELLS, columns=["cell_id"], filters=either)
    return np.flatnonzero(np.isin(slide.cell_ids, table.column("cell_id").to_numpy()))


def result_choices(jobs: Sequence[Job], slide: Slide) -> list[ResultColour]:
    """Return what finished jobs of a user know of every cell of a slide, newest job first."""
    found = []
    for job in jobs:
        of_slide = job.params.get("slide_id") == slide.meta.slide_id
        if job.kind not in RESULTS or job.status != "done" or not of_slide:
            continue
        path = JobQueue(files.home()).result(job.id) / RESULTS[job.kind]
        if path.is_file():
            found += [ResultColour(job.id, name, _label(job, name)) for name in _columns(path)]
    return found


def _columns(path: Path) -> list[str]:
    """Return the columns of a table that are neither ids nor parts of a vector nor groupings."""
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    own = {"cell_id", "passes_qc", "umap_1", "umap_2"}
    return [
        name
        for name in names
        if name not in own and ":" not in name and not (name[0] == "e" and name[1:].isdigit())
    ]


def _label(job: Job, column: str) -> str:
    made = datetime.datetime.fromtimestamp(job.created).astimezone()
    return f"{column.replace('_', ' ')} · embedding of {made:%d %b %H:%M}"


def result_codes(slide: Slide, job_id: str, column: str, owner: str | None) -> bytes:
    """Return a column of a finished job, one entry per cell of the slide: groups or values.

    Cells that the job did not see have none.

    Raises
    ------
    SpatialFormerError
        If there is no such job of this owner, it is not done or of another slide, or has no such
        column.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    queue = JobQueue(files.home())
    job = queue.get(job_id, owner)
    if job.kind not in RESULTS or job.params.get("slide_id") != slide.meta.slide_id:
        raise SpatialFormerError(f"Job {job_id[:40]} has no cells of this slide.")
    path = queue.result(job_id, owner) / RESULTS[job.kind]
    if column not in _columns(path):
        raise SpatialFormerError(f"The result has no column {column[:40]!r}.")
    table = pq.read_table(path, columns=["cell_id", column]).to_pandas()
    values = table.set_index("cell_id")[column].reindex(pd.Index(slide.cell_ids))
    name = column.replace("_", " ")
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _scaled(values.to_numpy(np.float64), {"name": name, "unit": "", "job": job_id})
    groups = pd.Categorical(values)
    codes = np.asarray(groups.codes, np.int64)
    names = [str(category) for category in groups.categories]
    header = _group_header(name, names, group_colours(len(names)), codes, slide)
    wide = bool(header["wide"])
    body = np.where(codes < 0, _UNNAMED if wide else 255, codes).astype("<u2" if wide else "u1")
    return with_header(header, body.tobytes())


def read_codes(body: bytes) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Return header and codes of such bytes; -1 where a cell has none."""
    length = int(np.frombuffer(body, "<u4", 1)[0])
    header: dict[str, Any] = json.loads(body[4 : 4 + length])
    wide = bool(header["wide"])
    codes = np.frombuffer(body, "<u2" if wide else "u1", offset=4 + length).astype(np.int64)
    return header, np.where(codes == (_UNNAMED if wide else 255), -1, codes)


def _scaled(values: NDArray[np.float64], header: dict[str, Any]) -> bytes:
    known = values[np.isfinite(values)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    whole = bool(len(known)) and bool(np.all(known == np.rint(known)))
    scale = (most - least) / _LEVELS if most > least else 1.0
    if whole and most - least <= _LEVELS:
        scale = 1.0
    low, high = np.percentile(known, (0.5, 99.5)).tolist() if len(known) else (0.0, 1.0)
    codes = np.full(len(values), _UNNAMED, np.int64)
    finite = np.isfinite(values)
    codes[finite] = np.rint((values[finite] - least) / scale)
    facts = {
        "kind": "value",
        "scale": scale,
        "offset": least,
        "min": least,
        "max": most,
        "low": low,
        "high": high if high > low else low + scale,
        "whole": whole,
        "n_known": len(known),
        "wide": True,
    }
    return with_header(header | facts, codes.astype("<u2").tobytes())


def _group_header(
    key: str, names: Sequence[str], colours: Sequence[str], codes: NDArray[np.int64], slide: Slide
) -> dict[str, Any]:
    passes = np.asarray(slide.passes_qc, np.bool_)
    counted = [
        np.bincount(chosen[chosen >= 0], minlength=len(names)).tolist()
        for chosen in (codes, codes[passes])
    ]
    return {
        "kind": "group",
        "key": key,
        "categories": list(names),
        "colours": list(colours),
        "unassigned": UNASSIGNED,
        "cells": counted[0],
        "kept": counted[1],
        "n_unassigned": int((codes < 0).sum()),
        "wide": len(names) > 255,
    }
