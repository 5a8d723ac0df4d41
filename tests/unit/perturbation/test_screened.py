from dataclasses import replace

import numpy as np
import pytest

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import (
    Rates,
    estimate_screen,
    make_plan,
    run_screen,
    screened,
)
from spatialformer_core.perturbation.cost import choose_mode, cost_of
from spatialformer_core.perturbation.engine import (
    Knocking,
    effects_of,
    encoded_pairs,
    exact_logits,
)
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.screened import (
    ROUND_SHARE,
    ROUNDS,
    approximate,
    completed,
    measured_recall,
    recall,
    recall_sample,
)

N_LONG = 60


class LowRank:
    """Logit with singles and an interaction of low rank; counts what it is asked."""

    name = "low rank"

    def __init__(self, rank, seed=0, noise=0.0):
        rng = np.random.default_rng(seed)
        self.pair = sum(
            np.outer(rng.normal(size=N_LONG), rng.normal(size=N_LONG)) * 0.4**k for k in range(rank)
        ) + noise * rng.normal(size=(N_LONG, N_LONG))
        self.single = rng.normal(size=N_LONG)

    def encode(self, cells):
        presence = np.zeros((cells.n_cells, N_LONG))
        presence[np.repeat(np.arange(cells.n_cells), cells.lengths), cells.tokens] = 1.0
        return Rows(presence)

    def score(self, left, right):
        a, b = left.rows, right.rows
        return np.einsum("ni,ij,nj->n", a, self.pair, b) + (a + b) @ self.single

    def score_grid(self, left, right):
        a, b = left.rows, right.rows
        return a @ self.pair @ b.T + (a @ self.single)[:, None] + (b @ self.single)[None, :]


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def take(self, numbers):
        return Rows(self.rows[numbers])


def long_pair(evaluator, how=None):
    tokens = np.concatenate([np.random.default_rng(k).permutation(N_LONG) for k in range(2)])
    cells = CellTokens(
        np.array([0, N_LONG, 2 * N_LONG]),
        tokens.astype(np.int32),
        np.ones(2 * N_LONG, np.int32),
        np.zeros((2, 4), np.int32),
    )
    pairs = encoded_pairs(evaluator, cells, np.array([0]), np.array([1]), how or Knocking())
    return next(iter(pairs))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_interactions_of_rank_two_are_found_from_two_rows_and_columns(rank):
    evaluator = Evaluator(LowRank(rank))
    pair = long_pair(evaluator)
    found = approximate(evaluator, pair)
    # Four rows at most, as some may hold no interaction, and a column for each that does; then
    # one round, which is foretold so well that there is no other.
    lines = 2 * N_LONG + 1 + (4 if rank < 2 else 2) * N_LONG + rank * N_LONG
    assert evaluator.evaluations <= lines + round((N_LONG + 1) ** 2 * ROUND_SHARE)
    np.testing.assert_allclose(found.logits, exact_logits(evaluator, pair), atol=1e-9)


def test_one_gene_pair_alone_is_found_where_its_gene_is_not_the_strongest():
    scorer = LowRank(0)
    scorer.pair[4, 7] = 2.0
    scorer.single[:] = 0.01
    scorer.single[9] = 3.0
    evaluator = Evaluator(scorer)
    pair = long_pair(evaluator)
    found = effects_of(pair, approximate(evaluator, pair).logits)
    i, j = (int(np.flatnonzero(side == g)[0]) for side, g in ((found.left, 4), (found.right, 7)))
    assert found.interaction[i, j] == pytest.approx(2.0)


def test_recall_within_three_hundred_is_measured_against_the_truth():
    evaluator = Evaluator(LowRank(6, noise=0.02))
    pair = long_pair(evaluator)
    exact = effects_of(pair, exact_logits(evaluator, pair))
    before = evaluator.evaluations
    proposed = effects_of(pair, approximate(evaluator, pair).logits)
    assert (evaluator.evaluations - before) * 6.5 < exact.d_pair.size
    found = recall(exact, proposed)
    assert (found["top"], found["within"]) == (100, 300)
    assert found["d"] >= 0.99
    best = np.argsort(-np.abs(exact.interaction), axis=None)[:100]
    guessed = np.argsort(-np.abs(proposed.interaction), axis=None)[:300]
    assert found["epsilon"] == pytest.approx(len(set(best) & set(guessed)) / 100)
    nothing = recall(exact, replace(proposed, d_pair=np.ones_like(exact.d_pair)))
    assert nothing["d"] < 0.5
    both = measured_recall([found, nothing])
    assert both["d"] == pytest.approx((found["d"] + nothing["d"]) / 2)
    assert both["lowest"] <= nothing["d"]


def test_rounds_find_what_two_crosses_miss(monkeypatch):
    gained = []
    for seed in range(6):
        evaluator = Evaluator(LowRank(4, seed))
        pair = long_pair(evaluator)
        exact = effects_of(pair, exact_logits(evaluator, pair))
        found = []
        for rounds in (ROUNDS, 0):
            monkeypatch.setattr(screened, "ROUNDS", rounds)
            guess = effects_of(pair, approximate(evaluator, pair).logits)
            found.append(recall(exact, guess)["epsilon"])
        gained.append(found)
    with_rounds, without = np.array(gained).T
    assert with_rounds.mean() >= 0.99
    assert (with_rounds >= without).all()
    assert without.mean() < with_rounds.mean()


def test_a_matrix_of_low_rank_is_completed_from_half_of_it():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 50))
    known = rng.random(true.shape) < 0.5
    fitted = completed(np.where(known, true, 1e6), known)
    assert np.abs(fitted - true).max() < 0.1 * true.std()
    assert not completed(np.zeros((4, 5)), np.ones((4, 5), bool)).any()


@pytest.fixture(scope="module")
def cross(lab):
    return replace(lab.model, architecture="cross-encoder")


@pytest.mark.parametrize("changes", [{}, {"control": "subtract"}, {"group_right": "A"}])
def test_screened_equals_exact_on_everything_it_reports(lab, cross, changes):
    tissue = lab.tissue(n=900, width=1400.0)
    if "group_right" in changes:
        tissue = replace(tissue, right=tissue.left)
    scorer = lab.random_scorer(np.random.default_rng(3))
    exact, screened = (
        run_screen([tissue], scorer, cross, lab.request(mode=mode, candidates=15, **changes))
        for mode in ("exact", "screened")
    )
    assert exact.info["mode"] == "exact"
    assert screened.info["mode"] == "screened"
    assert len(screened.table) == 15 < len(exact.table)
    assert screened.info["tested"] == len(exact.table)
    both = screened.table.merge(exact.table, on=["gene_left", "gene_right"], suffixes=("", "_x"))
    assert len(both) == 15
    for name in ("d_near", "d_far", "d_diff", "epsilon", "d_left", "d_right", "probability"):
        np.testing.assert_allclose(both[name], both[f"{name}_x"], atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(both.n_pairs, both.n_pairs_x)
    measured = screened.info["measured_recall"]
    assert measured["cell_pairs"] >= 5
    assert f"{measured['d']:.1%}" in screened.info["methods"]
    assert "measured_recall" not in screened.info["not_computed"]


def test_the_planted_pair_is_first_in_a_screened_run_too(lab, cross):
    found = run_screen(
        [lab.tissue()], lab.scorer(), cross, lab.request(mode="screened", candidates=10)
    )
    assert found.info["p_values"]
    best = found.table.sort_values("epsilon_p").iloc[0]
    assert (best.gene_left, best.gene_right) == lab.contact
    assert best.epsilon_q < 0.05
    assert found.info["measured_recall"]["epsilon"] == 1.0


def test_two_towers_are_never_screened(lab):
    with pytest.raises(SpatialFormerError, match="screened exactly"):
        run_screen(
            [lab.tissue(n=600, width=900.0)], lab.scorer(), lab.model, lab.request(mode="screened")
        )


def test_auto_takes_the_fast_mode_where_the_exact_one_lasts_too_long(lab, cross):
    plan = make_plan([lab.tissue()], lab.request())
    slow, fast = (Rates(1e9, speed, measured=False) for speed in (10.0, 1e5))

    def mode(model, **changes):
        return choose_mode(plan, lab.request(**changes), model)

    assert mode(replace(cross, rates=slow)) == "screened"
    assert mode(replace(cross, rates=fast)) == "exact"
    assert mode(replace(cross, rates=slow, on_gpu=True)) == "exact"
    assert mode(cross) == "exact"
    assert mode(replace(cross, rates=slow), mode="exact") == "exact"
    assert mode(replace(lab.model, rates=slow)) == "exact"


def test_the_estimate_tells_forwards_time_mode_and_reach(lab, cross):
    tissue = lab.tissue()
    request = lab.request(candidates=5)
    model = replace(cross, rates=Rates(1e9, 30.0, measured=True))
    told = estimate_screen([tissue], model, request)
    exact = run_screen([tissue], lab.scorer(), cross, lab.request(mode="exact"))
    assert told.mode == "screened"
    assert told.forwards == 2 * told.evaluations
    assert told.evaluations < exact.info["cost"]["head_evaluations"]
    assert told.seconds == pytest.approx(6 + told.evaluations / 30, rel=0.01)
    assert told.seconds_exact == pytest.approx(
        6 + exact.info["cost"]["head_evaluations"] / 30, rel=0.01
    )
    assert told.p_needed == pytest.approx(0.05 / told.n_tested)
    assert told.smallest_p == pytest.approx(2 / 2**told.n_units)
    assert told.effect_needed_sd == pytest.approx(told.t_needed / told.n_units**0.5)
    screened = run_screen([tissue], lab.scorer(), model, request)
    assert screened.info["mode"] == "screened"
    assert screened.info["cost"]["head_evaluations"] <= told.evaluations


def test_exact_costs_are_those_announced(lab):
    tissue = lab.tissue(n=700, width=1200.0)
    for changes in ({}, {"control": "subtract"}, {"genes": ("G01", "G02"), "control": "subtract"}):
        request = lab.request(**changes)
        found = run_screen([tissue], lab.scorer(), lab.model, request)
        told = estimate_screen([tissue], lab.model, request)
        assert found.info["cost"]["encodings"] == told.forwards
        assert found.info["cost"]["head_evaluations"] == told.evaluations


def test_the_recall_sample_is_small_seeded_and_never_empty():
    assert len(recall_sample(3, 0)) == 3
    assert len(recall_sample(400, 0)) == 5
    assert len(recall_sample(100_000, 0)) == 20
    np.testing.assert_array_equal(recall_sample(1000, 4), recall_sample(1000, 4))


def test_shards_follow_the_cost(lab):
    plan = make_plan([lab.tissue()], lab.request())
    shards = cost_of(plan, lab.request(), "exact", "two-tower", 7).shards
    assert len(shards) == 7
    assert [s.start for s in shards[1:]] == [s.stop for s in shards[:-1]]
    assert shards[-1].stop == len(plan.near) + len(plan.far.pairs)
