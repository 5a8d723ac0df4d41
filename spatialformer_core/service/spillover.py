"""Spillover of a stored slide: measured once per grouping, kept beside the slide, read by screens.

The result is a folder of the slide's own: ``spillover.parquet`` and ``spillover.json``. It is
forgotten with the slide, and ignored when the slide was ingested anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import __version__, files
from spatialformer_core.arrays import BoolArray
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.tissue import SPILLED, UNDECIDED, SpilloverCodes
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.qc import (
    SpilloverCells,
    SpilloverSettings,
    SpilloverTable,
    counts_within,
    depth_in_cells,
    spillover_table,
)
from spatialformer_core.qc.spillover import COLUMNS
from spatialformer_core.slides import SlideStore, slug

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import CellTranscripts, Groups, Slide

TABLE, FACTS = "spillover.parquet", "spillover.json"
_SHOWN = 15


@dataclass(frozen=True, slots=True)
class SpilloverReport:
    """What was found.

    Attributes
    ----------
    tested, depends_on_distance, flagged
        Pairs of a gene and a type: all, those that are spillover or contact, those that are
        spillover.
    transcripts, transcripts_deep
        In cells, and those that the erosion leaves.
    top
        The flagged rows of the largest odds ratio.
    folder
        Where the table lies.
    """

    slide_id: str
    groupby: str
    tested: int
    depends_on_distance: int
    flagged: int
    transcripts: int
    transcripts_deep: int
    top: list[dict[str, Any]]
    folder: Path


@dataclass(frozen=True, slots=True)
class SpilloverView:
    """What was measured, for a page: one row per gene and type, and the facts."""

    table: pd.DataFrame
    facts: dict[str, Any]


class SpilloverRequest(FrozenModel):
    """Parameters of a ``spillover`` job."""

    slide_id: str
    groupby: str
    settings: SpilloverSettings = SpilloverSettings()


def run_spillover_job(
    params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel
) -> None:
    """Measure a stored slide's spillover; the table is kept with the slide and copied here."""
    request = validate(SpilloverRequest, params, "spillover")
    slide = SlideStore(files.home()).open(request.slide_id)
    report = measure_spillover(
        slide, request.groupby, request.settings, progress=progress, cancel=cancel
    )
    for name in (TABLE, FACTS):
        with files.atomic_write(out / name) as stream:
            stream.write((report.folder / name).read_bytes())


def measure_spillover(
    slide: Slide,
    groupby: str,
    settings: SpilloverSettings,
    *,
    in_nuclei: bool = False,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> SpilloverReport:
    """Test a slide for spillover and keep the result with the slide; an older one gives way.

    Parameters
    ----------
    slide
        The slide.
    groupby
        Grouping whose types are sources and tested.
    settings
        What counts as spillover.
    in_nuclei
        Whether the deep transcripts are those that the source places over nuclei, instead of those
        inside the eroded outlines of cells.

    Raises
    ------
    SpatialFormerError
        If the slide has no outlines (or no nuclei), the grouping does not exist or has too few
        cells.
    Cancelled
        If it was cancelled.
    """
    groups = slide.group(groupby)
    progress(0.0, 1.0, "Measuring how deep the transcripts lie")
    found = slide.transcripts_by_cell()
    deep = over_nuclei(slide, found) if in_nuclei else inside(slide, found, settings.erosion_um)
    check(cancel)
    progress(0.3, 1.0, "Comparing cells near and far from each gene's source")
    gene, n_genes = np.asarray(found.gene), len(slide.genes)
    cells = SpilloverCells(
        counts=counts_within(found.indptr, gene, n_genes, np.ones(len(gene), np.bool_)),
        deep=counts_within(found.indptr, gene, n_genes, deep),
        xy_um=np.asarray(slide.xy_um, np.float64),
        codes=np.asarray(groups.codes),
        analysed=np.asarray(slide.passes_qc),
        n_types=len(groups.categories),
    )
    table = spillover_table(cells, settings)
    check(cancel)
    named = _named(table, slide.genes, groups)
    facts = {
        "format_version": 1,
        "version": __version__,
        "slide_id": slide.meta.slide_id,
        "created": slide.meta.created,
        "simulated": slide.meta.simulated,
        "groupby": groupby,
        "categories": list(groups.categories),
        "deep_in": "nuclei" if in_nuclei else "eroded outlines",
        "settings": settings.model_dump(mode="json"),
        "columns": {**COLUMNS, "source_type": "types that express the gene"},
        "tested": len(table),
        "depends_on_distance": int(table.columns["depends_on_distance"].sum()),
        "flagged": int(table.columns["flagged"].sum()),
        "transcripts": len(gene),
        "transcripts_deep": int(deep.sum()),
    }
    out = _folder(slide, groupby)
    _write(out, named, facts)
    progress(1.0, 1.0, "Done")
    return _report(facts, named, out)


def read_flags(slide: Slide, groupby: str) -> dict[str, SpilloverCodes] | None:
    """Return what is known of each of the slide's genes in each type of a grouping.

    Returns
    -------
    dict or None
        Per type `SPILLED`, `UNDECIDED` (it depends on distance, but not at the edge; or the type
        could not be tested) or 0, shape ``(n_genes,)``; None if nothing was measured for this
        grouping since the slide was ingested.
    """
    import pyarrow.parquet as pq

    facts = _fresh_facts(slide, groupby)
    if facts is None:
        return None
    rows = pq.read_table(_folder(slide, groupby) / TABLE).to_pylist()
    tested = {row["type"] for row in rows}
    column = {gene: k for k, gene in enumerate(slide.genes)}
    codes = {
        name: np.full(len(slide.genes), 0 if name in tested else UNDECIDED, np.int8)
        for name in facts["categories"]
    }
    for row in rows:
        if row["depends_on_distance"]:
            codes[row["type"]][column[row["gene"]]] = SPILLED if row["flagged"] else UNDECIDED
    return codes


def read_spillover(slide: Slide, groupby: str) -> SpilloverView | None:
    """Return table and facts; None if nothing was measured since the slide was ingested."""
    import pandas as pd

    facts = _fresh_facts(slide, groupby)
    if facts is None:
        return None
    return SpilloverView(pd.read_parquet(_folder(slide, groupby) / TABLE), facts)


def forget_spillover(slide: Slide, groupby: str) -> None:
    """Remove what was measured for a grouping that is no more: one of its name may follow."""
    shutil.rmtree(_folder(slide, groupby), ignore_errors=True)


def _fresh_facts(slide: Slide, groupby: str) -> dict[str, Any] | None:
    folder = _folder(slide, groupby)
    if not files.is_complete(folder):
        return None
    facts: dict[str, Any] = files.read_json(folder / FACTS)
    is_fresh = facts.get("created") == slide.meta.created and facts.get("groupby") == groupby
    return facts if is_fresh else None


def over_nuclei(slide: Slide, found: CellTranscripts) -> BoolArray:
    """Return which transcripts the source places over nuclei.

    Raises
    ------
    SpatialFormerError
        If it does not say.
    """
    if found.overlaps_nucleus is None:
        raise SpatialFormerError(
            "The source does not say which transcripts lie over nuclei.",
            where=slide.meta.slide_id,
            fix="Erode the outlines of the cells instead.",
        )
    return np.asarray(found.overlaps_nucleus)


def inside(slide: Slide, found: CellTranscripts, erosion_um: float) -> BoolArray:
    """Return which transcripts lie so deep inside the outline of their cell.

    Raises
    ------
    SpatialFormerError
        If the slide has no outlines.
    """
    outlines = slide.polygons()
    if outlines is None:
        raise SpatialFormerError(
            "The slide has no cell outlines, so nothing tells spillover from contact.",
            where=slide.meta.slide_id,
            fix="Ingest it with its cell boundaries, or count in nuclei.",
        )
    depth = depth_in_cells(found.xyz_um, found.indptr, outlines.xy_um, outlines.indptr)
    # A comparison with NaN is False: a cell without an outline has no deep transcript.
    return np.asarray(depth >= erosion_um)


def _folder(slide: Slide, groupby: str) -> Path:
    return slide.user_folder / "spillover" / slug(groupby)


def _named(
    table: SpilloverTable, genes: tuple[str, ...], groups: Groups
) -> dict[str, NDArray[Any]]:
    """Return the columns with names instead of codes, the types of the source joined by ``+``."""
    types = np.array(groups.categories, object)
    sources = np.array(["+".join(types[list(codes)]) for codes in table.sources], object)
    gene = table.columns["gene"]
    named = {
        "gene": np.array(genes, object)[gene],
        "type": types[table.columns["type"]],
        "source_type": sources[gene],
    }
    return {**named, **{k: v for k, v in table.columns.items() if k not in named}}


def _write(out: Path, columns: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.atomic_directory(out, replace=True) as partial:
        with files.atomic_write(partial / TABLE) as stream:
            pq.write_table(pa.table(columns), stream)
        files.write_json(partial / FACTS, facts)


def _report(facts: dict[str, Any], columns: dict[str, NDArray[Any]], out: Path) -> SpilloverReport:
    flagged = np.flatnonzero(columns["flagged"])
    order = flagged[np.argsort(-columns["odds_ratio"][flagged], kind="stable")][:_SHOWN]
    names = ("gene", "type", "source_type")
    numbers = ("rate_near", "rate_far", "odds_ratio", "q", "edge_ratio")
    top = [
        {**{k: columns[k][row] for k in names}, **{k: float(columns[k][row]) for k in numbers}}
        for row in order
    ]
    known = {field.name for field in fields(SpilloverReport)} & facts.keys()
    return SpilloverReport(**{name: facts[name] for name in known}, top=top, folder=out)
