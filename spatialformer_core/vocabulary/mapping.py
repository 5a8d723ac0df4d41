"""A panel's gene names as a vocabulary spells them: Ensembl ids, former symbols, letter case.

Nothing is guessed: each step needs its table or its switch, a name with two meanings keeps its
own, and what is left unknown is counted.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from spatialformer_core.arrays import IntArray
from spatialformer_core.errors import SpatialFormerError

How = Literal["exact", "ensembl", "alias", "case", "unknown"]
HOWS: tuple[How, ...] = get_args(How)

SHIPPED_ENSEMBL = (
    Path(__file__).resolve().parents[2] / "data" / "vocabularies" / "symbol_to_ensembl.csv"
)
"""Symbols and Ensembl ids of common Xenium panels."""

_ENSEMBL = re.compile(r"^(ENS[A-Z]*G\d{6,})(\.\d+)?$")
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class GeneNames:
    """What is known about other names of genes.

    Attributes
    ----------
    ensembl
        Symbol of each Ensembl id.
    aliases
        Approved symbol of each former one.
    ignore_case
        Whether names that differ in letter case alone are the same gene. Mouse symbols
        (``Cd3e``) then meet human ones (``CD3E``), which assumes orthology.
    """

    ensembl: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    ignore_case: bool = False

    @cached_property
    def _ids(self) -> dict[str, str]:
        return _single((symbol, gene_id) for gene_id, symbol in self.ensembl.items())

    @cached_property
    def _former(self) -> dict[str, str]:
        return _single((approved, former) for former, approved in self.aliases.items())

    def candidates(self, gene: str, gene_id: str = "") -> Iterable[tuple[str, How]]:
        """Yield other names of a gene, the surest first; ``gene_id`` is what its slide says."""
        for name in (gene, gene_id):
            match = _ENSEMBL.match(name)
            if match:
                yield match[1], "ensembl"
                if match[1] in self.ensembl:
                    yield self.ensembl[match[1]], "ensembl"
        if gene in self._ids:
            yield self._ids[gene], "ensembl"
        for table in (self.aliases, self._former):
            if gene in table:
                yield table[gene], "alias"


@dataclass(frozen=True)
class GeneMapping:
    """How a panel's names became names of a vocabulary.

    Attributes
    ----------
    genes
        The panel's names, one per column.
    names
        Names after mapping, each once, in the order of their first column.
    column
        Which of ``names`` each column became, shape ``(len(genes),)``.
    how
        By what each column was recognised.
    """

    genes: tuple[str, ...]
    names: tuple[str, ...]
    column: IntArray
    how: tuple[How, ...]

    @cached_property
    def merged(self) -> tuple[str, ...]:
        """Names that several columns stand for; their counts are summed."""
        return tuple(self.names[i] for i in np.flatnonzero(np.bincount(self.column) > 1))

    def tally(self) -> dict[str, int]:
        """Return the number of columns per way of recognition, all ways listed."""
        counts = Counter(self.how)
        return {how: counts[how] for how in HOWS}

    def of(self, how: How) -> tuple[str, ...]:
        """Return the panel's names that were recognised in one way."""
        return tuple(g for g, h in zip(self.genes, self.how, strict=True) if h == how)

    def counts(self, counts: Any) -> Any:
        """Return counts with one column per name, scipy CSR ``(n_cells, len(names))``."""
        from scipy import sparse

        if len(self.names) == len(self.genes):
            return counts
        n = len(self.genes)
        ones = np.ones(n, counts.dtype)
        adder = sparse.csr_matrix((ones, (np.arange(n), self.column)), (n, len(self.names)))
        return (counts @ adder).tocsr()


def map_genes(
    genes: Sequence[str],
    known: Collection[str] | None,
    names: GeneNames | None = None,
    gene_ids: Sequence[str] | None = None,
) -> GeneMapping:
    """Spell a panel's genes as a vocabulary does.

    Parameters
    ----------
    genes
        The panel's names; repeated ones become one.
    known
        Genes of the vocabulary. None while it is still to be built: then every symbol counts as
        known, Ensembl ids and former symbols are replaced where a table names the gene.
    names
        Tables of other names.
    gene_ids
        Ensembl ids that the slide gives beside the names, empty where it has none.

    Returns
    -------
    GeneMapping
        Unknown names stay as they are.
    """
    tables = names or GeneNames()
    vocabulary = frozenset(known) if known is not None else None
    folded = _single((gene.casefold(), gene) for gene in vocabulary or ())
    ids = gene_ids if gene_ids is not None else [""] * len(genes)
    both = zip(genes, ids, strict=True)
    spelled = [_spell((str(gene), str(i)), vocabulary, tables, folded) for gene, i in both]
    place: dict[str, int] = {}
    column = [place.setdefault(name, len(place)) for name, _ in spelled]
    return GeneMapping(
        tuple(str(gene) for gene in genes),
        tuple(place),
        np.array(column, np.int32),
        tuple(how for _, how in spelled),
    )


def _spell(
    named: tuple[str, str],
    known: frozenset[str] | None,
    tables: GeneNames,
    folded: dict[str, str],
) -> tuple[str, How]:
    gene, gene_id = named
    if known is None:
        symbol = tables.ensembl.get(_ENSEMBL.sub(r"\1", gene))
        if symbol is not None:
            return symbol, "ensembl"
        return (tables.aliases[gene], "alias") if gene in tables.aliases else (gene, "exact")
    if gene in known:
        return gene, "exact"
    for candidate, how in tables.candidates(gene, gene_id):
        if candidate in known:
            return candidate, how
    if tables.ignore_case and gene.casefold() in folded:
        return folded[gene.casefold()], "case"
    return gene, "unknown"


def read_gene_names(
    ensembl: Path | None = SHIPPED_ENSEMBL,
    aliases: Path | None = None,
    *,
    ignore_case: bool = False,
) -> GeneNames:
    """Read tables of gene names.

    Parameters
    ----------
    ensembl
        CSV or TSV with columns ``symbol,ensembl``, or HGNC's complete set (``symbol``,
        ``ensembl_gene_id``); None for none.
    aliases
        CSV or TSV with columns ``previous,approved``, or HGNC's complete set (``prev_symbol``,
        ``alias_symbol`` with ``|`` between several); None for none.
    ignore_case
        See `GeneNames`.

    Raises
    ------
    SpatialFormerError
        If a file is missing, too large, no text, or lacks the columns.
    """
    ids: list[tuple[str, str]] = []
    former: list[tuple[str, str]] = []
    for row in _rows(ensembl, (("symbol", "ensembl"), ("symbol", "ensembl_gene_id"))):
        gene_id = row.get("ensembl") or row.get("ensembl_gene_id") or ""
        ids.append((gene_id.partition(".")[0], row["symbol"] or ""))
    for row in _rows(aliases, (("previous", "approved"), ("symbol", "prev_symbol"))):
        approved = row.get("approved") or row.get("symbol") or ""
        old = [row.get(key) or "" for key in ("previous", "prev_symbol", "alias_symbol")]
        former += [(name, approved) for names in old for name in names.split("|")]
    return GeneNames(_single(ids), _single(former), ignore_case)


def _single(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a table of the keys that have one value; an ambiguous name helps nobody."""
    found: dict[str, set[str]] = {}
    for key, value in pairs:
        if key and value and key != value:
            found.setdefault(key, set()).add(value)
    return {key: next(iter(values)) for key, values in found.items() if len(values) == 1}


def _rows(path: Path | None, columns: tuple[tuple[str, str], ...]) -> list[dict[str, str | None]]:
    if path is None:
        return []
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise SpatialFormerError(
            "The table of gene names is missing or larger than 64 MB.", where=str(path)
        )
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SpatialFormerError("The table of gene names is no text.", str(path)) from error
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter="\t" if "\t" in head else ",", restval="")
    header = set(reader.fieldnames or ())
    if not any(header >= set(wanted) for wanted in columns):
        wishes = " or ".join(",".join(wanted) for wanted in columns)
        raise SpatialFormerError(
            f"The table of gene names has other columns than {wishes}.", where=str(path)
        )
    try:
        return [{key: (row[key] or "").strip() for key in header} for row in reader]
    except csv.Error as error:
        raise SpatialFormerError(f"The table cannot be read: {error}.", str(path)) from error
