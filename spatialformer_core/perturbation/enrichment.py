"""Gene sets among the genes of a screen's pairs; the background is what reached support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited
from spatialformer_core.stats import benjamini_hochberg, hypergeometric_p, smallest_p

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
MIN_SET, MAX_SET = 3, 500
"""Genes of a set that reached support; smaller or larger sets are not tested."""

COLUMNS: dict[str, str] = {
    "library": "file that the set comes from",
    "side": "genes of the left cell, of the right cell, or of either",
    "term": "name of the set",
    "n_hit": "genes of the set in significant gene pairs",
    "n_set": "genes of the set that reached support",
    "n_chosen": "genes in significant gene pairs",
    "n_background": "genes that reached support: all that could have been chosen",
    "expected": "hits that chance gives",
    "fold": "n_hit / expected",
    "p": "exact (hypergeometric) chance of at least n_hit hits",
    "q": "Benjamini-Hochberg over all sets of the library and side",
    "smallest_p": "the least p that a set of this size can reach here",
    "genes": "the hits",
}

POINTER = (
    "The published finding that contact rests on the extracellular matrix is about GO cellular "
    "component; to repeat it give that library (GO_Cellular_Component, GMT)."
)
_MAX_BYTES = 64 << 20
_MAX_SETS = 100_000


@dataclass(frozen=True, slots=True)
class GeneSets:
    """A library of gene sets: its name and the genes of each term."""

    name: str
    sets: dict[str, frozenset[str]]


def read_gmt(path: Path) -> GeneSets:
    """Read a GMT file (term, description, genes, separated by tabs), plain or gzipped.

    Raises
    ------
    SpatialFormerError
        If it cannot be read, is too large or is no GMT.
    """
    found: dict[str, frozenset[str]] = {}
    read = 0
    with delimited.open_text(path, path.parent) as stream:
        while line := delimited.read_line(stream, path) or _blank(stream):
            read += len(line)
            if read > _MAX_BYTES or len(found) > _MAX_SETS:
                raise SpatialFormerError(
                    f"The library is larger than {_MAX_BYTES >> 20} MB or {_MAX_SETS:,} sets.",
                    where=path.name,
                )
            fields = [field.strip() for field in line.split("\t")]
            if line.strip() and len(fields) < 3:
                raise SpatialFormerError(
                    f"Line {len(found) + 1} has {len(fields)} fields; a GMT line has a term, a "
                    "description and genes, separated by tabs.",
                    where=path.name,
                )
            if fields[0]:
                # Some libraries write a weight behind each gene: SYMBOL,1.0
                genes = (field.split(",")[0] for field in fields[2:])
                found[fields[0]] = frozenset(gene for gene in genes if gene)
    if not found:
        raise SpatialFormerError("The library holds no gene set.", where=path.name)
    return GeneSets(path.name, found)


def _blank(stream: Any) -> str:
    """Return something true for an empty line, and nothing at the end of the file."""
    return "\t" if stream.peek(1) else ""


def chosen_genes(table: pd.DataFrame) -> dict[str, tuple[set[str], set[str]]]:
    """Return per side the genes of significant pairs and all that reached support.

    A pair counts if its effect or its interaction has q < 0.05; pairs marked as spillover do not.
    """
    found = (table["q"] < ALPHA) | (table["epsilon_q"] < ALPHA)
    found &= ~table["spillover"].eq(other=True).fillna(value=False).astype(bool)
    sides = {}
    for side in ("left", "right"):
        genes = table[f"gene_{side}"]
        sides[side] = (set(genes[found]), set(genes))
    sides["either"] = (sides["left"][0] | sides["right"][0], sides["left"][1] | sides["right"][1])
    return sides


def enrich(table: pd.DataFrame, libraries: Sequence[GeneSets]) -> pd.DataFrame:
    """Return which gene sets the genes of significant pairs are rich in, best first.

    Parameters
    ----------
    table
        A screen's table with p-values.
    libraries
        Gene sets; only genes that reached support count.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`; empty if no pair is significant or no set has `MIN_SET` genes that reached
        support.
    """
    import pandas as pd

    parts = []
    for library in libraries:
        for side, (chosen, background) in chosen_genes(table).items():
            rows = _rows(library, side, chosen, background) if chosen else []
            if rows:
                part = pd.DataFrame(rows)
                size = part["n_set"].to_numpy(np.int64)
                numbers = (len(chosen), len(background))
                part["p"] = hypergeometric_p(part["n_hit"].to_numpy(np.int64), size, *numbers)
                part["q"] = benjamini_hochberg(part["p"].to_numpy(np.float64))
                part["smallest_p"] = smallest_p(size, *numbers)
                parts.append(part)
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    joined = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    return joined.sort_values(["p", "library", "side", "term"], ignore_index=True)


def _rows(
    library: GeneSets, side: str, chosen: set[str], background: set[str]
) -> list[dict[str, Any]]:
    rows = []
    for term, genes in library.sets.items():
        known = genes & background
        if not MIN_SET <= len(known) <= MAX_SET:
            continue
        hits = sorted(known & chosen)
        expected = len(known) * len(chosen) / len(background)
        rows.append(
            {
                "library": library.name,
                "side": side,
                "term": term,
                "n_hit": len(hits),
                "n_set": len(known),
                "n_chosen": len(chosen),
                "n_background": len(background),
                "expected": expected,
                "fold": len(hits) / expected,
                "genes": " ".join(hits),
            }
        )
    return rows


def facts(
    table: pd.DataFrame, libraries: Sequence[GeneSets], enriched: pd.DataFrame
) -> dict[str, Any]:
    """Return what ``screen.json`` says of the enrichment."""
    sides = chosen_genes(table)
    chosen, background = sides["either"]
    reason = None
    if not table["p"].notna().any():
        reason = "the screen has no p-values, so no pair is chosen"
    elif not chosen:
        reason = "no gene pair is significant"
    elif not len(enriched):
        reason = (
            f"no set has {MIN_SET} to {MAX_SET} genes that reached support; are these symbols of "
            "the same species?"
        )
    return {
        "libraries": {library.name: len(library.sets) for library in libraries},
        "tested": len(enriched),
        "significant": int((enriched["q"] < ALPHA).sum()) if len(enriched) else 0,
        "chosen_genes": len(chosen),
        "background_genes": len(background),
        "smallest_p": float(enriched["smallest_p"].min()) if len(enriched) else None,
        "not_computed": reason,
        "pointer": None
        if any("cellular_component" in b.name.lower() for b in libraries)
        else POINTER,
    }
