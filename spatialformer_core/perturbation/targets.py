"""What is knocked out: every gene alone, or the genes and gene sets that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from spatialformer_core.arrays import CellTokens, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.request import ScreenRequest

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Targets:
    """Genes and gene sets that are knocked out, each with a number.

    Attributes
    ----------
    names
        What the table calls them.
    members
        Genes of each target, scipy CSR of 0 and 1, shape ``(n_targets, n_genes)``.
    gene_offset
        Token id of the first gene.
    every_gene
        Whether target k is gene k alone, for all genes.
    unknown
        Genes that were named and that the checkpoint does not know; they are left out.
    """

    names: tuple[str, ...]
    members: Any
    gene_offset: int
    every_gene: bool
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def presence(self, genes: Any) -> Any:
        """Return which targets rows of a gene presence matrix hold, CSR of 0 and 1."""
        if self.every_gene:
            return genes
        found = (genes @ self.members.T).tocsr()
        found.data[:] = 1
        return found

    def of_genes(self) -> tuple[LongArray, LongArray]:
        """Return the targets of each gene: row pointers and target numbers."""
        by_gene = self.members.T.tocsr()
        by_gene.sort_indices()
        return by_gene.indptr.astype(np.int64), by_gene.indices.astype(np.int64)

    def linked(self, genes: Any) -> Any:
        """Return which targets are linked if some of their genes are, CSR of booleans."""
        matrix = sparse.csr_matrix(genes)
        if self.every_gene:
            return matrix
        return (self.members @ matrix.astype(np.int64) @ self.members.T).tocsr() > 0


def every_token(cells: CellTokens) -> Targets:
    """Return each token of some cells as a target of its own number."""
    n = int(cells.tokens.max()) + 1 if len(cells.tokens) else 0
    return Targets(("",) * n, sparse.identity(n, np.int32, "csr"), 0, every_gene=True)


def choose_targets(request: ScreenRequest, genes: Sequence[str], gene_offset: int) -> Targets:
    """Return what a screen knocks out.

    Raises
    ------
    SpatialFormerError
        If the checkpoint knows none of the genes, none of a set, or a set bears a gene's name.
    """
    if not request.genes and not request.knockout_sets:
        identity = sparse.identity(len(genes), np.int32, "csr")
        return Targets(tuple(genes), identity, gene_offset, every_gene=True)
    column = {name: k for k, name in enumerate(genes)}
    named = {name: (name,) for name in dict.fromkeys(request.genes)}
    taken = sorted(set(request.knockout_sets) & (set(named) | set(genes)))
    if taken:
        raise SpatialFormerError(f"The gene set {taken[0]!r} bears the name of a gene.")
    unknown: list[str] = []
    names: list[str] = []
    rows: list[int] = []
    columns: list[int] = []
    for name, members in [*named.items(), *sorted(request.knockout_sets.items())]:
        known = sorted({column[gene] for gene in members if gene in column})
        unknown += [gene for gene in members if gene not in column]
        if name in request.knockout_sets and not known:
            raise SpatialFormerError(
                f"The checkpoint knows no gene of the set {name!r}.",
                where=", ".join(members[:_SHOWN]),
            )
        if known:
            rows += [len(names)] * len(known)
            columns += known
            names.append(name)
    if not names:
        raise SpatialFormerError(
            "The checkpoint knows none of the chosen genes.",
            where=", ".join(request.genes[:_SHOWN]),
            fix="Genes go by their symbols.",
        )
    ones = np.ones(len(rows), np.int32)
    matrix = sparse.csr_matrix((ones, (rows, columns)), shape=(len(names), len(genes)))
    return Targets(
        tuple(names), matrix, gene_offset, every_gene=False, unknown=tuple(dict.fromkeys(unknown))
    )
