"""Predicted neighbours and their tables of types, against loops over cells."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.inference import (
    Candidates,
    CandidateSettings,
    ColocaliseSettings,
    RetrievedCandidates,
    SampledCandidates,
    Selection,
    SpatialCandidates,
    Subject,
    colocalisation_facts,
    colocalise,
    joined_tables,
    predicted_neighbours,
    scorer_of,
    scorers,
    type_pair_prior,
    typed,
)
from spatialformer_core.inference import neighbours as module
from spatialformer_core.inference.neighbours import best_mass, selected_mass
from spatialformer_core.inference.type_tables import QueryTables, type_tables
from spatialformer_core.model import build, preset_config

N = 300
NAMES = ("A", "B", "C")


def tokens(n: int, seed: int = 0) -> CellTokens:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(9, 60))[:k] for k in rng.integers(5, 14, n)]
    flat = np.concatenate(rows).astype(np.int32)
    meta = np.tile(np.arange(5, 9, dtype=np.int32), (n, 1))
    ones = np.ones(len(flat), np.int32)
    return CellTokens(np.cumsum([0, *map(len, rows)]), flat, ones, meta)


def scorer(architecture: str = "two-tower"):
    return scorer_of(build(preset_config(architecture, "tiny", 60), seed=3).eval(), "toy")


@pytest.fixture(scope="module")
def subject():
    rng = np.random.default_rng(1)
    cells = tokens(N)
    shape = (N, 60)
    counts = sparse.csr_matrix((cells.counts, cells.tokens, cells.indptr), shape=shape)
    return Subject(
        tokens=cells,
        types=rng.integers(0, 3, N),
        type_names=NAMES,
        eligible=np.arange(N) % 10 > 0,
        may_ask=np.arange(N) % 10 > 1,
        xy_um=rng.uniform(0, 600, (N, 2)),
        counts=counts,
    )


def settings(**changes):
    values = {"radius_um": 60.0, "reach_um": 200.0, "n_far": 10_000, **changes}
    return CandidateSettings(**values)


def test_all_cells_are_candidates_where_nothing_is_sampled(subject):
    found = SpatialCandidates(subject.xy_um, subject.eligible, settings()).of(np.array([2, 0]))
    for k, query in enumerate((2, 0)):
        part = slice(found.indptr[k], found.indptr[k + 1])
        away = np.linalg.norm(subject.xy_um - subject.xy_um[query], axis=1)
        wanted = np.flatnonzero(subject.eligible & (np.arange(N) != query))
        assert sorted(found.cell[part]) == wanted.tolist()
        assert (found.weight[part] == 1).all()
        np.testing.assert_array_equal(found.is_true[part], away[found.cell[part]] <= 60)
        np.testing.assert_array_equal(found.is_near[part], away[found.cell[part]] <= 200)


def test_sampled_rings_stand_for_all_their_cells(subject):
    source = SpatialCandidates(subject.xy_um, subject.eligible, settings(n_ring=7, n_far=20))
    queries = np.arange(2, N, 3)
    found = source.of(queries)
    every = SpatialCandidates(subject.xy_um, subject.eligible, settings()).of(queries)
    for kept in ("is_true", "is_near"):
        sums = [np.bincount(c.row, c.weight * getattr(c, kept)) for c in (found, every)]
        np.testing.assert_allclose(*sums)
    np.testing.assert_allclose(*(np.bincount(c.row, c.weight) for c in (found, every)))
    far = ~found.is_near
    assert not np.isin(
        found.left[far] * N + found.cell[far], (every.left * N + every.cell)[every.is_near]
    ).any()
    n_far = np.bincount(found.row[far], minlength=len(queries))
    assert 10 < n_far.mean() < 30
    assert (np.bincount(found.row[found.is_near & ~found.is_true]) == 7).all()
    # The draw of a query does not depend on who else is asked.
    alone = source.of(queries[4:5])
    part = slice(found.indptr[4], found.indptr[5])
    np.testing.assert_array_equal(alone.cell, found.cell[part])
    assert not (found.cell == found.left).any()


def test_candidates_without_coordinates(subject):
    queries = np.arange(5)
    found = SampledCandidates(subject.eligible, settings(n_sample=40)).of(queries)
    assert (np.bincount(found.row) == 40).all()
    np.testing.assert_allclose(
        np.bincount(found.row, found.weight), [270 - subject.eligible[q] for q in range(5)]
    )
    assert not found.is_near.any()
    embedding = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
    found = RetrievedCandidates(embedding, subject.eligible, settings(n_sample=12)).of(queries)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    for k in range(5):
        likeness = np.where(subject.eligible, unit @ unit[k], -2)
        likeness[k] = -2
        own = found.cell[found.indptr[k] : found.indptr[k + 1]]
        assert own.tolist() == sorted(np.argsort(-likeness)[:12])


def by_hand(score, weight, k):
    """Places given one group of equal scores after the other."""
    mass, left = np.zeros(len(score)), float(k)
    for value in sorted(set(score), reverse=True):
        tied = np.flatnonzero(np.asarray(score) == value)
        size = weight[tied].sum()
        given = min(left, size)
        mass[tied] = weight[tied] * given / size
        left -= given
    return mass


def test_places_go_to_the_best_and_ties_share():
    rng = np.random.default_rng(0)
    counts = [0, 5, 1, 30, 8]
    indptr = np.cumsum([0, *counts])
    m = indptr[-1]
    none = np.zeros(m, np.bool_)
    weight = rng.choice([1.0, 2.5, 7.0], m)
    candidates = Candidates(np.arange(5), indptr, np.arange(m), weight, none, none)
    score = rng.integers(0, 6, m).astype(np.float32)
    found = selected_mass(score, candidates, Selection(k=10))
    for a, b in itertools.pairwise(indptr):
        np.testing.assert_allclose(found[a:b], by_hand(score[a:b], weight[a:b], 10), atol=1e-12)
    places = np.array([3.0, 0.0, 1.0, 2.0, 100.0])
    found = best_mass(score, candidates, places)
    assert found[:5].sum() == 0
    assert found[6:36].sum() == pytest.approx(2)
    np.testing.assert_allclose(found[36:], weight[36:])
    above = selected_mass(score, candidates, Selection(threshold=0.9))
    np.testing.assert_array_equal(above, np.where(score >= 3, weight, 0))


@pytest.mark.parametrize("architecture", ["two-tower", "cross-encoder"])
def test_predicted_neighbours_are_the_best_scores(subject, architecture, monkeypatch):
    one, queries = scorer(architecture), np.array([3, 14, 27])
    cells = subject.tokens.take(np.arange(30))
    encoded = one.encode(cells)
    source = SpatialCandidates(subject.xy_um[:30], subject.eligible[:30], settings())
    found = predicted_neighbours(one, encoded, source, queries, Selection(k=5))
    grid = one.score_grid(encoded.take(queries), encoded)
    for k, query in enumerate(queries):
        score = np.where(subject.eligible[:30] & (np.arange(30) != query), grid[k], -np.inf)
        best = np.argsort(-score)[:5]
        own = slice(found.indptr[k], found.indptr[k + 1])
        assert found.cell[own].tolist() == best.tolist()
        np.testing.assert_allclose(
            found.probability[own], 1 / (1 + np.exp(-score[best])), atol=1e-5
        )
    monkeypatch.setattr(module, "_QUERIES_PER_STEP", 1)
    again = predicted_neighbours(one, encoded, source, queries[:1], Selection(k=5))
    np.testing.assert_array_equal(again.cell, found.cell[:5])
    np.testing.assert_allclose(again.probability, found.probability[:5], atol=1e-5)
    monkeypatch.setattr(module, "MAX_SLOW_PAIRS", 50)
    if architecture == "cross-encoder":
        with pytest.raises(SpatialFormerError, match="too many for a cross-encoder"):
            predicted_neighbours(one, encoded, source, queries, Selection(k=5))
    with pytest.raises(Cancelled):
        predicted_neighbours(one, encoded, source, queries, Selection(), cancel=lambda: True)


ALL_CELLS = ColocaliseSettings(
    candidates=settings(), selection=Selection(k=15), n_queries=None, n_resamples=20, block_um=150.0
)


@pytest.fixture(scope="module")
def result(subject):
    return colocalise(subject, scorer(), ALL_CELLS)


@pytest.mark.parametrize("scope", ["slide", "reach"])
def test_tables_equal_loops_over_cells(subject, result, scope):
    one = scorer()
    encoded = one.encode(subject.tokens)
    grid = one.score_grid(encoded, encoded)
    away = np.linalg.norm(subject.xy_um[:, None] - subject.xy_um[None], axis=2)
    observed, expected, true, hits = (np.zeros((3, 3)) for _ in range(4))
    distances = []
    for query in np.flatnonzero(subject.may_ask):
        may = subject.eligible & (np.arange(N) != query)
        may &= (away[query] <= 200) | (scope == "slide")
        own, near = subject.types[query], may & (away[query] <= 60)
        score = np.where(may, grid[query], -np.inf)
        best = np.argsort(-score)[: min(15, may.sum())]
        predicted = np.bincount(subject.types[best], minlength=3)
        actual = np.bincount(subject.types[near], minlength=3)
        observed[own] += predicted
        expected[own] += predicted.sum() * np.bincount(subject.types[may], minlength=3) / may.sum()
        true[own] += actual
        hits[own] += np.bincount(subject.types[best[near[best]]], minlength=3)
        if actual.sum():
            distances.append(jensenshannon(predicted, actual))
    tables = result.tables[scope]
    pairs = tables.pairs.set_index(["source", "type", "neighbour_type"])
    own = pairs.loc["spatialformer"]
    np.testing.assert_allclose(own["observed"].to_numpy().reshape(3, 3), observed, atol=1e-6)
    np.testing.assert_allclose(own["expected"].to_numpy().reshape(3, 3), expected, atol=1e-6)
    np.testing.assert_allclose(own["ratio"].to_numpy().reshape(3, 3), observed / expected)
    np.testing.assert_allclose(pairs.loc["true"]["observed"].to_numpy().reshape(3, 3), true)
    types = tables.types.set_index(["method", "metric", "type"])["value"]["spatialformer"]
    np.testing.assert_allclose(types["recall"][list(NAMES)], hits.sum(1) / true.sum(1))
    np.testing.assert_allclose(types["recall_as_neighbour"][list(NAMES)], hits.sum(0) / true.sum(0))
    assert types["recall"]["all"] == pytest.approx(hits.sum() / true.sum())
    assert types["jsd"]["all"] == pytest.approx(np.mean(distances), abs=1e-7)
    pooled = [jensenshannon(observed[k], true[k]) for k in range(3)]
    np.testing.assert_allclose(types["jsd_of_type"][list(NAMES)], pooled, atol=1e-7)


def test_single_neighbours_of_some_cells_are_kept_to_be_looked_at(subject, result):
    edges = result.edges
    shown = np.unique(edges.query)
    assert len(shown) == 200
    assert subject.may_ask[shown].all()
    assert (edges.is_predicted | edges.is_true).all()
    away = np.linalg.norm(subject.xy_um[edges.query] - subject.xy_um[edges.cell], axis=1)
    np.testing.assert_array_equal(edges.is_true, away <= 60)
    per_cell = np.bincount(edges.query, edges.is_predicted, N)[shown]
    assert (per_cell == 15).all()
    one = scorer()
    encoded = one.encode(subject.tokens)
    logits = one.score(encoded.take(edges.query), encoded.take(edges.cell))
    np.testing.assert_allclose(edges.score, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_type_frequency_is_what_is_expected(result):
    for scope in ("slide", "reach"):
        pairs = result.tables[scope].pairs
        found = pairs[pairs["source"] == "type_frequency"]
        np.testing.assert_allclose(found["ratio"], 1.0)
    assert result.methods == (
        "spatialformer",
        "spatialformer_weighted",
        "expression_cosine",
        "same_type",
        "type_frequency",
    )


def test_weighted_by_score_all_candidates_count(subject, result):
    one = scorer()
    encoded = one.encode(subject.tokens)
    chance = 1 / (1 + np.exp(-one.score_grid(encoded, encoded).astype(np.float64)))
    expected = np.zeros((3, 3))
    for query in np.flatnonzero(subject.may_ask):
        own = np.where(subject.eligible & (np.arange(N) != query), chance[query], 0)
        expected[subject.types[query]] += np.bincount(subject.types, own, 3) / own.sum() * 15
    pairs = result.tables["slide"].pairs
    found = pairs[pairs["source"] == "spatialformer_weighted"]["observed"].to_numpy()
    np.testing.assert_allclose(found.reshape(3, 3), expected, rtol=1e-5)


def test_intervals_hold_the_values_and_are_drawn_from_blocks(result):
    tables = result.tables["reach"]
    assert tables.n_blocks == 16
    rows = tables.types[tables.types["type"] == "all"]
    pooled = rows["metric"] == "jsd_of_type"
    assert rows[pooled]["low"].isna().all()
    by_metric = rows.set_index(["method", "metric"])["value"]
    rows = rows[~pooled]
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    assert (rows["high"] > rows["low"]).any()
    difference = tables.differences.set_index(["method", "metric"]).loc[("same_type", "recall")]
    assert difference["difference"] == pytest.approx(
        by_metric["spatialformer", "recall"] - by_metric["same_type", "recall"]
    )
    assert difference["low"] <= difference["difference"] <= difference["high"]


def test_an_oracle_finds_every_neighbour_and_a_wrong_model_is_told_apart():
    """A case worked by hand: two query cells, types X and Y, k = 2."""
    right = np.array([[2.0, 0.0], [1.0, 1.0]])
    tables = QueryTables(
        type_names=("X", "Y"),
        query_type=np.array([0, 1]),
        block=np.array([0, 1]),
        share=np.array([[0.5, 0.5], [0.25, 0.75]]),
        true=right,
        predicted={
            "good": right,
            "bad": np.array([[0.0, 2.0], [1.0, 1.0]]),
        },
        hits={
            "good": right,
            "bad": np.array([[0.0, 0.0], [0.0, 1.0]]),
        },
    )
    found = type_tables(tables, n_resamples=50)
    by = found.types.set_index(["method", "metric", "type"])["value"]
    assert by["good", "recall", "all"] == 1
    assert by["good", "jsd", "all"] == 0
    assert by["bad", "recall", "all"] == 1 / 4
    assert by["bad", "jsd", "X"] == pytest.approx(np.sqrt(np.log(2)))
    assert by["bad", "jsd", "all"] == pytest.approx(np.sqrt(np.log(2)) / 2)
    pairs = found.pairs.set_index(["source", "type", "neighbour_type"])["ratio"]
    assert pairs["true", "X", "X"] == 2
    assert pairs["true", "X", "Y"] == 0
    assert pairs["true", "Y", "Y"] == pytest.approx(1 / 1.5)
    assert found.differences.set_index(["method", "metric"])["difference"]["bad", "recall"] == 0.75


def test_order_of_draws_and_steps_changes_nothing(subject, result, monkeypatch):
    monkeypatch.setattr(module, "_QUERIES_PER_STEP", 17)
    monkeypatch.setattr(scorers, "_CELLS_PER_PIECE", 50)
    again = colocalise(subject, scorer(), ALL_CELLS)
    one, other = (joined_tables(r)["types"] for r in (result, again))
    np.testing.assert_allclose(one["value"], other["value"], atol=1e-9)


def test_same_type_and_prior_are_what_they_say(subject):
    prior = type_pair_prior(subject.xy_um, subject.types, 3, ~subject.eligible, 150.0)
    rows = np.flatnonzero(~subject.eligible)
    observed = np.zeros((3, 3))
    for a, b in itertools.permutations(rows, 2):
        if np.linalg.norm(subject.xy_um[a] - subject.xy_um[b]) <= 150:
            observed[subject.types[a], subject.types[b]] += 1
    share = np.bincount(subject.types[rows], minlength=3) / len(rows)
    np.testing.assert_allclose(prior, (observed + 1) / (observed.sum(1, keepdims=True) * share + 1))
    found = colocalise(
        replace(subject, prior=np.eye(3) + 1, counts=None),
        scorer(),
        ALL_CELLS.model_copy(update={"n_queries": 40}),
    )
    assert found.n_queries == 40
    rows = found.tables["reach"].types.set_index(["method", "metric", "type"])["value"]
    assert rows["type_pair_prior", "recall", "all"] == rows["same_type", "recall", "all"]
    facts = colocalisation_facts(found, ALL_CELLS)
    assert facts["notes"] == []
    pairs = found.tables["slide"].pairs.set_index(["source", "type", "neighbour_type"])["ratio"]
    by_prior = pairs["type_pair_prior_weighted"].to_numpy().reshape(3, 3)
    np.testing.assert_allclose(np.diag(by_prior) / by_prior[[0, 1, 2], [1, 2, 0]], 2, rtol=0.05)
    agreement = facts["agreement"]["slide"]
    assert agreement["n_type_pairs"] == 9
    assert agreement["type_frequency"] == 0
    assert -1 <= agreement["spatialformer"] <= 1
    assert "of its true neighbours, by the best trivial answer" in facts["verdict"]


def test_above_a_threshold_baselines_name_as_many(subject):
    chosen = ALL_CELLS.model_copy(update={"selection": Selection(threshold=0.5), "n_queries": 60})
    found = colocalise(subject, scorer(), chosen).tables["reach"].pairs
    sums = found.groupby("source")["observed"].sum()
    np.testing.assert_allclose(sums.drop("true"), sums["spatialformer"])


def test_dissociated_cells_have_predictions_and_no_truth(subject):
    found = colocalise(
        replace(subject, xy_um=None), scorer(), ALL_CELLS.model_copy(update={"n_queries": 50})
    )
    assert list(found.tables) == ["cells"]
    tables = joined_tables(found)
    assert set(tables["pairs"]["source"]) == set(found.methods)
    assert tables["pairs"]["low"].isna().all()
    assert len(tables["types"]) == 0
    facts = colocalisation_facts(found, ALL_CELLS)
    assert not facts["has_truth"]
    assert "no coordinates" in facts["verdict"]


def test_what_cannot_be_asked_is_refused(subject):
    nobody = replace(subject, may_ask=np.zeros(N, np.bool_))
    with pytest.raises(SpatialFormerError, match="no cells to ask"):
        colocalise(nobody, scorer(), ALL_CELLS)
    with pytest.raises(Cancelled):
        colocalise(subject, scorer(), ALL_CELLS, cancel=lambda: True)


def test_cells_without_type_are_a_type_and_absent_types_are_none():
    names, codes = typed(("A", "B", "C"), np.array([2, -1, 0, 2]))
    assert names == ("A", "C", "(none)")
    assert codes.tolist() == [1, 2, 0, 1]
