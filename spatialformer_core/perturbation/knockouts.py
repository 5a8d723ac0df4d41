"""The knocked-out versions of cells, and which of them is the control of which."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spatialformer_core.arrays import CellTokens, DoubleArray, LongArray
from spatialformer_core.config import Knockout
from spatialformer_core.perturbation.control import (
    cell_keys,
    mixed,
    neighbour_positions,
    neighbour_set,
)
from spatialformer_core.perturbation.targets import Targets
from spatialformer_core.vocabulary import MASK


@dataclass(frozen=True, slots=True)
class CellKnockouts:
    """The knock-outs of one cell; versions are counted from its whole version, 0.

    Attributes
    ----------
    first
        Row of its whole version among all versions.
    target
        What is knocked out in versions ``1 ... K``, shape ``(K,)``.
    rank
        Mean rank (from 1) of the genes concerned, shape ``(K,)``.
    control
        Version that is the control of each (0 if the cell is too small to have one), shape
        ``(K,)``; None without controls.
    n_versions
        Versions of the cell: ``1 + K``, and more if controls are no targets themselves.
    """

    first: int
    target: LongArray
    rank: DoubleArray
    control: LongArray | None
    n_versions: int

    @property
    def rows(self) -> LongArray:
        """Rows of all versions."""
        return np.arange(self.first, self.first + self.n_versions)


@dataclass(frozen=True, slots=True)
class Knockouts:
    """All versions of some cells, cell after cell.

    Attributes
    ----------
    versions
        Tokens of the versions.
    of_cell
        For each cell which version is what.
    """

    versions: CellTokens
    of_cell: tuple[CellKnockouts, ...]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Knock-outs of all cells: cell, target and token positions, by cell and rank."""

    cell: LongArray
    target: LongArray
    indptr: LongArray
    position: LongArray

    @property
    def rank(self) -> DoubleArray:
        """Mean rank, from 1."""
        sums = np.add.reduceat(self.position, self.indptr[:-1]) if len(self.cell) else np.zeros(0)
        mean: DoubleArray = sums / np.diff(self.indptr) + 1.0
        return mean


def knock_out(
    cells: CellTokens, targets: Targets, knockout: Knockout, control_seed: int | None = None
) -> Knockouts:
    """Return each cell whole, without each of its targets, and with the controls of those.

    Parameters
    ----------
    cells
        Tokens; every row is one cell.
    targets
        What to knock out.
    knockout
        ``delete`` removes tokens, ``mask`` puts the mask token in their place.
    control_seed
        Decides the control genes; None: no controls.
    """
    groups = _groups(cells, targets)
    count = np.bincount(groups.cell, minlength=cells.n_cells)
    extra = control_seed is not None and not targets.every_gene
    n_versions = 1 + count * (2 if extra else 1)
    first = np.cumsum(n_versions) - n_versions
    start = np.cumsum(count) - count
    version = 1 + np.arange(len(groups.cell)) - start[groups.cell]
    row = np.repeat(first[groups.cell] + version, np.diff(groups.indptr))
    hits = [(row, groups.position)]
    control = None
    if control_seed is not None:
        member, position = _controls(cells, groups, control_seed)
        if extra:
            own = version + count[groups.cell]
            hits.append((first[groups.cell[member]] + own[member], position))
        else:
            # Every gene is a target: version 1 + p is the one without the gene at position p.
            own = np.zeros(len(groups.cell), np.int64)
            own[member] = 1 + position
        control = np.where(np.isin(np.arange(len(own)), member), own, 0)
    rows, positions = (np.concatenate(part) for part in zip(*hits, strict=True))
    of_cell = tuple(
        CellKnockouts(
            int(first[k]),
            groups.target[start[k] : start[k] + count[k]],
            groups.rank[start[k] : start[k] + count[k]],
            None if control is None else control[start[k] : start[k] + count[k]],
            int(n_versions[k]),
        )
        for k in range(cells.n_cells)
    )
    repeated = cells.take(np.repeat(np.arange(cells.n_cells), n_versions))
    return Knockouts(_without(repeated, rows, positions, knockout), of_cell)


def n_versions(cells: CellTokens, targets: Targets, *, controls: bool) -> LongArray:
    """Return how many versions each cell has, shape ``(n_cells,)``."""
    if targets.every_gene:
        return cells.lengths + 1
    count = np.bincount(_groups(cells, targets).cell, minlength=cells.n_cells)
    return 1 + count * (2 if controls else 1)


def _groups(cells: CellTokens, targets: Targets) -> _Groups:
    cell = np.repeat(np.arange(cells.n_cells), cells.lengths)
    position = np.arange(len(cells.tokens)) - np.repeat(cells.indptr[:-1], cells.lengths)
    gene = cells.tokens.astype(np.int64) - targets.gene_offset
    if targets.every_gene:
        return _Groups(cell, gene, np.arange(len(cell) + 1), position)
    indptr, of_gene = targets.of_genes()
    n = indptr[gene + 1] - indptr[gene]
    entry = np.repeat(np.arange(len(gene)), n)
    target = of_gene[
        np.repeat(indptr[gene], n) + np.arange(len(entry)) - np.repeat(np.cumsum(n) - n, n)
    ]
    order = np.lexsort((position[entry], target, cell[entry]))
    entry, target = entry[order], target[order]
    new = np.ones(len(entry), np.bool_)
    new[1:] = (np.diff(target) != 0) | (np.diff(cell[entry]) != 0)
    begin = np.flatnonzero(new)
    size = np.diff(np.append(begin, len(entry)))
    # By cell and highest-ranked gene, as the genes of a cell stand; ties by number.
    by_rank = np.lexsort((target[begin], position[entry[begin]], cell[entry[begin]]))
    members = np.concatenate(
        [np.zeros(0, np.int64), *(entry[begin[g] : begin[g] + size[g]] for g in by_rank)]
    )
    ends = np.concatenate([[0], np.cumsum(size[by_rank])]).astype(np.int64)
    return _Groups(cell[entry[begin[by_rank]]], target[begin[by_rank]], ends, position[members])


def _controls(cells: CellTokens, groups: _Groups, seed: int) -> tuple[LongArray, LongArray]:
    """Return the groups that have a control and, row for row, the positions it knocks out."""
    key = mixed(cell_keys(cells, seed)[groups.cell] ^ groups.target.astype(np.uint64))
    size = np.diff(groups.indptr)
    length = cells.lengths[groups.cell]
    single = np.flatnonzero(size == 1)
    drawn = neighbour_positions(groups.position[groups.indptr[single]], length[single], key[single])
    member, position = [single[drawn >= 0]], [drawn[drawn >= 0]]
    for g in np.flatnonzero(size > 1):
        genes = groups.position[groups.indptr[g] : groups.indptr[g + 1]].tolist()
        chosen = neighbour_set(genes, int(length[g]), key[g])
        member.append(np.full(len(chosen), g))
        position.append(np.array(chosen, np.int64))
    return np.concatenate(member), np.concatenate(position)


def _without(
    versions: CellTokens, rows: LongArray, positions: LongArray, knockout: Knockout
) -> CellTokens:
    places = versions.indptr[rows] + positions
    if knockout == "delete":
        keep = np.ones(len(versions.tokens), np.bool_)
        keep[places] = False
        lost = np.bincount(rows, minlength=versions.n_cells)
        indptr = np.concatenate([[0], np.cumsum(versions.lengths - lost)]).astype(np.int64)
        return replace(
            versions, indptr=indptr, tokens=versions.tokens[keep], counts=versions.counts[keep]
        )
    tokens, counts = versions.tokens.copy(), versions.counts.copy()
    # A masked gene keeps its place in the ranking but tells neither name nor magnitude.
    tokens[places], counts[places] = MASK, 0
    return replace(versions, tokens=tokens, counts=counts)
