"""Training in stages: the expression path alone, then the blocks beside it."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.model import load_checkpoint
from spatialformer_core.trainer import Background, fit
from spatialformer_core.trainer.niche import expression_levels
from spatialformer_core.trainer.sampling import Distances, even_weights, pairs_among

REAL = Background(simulated=False)
CLEAN = {"mask_fraction": 0, "cooccurrence": False, "niche": {"components": 2}}
ALONE = {"dropout": 0.0, "expression_width": 8, "blocks_trained": False}


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    model = {"architecture": "two-tower", "preset": "tiny", "changes": ALONE}
    return partial(toy_recipe, model=model, objectives=CLEAN, steps=5)


@pytest.fixture(scope="module")
def beside(recipe):
    """Return the maker of a run that continues ``first``."""

    def make(changes, **more):
        model = {"architecture": "two-tower", "preset": "tiny", "changes": changes}
        return recipe(model=model, continue_from="first", **more)

    return make


def test_the_scale_is_one_over_the_spread_of_the_training_cells(corpus):
    cells = corpus.cells(corpus.rows("train"))
    levels = expression_levels(corpus)
    found = levels.scale
    dense = np.zeros((cells.n_cells, len(corpus.vocabulary)))
    for k in range(cells.n_cells):
        at = slice(cells.indptr[k], cells.indptr[k + 1])
        dense[k, cells.tokens[at]] = np.log1p(100 * cells.counts[at] / cells.counts[at].sum())
    seen = dense.any(axis=0)
    np.testing.assert_allclose(found[seen], 1 / (dense[:, seen].std(axis=0) + 0.01), rtol=1e-4)
    assert (found[~seen] == 1).all()
    np.testing.assert_allclose(levels.mean, dense.mean(axis=0), atol=1e-6)
    totals = [cells.counts[i:j].sum() for i, j in itertools.pairwise(cells.indptr)]
    assert levels.depth == pytest.approx(np.log1p(totals).mean())
    assert 0 < seen.sum() < len(seen)


def test_two_stages(corpus, tmp_path, recipe, beside):
    first = load_checkpoint(fit(recipe(), corpus, tmp_path / "first", REAL))
    assert not first.config.blocks_trained
    assert not first.config.token_trained
    assert not first.config.cooccurrence_trained
    assert first.config.pair_trained
    assert float(first.model.expression.gate.abs().max()) == 0
    assert np.allclose(first.model.expression.scale.numpy(), expression_levels(corpus).scale)
    assert "masked-token head" in (tmp_path / "first" / "MODEL_CARD.md").read_text()

    told = Background(simulated=False, start=first)
    full = {"objectives": {"niche": {"components": 2}}}
    out = fit(beside({"blocks_trained": True}, **full), corpus, tmp_path / "second", told)
    second = load_checkpoint(out)
    assert second.config.blocks_trained
    assert second.config.token_trained
    assert second.config.cooccurrence_trained
    assert float(second.model.expression.gate.abs().max()) > 0
    old, new = first.model.state_dict(), second.model.state_dict()
    moved = [name for name in new if name in old and not torch.equal(new[name], old[name])]
    assert any(name.startswith("blocks.") for name in moved)
    assert any(name.startswith("expression.token") for name in moved)
    assert "expression.scale" not in moved


def test_branches_beside_blocks_that_were_trained_before(corpus, tmp_path, recipe, beside):
    """Blocks keep what they and their heads learnt; the paths learn beside them, then all do."""
    plain = {"architecture": "two-tower", "preset": "tiny", "changes": {"dropout": 0.0}}
    blocks = load_checkpoint(fit(recipe(model=plain), corpus, tmp_path / "blocks", REAL))
    changes = {**ALONE, "expression_members": 2, "expression_pair_hidden": 7}
    told = Background(simulated=False, start=blocks)
    model = {**plain, "changes": changes}
    begun = recipe(model=model, warm_start="blocks")
    first = load_checkpoint(fit(begun, corpus, tmp_path / "first", told))
    old, new = blocks.model.state_dict(), first.model.state_dict()
    for name, value in old.items():
        renamed = name.replace("pair_head.", "pair_head.heads.0.")
        renamed = renamed.replace("niche_head.", "niche_head.heads.0.")
        assert torch.equal(new[renamed], value), name
    again = load_checkpoint(fit(begun, corpus, tmp_path / "again", told))
    assert again.id == first.id
    last = beside({"blocks_trained": True})
    out = fit(last, corpus, tmp_path / "last", Background(simulated=False, start=first))
    joined = load_checkpoint(out).model.state_dict()
    for part in ("pair_head.heads.0.", "pair_head.heads.2.", "members.1.", "blocks.0."):
        assert any(not torch.equal(joined[k], new[k]) for k in new if k.startswith(part)), part


def test_the_first_stage_leaves_the_blocks_as_they_came(corpus, tmp_path, recipe):
    one = load_checkpoint(fit(recipe(steps=1), corpus, tmp_path / "one", REAL))
    five = load_checkpoint(fit(recipe(), corpus, tmp_path / "five", REAL))
    old, new = one.model.state_dict(), five.model.state_dict()
    for name in new:
        if name.startswith(("blocks.", "embedding.", "token_head.")):
            assert torch.equal(old[name], new[name]), name
    assert not torch.equal(old["expression.token.weight"], new["expression.token.weight"])


def test_a_stopped_first_stage_ends_with_the_same_bits(corpus, tmp_path, recipe):
    whole = load_checkpoint(fit(recipe(), corpus, tmp_path / "whole", REAL))
    asked = iter([False] * 2)
    with pytest.raises(Cancelled):
        fit(recipe(), corpus, tmp_path / "cut", REAL, cancel=lambda: next(asked, True))
    assert load_checkpoint(fit(recipe(), corpus, tmp_path / "cut", REAL)).id == whole.id


def test_genes_cannot_be_asked_of_blocks_that_are_not_trained(corpus, tmp_path, recipe):
    with pytest.raises(SpatialFormerError, match="blocks_trained"):
        fit(recipe(objectives={"cooccurrence": False}), corpus, tmp_path / "x", REAL)


def test_a_continued_run_keeps_its_shapes(corpus, tmp_path, recipe, beside):
    first = load_checkpoint(fit(recipe(steps=1), corpus, tmp_path / "first", REAL))
    told = Background(simulated=False, start=first)
    with pytest.raises(SpatialFormerError, match="cannot change expression_width"):
        fit(beside({"expression_width": 16}), corpus, tmp_path / "x", told)


def test_hard_pairs_can_be_capped():
    xy_um = np.random.default_rng(0).uniform(0, 400, (300, 2))
    every, kinds = pairs_among(xy_um, Distances(30.0, (80.0, 150.0)), np.random.default_rng(1))
    some, capped = pairs_among(xy_um, Distances(30.0, (80.0, 150.0), 2), np.random.default_rng(1))
    near = kinds == 0
    assert np.array_equal(every[near], some[capped == 0])
    assert (capped == 2).sum() == 2 * near.sum() < (kinds == 2).sum()
    apart = np.hypot(*(xy_um[some[capped == 2, 0]] - xy_um[some[capped == 2, 1]]).T)
    assert apart.min() >= 80
    assert apart.max() <= 150
    assert len(np.unique(some[capped == 2], axis=0)) == (capped == 2).sum()


def test_even_weights_let_every_cell_count_the_same():
    # Cell 0 has three near pairs, cells 1 to 3 one each; one hard pair, two easy ones.
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [0, 4], [3, 4]])
    kinds = np.array([0, 0, 0, 2, 1, 1])
    weight = even_weights(pairs, kinds, 0.5, 5)
    assert weight.sum() == pytest.approx(1)
    np.testing.assert_allclose(weight, [1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 8, 1 / 8], rtol=1e-6)
    # A pair of its own weighs as much as the three of a crowd together.
    apart = np.array([[0, 1], [0, 2], [1, 2], [3, 4]])
    weight = even_weights(apart, np.zeros(4, np.int64), 0.5, 5)
    np.testing.assert_allclose(weight, [0.2, 0.2, 0.2, 0.4], rtol=1e-6)
