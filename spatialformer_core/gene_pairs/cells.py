"""The cells that are compared: their pairs, counts, places and groups, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.cooccurrence import PairMatrix, join_matrices
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import Placed


@dataclass(frozen=True, slots=True)
class PairCells:
    """Cells of one slide or several.

    Attributes
    ----------
    matrix
        Co-occurring pairs.
    counts
        Raw counts, CSR, cells x ``matrix.genes``.
    depth
        Transcripts of each cell, shape ``(n,)``.
    placed
        Slides, donors and coordinates.
    """

    matrix: PairMatrix
    counts: Any
    depth: DoubleArray
    placed: Placed

    def take(self, cells: BoolArray) -> PairCells:
        """Return some of the cells only, shape ``(n,)``."""
        kept = np.flatnonzero(cells)
        matrix = replace(
            self.matrix, presence=self.matrix.presence[kept], slide=self.matrix.slide[kept]
        )
        xy_um = self.placed.xy_um
        placed = replace(
            self.placed,
            slide=self.placed.slide[kept],
            xy_um=None if xy_um is None else xy_um[kept],
        )
        return PairCells(matrix, self.counts[kept], self.depth[kept], placed)


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the cells are grouped.

    Attributes
    ----------
    key
        Name of the grouping.
    categories
        Names of the groups.
    codes
        Group of each cell, -1 for none, shape ``(n,)``.
    """

    key: str
    categories: tuple[str, ...]
    codes: NDArray[np.integer]


def join_cells(parts: Sequence[PairCells]) -> PairCells:
    """Join slides by gene name; a gene that a slide's panel lacks has no counts there.

    Raises
    ------
    SpatialFormerError
        If two slides have the same name.
    """
    names = tuple(name for part in parts for name in part.placed.slides)
    if len(set(names)) != len(names):
        raise SpatialFormerError("A slide is named twice.", where=", ".join(names)[:200])
    matrix = join_matrices([part.matrix for part in parts])
    place = {gene: number for number, gene in enumerate(matrix.genes)}
    counts = []
    for part in parts:
        entries = part.counts.tocoo()
        column = np.array([place[gene] for gene in part.matrix.genes], np.int64)[entries.col]
        shape = (entries.shape[0], len(place))
        counts.append(sparse.csr_matrix((entries.data, (entries.row, column)), shape=shape))
    xy_um = [part.placed.xy_um for part in parts if part.placed.xy_um is not None]
    placed = Placed(
        slide=matrix.slide,
        xy_um=np.concatenate(xy_um) if len(xy_um) == len(parts) else None,
        slides=names,
        donors=tuple(donor for part in parts for donor in part.placed.donors),
    )
    depth = np.concatenate([part.depth for part in parts])
    return PairCells(matrix, sparse.vstack(counts, format="csr"), depth, placed)
