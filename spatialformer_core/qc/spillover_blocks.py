"""Two tests over blocks of tissue: near against far cells, and the edge of the near cells.

Neighbouring cells resemble each other, and a type may express a gene in one corner of the tissue
only. So cells are compared within blocks, and a block is one observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray

_DEPTH_BINS = 8
_MIN_EDGE_BLOCKS = 4

Csr = Any


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Cells of one type, near or far from one source.

    Attributes
    ----------
    near
        Whether a cell is near, shape ``(n,)``.
    block
        Block of tissue of each cell, from 0, shape ``(n,)``.
    depth_bin
        Bin of the cell's number of transcripts, from 0, shape ``(n,)``.
    n_bins
        Number of bins.
    """

    near: BoolArray
    block: LongArray
    depth_bin: LongArray
    n_bins: int

    @classmethod
    def of(
        cls,
        xy_um: DoubleArray,
        near: BoolArray,
        n_transcripts: NDArray[Any],
        block_um: float,
    ) -> Neighbourhood:
        """Place cells in square blocks and in depth bins of equal size."""
        corner = np.floor(np.asarray(xy_um) / block_um).astype(np.int64)
        _, block = np.unique(corner, axis=0, return_inverse=True)
        inner = np.quantile(n_transcripts, np.linspace(0, 1, _DEPTH_BINS + 1)[1:-1])
        bins = np.searchsorted(np.unique(inner), n_transcripts, side="right").astype(np.int64)
        return cls(near, block.ravel().astype(np.int64), bins, int(bins.max()) + 1)


def near_test(detected: Csr, here: Neighbourhood, min_blocks: int) -> dict[str, DoubleArray]:
    """Compare the detection of genes in near and far cells of the same blocks.

    A block's score is the excess of detections in its near cells over what its cells have on
    average, each cell's detection taken relative to the mean of its depth bin.

    Parameters
    ----------
    detected
        Sparse boolean, cells x genes.
    here
        The cells.
    min_blocks
        Blocks with near and far cells that a p-value needs.

    Returns
    -------
    dict
        ``odds_ratio``, one-sided ``p``, ``rate_near`` and ``rate_far``, shape ``(n_genes,)``.
    """
    n_near = np.bincount(here.block, weights=here.near)
    size = np.bincount(here.block)
    mixed = (n_near > 0) & (n_near < size)
    weight = np.where(mixed[here.block], here.near - (n_near / size)[here.block], 0.0)
    # Rows: blocks, then the depth bins of near cells, then those of far cells.
    bins = 2 * here.n_bins
    cell_bin = np.where(here.near, here.depth_bin, here.n_bins + here.depth_bin)
    sums = _sums([(here.block, weight, len(size)), (cell_bin, np.ones(len(weight)), bins)])
    found = (sums @ detected.astype(np.float64)).toarray()
    score, by_bin = np.split(found, [len(size)])
    near, far = np.split(by_bin, 2)
    n_bin = np.bincount(cell_bin, minlength=bins).reshape(2, here.n_bins)
    mean = (near + far) / np.maximum(n_bin.sum(axis=0), 1)[:, None]
    weights = np.zeros((len(size), here.n_bins))
    np.add.at(weights, (here.block, here.depth_bin), weight)
    used = np.broadcast_to(mixed[:, None], score.shape)
    return {
        "odds_ratio": _odds_ratio(near, far, n_bin),
        "p": _one_sided(score - weights @ mean, used, min_blocks),
        "rate_near": near.sum(axis=0) / max(n_bin[0].sum(), 1),
        "rate_far": far.sum(axis=0) / max(n_bin[1].sum(), 1),
    }


def edge_test(
    counts: tuple[Csr, Csr], deep_share: DoubleArray, placement: DoubleArray, here: Neighbourhood
) -> dict[str, DoubleArray]:
    """Test whether the near cells' copies of a gene lie nearer to the border than expected.

    Parameters
    ----------
    counts
        All and deep copies, CSR, cells x genes.
    deep_share
        Share of each cell's transcripts that lie deep, shape ``(n,)``.
    placement
        How deep each gene lies in its own source cells (1 = like other genes), ``(n_genes,)``.
    here
        The cells; far ones take no part.

    Returns
    -------
    dict
        ``edge_ratio`` (deep copies, observed over expected) and one-sided ``p_edge``.
    """
    every, deep = counts
    near, n_blocks = here.near.astype(np.float64), int(here.block.max()) + 1
    both = _sums([(here.block, near * deep_share, n_blocks), (here.block, near, n_blocks)])
    expected, copies = np.split((both @ every).toarray(), 2)
    expected = expected * placement
    found = (_sums([(here.block, near, n_blocks)]) @ deep).toarray()
    total = expected.sum(axis=0)
    ratio = np.divide(found.sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)
    # Blocks without a copy say nothing about where copies lie.
    return {
        "edge_ratio": ratio,
        "p_edge": _one_sided(expected - found, copies > 0, _MIN_EDGE_BLOCKS),
    }


def _sums(groups: list[tuple[LongArray, DoubleArray, int]]) -> Csr:
    """Return the matrix that sums cells by group: ``(group, weight, n_groups)`` of each part."""
    start = np.cumsum([0, *(size for _, _, size in groups)])
    row = np.concatenate([group + start[k] for k, (group, _, _) in enumerate(groups)])
    weight = np.concatenate([weight for _, weight, _ in groups])
    n = len(groups[0][0])
    column = np.tile(np.arange(n), len(groups))
    return sparse.csr_matrix((weight, (row, column)), shape=(int(start[-1]), n))


def _one_sided(scores: DoubleArray, used: BoolArray, least: int) -> DoubleArray:
    """Return the p-value of a mean above 0 over blocks, NaN for genes with too few blocks.

    Parameters
    ----------
    scores, used
        Score of each block and whether it counts, shape ``(n_blocks, n_genes)``.
    """
    n = used.sum(axis=0)
    enough = n >= max(least, 2)
    count = np.maximum(n, 2)
    mean = np.where(used, scores, 0.0).sum(axis=0) / count
    variance = np.where(used, (scores - mean) ** 2, 0.0).sum(axis=0) / (count - 1)
    error = np.sqrt(variance / count)
    t = np.divide(mean, error, out=np.zeros(len(error)), where=error > 0)
    p: DoubleArray = np.where(enough, stats.t.sf(t, count - 1), np.nan)
    return p


def _odds_ratio(near: DoubleArray, far: DoubleArray, size: LongArray) -> DoubleArray:
    """Return the Mantel-Haenszel odds ratio over depth bins, half a cell added to both sums.

    Parameters
    ----------
    near, far
        Cells of each bin that hold the gene, shape ``(n_bins, n_genes)``.
    size
        Near and far cells of each bin, shape ``(2, n_bins)``.
    """
    n_near, n_far = size[0][:, None], size[1][:, None]
    n = np.maximum(n_near + n_far, 1)
    above = (near * (n_far - far) / n).sum(axis=0)
    below = (far * (n_near - near) / n).sum(axis=0)
    ratio: DoubleArray = (above + 0.5) / (below + 0.5)
    return ratio
