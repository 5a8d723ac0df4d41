"""The sentences and facts that stand beside the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.gene_pairs.cells import Grouping, PairCells
from spatialformer_core.gene_pairs.report import COLUMNS
from spatialformer_core.gene_pairs.settings import GenePairSettings
from spatialformer_core.stats import MIN_PER_ARM, MIN_PER_UNIT, MIN_UNITS, CellUnits

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
REST = "rest"
"""Name of the reference that is all other labelled cells."""

_CAUTION = (
    "The published way (percell_p) counts every cell as a replicate; its p-values are not about "
    "the tissue."
)


def describe(
    table: pd.DataFrame,
    used: Sequence[tuple[str, str, CellUnits]],
    grouping: Grouping,
    settings: GenePairSettings,
    cells: PairCells,
) -> dict[str, Any]:
    """Return what ``gene_pairs.json`` says of a finished comparison."""
    units = [
        {
            "group": group,
            "reference": reference,
            "kind": chosen.kind,
            "block_um": chosen.block_um,
            "n_units": len(chosen.names),
            "paired": chosen.paired,
            "no_p_reason": chosen.no_p_reason,
        }
        for group, reference, chosen in used
    ]
    tested = int(table["p"].notna().sum())
    told = table["closeness_p"].notna()
    closer = int((table["closeness_q"] < ALPHA).sum())
    different = table["q"] < ALPHA
    return {
        "format_version": 1,
        "marks": _marks(cells),
        "verdict": _verdict(table, used, tested),
        "closeness": {
            "tests": int(told.sum()),
            "significant": closer,
            "different_pairs": int(different.sum()),
            "different_pairs_told": int((different & told).sum()),
            "different_pairs_closer": int((different & (table["closeness_q"] < ALPHA)).sum()),
        },
        "closeness_verdict": _closeness_verdict(table, tested),
        "methods": _methods(settings),
        "grouping": grouping.key,
        "cells": cells.matrix.n_cells,
        "cells_with_pairs": int(np.count_nonzero(np.diff(cells.matrix.presence.indptr))),
        "pairs_found": cells.matrix.n_pairs,
        "pairs_chosen": int(table["pair"].nunique()),
        "tests": tested,
        "significant": int(different.sum()) if tested else None,
        "slides": list(cells.placed.slides),
        "donors": sorted(set(cells.placed.donors)),
        "units": units,
        "units_needed_for_p": MIN_UNITS,
        "columns": COLUMNS,
        "settings": settings.model_dump(mode="json"),
    }


def _marks(cells: PairCells) -> list[str]:
    if len(set(cells.placed.donors)) > 1:
        return []
    sections = "this section only" if len(cells.placed.slides) == 1 else "these sections only"
    return [f"One donor: this describes {sections}."]


def _verdict(table: pd.DataFrame, used: Sequence[tuple[str, str, CellUnits]], tested: int) -> str:
    reasons = sorted({units.no_p_reason for _, _, units in used if units.no_p_reason})
    what = f"{table['pair'].nunique():,} gene pairs in {_comparisons(len(used))}"
    if not tested:
        return f"{what}: effects, no p-values. {' '.join(reasons)} {_CAUTION}"
    n = int((table["q"] < ALPHA).sum())
    without = sum(units.no_p_reason is not None for _, _, units in used)
    some = f" {_comparisons(without)} without p-values." if without else ""
    return (
        f"{what}, {tested:,} tests over replicate units: {n:,} with q < {ALPHA}.{some} {_CAUTION}"
    )


def _comparisons(n: int) -> str:
    return f"{n:,} comparison{'' if n == 1 else 's'}"


def _closeness_verdict(table: pd.DataFrame, tested: int) -> str:
    different = table["q"] < ALPHA
    told = different & table["closeness_p"].notna()
    if not tested:
        return "Whether closeness adds anything cannot be tested: there are no p-values."
    n, m = int(different.sum()), int(told.sum())
    k = int((told & (table["closeness_q"] < ALPHA)).sum())
    if not n:
        return "No pair differs, so whether closeness adds anything was not asked."
    if not m:
        return (
            f"For none of the {n:,} pairs that differ are there enough cells with both genes in "
            "both groups: where they lie adds nothing that could be shown; the difference is one "
            "of expression."
        )
    return (
        f"Of {n:,} pairs that differ, {m:,} have enough cells with both genes in both groups to "
        f"tell; in {k:,} of these ({k / m:.0%}) the genes also lie closer together (or farther "
        f"apart) than equal numbers of copies would have them (q < {ALPHA}). The others differ by "
        "expression alone, as far as these cells can tell."
    )


def _methods(settings: GenePairSettings) -> str:
    return (
        f"The {settings.n_pairs:,} most variable pairs (share of the variance beyond depth that "
        "the 20 leading components of all pairs explain; groups not looked at) were compared over "
        "all cells that pass quality control. A unit's share of cells with the pair was adjusted "
        f"for depth ({settings.depth_bins} quantile bins, least squares of group and bin over all "
        "compared cells). Tested is the difference of the adjusted shares, within units that hold "
        f"at least {MIN_PER_UNIT} cells of both groups (the largest of donor, slide and block of "
        f"200 um or more with {MIN_UNITS} such units), or between donors or slides where the "
        f"groups differ between these ({MIN_PER_ARM} per group at least), by a moderated t-test "
        "(p = 1 where the smaller group neither holds nor would be expected to hold 5 cells with "
        "the pair); "
        "Benjamini-Hochberg over all pairs and comparisons. Closeness is the same comparison among "
        f"cells with at least {settings.min_copies} copies of both genes, adjusted for the numbers "
        "of copies instead of depth. Blocks of one section are neighbours, so their p-values "
        "describe that section."
    )
