"""Figures of one slide for the pages: quality control, composition and expression of a region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.config import QcThresholds

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import Slide, SlideMeta

NO_GROUP = "(none)"


@dataclass(frozen=True, slots=True)
class Retention:
    """How many cells of one group pass quality control."""

    group: str
    cells_in: int
    cells_kept: int

    @property
    def share(self) -> float:
        """Share kept, 0 to 1."""
        return self.cells_kept / self.cells_in if self.cells_in else 0.0


@dataclass(frozen=True, slots=True)
class QcReport:
    """What quality control did to a slide."""

    slide_id: str
    thresholds: QcThresholds
    cells_in: int
    cells_kept: int
    n_genes: int
    n_transcripts: int
    dropped: dict[str, int]
    retention: tuple[Retention, ...]
    missing: tuple[str, ...]
    mismatch: dict[str, float] | None


def qc_report(meta: SlideMeta) -> QcReport:
    """Return the report that ingest recorded, least retained groups first."""
    rows = [Retention(group, n, kept) for group, (n, kept) in meta.retention_per_type.items()]
    return QcReport(
        slide_id=meta.slide_id,
        thresholds=meta.qc,
        cells_in=meta.n_cells,
        cells_kept=meta.n_cells_kept,
        n_genes=meta.n_genes,
        n_transcripts=meta.n_transcripts,
        dropped=dict(meta.dropped),
        retention=tuple(sorted(rows, key=lambda row: (row.share, row.group))),
        missing=meta.missing,
        mismatch=meta.mismatch,
    )


def composition(slide: Slide, inside: BoolArray, groupby: str) -> pd.DataFrame:
    """Count the cells of each group in a region; cells that fail quality control count too.

    Parameters
    ----------
    slide
        The slide.
    inside
        Which cells lie in the region, shape ``(n,)``.
    groupby
        Key of the grouping.

    Returns
    -------
    pandas.DataFrame
        ``group cells share kept``: cells, their share of the region (0 to 1), and how many pass
        quality control; most frequent group first, groups without a cell left out.
    """
    import pandas as pd

    groups = slide.group(groupby)
    names = np.array([*groups.categories, NO_GROUP], dtype=object)
    # Code -1 (no group) becomes the last bin.
    codes = np.where(groups.codes < 0, len(groups.categories), groups.codes)
    cells = np.bincount(codes[inside], minlength=len(names))
    kept = np.bincount(codes[inside & slide.passes_qc], minlength=len(names))
    order = np.argsort(-cells, kind="stable")
    order = order[cells[order] > 0]
    return pd.DataFrame(
        {
            "group": names[order],
            "cells": cells[order],
            "share": cells[order] / max(int(cells.sum()), 1),
            "kept": kept[order],
        }
    )


def expression(slide: Slide, inside: BoolArray, gene: str, groupby: str) -> pd.DataFrame:
    """Summarise one gene over the groups of a region.

    Returns
    -------
    pandas.DataFrame
        ``group cells mean_count share_expressing``: mean raw count per cell and share of cells
        with at least one copy (0 to 1), highest mean first.
    """
    import pandas as pd

    groups = slide.group(groupby)
    counts = np.asarray(slide.gene_column(gene), np.float64)
    chosen = inside & (groups.codes >= 0)
    codes = groups.codes[chosen]
    n_groups = len(groups.categories)
    cells = np.bincount(codes, minlength=n_groups)
    total = np.zeros(n_groups, np.float64)
    np.add.at(total, codes, counts[chosen])
    expressing = np.bincount(codes[counts[chosen] > 0], minlength=n_groups)
    safe = np.maximum(cells, 1)
    order = np.argsort(-(total / safe), kind="stable")
    order = order[cells[order] > 0]
    return pd.DataFrame(
        {
            "group": np.array(groups.categories, dtype=object)[order],
            "cells": cells[order],
            "mean_count": (total / safe)[order],
            "share_expressing": (expressing / safe)[order],
        }
    )


def cells(slide: Slide, inside: BoolArray) -> pd.DataFrame:
    """List the cells of a region.

    Returns
    -------
    pandas.DataFrame
        ``cell_id x_um y_um n_transcripts n_genes passes_qc`` and one column per grouping, in
        slide order.
    """
    import pandas as pd

    table = {
        "cell_id": slide.cell_ids[inside],
        "x_um": slide.xy_um[inside, 0],
        "y_um": slide.xy_um[inside, 1],
        "n_transcripts": slide.n_transcripts[inside],
        "n_genes": slide.n_genes_per_cell[inside],
        "passes_qc": slide.passes_qc[inside],
    }
    for key in slide.group_keys:
        groups = slide.group(key)
        names = np.array([*groups.categories, ""], dtype=object)
        table[key] = names[groups.codes[inside]]  # code -1 is the empty name at the end
    return pd.DataFrame(table)
