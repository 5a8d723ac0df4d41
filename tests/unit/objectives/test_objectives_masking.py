"""Which tokens are hidden, and by what."""

from __future__ import annotations

import numpy as np

from spatialformer_core.objectives import mask_tokens

MASK = 2


def hide(tokens, seed=(0, 0), fraction=0.15):
    return mask_tokens(tokens, gene_offset=9, n_tokens=100, seed=seed, fraction=fraction)


def test_special_tokens_are_never_chosen():
    # PAD, CLS, MASK, SEP, UNKNOWN, then a sample word and a gene.
    tokens = np.tile(np.arange(7), 3000)
    found = hide(tokens, fraction=0.99)
    assert set(tokens[found.positions].tolist()) == {5, 6}
    untouched = tokens < 5
    assert (found.tokens[untouched] == tokens[untouched]).all()


def test_shares_are_15_percent_and_80_10_10():
    tokens = np.full(200_000, 50, np.int64)
    found = hide(tokens)
    now = found.tokens[found.positions]
    assert abs(len(found.positions) / len(tokens) - 0.15) < 0.003
    assert abs((now == MASK).mean() - 0.8) < 0.01
    # A random gene is the true one in 1 of 91 draws.
    assert abs((now == 50).mean() - (0.1 + 0.1 / 91)) < 0.01
    other = now[(now != MASK) & (now != 50)]
    assert other.min() >= 9
    assert other.max() <= 99


def test_targets_are_the_true_tokens_and_the_input_is_left_alone():
    tokens = np.random.default_rng(0).integers(9, 100, 500)
    before = tokens.copy()
    found = hide(tokens)
    assert (tokens == before).all()
    assert (found.targets == tokens[found.positions]).all()
    rest = np.setdiff1d(np.arange(500), found.positions)
    assert (found.tokens[rest] == tokens[rest]).all()


def test_the_choice_follows_from_the_seed_alone():
    tokens = np.full(400, 20, np.int64)
    np.testing.assert_array_equal(hide(tokens, (3, 7)).tokens, hide(tokens, (3, 7)).tokens)
    assert (hide(tokens, (3, 7)).tokens != hide(tokens, (3, 8)).tokens).any()
