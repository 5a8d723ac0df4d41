"""What a pair's two genes tell about a cell's group without knowing where in the cell they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.cooccurrence import LEVELS, copy_tables
from spatialformer_core.gene_pairs.cells import PairCells
from spatialformer_core.stats import deviance_explained, fit_grouped, grouped_auroc


def what_genes_tell(
    cells: PairCells, pairs: LongArray, side: NDArray[np.integer], min_copies: int
) -> dict[str, DoubleArray]:
    """Return, for some pairs, how well copies and co-occurrence tell the group, over cells.

    Logistic regressions of the group on classes of copies: of the left gene, of the right gene, of
    both (added), of both and "both genes are there", of both and "they co-occur". These describe
    the cells at hand; the test over units is the closeness.

    Parameters
    ----------
    cells
        The cells; ``matrix`` holds the tested pairs.
    pairs
        Columns of the matrix, shape ``(k,)``.
    side
        0 group, 1 reference, -1 neither, shape ``(n_cells,)``.
    min_copies
        Copies of each gene that count as being there; rounded up to a class of copies.

    Returns
    -------
    dict
        Share of deviance explained (``d2_...``) and area under the ROC curve (``auroc_...``),
        each of shape ``(k,)``.
    """
    tables = copy_tables(cells.matrix, cells.counts, pairs, side)
    rows = tables.reshape(len(tables), len(LEVELS) ** 2 * 2, 2)
    hits, total = rows[:, :, 0], rows.sum(2)
    left, right, close = _features()
    both = (np.minimum(LEVELS[left], LEVELS[right]) >= min_copies)[:, None].astype(np.float64)
    one, other = _classes(left), _classes(right)
    constant = np.ones((len(left), 1))
    near = close[:, None].astype(np.float64)
    designs = {
        "left": [constant, one],
        "right": [constant, other],
        "genes": [constant, one, other],
        "genes_both": [constant, one, other, both],
        "genes_pair": [constant, one, other, near],
    }
    found: dict[str, DoubleArray] = {}
    for name, parts in designs.items():
        predictor = fit_grouped(np.hstack(parts), hits, total)
        found[f"d2_{name}"] = deviance_explained(predictor, hits, total)
        found[f"auroc_{name}"] = grouped_auroc(predictor, hits, total)
    presence: DoubleArray = np.broadcast_to(near.T, total.shape)
    found["auroc_pair"] = grouped_auroc(presence, hits, total)
    return found


def _features() -> tuple[LongArray, LongArray, LongArray]:
    """Return class of the left copies, of the right copies and co-occurrence of each row."""
    n = len(LEVELS)
    left, right, close = np.indices((n, n, 2)).reshape(3, -1)
    return left, right, close


def _classes(level: LongArray) -> DoubleArray:
    """Return one column per class of copies but the first."""
    indicators: DoubleArray = (level[:, None] == np.arange(1, len(LEVELS))).astype(np.float64)
    return indicators
