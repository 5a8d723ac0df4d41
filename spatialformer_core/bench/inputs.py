"""Made-up tissue for timing: what matters here is sizes and distances, not biology.

Numbers follow a Xenium section of a human tissue with the 343-gene lung panel: 120 transcripts
and 69 genes per cell, 4,500 cells per square millimetre.
"""

from __future__ import annotations

import numpy as np

from spatialformer_core.arrays import DoubleArray, FloatArray, GenePairs, IntArray, LongArray
from spatialformer_core.config import SampleMetadata
from spatialformer_core.cooccurrence import Molecules
from spatialformer_core.corpus import CorpusSlide
from spatialformer_core.io.records import Csr

CELLS_PER_MM2 = 4_500.0
_MIN_TRANSCRIPTS = 30
_N_TYPES = 20


def molecules(
    n_cells: int, *, per_cell: float = 120.0, n_genes: int = 343, seed: int = 0
) -> Molecules:
    """Make elliptic cells of 20 types; half of the genes keep to the middle or to one pole."""
    rng = np.random.default_rng(seed)
    side_um = float(np.sqrt(n_cells / CELLS_PER_MM2) * 1e3)
    n = np.maximum(_MIN_TRANSCRIPTS, rng.gamma(2.2, per_cell / 2.2, n_cells)).astype(np.int64)
    indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(n, out=indptr[1:])
    gene = _genes(rng, n, n_genes)
    xyz = np.empty((len(gene), 3), np.float32)
    _place(rng, xyz, gene, n, side_um)
    return Molecules(xyz, gene, indptr, n_genes)


def cell_of(molecules: Molecules, number: int) -> tuple[FloatArray, IntArray]:
    """Return positions and genes of one cell."""
    at = slice(molecules.indptr[number], molecules.indptr[number + 1])
    return np.asarray(molecules.xyz_um[at], np.float32), np.asarray(molecules.gene[at], np.int32)


def _genes(rng: np.random.Generator, n: LongArray, n_genes: int) -> IntArray:
    """Draw genes from one Zipf-like profile per type."""
    base = 1.0 / np.arange(1, n_genes + 1) ** 0.9
    weights = rng.gamma(0.6, 1.0, (_N_TYPES, n_genes))
    profiles = np.stack([rng.permutation(base) * weight for weight in weights])
    cdf = np.cumsum(profiles, 1)
    cdf /= cdf[:, -1:]
    kind = np.repeat(rng.integers(0, _N_TYPES, len(n)).astype(np.int8), n)
    gene = np.empty(len(kind), np.int32)
    for one in range(_N_TYPES):
        here = np.flatnonzero(kind == one)
        gene[here] = np.searchsorted(cdf[one], rng.random(len(here), np.float32))
    return np.minimum(gene, n_genes - 1, out=gene)


def _place(
    rng: np.random.Generator, xyz: FloatArray, gene: IntArray, n: LongArray, side_um: float
) -> None:
    n_cells, m = len(n), len(gene)
    place = rng.integers(0, 4, gene.max(initial=0) + 1)[gene]
    radius = np.sqrt(rng.random(m, np.float32))
    radius[place == 2] *= 0.55
    angle = rng.random(m, np.float32) * np.float32(2 * np.pi)
    angle[place == 3] = 0.6 * rng.standard_normal(int((place == 3).sum()), np.float32)
    for axis, (low, high) in enumerate([(4.5, 9.0), (3.5, 6.5)]):
        turn = np.cos(angle) if axis == 0 else np.sin(angle)
        half_um = rng.uniform(low, high, n_cells).astype(np.float32)
        centre_um = rng.uniform(0, side_um, n_cells).astype(np.float32)
        xyz[:, axis] = np.repeat(centre_um, n) + np.repeat(half_um, n) * radius * turn
    xyz[:, 2] = rng.random(m, np.float32) * 6


def counts(n_cells: int, n_genes: int, *, genes_per_cell: float = 69.0, seed: int = 0) -> Csr:
    """Return a sparse matrix of raw counts with about ``genes_per_cell`` genes in each cell."""
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    weights = rng.permutation(1.0 / np.arange(1, n_genes + 1) ** 0.8)
    weights /= weights.sum()
    # Distinct genes for many cells at once: shared orders of a few thousand draws.
    keys = np.log(weights) + rng.gumbel(size=(min(2_000, n_cells), n_genes))
    orders = np.argsort(-keys, 1).astype(np.int32)
    share = 6 / (6 + genes_per_cell)
    length = np.clip(rng.negative_binomial(6, share, n_cells), 10, n_genes * 7 // 10)
    indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(length, out=indptr[1:])
    indices = np.concatenate(
        [np.sort(orders[cell % len(orders), :k]) for cell, k in enumerate(length)]
    )
    data = rng.geometric(0.6, indptr[-1]).astype(np.int32)
    return sp.csr_matrix((data, indices, indptr), shape=(n_cells, n_genes))


def clumpy_points(n: int, *, seed: int = 0) -> DoubleArray:
    """Return cell centres, 70 % of them in clumps of 150 um, shape ``(n, 2)``, in um."""
    rng = np.random.default_rng(seed)
    side_um = float(np.sqrt(n / CELLS_PER_MM2) * 1e3)
    centres = rng.uniform(0, side_um, (max(1, n // 600), 2))
    clumped = rng.random(n) < 0.7
    xy = rng.uniform(0, side_um, (n, 2))
    chosen = centres[rng.integers(0, len(centres), int(clumped.sum()))]
    xy[clumped] = chosen + rng.normal(0, 150.0, chosen.shape)
    return xy


def made_up_slide(n_cells: int) -> CorpusSlide:
    """Return a corpus slide of cells with about 69 genes and 4 co-occurring pairs each."""
    rng = np.random.default_rng(0)
    matrix = counts(n_cells, 343)
    xy = clumpy_points(n_cells)
    x = xy[:, 0]
    low, high = np.quantile(x, [0.7, 0.75])
    split = np.select([x < low, x > high], [0, 1], -1).astype(np.int8)
    sample = SampleMetadata(
        donor="d", block="1", condition="Healthy", tissue="Lung", species="Human", assay="Xenium"
    )
    # Four gene pairs per cell among its expressed genes.
    place = np.sort(rng.random((n_cells, 4, 2)), 2)
    first, degree = matrix.indptr[:-1, None, None], np.diff(matrix.indptr)[:, None, None]
    genes = np.sort(matrix.indices[first + (place * degree).astype(np.int64)], 2)
    cells, k = np.nonzero(genes[..., 0] < genes[..., 1])
    keys = np.unique((cells * 343 + genes[cells, k, 0].astype(np.int64)) * 343 + genes[cells, k, 1])
    per_cell = np.bincount(keys // 343**2, minlength=n_cells)
    pairs = GenePairs(
        np.concatenate([[0], np.cumsum(per_cell)]),
        (keys // 343 % 343).astype(np.int32),
        (keys % 343).astype(np.int32),
    )
    names = tuple(f"G{i:03d}" for i in range(343))
    kept = np.ones(n_cells, np.bool_)
    return CorpusSlide("made-up", sample, names, matrix, xy, kept, split, pairs)
