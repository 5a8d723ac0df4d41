"""Targets of the niche loss: what the neighbours of a cell look like, on average.

Predicting them from the cell's own embedding is training only; it was worth .01 AUROC to two
towers (design reference, co-localisation). Everything is fitted on training cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from spatialformer_core.arrays import CellTokens, DoubleArray, FloatArray
from spatialformer_core.corpus import Corpus
from spatialformer_core.trainer.recipe import NicheRecipe

_SCALE = 100.0
_FIT_CELLS = 20_000
_LEAST_SPREAD = 1e-2


@dataclass(frozen=True, slots=True)
class NicheValues:
    """Niche targets of all rows of a corpus.

    Attributes
    ----------
    values
        Per ring the mean components of the neighbours, then the log of their numbers, all with
        mean 0 and variance 1 over the training cells, shape ``(n_cells, targets)``.
    known
        0.0 where a cell has no neighbour in a ring and hence no mean, shape as ``values``.
    """

    values: FloatArray
    known: FloatArray


def count_matrix(cells: CellTokens, n_tokens: int) -> sp.csr_matrix:
    """Return raw counts, cells x tokens."""
    shape = (cells.n_cells, n_tokens)
    return sp.csr_matrix((cells.counts, cells.tokens, cells.indptr), shape=shape)


def expression(cells: CellTokens, n_tokens: int) -> sp.csr_matrix:
    """Return ``log1p(counts per hundred)``, cells x tokens."""
    owner = np.repeat(np.arange(cells.n_cells), cells.lengths)
    totals = np.bincount(owner, weights=cells.counts, minlength=cells.n_cells)
    scaled = cells.counts * (_SCALE / totals[owner])
    shape = (cells.n_cells, n_tokens)
    return sp.csr_matrix((np.log1p(scaled), cells.tokens, cells.indptr), shape=shape)


@dataclass(frozen=True, slots=True)
class Levels:
    """``log1p(counts per hundred)`` over training cells, absent genes counting as 0.

    Attributes
    ----------
    mean
        Of each token, shape ``(n_tokens,)``.
    scale
        One over each token's spread, to which a hundredth is added; 1 for a token that no training
        cell has, shape ``(n_tokens,)``.
    depth
        Mean of ``log1p(total)``.
    """

    mean: FloatArray
    scale: FloatArray
    depth: float


def expression_levels(corpus: Corpus) -> Levels:
    """Measure the levels of a corpus' training cells."""
    cells = corpus.cells(corpus.rows("train"))
    x = expression(cells, len(corpus.vocabulary))
    totals = np.asarray(count_matrix(cells, x.shape[1]).sum(axis=1)).ravel()
    mean, square = (np.asarray(part.mean(axis=0)).ravel() for part in (x, x.multiply(x)))
    spread = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    scale = np.where(spread > 0, 1.0 / (spread + _LEAST_SPREAD), 1.0)
    depth = float(np.log1p(totals).mean())
    return Levels(mean.astype(np.float32), scale.astype(np.float32), depth)


def principal_axes(
    x: sp.csr_matrix, n_components: int, rng: np.random.Generator
) -> tuple[DoubleArray, DoubleArray]:
    """Return mean and principal axes ``(n_tokens, n_components)`` of at most 20,000 rows."""
    n = x.shape[0]
    sample = x[np.sort(rng.choice(n, min(n, _FIT_CELLS), replace=False))]
    mean = np.asarray(sample.mean(axis=0)).ravel()
    second = np.asarray((sample.T @ sample).todense()) / sample.shape[0]
    _, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    return mean, vectors[:, ::-1][:, :n_components]


def niche_values(corpus: Corpus, recipe: NicheRecipe, seed: int) -> NicheValues:
    """Compute the niche targets of all rows.

    Parameters
    ----------
    corpus
        A cell's neighbours are those of its own slide and split.
    recipe
        Components and rings.
    seed
        Of the sample of cells that the components are fitted on.
    """
    train = corpus.rows("train")
    x = expression(corpus.cells(np.arange(corpus.n_cells)), len(corpus.vocabulary))
    mean, axes = principal_axes(x[train], recipe.components, np.random.default_rng(seed))
    scores = np.asarray(x @ axes) - mean @ axes
    found = corpus.niche_targets(scores.astype(np.float32), recipe.rings_um)
    n, n_rings, n_components = found.means.shape
    values = np.hstack(
        [found.means.reshape(n, -1).astype(np.float64), np.log1p(found.counts)],
    )
    known = np.hstack(
        [np.repeat(found.counts > 0, n_components, axis=1), np.ones((n, n_rings), np.bool_)]
    ).astype(np.float64)
    weight = np.maximum(known[train].sum(0), 1)
    centre = (values * known)[train].sum(0) / weight
    spread = np.sqrt((np.square(values - centre) * known)[train].sum(0) / weight) + 1e-6
    return NicheValues(((values - centre) / spread).astype(np.float32), known.astype(np.float32))
