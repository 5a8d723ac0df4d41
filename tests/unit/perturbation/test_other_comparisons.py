"""Regions against regions, the published test and null screens, with effects that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import Gate, make_plan, read_result, run_screen, write_result
from spatialformer_core.perturbation.contrast import contrast, is_paired
from spatialformer_core.perturbation.interpret import compare_checkpoints
from spatialformer_core.perturbation.nulls import exchanged, rejected
from spatialformer_core.perturbation.plan import GenePairIndex
from spatialformer_core.perturbation.published_test import published_test
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally

OPEN = Gate(0.7, 0.6, 0.8, 100, 100, 10, "unseen", open=True, reason="given")


@pytest.fixture
def gate_open(monkeypatch):
    from spatialformer_core.perturbation import screen

    monkeypatch.setattr(screen, "measure_gate", lambda *a, **k: OPEN)


def split(lab, tissue, n=4):
    """n regions in the upper half of a slide, and n others in the lower one."""
    width, height = 2400.0, 1200.0
    step = width / n
    regions = tuple(
        lab.box(tissue, f"a{k}", step * k, 0, step * (k + 1) - 1, height / 2) for k in range(n)
    )
    versus = tuple(
        lab.box(tissue, f"b{k}", step * k, height / 2, step * (k + 1) - 1, height) for k in range(n)
    )
    return replace(tissue, regions=regions, versus=versus)


def sums(n_units, near, far, index=None) -> Tally:
    """A tally with the given means of d per unit (NaN: the unit holds no such pairs)."""
    near, far = np.atleast_2d(near), np.atleast_2d(far)
    n_slots = near.shape[1]
    slot = np.arange(n_slots, dtype=np.int32)
    index = index or GenePairIndex(slot, slot, np.diag(slot), np.full(n_slots, n_units))
    tally = Tally(index, n_units)
    for side, values in ((NEAR, near), (FAR, far)):
        tally.n_pairs[side] = np.where(np.isnan(values[:, 0]), 0, 10)
        tally.total("d")[side] = 10 * np.nan_to_num(values)
    return tally


def test_units_of_one_side_each_are_compared_as_two_samples():
    nan = np.nan
    near = np.array([[1.0, 0.1], [2.0, 0.3], [3.0, 0.2], [nan, nan], [nan, nan], [nan, nan]])
    far = np.array([[nan, nan], [nan, nan], [nan, nan], [0.0, 0.2], [1.0, 0.1], [5.0, 0.4]])
    tally = sums(6, near, far)
    assert not is_paired(tally)
    got = contrast(tally, "d", with_p=False)
    expected = stats.ttest_ind(near[:3], far[3:])
    np.testing.assert_allclose(got.estimate, near[:3].mean(0) - far[3:].mean(0))
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(got.low, interval.low)
    np.testing.assert_allclose(got.high, interval.high)
    assert np.isnan(got.p).all()
    assert contrast(tally, "d", with_p=True).p[0] == pytest.approx(expected.pvalue[0], abs=0.25)


def test_regions_of_one_slide_are_units_of_their_own_side(lab):
    tissue = split(lab, lab.tissue())
    plan = make_plan([tissue], lab.request())
    assert plan.far.source == "versus"
    assert plan.units.kind == "roi"
    assert plan.no_p_reason is None
    names = plan.unit_names
    assert names[:4] == tuple(f"slide0: a{k}" for k in range(4))
    assert names[4:] == tuple(f"versus slide0: b{k}" for k in range(4))
    assert set(plan.near_unit) == {0, 1, 2, 3}
    assert set(plan.far.unit) == {4, 5, 6, 7}
    xy = tissue.xy_um
    assert (xy[plan.near.left, 1] < 600).all()
    assert (xy[plan.far.pairs.left, 1] >= 600).all()
    # Near pairs on both sides, alike in what is not compared.
    apart = xy[plan.far.pairs.left] - xy[plan.far.pairs.right]
    assert np.hypot(*apart.T).max() <= 30
    assert max(map(abs, plan.far.imbalance.values())) < 0.2
    few = make_plan([split(lab, lab.tissue(), n=2)], lab.request(unit="roi"))
    assert "3 of each and 6 in all" in few.no_p_reason


def test_donors_that_hold_both_sides_are_compared_within_themselves(lab):
    tissues = [
        split(lab, replace(lab.tissue(seed=s, n=1800), donor=f"d{s}"), n=1) for s in range(6)
    ]
    plan = make_plan(tissues, lab.request())
    assert plan.units.kind == "donor"
    assert plan.unit_names == tuple(f"d{s}" for s in range(6))
    assert set(plan.near_unit) == set(plan.far.unit) == set(range(6))
    assert plan.no_p_reason is None


def test_pieces_of_donors_are_no_replicates_where_whole_donors_differ(lab):
    tissues = []
    for s in range(4):
        tissue = replace(lab.tissue(seed=s, n=1200, width=1600.0), donor=f"d{s}")
        whole = (lab.box(tissue, "all", 0, 0, 1600, 800),)
        name = "regions" if s < 2 else "versus"
        tissues.append(replace(tissue, **{name: whole}))
    plan = make_plan(tissues, lab.request())
    assert plan.units.kind == "donor"
    assert plan.unit_names == ("d0", "d1", "versus d2", "versus d3")
    assert "3 of each and 6 in all" in plan.no_p_reason
    with pytest.raises(SpatialFormerError, match="no replicate"):
        make_plan(tissues, lab.request(unit="block"))


def test_sides_that_share_cells_or_hold_no_pairs_are_refused(lab):
    tissue = lab.tissue()
    a, b = lab.box(tissue, "a", 0, 0, 800, 1200), lab.box(tissue, "b", 700, 0, 1600, 1200)
    with pytest.raises(SpatialFormerError, match="both sides"):
        make_plan([replace(tissue, regions=(a,), versus=(b,))], lab.request())
    tiny = lab.box(tissue, "tiny", 2300, 1100, 2400, 1200)
    with pytest.raises(SpatialFormerError, match="--versus"):
        make_plan([replace(tissue, regions=(a,), versus=(tiny,))], lab.request())
    # Without regions of its own the first side is everything else.
    plan = make_plan([replace(tissue, versus=(b,))], lab.request(unit="block"))
    assert not b.inside[plan.near.left].any()
    assert b.inside[plan.far.pairs.left].all()


def test_a_relation_of_one_half_of_the_slide_is_found_against_the_other(lab, gate_open):
    """The planted pair is expressed in the upper half only, so taking it out matters there."""
    tissue = lab.tissue(n=3600)
    expressed = tissue.presence.toarray()
    lower = tissue.xy_um[:, 1] >= 600
    expressed[lower, 0] = 0
    rng = np.random.default_rng(0)
    tissue = replace(
        tissue, presence=type(tissue.presence)(expressed), cells=lab.cells(expressed > 0, rng)
    )
    request = lab.request(control="none", min_support=1)
    result = run_screen([split(lab, tissue)], lab.scorer(), lab.model, request)
    table = result.table
    found = table.set_index(["gene_left", "gene_right"]).loc[lab.contact]
    assert result.info["p_values"]
    assert found.d_diff < -0.3
    assert found.d_far == 0
    assert found.q < 0.05
    assert "other regions" in result.info["verdict"]
    assert "other regions" in result.info["methods"]
    assert table["units_agree"].isna().all()


def test_the_published_test_is_scipys_over_pooled_cell_pairs():
    rng = np.random.default_rng(0)
    # Slots 0 and 1 are one gene pair in both directions; slot 2 is another.
    slot = np.array([[-1, 0, 2], [1, -1, -1], [-1, -1, -1]], np.int32)
    index = GenePairIndex(
        np.array([0, 1, 0], np.int32), np.array([1, 0, 2], np.int32), slot, np.full(3, 2)
    )
    values = [rng.normal(-0.2, 1, n) for n in (40, 25, 8)]
    tally = Tally(index, 2)
    for k, drawn in enumerate(values):
        half = len(drawn) // 2
        tally.count[NEAR, :, k] = half, len(drawn) - half
        tally.total("d")[NEAR, :, k] = drawn[:half].sum(), drawn[half:].sum()
        tally.square("d")[NEAR, 0, k] = (drawn**2).sum()
    found, first = published_test(tally)
    both = np.concatenate(values[:2])
    expected = stats.ttest_1samp(both, 0, alternative="less")
    assert found.p[0] == found.p[1] == pytest.approx(expected.pvalue)
    assert found.t[0] == pytest.approx(expected.statistic)
    assert found.support.tolist() == [65, 65, 8]
    interval = stats.ttest_1samp(both, 0).confidence_interval(0.95)
    np.testing.assert_allclose([found.low[0], found.high[0]], interval)
    assert found.p[2] == pytest.approx(stats.ttest_1samp(values[2], 0, alternative="less").pvalue)
    assert sorted(first) == [0, 2]
    said = found.facts(first)
    assert said["tested"] == 2
    assert said["kept_by_published_filter"] == int(expected.pvalue < 0.05)


def test_the_published_test_rejects_where_nothing_is_near_or_far(lab, gate_open):
    """Genes that only make a cell look alive fall everywhere: no tissue, and p of nothing."""
    tissue = lab.tissue(contact=False)
    request = lab.request(test="published", control="none")
    result = run_screen([tissue], lab.scorer(), lab.model, request)
    ours = run_screen([tissue], lab.scorer(), lab.model, lab.request(control="none"))
    said = result.info["published_test"]
    assert said["kept_by_published_filter"] > 10
    assert ours.info["significant"]["q"] == 0
    assert any("PUBLISHED TEST" in mark for mark in result.info["marks"])
    assert "says nothing about tissue" in result.info["verdict"]
    assert "says nothing about tissue" in result.info["methods"]
    assert result.table["epsilon_p"].isna().all()


def test_one_donor_stands_in_every_table_and_file(lab, tmp_path):
    import pandas as pd
    import pyarrow.parquet as pq

    result = run_screen([lab.tissue(n=1200, width=1600.0)], lab.scorer(), lab.model, lab.request())
    assert set(result.table["scope"]) == {"describes this section only"}
    write_result(result, tmp_path)
    assert set(pd.read_csv(tmp_path / "pairs.csv")["scope"]) == {"describes this section only"}
    for name in ("pairs.parquet", "cell_pairs.parquet"):
        marks = pq.read_schema(tmp_path / name).metadata[b"spatialformer"].decode()
        assert "describes this section only" in marks
    for name in ("screen.json", "NOTES.txt"):
        assert "describes this section only" in (tmp_path / name).read_text()
    back = read_result(tmp_path)
    assert len(back.pairs) == sum(result.info["pairs"][k] for k in ("near_used", "far_used"))
    assert set(back.pairs["side"]) == {"near", "far"}
    tissues = [replace(lab.tissue(seed=s, n=1200, width=1600.0), donor=f"d{s}") for s in range(2)]
    several = run_screen(tissues, lab.scorer(), lab.model, lab.request())
    assert set(several.table["scope"]) == {"2 donors"}


def test_exchanging_keeps_pairs_and_sizes_and_forgets_the_side(lab):
    plan = make_plan([lab.tissue()], lab.request())
    other = exchanged(plan, seed=3)

    def keys(pairs, unit):
        return sorted(zip(unit.tolist(), pairs.left.tolist(), pairs.right.tolist(), strict=True))

    before = keys(plan.near, plan.near_unit) + keys(plan.far.pairs, plan.far.unit)
    after = keys(other.near, other.near_unit) + keys(other.far.pairs, other.far.unit)
    assert sorted(before) == sorted(after)
    np.testing.assert_array_equal(np.bincount(plan.near_unit), np.bincount(other.near_unit))
    was_near = set(keys(plan.near, plan.near_unit))
    stayed = np.mean([key in was_near for key in keys(other.near, other.near_unit)])
    assert 0.4 < stayed < 0.6
    again = exchanged(plan, seed=3)
    np.testing.assert_array_equal(again.near.left, other.near.left)


def test_exchanging_between_regions_moves_whole_units(lab):
    plan = make_plan([split(lab, lab.tissue())], lab.request())
    other = exchanged(plan, seed=0)
    assert not set(other.near_unit) & set(other.far.unit)
    assert len(set(other.near_unit)) == 4


def test_null_screens_are_reported_beside_a_screen(lab, gate_open):
    request = lab.request(null_runs=2, control="none", max_pairs_per_unit=40)
    result = run_screen([lab.tissue(n=1500, width=1800.0)], lab.scorer(), lab.model, request)
    said = result.info["null_screens"]
    assert said["runs"] == 2
    assert 0 <= said["effect"]["rejected"] <= 0.3
    assert said["effect"]["runs_with_any_q"] in (0, 1, 2)


def test_what_is_rejected_is_counted():
    rng = np.random.default_rng(0)
    near = rng.normal(0, 1, (8, 400))
    near[:, :100] += 4
    found = rejected(sums(8, near, np.zeros((8, 400))))
    assert 0.25 <= found["effect"] < 0.35
    assert found["effect_any_q"] == 1.0
    assert np.isnan(found["interaction"])


def test_checkpoints_are_compared_in_the_same_screen(lab):
    tissue = lab.tissue(n=1200, width=1600.0)
    results = [
        run_screen(
            [tissue],
            lab.random_scorer(np.random.default_rng(seed)),
            replace(lab.model, name=f"c{seed}"),
            lab.request(control="none"),
        )
        for seed in (0, 0, 1)
    ]
    found = compare_checkpoints(results[0], {"copy": results[1], "other": results[2]})
    assert (found.table["n_checkpoints"] == 3).all()
    assert found.table["agree"].between(2 / 3, 1).all()
    said = found.info["agreement"]
    assert said["checkpoints"] == ["c0", "copy", "other"]
    assert said["effect"]["rank_correlation"][0] == 1.0
    assert said["effect"]["least"] < 0.9
    assert "3 checkpoints" in said["sentence"]


@pytest.mark.slow
def test_false_discoveries_stay_below_five_percent_among_true_ones():
    """40 cohorts of 8 units and 600 gene pairs that share genes, a tenth of them true."""
    false_share, called = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spread = rng.gamma(4, 0.25, 600)
        gene = rng.normal(0, 0.5, (8, 30))
        near = rng.normal(0, 1, (8, 600)) * spread + gene[:, np.arange(600) % 30] * spread
        near[:, :60] += 4 * spread[:60]
        found = contrast(sums(8, near, np.zeros((8, 600))), "d", with_p=True).q < 0.05
        false_share.append(found[60:].sum() / max(found.sum(), 1))
        called.append(found[:60].mean())
    assert np.mean(false_share) < 0.055
    assert np.mean(called) > 0.9


def test_sums_are_those_of_each_gene_pair_that_is_tested():
    from spatialformer_core.perturbation.engine import Effects

    slot = np.array([[0, -1, 1], [-1, -1, 2], [-1, -1, -1]], np.int32)
    index = GenePairIndex(
        np.array([0, 0, 1], np.int32), np.array([0, 2, 2], np.int32), slot, np.full(3, 2)
    )
    tally = Tally(index, 2)
    d_left, d_right = np.array([1.0, 2.0]), np.array([0.5, 0.25])
    d_pair = np.array([[4.0, 3.0], [7.0, 5.0]])
    # Left cell: genes 1 and 0 by rank; right cell: genes 2 and 0. Tested are 1-2, 0-2 and 0-0.
    effects = Effects(
        0, np.array([1, 0]), np.array([2, 0]), np.array([1.0, 2.0]), np.array([1.0, 2.0]), 0.0,
        d_left, d_right, d_pair, d_pair / 10, None,
    )  # fmt: skip
    tally.add(effects, NEAR, 1)
    tally.add(effects, NEAR, 1)
    assert tally.count[NEAR].tolist() == [[0, 0, 0], [2, 2, 2]]
    np.testing.assert_allclose(tally.total("d")[NEAR, 1], [10.0, 14.0, 8.0])
    np.testing.assert_allclose(tally.total("epsilon")[NEAR, 1], [5.5, 9.0, 5.0])
    np.testing.assert_allclose(tally.total("d_left")[NEAR, 1], [4.0, 4.0, 2.0])
    np.testing.assert_allclose(tally.total("d_right")[NEAR, 1], [0.5, 1.0, 1.0])
    np.testing.assert_allclose(tally.total("probability")[NEAR, 1], [1.0, 1.4, 0.8])
    np.testing.assert_allclose(tally.square("d")[NEAR, 1], [50.0, 98.0, 32.0])
    np.testing.assert_allclose(tally.rank.T, [[4.0, 4.0, 2.0], [4.0, 2.0, 2.0]])
    assert not tally.count[FAR].any()
