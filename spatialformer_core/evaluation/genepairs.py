"""Suite ``genepairs``: how often groups that mean nothing are told apart, and what was planted.

Null groups are drawn on a slide's own cells: cell by cell, in patches (neighbours resemble each
other), and with one group deeper than the other. A test that keeps its level calls 5 % of the
pairs at .05.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.gene_pairs import GenePairSettings, Grouping, PairCells, compare_groups
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.simulate import planted

if TYPE_CHECKING:
    import pandas as pd

SUITE = "genepairs"
ALPHA = 0.05
OURS, CLOSENESS, PER_CELL, PERMUTED = "spatialformer", "closeness", "scanpy_per_cell", "permuted"
_COLUMNS = {OURS: "p", CLOSENESS: "closeness_p", PER_CELL: "percell_p"}
_LEAST_Z = 5.0
_FREQUENT = 200
_GROUPS = ("one", "other")
_Z95 = 1.96

Draw = Callable[[PairCells, np.random.Generator], NDArray[np.integer]]


def _cell_by_cell(share: float) -> Draw:
    return lambda cells, rng: (rng.random(cells.matrix.n_cells) >= share).astype(np.int64)


def _patches(size_um: float) -> Draw:
    def draw(cells: PairCells, rng: np.random.Generator) -> NDArray[np.integer]:
        xy_um = cells.placed.xy_um
        corner = np.zeros((cells.matrix.n_cells, 2)) if xy_um is None else xy_um // size_um
        keys = np.column_stack([cells.placed.slide, corner])
        rows, at = np.unique(keys, axis=0, return_inverse=True)
        return rng.integers(0, 2, len(rows))[at.ravel()]

    return draw


def _deeper(cells: PairCells, rng: np.random.Generator) -> NDArray[np.integer]:
    rank = cells.depth.argsort(kind="stable").argsort(kind="stable") / len(cells.depth)
    return (rng.random(len(rank)) > rank).astype(np.int64)


DRAWS: dict[str, Draw] = {
    "cells, half and half": _cell_by_cell(0.5),
    "cells, 10 : 90": _cell_by_cell(0.1),
    "cells, 2 : 98": _cell_by_cell(0.02),
    "patches of 50 um": _patches(50.0),
    "patches of 100 um": _patches(100.0),
    "deeper cells more often": _deeper,
}
"""Ways to draw two groups that mean nothing."""


def null_rows(
    cells: PairCells,
    n_draws: int,
    *,
    settings: GenePairSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> list[dict[str, Any]]:
    """Return the share of tests with p < .05 where there is nothing to find.

    Parameters
    ----------
    cells
        The cells of a slide.
    n_draws
        Draws of each way to group them.
    settings
        How groups are compared; groups and numbers of described pairs are set here.

    Returns
    -------
    list of dict
        Rows of ``report.json``, task ``type_one_error``: per way and method the mean over draws
        and its 95 % interval. Pairs in at least 200 cells once more, split ``..., frequent pairs``.
    """
    base = settings or GenePairSettings()
    chosen = base.model_copy(update={"groups": None, "n_described": 0, "per_cell_test": True})
    rows = []
    for number, (name, draw) in enumerate(DRAWS.items()):
        rates: dict[tuple[str, str], list[float]] = {}
        for seed in range(n_draws):
            check(cancel)
            done = number * n_draws + seed
            progress(done, len(DRAWS) * n_draws, name)
            codes = draw(cells, np.random.default_rng(seed))
            table = compare_groups(cells, Grouping("null", _GROUPS, codes), chosen).table
            for frequent in (False, True):
                part = table[table["cells_with_pair"] >= _FREQUENT] if frequent else table
                split = f"{name}, frequent pairs" if frequent else name
                for method, column in _COLUMNS.items():
                    p = part[column].dropna()
                    if len(p):
                        rates.setdefault((split, method), []).append(float((p < ALPHA).mean()))
        rows += [_row(*key, np.array(values), chosen.n_pairs) for key, values in rates.items()]
    progress(1.0, 1.0, "Done")
    return rows


def _row(split: str, method: str, values: DoubleArray, n: int) -> dict[str, Any]:
    mean = float(values.mean())
    half = _Z95 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return {
        "suite": SUITE,
        "task": "type_one_error",
        "split": split,
        "radius_um": None,
        "negatives": None,
        "method": method,
        "metric": "share_below_05",
        "value": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "seeds": len(values),
        "n": n,
    }


def planted_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return which planted pairs of a simulated slide are called in their types, and which decoys.

    Three ways to call a pair: the test over units (higher in a planted type, q < .05), scanpy's
    over cells (the same), and more cells than permuted labels give (z > 5). Decoys are expressed
    like the planted pairs, in the same types, and do not lie together: only what looks at
    closeness can tell them apart. Pairs that are planted in all types have no type to be found in.

    Parameters
    ----------
    table
        Of ``gene-pairs`` on the slide, one row per type and pair.
    """
    rows = []
    for split, rules in (
        ("planted", planted.COLOCALISED_PAIRS),
        ("decoys", planted.COLOCALISATION_DECOYS),
    ):
        of_types = [rule for rule in rules if rule.cell_types]
        called: dict[str, list[bool]] = {OURS: [], PER_CELL: [], PERMUTED: []}
        for rule in of_types:
            own = table[table["pair"] == "|".join(sorted(rule.genes))]
            there = own[own["group"].isin(rule.cell_types) & (own["effect"] > 0)]
            called[OURS].append(bool((there["q"] < ALPHA).any()))
            called[PER_CELL].append(bool((there["percell_q"] < ALPHA).any()))
            called[PERMUTED].append(bool((own["null_z"] > _LEAST_Z).any()))
        for method, found in called.items():
            row = _row(split, method, np.array([np.mean(found)]), len(found))
            rows.append(row | {"task": "planted_pairs", "metric": "share_called"})
    return rows


def markdown(report: dict[str, Any]) -> str:
    """Return the report as tables, one per task."""
    lines = [f"# {SUITE}", ""]
    for task in dict.fromkeys(row["task"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["task"] == task]
        methods = list(dict.fromkeys(row["method"] for row in rows))
        values = {(row["split"], row["method"]): row for row in rows}
        lines += [f"## {task} ({rows[0]['metric']}, {rows[0]['seeds']} draws)", ""]
        lines += ["| | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
        for split in dict.fromkeys(row["split"] for row in rows):
            cells = [_cell(values.get((split, method))) for method in methods]
            lines.append(f"| {split} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    interval = "" if row["low"] is None else f" ({row['low']:.1%} to {row['high']:.1%})"
    return f"{row['value']:.1%}{interval}"
