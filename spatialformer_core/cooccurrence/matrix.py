"""Co-occurrence as a matrix, cells x gene pairs, of one slide or several.

A pair is called ``GENEA|GENEB``, the names in alphabetical order, whatever the order of the panel.
Cells without any pair stay as empty rows: leaving them out would change every share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spatialformer_core.arrays import BoolArray, GenePairs, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError

SEPARATOR = "|"
"""Between the two gene names of a pair."""

Csr = Any
"""``scipy.sparse.csr_matrix``; scipy ships no types."""


@dataclass(frozen=True, slots=True)
class PairMatrix:
    """Which gene pairs co-occur in which cells.

    Attributes
    ----------
    genes
        All genes, alphabetical.
    left, right
        Genes of each pair, ``left < right``, ascending, shape ``(n_pairs,)``.
    presence
        CSR of bool, cells x pairs, without stored zeros.
    slide
        Slide of each cell, from 0, shape ``(n_cells,)``.
    testable
        Whether both genes are on the slide's panel, shape ``(n_slides, n_pairs)``: where they are
        not, an empty entry means not known, never absent.
    """

    genes: tuple[str, ...]
    left: IntArray
    right: IntArray
    presence: Csr
    slide: LongArray
    testable: BoolArray

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.presence.shape[0])

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.left)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pairs."""
        pairs = zip(self.left, self.right, strict=True)
        return tuple(pair_name(self.genes[a], self.genes[b]) for a, b in pairs)

    def take_pairs(self, columns: NDArray[np.integer]) -> PairMatrix:
        """Return some pairs only, in the given (ascending) order."""
        return replace(
            self,
            left=self.left[columns],
            right=self.right[columns],
            presence=self.presence[:, columns],
            testable=self.testable[:, columns],
        )


def pair_name(gene: str, other: str) -> str:
    """Return the name of a pair; it does not depend on the order of the two.

    Examples
    --------
    >>> pair_name("MRC1", "CD163")
    'CD163|MRC1'
    """
    return SEPARATOR.join(sorted((gene, other)))


def split_pair_names(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the two genes of each pair's name.

    Raises
    ------
    SpatialFormerError
        If a name is not of the form ``GENEA|GENEB``.
    """
    parts = [tuple(str(name).split(SEPARATOR)) for name in names]
    for name, part in zip(names, parts, strict=True):
        if len(part) != 2 or not all(part):
            raise SpatialFormerError(
                f"{str(name)[:80]!r} is no name of a gene pair; GENEA{SEPARATOR}GENEB is expected."
            )
    return tuple((part[0], part[1]) for part in parts)


def check_gene_names(genes: Sequence[str]) -> None:
    """Refuse names that cannot name pairs.

    Raises
    ------
    SpatialFormerError
        If a name repeats, is empty or holds the separator.
    """
    seen: set[str] = set()
    for gene in genes:
        if gene in seen:
            raise SpatialFormerError(
                f"Gene {gene[:60]!r} is there twice.",
                fix="Make the gene names unique (adata.var_names_make_unique()).",
            )
        if not gene or SEPARATOR in gene:
            raise SpatialFormerError(
                f"Gene name {gene[:60]!r} is empty or holds {SEPARATOR!r}, which separates the "
                "genes of a pair.",
                fix="Rename the gene.",
            )
        seen.add(gene)


def pair_matrix(pairs: GenePairs, genes: Sequence[str]) -> PairMatrix:
    """Return the matrix of one slide.

    Parameters
    ----------
    pairs
        Co-occurring pairs of each cell.
    genes
        Names of the gene columns, in any order.

    Raises
    ------
    SpatialFormerError
        If the gene names cannot name pairs.
    """
    check_gene_names(genes)
    order = np.argsort(np.array(genes, dtype=np.str_), kind="stable")
    rank = np.empty(len(genes), np.int64)
    rank[order] = np.arange(len(genes))
    one, other = rank[pairs.left], rank[pairs.right]
    codes = np.minimum(one, other) * len(genes) + np.maximum(one, other)
    distinct, column = np.unique(codes, return_inverse=True)
    shape = (pairs.n_cells, len(distinct))
    return PairMatrix(
        genes=tuple(genes[i] for i in order),
        left=(distinct // max(1, len(genes))).astype(np.int32),
        right=(distinct % max(1, len(genes))).astype(np.int32),
        presence=_presence(np.repeat(np.arange(shape[0]), np.diff(pairs.indptr)), column, shape),
        slide=np.zeros(pairs.n_cells, np.int64),
        testable=np.ones((1, len(distinct)), np.bool_),
    )


def named_matrix(
    presence: Any, names: Sequence[str], genes: Sequence[str], slide: LongArray | None = None
) -> PairMatrix:
    """Return the matrix of an array whose columns carry pair names (an AnnData's).

    Parameters
    ----------
    presence
        Sparse, cells x pairs; non-zero where a pair co-occurs.
    names
        ``GENEA|GENEB`` of each column.
    genes
        All genes of the cells.
    slide
        Slide of each cell; None for one slide. All slides count as having all genes.

    Raises
    ------
    SpatialFormerError
        If names repeat, do not fit the columns, or name unknown genes.
    """
    check_gene_names(genes)
    if presence.shape[1] != len(names):
        raise SpatialFormerError(
            f"{len(names):,} names were given for {presence.shape[1]:,} columns of gene pairs."
        )
    ordered = tuple(sorted(genes))
    rank = {gene: number for number, gene in enumerate(ordered)}
    unknown = {gene for pair in split_pair_names(names) for gene in pair} - rank.keys()
    if unknown:
        raise SpatialFormerError(
            f"{len(unknown):,} genes of the pairs are not among the genes, such as "
            f"{min(unknown)[:60]!r}.",
            fix="Measure co-occurrence again on these genes.",
        )
    two = np.array([sorted((rank[a], rank[b])) for a, b in split_pair_names(names)], np.int64)
    two = two.reshape(-1, 2)
    order = np.lexsort((two[:, 1], two[:, 0]))
    two = two[order]
    if (np.diff(two, axis=0) == 0).all(1).any():
        raise SpatialFormerError("A gene pair is there twice.")
    cells = presence.shape[0]
    own = np.zeros(cells, np.int64) if slide is None else slide
    matrix = sparse.csr_matrix(presence, dtype=np.bool_)[:, order]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    testable = np.ones((1 + int(own.max(initial=0)), len(two)), np.bool_)
    left, right = two.astype(np.int32).T
    return PairMatrix(ordered, left, right, matrix, own, testable)


def join_matrices(matrices: Sequence[PairMatrix]) -> PairMatrix:
    """Join slides by gene name; cells follow each other in the order of the slides.

    A pair of which a slide's panel lacks a gene is marked as not testable there.

    Raises
    ------
    SpatialFormerError
        If there is no slide.
    """
    if not matrices:
        raise SpatialFormerError("There is no slide to join.")
    genes = tuple(sorted({gene for matrix in matrices for gene in matrix.genes}))
    place = {gene: number for number, gene in enumerate(genes)}
    to_all = [np.array([place[gene] for gene in m.genes], np.int64) for m in matrices]
    own = [at[m.left] * len(genes) + at[m.right] for m, at in zip(matrices, to_all, strict=True)]
    distinct = np.unique(np.concatenate(own))
    left, right = np.divmod(distinct, max(1, len(genes)))
    presence, slides, testable, n_slides = [], [], [], 0
    for matrix, codes, at in zip(matrices, own, to_all, strict=True):
        entries = matrix.presence.tocoo()
        column = np.searchsorted(distinct, codes)[entries.col]
        presence.append(_presence(entries.row, column, (matrix.n_cells, len(distinct))))
        slides.append(matrix.slide + n_slides)
        n_slides += len(matrix.testable)
        known = np.isin(np.arange(len(genes)), at)
        testable.append(
            np.broadcast_to(known[left] & known[right], (len(matrix.testable), len(distinct)))
        )
    return PairMatrix(
        genes,
        left.astype(np.int32),
        right.astype(np.int32),
        sparse.vstack(presence, format="csr"),
        np.concatenate(slides),
        np.vstack(testable),
    )


def _presence(row: NDArray[Any], column: NDArray[Any], shape: tuple[int, int]) -> Csr:
    found = sparse.csr_matrix((np.ones(len(row), np.bool_), (row, column)), shape=shape)
    found.sort_indices()
    return found
