"""Which genes sit together inside the cells of a slide, as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spatialformer_core import __version__, files
from spatialformer_core.arrays import GenePairs
from spatialformer_core.cooccurrence import settings as found_by
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent

if TYPE_CHECKING:
    from spatialformer_core.cooccurrence import Cooccurrence, PairNull
    from spatialformer_core.slides import Slide

_MIN_CELLS_SHOWN = 10
FORMAT = 1
"""Raised whenever the same slide and settings would give other tables: kept ones are made anew."""

PAIRS, CELLS, FACTS = "pairs.parquet", "cells.parquet", "cooccurrence.json"


class CooccurrenceSettings(found_by.CooccurrenceSettings):
    """How co-occurrence is measured, and what it is compared with.

    Attributes
    ----------
    permutations
        Permutations of the gene labels over fixed positions, which tell what follows from the
        counts alone; 0 leaves the comparison out. Where the slide knows which transcripts lie over
        a nucleus, labels are also permuted within nucleus and cytoplasm.
    seed
        Of the permutations, and of the orders of visits where several searches vote.
    """

    permutations: int = Field(default=20, ge=0, le=1000)


@dataclass(frozen=True, slots=True)
class CooccurrenceReport:
    """What was found.

    Attributes
    ----------
    cells
        Cells analysed: those that pass quality control.
    cells_with_pairs
        Cells in which at least one pair co-occurs.
    gene_pairs
        Distinct pairs that co-occur in at least one cell.
    top
        Of the pairs in at least ten cells those furthest beyond chance (without permutations: the
        most frequent), as rows of ``pairs.parquet``.
    """

    slide_id: str
    cells: int
    cells_with_pairs: int
    gene_pairs: int
    top: list[dict[str, Any]]


def write_cooccurrence(
    slide: Slide,
    settings: CooccurrenceSettings,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> CooccurrenceReport:
    """Measure co-occurrence in the cells that pass quality control and write the tables.

    ``pairs.parquet`` holds ``gene_left gene_right cells`` and, compared with permuted labels,
    ``expected z`` and ``expected_within z_within`` (labels permuted within nucleus and cytoplasm,
    where the slide tells the two apart). ``cells.parquet`` holds ``cell_id gene_left gene_right
    share`` of the pairs of every cell (share of the searches that found it, more than half), and
    ``cooccurrence.json`` settings and provenance. Cells without a pair count among the cells.

    Parameters
    ----------
    out
        A folder that exists.

    Raises
    ------
    SpatialFormerError
        If depth is asked for and the slide has none, or no cell passes quality control.
    Cancelled
        If it was cancelled.
    """
    cells = np.flatnonzero(slide.passes_qc)
    if not len(cells):
        raise SpatialFormerError(
            "No cell passes quality control.",
            where=slide.meta.slide_id,
            fix="Ingest the slide again with lower thresholds.",
        )
    found, nulls = _measure(slide, cells, settings, progress, cancel)
    check(cancel)
    progress(0.9, 1.0, "Writing the tables")
    pairs = found.labels
    table = _pair_columns(pairs, nulls, slide.genes)
    _write_parquet(out / PAIRS, table)
    genes = np.array(slide.genes)
    columns = {
        "cell_id": slide.cell_ids[np.repeat(cells, np.diff(pairs.indptr))],
        "gene_left": genes[pairs.left],
        "gene_right": genes[pairs.right],
        "share": found.share[found.is_label],
    }
    _write_parquet(out / CELLS, columns)
    report = CooccurrenceReport(
        slide_id=slide.meta.slide_id,
        cells=len(cells),
        cells_with_pairs=int(np.count_nonzero(np.diff(pairs.indptr))),
        gene_pairs=int(np.count_nonzero(table["cells"])),
        top=_top(table),
    )
    facts = {
        "settings": settings.model_dump(mode="json"),
        "version": __version__,
        "format": FORMAT,
        "simulated": slide.meta.simulated,
        "agreement": None if math.isnan(found.agreement) else found.agreement,
        "qc": slide.meta.qc.model_dump(mode="json"),
    }
    counts = {"cells": report.cells, "cells_with_pairs": report.cells_with_pairs}
    files.write_json(out / FACTS, {**facts, **counts, "slide_id": report.slide_id})
    progress(1.0, 1.0, "Done")
    return report


def _measure(
    slide: Slide,
    cells: NDArray[np.intp],
    settings: CooccurrenceSettings,
    progress: Progress,
    cancel: Cancel,
) -> tuple[Cooccurrence, list[PairNull]]:
    """Return the co-occurrence and what it is compared with, if anything."""
    from dataclasses import replace

    from spatialformer_core.cooccurrence import Molecules, find_cooccurrence, permuted_pairs

    check(cancel)
    transcripts = slide.transcripts_by_cell()
    molecules = Molecules(
        transcripts.xyz_um, transcripts.gene, transcripts.indptr, len(slide.genes), cells=cells
    )
    progress(0.1, 1.0, "Finding the communities")
    if not settings.permutations:
        return find_cooccurrence(molecules, settings), []
    n = max(2, settings.permutations)
    nulls = []
    for number, compartment in enumerate((None, transcripts.overlaps_nucleus)):
        if number and compartment is None:
            continue
        check(cancel)
        where = " within nucleus and cytoplasm" if number else ""
        progress(0.1 + 0.4 * number, 1.0, f"Permuting the genes {n} times{where}")
        part = replace(molecules, compartment=compartment)
        nulls.append(permuted_pairs(part, settings, n_permutations=n, seed=settings.seed))
    return nulls[0].found, nulls


def _pair_columns(
    pairs: GenePairs, nulls: list[PairNull], genes: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    names = np.array(genes)
    if not nulls:
        codes = pairs.left.astype(np.int64) * len(genes) + pairs.right
        distinct, counts = np.unique(codes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        left, right = np.divmod(distinct[order], len(genes))
        return {"gene_left": names[left], "gene_right": names[right], "cells": counts[order]}
    null = nulls[0]
    order = np.argsort(-np.nan_to_num(null.z, nan=-np.inf), kind="stable")
    columns = {
        "gene_left": names[null.left[order]],
        "gene_right": names[null.right[order]],
        "cells": null.observed[order],
        "expected": null.expected[order],
        "z": null.z[order],
    }
    for within in nulls[1:]:
        expected, z = _beside(null, within, len(genes))
        columns |= {"expected_within": expected[order], "z_within": z[order]}
    return columns


def _beside(
    null: PairNull, other: PairNull, n_genes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what another null expects of the pairs of this one, and its z."""
    codes, others = (one.left.astype(np.int64) * n_genes + one.right for one in (null, other))
    # A pair that no permutation of the other gave is expected in no cell.
    expected, z = np.zeros(len(codes)), np.full(len(codes), np.nan)
    _, here, there = np.intersect1d(codes, others, assume_unique=True, return_indices=True)
    expected[here], z[here] = other.expected[there], other.z[there]
    return expected, z


def _top(table: dict[str, NDArray[Any]], n: int = 10) -> list[dict[str, Any]]:
    # A pair seen in two cells may have a huge z by chance; such rows are in the table only.
    chosen = np.flatnonzero(table["cells"] >= _MIN_CELLS_SHOWN)[:n]
    rows = zip(*(column[chosen].tolist() for column in table.values()), strict=True)
    return [
        {
            # Where permutations change nothing z is NaN, which is no JSON.
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in zip(table, row, strict=True)
        }
        for row in rows
    ]


def _write_parquet(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.atomic_write(path) as stream:
        pq.write_table(pa.table(columns), stream)
