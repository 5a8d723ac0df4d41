"""Niche targets and the validation score, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.arrays import CellTokens
from spatialformer_core.trainer import NicheRecipe, auroc
from spatialformer_core.trainer.niche import expression, niche_values, principal_axes


def test_expression_is_log_of_counts_per_hundred():
    cells = CellTokens(
        np.array([0, 2, 2, 3]),
        np.array([3, 1, 2], np.int32),
        np.array([3, 1, 7], np.int32),
        np.zeros((3, 4), np.int32),
    )
    found = expression(cells, 4).toarray()
    expected = np.log1p([[0, 25, 0, 75], [0, 0, 0, 0], [0, 0, 100, 0]])
    np.testing.assert_allclose(found, expected)


def test_principal_axes_span_what_varies_most(corpus):
    x = expression(corpus.cells(corpus.rows("train")), len(corpus.vocabulary))
    mean, axes = principal_axes(x, 3, np.random.default_rng(0))
    dense = x.toarray()
    np.testing.assert_allclose(mean, dense.mean(0))
    _, _, expected = np.linalg.svd(dense - dense.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs((axes.T * expected[:3]).sum(1)), 1, atol=1e-6)


def test_niche_values_are_standardised_ring_means(corpus):
    recipe = NicheRecipe(components=2)
    found = niche_values(corpus, recipe, seed=0)
    train = corpus.rows("train")
    assert found.values.shape == (corpus.n_cells, 2 * 2 + 2)
    known = found.known[train] > 0
    for k in range(6):
        column = found.values[train][known[:, k], k]
        assert column.mean() == pytest.approx(0, abs=1e-4)
        assert column.std() == pytest.approx(1, abs=1e-3)


def test_niche_values_follow_the_neighbours(corpus):
    found = niche_values(corpus, NicheRecipe(components=2), seed=0)
    x = expression(corpus.cells(np.arange(corpus.n_cells)), len(corpus.vocabulary)).toarray()
    train = corpus.rows("train")
    _, axes = principal_axes(
        expression(corpus.cells(train), len(corpus.vocabulary)), 2, np.random.default_rng(0)
    )
    xy = np.concatenate([shard.xy_um for shard in corpus.shards])
    slide = corpus.slide_of(np.arange(corpus.n_cells))
    raw = []
    for row in train:
        apart = np.hypot(*(xy[train] - xy[row]).T)
        near = train[(apart <= 30) & (train != row) & (slide[train] == slide[row])]
        raw.append((x[near] @ axes).mean(0) if len(near) else [np.nan, np.nan])
    raw = np.array(raw)
    known = found.known[train, 0] > 0
    np.testing.assert_array_equal(known, ~np.isnan(raw[:, 0]))
    for k in range(2):
        r = np.corrcoef(raw[known, k], found.values[train][known, k])[0, 1]
        assert r == pytest.approx(1, abs=1e-5)


def test_auroc_counts_ties_half():
    # Of 2 x 2 comparisons: 3 > 1, 3 > 2, 2 > 1 and one tie.
    score = auroc(np.array([3, 2], np.float32), np.array([1, 2], np.float32))
    assert score == pytest.approx(3.5 / 4)


def test_auroc_against_all_comparisons():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 9, 40), rng.integers(0, 7, 30)
    difference = positive[:, None] - negative[None]
    expected = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert auroc(positive.astype(np.float32), negative.astype(np.float32)) == pytest.approx(
        expected
    )
