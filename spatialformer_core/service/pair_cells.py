"""One pair of genes of a finished comparison: in every cell and unit, and on the map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.cooccurrence import CELLS
from spatialformer_core.service.gene_pair_view import plan_of
from spatialformer_core.service.gene_pairs import GenePairRequest, cooccurrence_folder
from spatialformer_core.service.picture import CellPicture, darkest, value_picture

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.service.gene_pair_view import Plan
    from spatialformer_core.slides import Slide, SlideStore
    from spatialformer_core.stats import CellUnits

_MAP_PX = 560
TOGETHER, LEFT, RIGHT = "together", "copies_left", "copies_right"
"""Columns of a pair's cells that can be drawn on the map."""


@dataclass(frozen=True, slots=True)
class PairDetail:
    """One pair in one comparison.

    Attributes
    ----------
    genes
        The two genes.
    cells
        The cells of both sides: ``slide_id cell_id x_um y_um group unit together copies_left
        copies_right``; ``group`` is the name of the side, ``unit`` empty where the cell's unit is
        too small, ``copies`` are counts of the matrix.
    units
        Per group and replicate unit: ``group unit cells share mean_left mean_right``; ``share`` of
        the cells in which the two sit together (0 to 1), means in copies per cell.
    unit_is
        What a unit is, in words.
    """

    genes: tuple[str, str]
    cells: pd.DataFrame
    units: pd.DataFrame
    unit_is: str


def pair_detail(
    store: SlideStore, folder: Path, comparison: tuple[str, str], pair: str
) -> PairDetail:
    """Return one pair of a finished comparison in all cells of its two sides.

    Parameters
    ----------
    folder
        The result of the job.
    comparison
        Group and reference.
    pair
        As the result's table names it: ``A|B``.

    Raises
    ------
    SpatialFormerError
        If a slide was read anew or its groups changed since, the co-occurrence is not kept any
        more, or there is no such comparison or gene.
    """
    from spatialformer_core.gene_pairs import read_result

    told = read_result(folder)[1]["provenance"]
    request = validate(GenePairRequest, told["request"], "gene-pairs")
    left, _, right = pair.partition("|")
    plan = plan_of(store, request)
    _check_slides(plan, {entry["slide_id"]: entry["created"] for entry in told["slides"]})
    for contrast, units in plan.comparisons:
        if (contrast.group, contrast.reference) == comparison:
            cells = _cells(plan, request, (left, right))
            names = np.array([contrast.group, contrast.reference, ""])
            cells["group"] = names[contrast.side]
            cells["unit"] = np.array([*units.names, ""])[units.of_cell]
            chosen = cells[contrast.side >= 0].reset_index(drop=True)
            return PairDetail((left, right), chosen, _units(chosen), _unit_words(units))
    raise SpatialFormerError(
        f"There is no comparison of {comparison[0]!r} with {comparison[1]!r} any more.",
        fix="The groups of the slide have changed; compare them again.",
    )


def pair_picture(slide: Slide, cells: pd.DataFrame, column: str) -> CellPicture:
    """Draw the cells of a slide by one column of a pair's cells; others are drawn as none.

    The colours are those of all cells of the pair, so that slides can be compared.

    Parameters
    ----------
    column
        `TOGETHER`, `LEFT` or `RIGHT`.
    """
    mine = cells[cells["slide_id"] == slide.meta.slide_id]
    values = np.zeros(slide.meta.n_cells, np.float64)
    values[mine["row"].to_numpy()] = mine[column].to_numpy(np.float64)
    high = darkest(cells[column].to_numpy(np.float64))
    return value_picture(slide, values, high, _MAP_PX)


def _check_slides(plan: Plan, created: dict[str, str]) -> None:
    for slide in plan.slides:
        if created.get(slide.meta.slide_id) != slide.meta.created:
            raise SpatialFormerError(
                "The slide was read anew since the comparison.",
                where=slide.meta.slide_id,
                fix="Compare again: its cells may be others now.",
            )


def _cells(plan: Plan, request: GenePairRequest, genes: tuple[str, str]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for slide, kept in zip(plan.slides, plan.kept, strict=True):
        folder = cooccurrence_folder(slide, request.cooccurrence)
        if not files.is_complete(folder):
            raise SpatialFormerError(
                "The slide's co-occurrence with these settings is not kept any more.",
                where=slide.meta.slide_id,
                fix="Compare again; it is measured then.",
            )
        rows = np.flatnonzero(kept)
        parts.append(
            pd.DataFrame(
                {
                    "slide_id": slide.meta.slide_id,
                    "row": rows,
                    "cell_id": slide.cell_ids[rows],
                    "x_um": slide.xy_um[rows, 0],
                    "y_um": slide.xy_um[rows, 1],
                    TOGETHER: _together(slide, folder, genes)[rows],
                    LEFT: np.asarray(slide.gene_column(genes[0]))[rows].astype(np.int64),
                    RIGHT: np.asarray(slide.gene_column(genes[1]))[rows].astype(np.int64),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _together(slide: Slide, folder: Path, genes: tuple[str, str]) -> BoolArray:
    """Tell in which cells two genes sit together, shape ``(n_cells,)``."""
    import pyarrow.parquet as pq

    # A table names the genes of a pair in the order of the panel; a result may turn them round.
    either = [[("gene_left", "==", a), ("gene_right", "==", b)] for a, b in (genes, genes[::-1])]
    found = pq.read_table(folder / CELLS, columns=["cell_id"], filters=either)
    together: BoolArray = np.isin(slide.cell_ids, found.column("cell_id").to_numpy().astype(str))
    return together


def _units(cells: pd.DataFrame) -> pd.DataFrame:
    known = cells[cells["unit"] != ""]
    table = known.groupby(["group", "unit"], sort=False).agg(
        cells=(TOGETHER, "size"),
        share=(TOGETHER, "mean"),
        mean_left=(LEFT, "mean"),
        mean_right=(RIGHT, "mean"),
    )
    return table.reset_index()


def _unit_words(units: CellUnits) -> str:
    return f"blocks of {units.block_um:,.0f} µm" if units.block_um else f"{units.kind}s"
