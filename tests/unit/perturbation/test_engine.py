import numpy as np
import pytest

from spatialformer_core.errors import Cancelled
from spatialformer_core.perturbation import engine
from spatialformer_core.perturbation.engine import exact_effects
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.knockouts import knock_out
from spatialformer_core.perturbation.targets import every_token
from spatialformer_core.vocabulary import MASK


@pytest.fixture(scope="module")
def small(lab):
    rng = np.random.default_rng(1)
    expressed = rng.random((6, lab.n_genes)) < 0.6
    expressed[:, 4] = True
    expressed[:, 11] = False
    return lab.cells(expressed, rng)


def without(cells, cell, gene_position):
    one = cells.take(np.array([cell]))
    return one.without(np.array([gene_position]))


def test_equals_a_naive_loop_over_every_knock_out(lab, small):
    scorer = lab.random_scorer(np.random.default_rng(2))
    left, right = np.array([0, 0, 3]), np.array([1, 4, 5])

    def logit(a, b):
        return scorer.score(scorer.encode(a), scorer.encode(b))[0]

    for effects in exact_effects(scorer, small, left, right):
        a, b = left[effects.number], right[effects.number]
        whole_a, whole_b = small.take(np.array([a])), small.take(np.array([b]))
        reference = logit(whole_a, whole_b)
        assert effects.reference == pytest.approx(reference, abs=1e-5)
        for i in range(small.lengths[a]):
            d_i = logit(without(small, a, i), whole_b) - reference
            assert effects.d_left[i] == pytest.approx(d_i, abs=1e-5)
            for j in range(small.lengths[b]):
                d_j = logit(whole_a, without(small, b, j)) - reference
                d_ij = logit(without(small, a, i), without(small, b, j)) - reference
                assert effects.d_right[j] == pytest.approx(d_j, abs=1e-5)
                assert effects.d_pair[i, j] == pytest.approx(d_ij, abs=1e-5)
                assert effects.interaction[i, j] == pytest.approx(d_ij - d_i - d_j, abs=2e-5)


def test_a_planted_and_has_the_effects_worked_out_by_hand(lab):
    # Both genes of the AND (weight 2) and one additive gene (1.5) on each side.
    expressed = np.zeros((2, lab.n_genes), bool)
    expressed[0, [0, 2]] = expressed[1, [1, 3]] = True
    cells = lab.cells(expressed, np.random.default_rng(0))
    (effects,) = exact_effects(lab.scorer(), cells, np.array([0]), np.array([1]))
    i = int(np.flatnonzero(effects.left == lab.offset + 0)[0])
    j = int(np.flatnonzero(effects.right == lab.offset + 1)[0])
    assert effects.reference == pytest.approx(2.0 + 3.0)
    # Either gene alone already undoes the AND: a joint requirement has epsilon > 0 where d < 0.
    assert effects.d_left[i] == effects.d_right[j] == pytest.approx(-2.0)
    assert effects.d_pair[i, j] == pytest.approx(-2.0)
    assert effects.interaction[i, j] == pytest.approx(2.0)
    assert effects.d_left[1 - i] == pytest.approx(-1.5)
    assert effects.interaction[1 - i, 1 - j] == pytest.approx(0.0, abs=1e-6)


def test_swapping_the_cells_transposes_the_effects(lab, small):
    scorer = lab.random_scorer(np.random.default_rng(3))
    (there,) = exact_effects(scorer, small, np.array([0]), np.array([1]))
    (back,) = exact_effects(scorer, small, np.array([1]), np.array([0]))
    np.testing.assert_allclose(back.d_pair, there.d_pair.T, atol=1e-5)
    np.testing.assert_allclose(back.mirrored().d_left, there.d_left, atol=1e-5)
    np.testing.assert_array_equal(back.left, there.right)


def test_variants_delete_one_gene_each_and_keep_the_order(lab):
    expressed = np.zeros((2, lab.n_genes), bool)
    expressed[0, [1, 5, 7]] = expressed[1, [2]] = True
    cells = lab.cells(expressed, np.random.default_rng(0))
    made = knock_out(cells.take(np.array([1, 0])), every_token(cells), "delete").versions
    full = cells.row(0).tolist()
    rows = [made.row(k).tolist() for k in range(made.n_cells)]
    assert rows == [
        cells.row(1).tolist(),
        [],
        full,
        full[1:],
        [full[0], full[2]],
        full[:2],
    ]


def test_mask_keeps_positions_and_hides_name_and_magnitude(lab):
    expressed = np.zeros((1, lab.n_genes), bool)
    expressed[0, [1, 5, 7]] = True
    cells = lab.cells(expressed, np.random.default_rng(0))
    made = knock_out(cells, every_token(cells), "mask").versions
    assert made.lengths.tolist() == [3, 3, 3, 3]
    for position in range(3):
        row, counts = made.row(position + 1), made.counts[3 * (position + 1) :][:3]
        assert row[position] == MASK
        assert counts[position] == 0
        others = np.delete(np.arange(3), position)
        np.testing.assert_array_equal(row[others], cells.row(0)[others])
    np.testing.assert_array_equal(cells.tokens, made.row(0))


def test_encodings_are_shared_by_the_pairs_of_a_cell(lab, small):
    scorer = lab.scorer()
    list(exact_effects(scorer, small, np.array([0, 0, 0]), np.array([1, 2, 1])))
    assert scorer.encoded_cells == int(small.lengths[[0, 1, 2]].sum() + 3)


def test_chunks_and_batches_change_nothing(lab, small, monkeypatch):
    scorer = lab.random_scorer(np.random.default_rng(4))
    left, right = np.array([0, 0, 1, 2, 3]), np.array([1, 2, 5, 4, 5])
    whole = list(exact_effects(scorer, small, left, right))
    monkeypatch.setattr(engine, "MAX_VARIANTS", 20)
    pieces = Evaluator(scorer, cells_per_call=3, pairs_per_call=5)
    parts = list(exact_effects(pieces, small, left, right))
    assert [e.number for e in parts] == [0, 1, 2, 3, 4]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.d_pair, other.d_pair, atol=1e-6)


def test_cancel_stops_between_cell_pairs(lab, small):
    asked = iter([False] * 4 + [True] * 10)
    pairs = exact_effects(
        lab.scorer(), small, np.array([0] * 5), np.array([1] * 5), cancel=lambda: next(asked)
    )
    with pytest.raises(Cancelled):
        list(pairs)
