"""The pairs of a step, against all distances."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.cell_graph import EASY, HARD, POSITIVE
from spatialformer_core.trainer import TrainRecipe
from spatialformer_core.trainer.sampling import (
    Distances,
    cross_draw,
    pair_weights,
    pairs_among,
    shuffled_draw,
    tower_draw,
)


def recipe(architecture: str, **changes) -> TrainRecipe:
    values = {
        "name": "toy",
        "corpus": "toy",
        "model": {"architecture": architecture, "preset": "tiny"},
        "steps": 5,
        "seeds_per_step": 20,
    }
    return TrainRecipe.model_validate({**values, **changes})


def test_all_near_and_hard_pairs_are_found():
    xy = np.random.default_rng(0).uniform(0, 400, (60, 2)).astype(np.float32)
    pairs, kinds = pairs_among(xy, Distances(30.0, (80.0, 150.0)), np.random.default_rng(1))
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    upper = np.triu(np.ones((60, 60), bool), 1)
    for kind, wanted in ((POSITIVE, apart <= 30), (HARD, (apart >= 80) & (apart <= 150))):
        found = {tuple(sorted(p)) for p in pairs[kinds == kind].tolist()}
        assert found == {tuple(p) for p in np.argwhere(wanted & upper).tolist()}
    easy = pairs[kinds == EASY]
    assert len(easy) == 2 * (kinds == POSITIVE).sum()
    assert (apart[easy[:, 0], easy[:, 1]] > 30).all()


def test_weights_give_half_to_neighbours_and_the_share_to_hard():
    kinds = np.array([POSITIVE, HARD, HARD, EASY])
    # 0.5 for the neighbour, 0.5 * 0.4 for two hard ones, 0.5 * 0.6 for the easy one.
    expected = {POSITIVE: 0.5, HARD: 0.1, EASY: 0.3}
    np.testing.assert_allclose(pair_weights(kinds, 0.4), [expected[k] for k in kinds])
    # Without hard ones the rest is scaled to 1 again: 0.5 and 0.3 become 0.625 and 0.375.
    found = pair_weights(np.array([POSITIVE, EASY]), 0.4)
    np.testing.assert_allclose(found, [0.625, 0.375])


@pytest.mark.parametrize(
    ("draw_of", "architecture"), [(tower_draw, "two-tower"), (cross_draw, "cross-encoder")]
)
def test_steps_see_training_cells_of_one_slide_per_pair(corpus, draw_of, architecture):
    draw = draw_of(corpus, recipe(architecture))
    xy = np.concatenate([shard.xy_um for shard in corpus.shards])
    for step in range(3):
        drawn = draw(step)
        assert (corpus.split[drawn.rows] == 0).all()
        left, right = drawn.rows[drawn.left], drawn.rows[drawn.right]
        assert (corpus.slide_of(left) == corpus.slide_of(right)).all()
        near = np.hypot(*(xy[left] - xy[right]).T) <= 30
        np.testing.assert_array_equal(near, drawn.label == 1)
        assert drawn.weight.sum() == pytest.approx(1, abs=1e-5)
        assert drawn.weight[drawn.label == 1].sum() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("draw_of", "architecture"), [(tower_draw, "two-tower"), (cross_draw, "cross-encoder")]
)
def test_a_step_is_the_same_whenever_it_is_drawn(corpus, draw_of, architecture):
    one, two = (draw_of(corpus, recipe(architecture)) for _ in range(2))
    two(0)
    for name in ("rows", "left", "right", "label"):
        np.testing.assert_array_equal(getattr(one(2), name), getattr(two(2), name))
    assert one(2).rows.tolist() != one(3).rows.tolist()


def test_towers_get_each_cell_once(corpus):
    drawn = tower_draw(corpus, recipe("two-tower"))(0)
    assert len(np.unique(drawn.rows)) == len(drawn.rows)


def test_either_cell_of_a_pair_comes_first(corpus):
    drawn = cross_draw(corpus, recipe("cross-encoder", seeds_per_step=100))(0)
    n = len(drawn.label)
    # The four pairs of a group share their anchor; unswapped it would always be on the left.
    groups = drawn.rows[:n].reshape(-1, 4)
    assert 0 < (groups == groups[:, :1]).all(1).mean() < 0.5


def test_shuffled_labels_say_nothing_of_distance_and_keep_their_number_and_weight(corpus):
    own = recipe("two-tower", seeds_per_step=60)
    draw = tower_draw(corpus, own)
    shuffled = shuffled_draw(draw, own.seed)
    before, after = draw(1), shuffled(1)
    np.testing.assert_array_equal(before.left, after.left)
    assert sorted(zip(before.label, before.weight, strict=True)) == sorted(
        zip(after.label, after.weight, strict=True)
    )
    again = shuffled(1)
    np.testing.assert_array_equal(after.label, again.label)
    # Labels agree as often as chance has it.
    share = before.label.mean()
    chance = share**2 + (1 - share) ** 2
    assert abs((before.label == after.label).mean() - chance) < 0.06
