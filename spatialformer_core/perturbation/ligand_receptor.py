"""Known ligand-receptor pairs: read from a table, marked in a screen, tested against like pairs.

Tables are given by path (OmniPath's or liana's consensus, CellChatDB's interactions with its
complexes beside it) or taken from liana where that is installed. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited
from spatialformer_core.stats import matched_mean, strata_of, without_trend

if TYPE_CHECKING:
    import pandas as pd

FROM_LIANA = "liana"
"""Given instead of a path: the consensus table of the installed liana."""

RESOURCE = "consensus"
_NAMES = (("source_genesymbol", "target_genesymbol"), ("ligand", "receptor"))
_MAX_ROWS = 1_000_000
_N_RANDOM = 2_000


@dataclass(frozen=True, slots=True)
class LigandReceptors:
    """Known pairs, by gene.

    Attributes
    ----------
    name
        Where they come from.
    pairs
        ``(ligand, receptor)``; a complex stands as each of its genes.
    n_interactions
        Interactions in the table, complexes counted once.
    note
        What could not be read from the table, empty if all could.
    """

    name: str
    pairs: frozenset[tuple[str, str]]
    n_interactions: int
    note: str = ""


def read_ligand_receptors(source: str | Path) -> LigandReceptors:
    """Read a table of ligands and receptors.

    Parameters
    ----------
    source
        Path of a CSV, plain or gzipped, or ``liana``. Columns ``source_genesymbol`` and
        ``target_genesymbol`` (of several resources the consensus is taken) or ``ligand`` and
        ``receptor``. Genes of a complex are joined by ``_``; CellChatDB names its complexes and
        lists their genes in ``*complex_input*.csv`` beside the table.

    Raises
    ------
    SpatialFormerError
        If the table cannot be read, has other columns or holds no pair; if liana is not installed.
    """
    if str(source) == FROM_LIANA:
        return _from_liana()
    path = Path(source)
    complexes, note = _complexes(path)
    found: set[tuple[str, str]] = set()
    interactions: set[tuple[str, str]] = set()
    for ligand, receptor in _interactions(path):
        interactions.add((ligand, receptor))
        found |= {
            (one, other)
            for one in _genes(ligand, complexes)
            for other in _genes(receptor, complexes)
        }
    if not found:
        raise SpatialFormerError("The table holds no ligand-receptor pair.", where=path.name)
    return LigandReceptors(path.name, frozenset(found), len(interactions), note)


def _from_liana() -> LigandReceptors:
    try:
        from liana.resource import select_resource
    except ImportError as error:
        raise SpatialFormerError(
            "liana is not installed, so its ligand-receptor table cannot be used.",
            fix="Install the extra [baselines], or give the path of a table.",
        ) from error
    table = select_resource(RESOURCE)
    rows = list(zip(table["ligand"].astype(str), table["receptor"].astype(str), strict=True))
    pairs = {(a, b) for one, other in rows for a in one.split("_") for b in other.split("_")}
    return LigandReceptors("liana consensus", frozenset(pairs), len(set(rows)))


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with delimited.open_text(path, path.parent) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        try:
            for number, row in enumerate(csv.DictReader(text)):
                if number >= _MAX_ROWS:
                    raise SpatialFormerError(
                        f"The table has more than {_MAX_ROWS:,} rows.", where=path.name
                    )
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise SpatialFormerError(f"The table is no CSV: {error}.", where=path.name) from error


def _interactions(path: Path) -> Iterator[tuple[str, str]]:
    names: tuple[str, str] | None = None
    for row in _rows(path):
        if names is None:
            names = next((n for n in _NAMES if set(n) <= row.keys()), None)
            if names is None:
                raise SpatialFormerError(
                    f"The table has the columns {', '.join(map(str, row))[:200]}.",
                    where=path.name,
                    fix=f"Expected {' or '.join(' and '.join(n) for n in _NAMES)}.",
                )
        if row.get("resource", RESOURCE) == RESOURCE:
            ligand, receptor = ((row[name] or "").strip() for name in names)
            if ligand and receptor:
                yield ligand, receptor


def _complexes(path: Path) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return the genes of CellChatDB's named complexes, and a note where they are missing."""
    if "interaction_input" not in path.name:
        return {}, ""
    name = path.name.replace("interaction_input", "complex_input").removesuffix(".gz")
    beside = [path.with_name(name), path.with_name(f"{name}.gz")]
    table = next((candidate for candidate in beside if candidate.is_file()), None)
    if table is None:
        return {}, f"{name} is not beside the table: named complexes are left out"
    found = {}
    for row in _rows(table):
        values = [(value or "").strip() for value in row.values() if isinstance(value, str)]
        found[values[0]] = tuple(value for value in values[1:] if value)
    return found, ""


def _genes(name: str, complexes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return complexes.get(name) or tuple(part for part in name.split("_") if part)


def mark(table: pd.DataFrame, known: LigandReceptors) -> tuple[BoolArray, list[str]]:
    """Return which rows are known pairs, and which of the two genes is the ligand.

    Either orientation counts: the ligand may be the left or the right gene.

    Returns
    -------
    is_known, ligand
        ``ligand`` is ``left``, ``right``, ``both`` or empty.
    """
    genes = list(zip(table["gene_left"], table["gene_right"], strict=True))
    left = np.array([pair in known.pairs for pair in genes], np.bool_)
    right = np.array([pair[::-1] in known.pairs for pair in genes], np.bool_)
    side = np.where(left & right, "both", np.where(left, "left", np.where(right, "right", "")))
    return left | right, [str(value) for value in side]


def enrichment(
    table: pd.DataFrame, known: LigandReceptors, *, same_type: bool, seed: int = 0
) -> dict[str, Any]:
    """Return how known pairs compare with pairs of genes of like expression and rank.

    Scores are the ranks (0 to 1) of the strength of the interaction and of the effect, less what
    expression and rank of the two genes predict. The random sets rename genes within strata of
    like expression and rank, so that a gene that matters in every pair matters there as well.

    Parameters
    ----------
    table
        A screen's table.
    known
        The pairs.
    same_type
        Whether gene pairs are unordered.
    seed
        Of the random sets.

    Returns
    -------
    dict
        ``testable`` is the number of known pairs among those tested; with none there is no test.
        p-values are left out unless the screen has p-values.
    """
    is_known, _ = mark(table, known)
    has_p = bool(table["p"].notna().any())
    info: dict[str, Any] = {
        "resource": known.name,
        "interactions": known.n_interactions,
        "gene_pairs": len(known.pairs),
        "note": known.note,
        "testable": int(is_known.sum()),
        "tested_pairs": len(table),
        "significant": None,
        "matched_on": "expression (cell pairs that carry the gene) and rank in the cell",
        "tests": {},
    }
    if has_p:
        info["significant"] = {
            name: int((table.loc[is_known, name] < 0.05).sum()) for name in ("q", "epsilon_q")
        }
    if not is_known.any():
        return info
    for name, column in (("interaction", "epsilon"), ("effect", "d_diff")):
        strength = table[column].abs().to_numpy(np.float64)
        test = against_like_pairs(table, strength, is_known, same_type=same_type, seed=seed)
        info["tests"][name] = {**test, "p": test["p"] if has_p else None}
    return info


def against_like_pairs(
    table: pd.DataFrame,
    strength: DoubleArray,
    is_known: BoolArray,
    *,
    same_type: bool,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how known pairs rank by a strength, beside pairs of genes of like expression and rank.

    Parameters
    ----------
    table
        A screen's table.
    strength
        Of each row, whatever is asked about; NaN where there is none.
    is_known
        The rows asked about.
    same_type, seed
        As in `enrichment`.

    Returns
    -------
    dict
        ``mean_rank`` (0 to 1) of the known pairs; ``adjusted``, the same less what expression and
        rank predict; ``random`` and ``random_sd`` of matched random sets; ``p``, one-sided.
    """
    import pandas as pd

    axes = _Axes.of(table, same_type=same_type)
    rank = pd.Series(strength).rank(pct=True).to_numpy(np.float64)
    found = matched_mean(
        without_trend(axes.grid(rank), *axes.measures),
        axes.grid(is_known.astype(np.float64)) > 0,
        axes.strata,
        symmetric=same_type,
        n_random=_N_RANDOM,
        seed=seed,
    )
    return {
        "mean_rank": round(float(np.nanmean(rank[is_known])), 4),
        "adjusted": round(found.observed, 4),
        "random": round(found.expected, 4),
        "random_sd": round(found.sd, 4),
        "p": found.p,
        "smallest_p": found.smallest_p,
        "n_random": found.n_random,
    }


@dataclass(frozen=True, slots=True)
class _Axes:
    """Genes of both sides of a table as rows and columns of a grid."""

    row: LongArray
    column: LongArray
    measures: tuple[DoubleArray, DoubleArray]
    symmetric: bool

    @classmethod
    def of(cls, table: pd.DataFrame, *, same_type: bool) -> _Axes:
        left, right = table["gene_left"].to_numpy(), table["gene_right"].to_numpy()
        pairs = table["n_pairs"].to_numpy(np.float64)
        ranks = [table[f"rank_{side}"].to_numpy(np.float64) for side in ("left", "right")]
        if same_type:
            both = np.concatenate([left, right])
            codes, measure = _measured(both, np.tile(pairs, 2), np.concatenate(ranks))
            return cls(codes[: len(left)], codes[len(left) :], (measure, measure), symmetric=True)
        row, of_row = _measured(left, pairs, ranks[0])
        column, of_column = _measured(right, pairs, ranks[1])
        return cls(row, column, (of_row, of_column), symmetric=False)

    @property
    def strata(self) -> tuple[LongArray, LongArray]:
        one, other = (strata_of(m[:, 0], m[:, 1]) for m in self.measures)
        return one, other

    def grid(self, values: DoubleArray) -> DoubleArray:
        out = np.full((len(self.measures[0]), len(self.measures[1])), np.nan)
        out[self.row, self.column] = values
        if self.symmetric:
            out[self.column, self.row] = values
        return out


def _measured(genes: Any, pairs: DoubleArray, rank: DoubleArray) -> tuple[LongArray, DoubleArray]:
    """Return code of each gene, and per gene its expression and rank, shape ``(n_genes, 2)``."""
    names, codes = np.unique(genes.astype(str), return_inverse=True)
    expression = np.zeros(len(names))
    # With the most common partner a gene is carried in most of the cell pairs that carry it.
    np.maximum.at(expression, codes, pairs)
    known = ~np.isnan(rank)
    count = np.bincount(codes[known], minlength=len(names))
    total = np.bincount(codes[known], rank[known], minlength=len(names))
    mean = np.divide(
        total, count, out=np.full(len(names), np.nanmax(rank, initial=1)), where=count > 0
    )
    return np.asarray(codes.ravel(), np.int64), np.column_stack([expression, mean])
