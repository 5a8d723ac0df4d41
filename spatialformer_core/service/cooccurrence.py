"""Which genes sit together inside the cells of a slide, as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spatialformer_core import __version__, files
from spatialformer_core.arrays import GenePairs, LongArray
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent

if TYPE_CHECKING:
    from spatialformer_core.cooccurrence import PairNull
    from spatialformer_core.slides import Slide

_MIN_CELLS_SHOWN = 10
PAIRS, CELLS, FACTS = "pairs.parquet", "cells.parquet", "cooccurrence.json"


class CooccurrenceSettings(FrozenModel):
    """How co-occurrence is measured (paper section 4.3).

    Attributes
    ----------
    radius_um
        Largest distance of linked transcripts.
    min_copies
        Copies that each gene of a pair needs in one community.
    dims
        2 as in the paper, 3 as a sensitivity run.
    permutations
        Permutations of the gene labels over fixed positions, which tell what follows from the
        counts alone; 0 leaves the comparison out.
    seed
        Of the permutations.
    """

    radius_um: float = Field(default=5.0, gt=0, le=50)
    min_copies: int = Field(default=3, ge=1, le=100)
    dims: Literal[2, 3] = 2
    permutations: int = Field(default=20, ge=0, le=1000)
    seed: int = Field(default=0, ge=0)


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

    ``pairs.parquet`` holds ``gene_left gene_right cells expected z`` (the last two compare with
    permuted labels), ``cells.parquet`` ``cell_id gene_left gene_right`` of every cell, and
    ``cooccurrence.json`` settings and provenance.

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
    pairs, null = _measure(slide, cells, settings, progress, cancel)
    check(cancel)
    progress(0.9, 1.0, "Writing the tables")
    table = _pair_columns(pairs, null, slide.genes)
    _write_parquet(out / PAIRS, table)
    row = np.repeat(cells, np.diff(pairs.indptr))
    genes = np.array(slide.genes)
    columns = {"gene_left": genes[pairs.left], "gene_right": genes[pairs.right]}
    _write_parquet(out / CELLS, {"cell_id": slide.cell_ids[row], **columns})
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
        "simulated": slide.meta.simulated,
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
) -> tuple[GenePairs, PairNull | None]:
    from spatialformer_core.cooccurrence import communities, pairs_from_communities, permuted_pairs

    progress(0.0, 1.0, "Reading the transcripts")
    xyz_um, gene, indptr = _transcripts_of(slide, cells)
    check(cancel)
    progress(0.1, 1.0, "Finding the communities")
    labels = communities(xyz_um, gene, indptr, radius_um=settings.radius_um, dims=settings.dims)
    check(cancel)
    limits = {"n_genes": len(slide.genes), "min_copies": settings.min_copies}
    if not settings.permutations:
        return pairs_from_communities(labels, gene, indptr, **limits), None
    progress(0.3, 1.0, f"Permuting the genes {settings.permutations} times")
    null = permuted_pairs(
        labels,
        gene,
        indptr,
        n_permutations=max(2, settings.permutations),
        seed=settings.seed,
        **limits,
    )
    return null.pairs, null


def _transcripts_of(
    slide: Slide, cells: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.int32], LongArray]:
    """Return the transcripts of some cells, still sorted by cell."""
    found = slide.transcripts_by_cell()
    lengths = np.diff(found.indptr)[cells]
    indptr = np.zeros(len(cells) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    source = np.repeat(found.indptr[cells] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return found.xyz_um[source], found.gene[source].astype(np.int32), indptr


def _pair_columns(
    pairs: GenePairs, null: PairNull | None, genes: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    names = np.array(genes)
    if null is not None:
        order = np.argsort(-np.nan_to_num(null.z, nan=-np.inf), kind="stable")
        return {
            "gene_left": names[null.left[order]],
            "gene_right": names[null.right[order]],
            "cells": null.observed[order],
            "expected": null.expected[order],
            "z": null.z[order],
        }
    codes = pairs.left.astype(np.int64) * len(genes) + pairs.right
    distinct, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    left, right = np.divmod(distinct[order], len(genes))
    return {"gene_left": names[left], "gene_right": names[right], "cells": counts[order]}


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
