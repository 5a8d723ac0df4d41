from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import Rates, Region, estimate_screen, make_plan
from spatialformer_core.perturbation.far import match
from spatialformer_core.perturbation.gate import auroc
from spatialformer_core.perturbation.tissue import near_pairs
from spatialformer_core.perturbation.units import choose_units

RATES = Rates(1000.0, 100_000.0, measured=False)


def brute_near(tissue, radius):
    found = set()
    for i in np.flatnonzero(tissue.left):
        for j in np.flatnonzero(tissue.right):
            if i != j and np.hypot(*(tissue.xy_um[i] - tissue.xy_um[j])) <= radius:
                found.add((int(i), int(j)))
    return found


def test_near_pairs_are_each_physical_pair_once_left_type_first(lab):
    tissue = lab.tissue(n=500, width=700.0)
    pairs = near_pairs(tissue, 0, radius_graph(tissue.xy_um, 30.0))
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == brute_near(
        tissue, 30
    )
    assert len(pairs) == len(brute_near(tissue, 30))


def test_near_pairs_of_one_type_are_counted_once(lab):
    tissue = lab.tissue(n=400, width=600.0)
    tissue = replace(tissue, right=tissue.left)
    pairs = near_pairs(tissue, 0, radius_graph(tissue.xy_um, 30.0))
    assert 2 * len(pairs) == len(brute_near(tissue, 30))


def test_both_cells_of_a_near_pair_lie_in_the_same_region(lab):
    tissue = lab.tissue(n=900, width=900.0)
    regions = (lab.box(tissue, "a", 0, 0, 200, 400), lab.box(tissue, "b", 200, 0, 500, 400))
    tissue = replace(tissue, regions=regions)
    pairs = near_pairs(tissue, 0, radius_graph(tissue.xy_um, 30.0))
    assert len(pairs)
    for number, region in enumerate(regions):
        mine = pairs.region == number
        assert region.inside[pairs.left[mine]].all()
        assert region.inside[pairs.right[mine]].all()


def test_auto_takes_the_largest_kind_with_six_units(lab):
    tissues = [lab.tissue(seed=s, n=500, width=800.0, donor=f"d{s}") for s in range(6)]
    graphs = [radius_graph(t.xy_um, 30.0) for t in tissues]

    def units(several, kind="auto"):
        from spatialformer_core.perturbation.tissue import concatenate

        found = concatenate(
            [near_pairs(t, k, g) for k, (t, g) in enumerate(zip(several, graphs, strict=False))]
        )
        return choose_units(found, several, kind)

    assert units(tissues).kind == "donor"
    one_donor = [replace(t, donor="same") for t in tissues]
    assert units(one_donor).kind == "slide"
    few = units(one_donor[:2])
    assert few.kind == "block"
    assert few.block_um >= 200.0
    assert units(one_donor[:2], "slide").names == ("slide0", "slide1")


def test_far_pairs_are_far_of_the_same_types_matched_and_used_once(lab):
    tissue = lab.tissue()
    tissue = replace(
        tissue,
        regions=tuple(lab.box(tissue, f"r{k}", 300 * k, 0, 300 * k + 250, 700) for k in range(7)),
    )
    plan = make_plan([tissue], lab.request(unit="roi", far_from="outside"))
    far = plan.far.pairs
    away = np.hypot(*(tissue.xy_um[far.left] - tissue.xy_um[far.right]).T)
    assert ((away >= 100.0) & (away <= 300.0)).all()
    assert tissue.left[far.left].all()
    assert tissue.right[far.right].all()
    assert plan.far.source == "outside"
    assert not tissue.in_any_region[far.left].any()
    assert not tissue.in_any_region[far.right].any()
    ends = list(zip(far.left.tolist(), far.right.tolist(), strict=True))
    assert len(set(ends)) == len(ends)
    assert all(abs(value) < 0.35 for value in plan.far.imbalance.values())
    assert set(plan.far.unit.tolist()) == set(range(len(plan.unit_names)))
    # Units that shared far cells would not be replicates.
    owners = {}
    for cells in (far.left, far.right):
        for cell, unit in zip(cells.tolist(), plan.far.unit.tolist(), strict=True):
            owners.setdefault(cell, set()).add(unit)
    assert all(len(units) == 1 for units in owners.values())


def test_far_pairs_keep_one_cell_of_a_near_pair_unless_they_are_wanted_from_outside(lab):
    tissue = lab.tissue()
    boxes = tuple(lab.box(tissue, f"r{k}", 300 * k, 0, 300 * k + 250, 700) for k in range(7))
    plan = make_plan([replace(tissue, regions=boxes)], lab.request(unit="roi"))
    assert plan.far.source == "within"
    far, near = plan.far.pairs, plan.near
    kept = np.isin(far.left, near.left) | np.isin(far.right, near.right)
    assert kept.all()


def test_far_pairs_come_from_around_the_pairs_if_there_is_no_outside(lab):
    tissue = lab.tissue()
    tissue = replace(tissue, regions=(lab.box(tissue, "all", 0, 0, 5000, 5000),))
    assert make_plan([tissue], lab.request(far_from="outside")).far.source == "within"


def test_matching_takes_the_closest_free_row():
    near = np.array([[0.0], [1.0], [1.1]])
    far = np.array([[5.0], [1.05], [0.1], [1.2]])
    assert match(near, far, np.random.default_rng(0)).tolist() == [1, 2, 3]
    assert len(match(near, np.zeros((0, 1)), np.random.default_rng(0))) == 0


def test_support_is_counted_on_presence_alone(lab):
    tissue = lab.tissue()
    request = lab.request(min_support=5)
    plan = make_plan([tissue], request)
    dense = tissue.presence.toarray().astype(bool)
    unit = np.concatenate([plan.near_unit, plan.far.unit])
    left = np.concatenate([plan.near.left, plan.far.pairs.left])
    right = np.concatenate([plan.near.right, plan.far.pairs.right])
    for i in range(lab.n_genes):
        for j in range(lab.n_genes):
            both = dense[left, i] & dense[right, j]
            supporting = int(np.sum(np.bincount(unit[both], minlength=unit.max() + 1) >= 5))
            slot = plan.index.slot[i, j]
            assert (slot >= 0) == (supporting >= 6)
            if slot >= 0:
                assert plan.index.n_units[slot] == supporting
                assert (plan.index.left[slot], plan.index.right[slot]) == (i, j)


def test_units_that_are_too_small_are_named(lab):
    tissue = lab.tissue()
    regions = (
        *(lab.box(tissue, f"r{k}", 300 * k, 0, 300 * k + 290, 900) for k in range(6)),
        lab.box(tissue, "tiny", 2000, 0, 2140, 140),
    )
    plan = make_plan([replace(tissue, regions=regions)], lab.request(unit="roi"))
    assert len(plan.unit_names) == 6
    (entry,) = plan.left_out
    assert "tiny" in entry["unit"]
    assert "near pairs" in entry["why"]


def test_pairs_per_unit_are_limited(lab):
    plan = make_plan([lab.tissue()], lab.request(max_pairs_per_unit=12))
    assert max(entry["n_near"] for entry in plan.pairs_per_unit) <= 12
    assert plan.n_near_found > len(plan.near)


def test_an_empty_region_is_refused(lab):
    tissue = lab.tissue(n=300)
    nothing = Region("far away", "u", np.zeros(300, bool))
    with pytest.raises(SpatialFormerError, match="holds no cell"):
        make_plan([replace(tissue, regions=(nothing,))], lab.request())


def test_overlapping_regions_are_refused(lab):
    tissue = lab.tissue(n=300)
    regions = (lab.box(tissue, "a", 0, 0, 900, 900), lab.box(tissue, "b", 800, 0, 2000, 900))
    with pytest.raises(SpatialFormerError, match="overlap"):
        make_plan([replace(tissue, regions=regions)], lab.request())


def test_types_that_never_meet_are_refused_with_their_numbers(lab):
    tissue = lab.tissue(n=300)
    west = tissue.xy_um[:, 0] < 1000
    apart = replace(tissue, left=tissue.left & west, right=tissue.right & ~west)
    apart = replace(apart, right=apart.right & (tissue.xy_um[:, 0] > 1100))
    with pytest.raises(SpatialFormerError, match="no two of them are within") as caught:
        make_plan([apart], lab.request())
    assert f"{int(apart.left.sum()):,} A" in str(caught.value)


def test_an_absent_type_is_refused(lab):
    tissue = lab.tissue(n=300)
    with pytest.raises(SpatialFormerError, match="No cell of type 'B'"):
        make_plan([replace(tissue, right=np.zeros(300, bool))], lab.request())


def test_estimate_agrees_with_the_plan_and_says_what_can_be_reached(lab):
    tissue = lab.tissue()
    request = lab.request()
    plan, estimate = (
        make_plan([tissue], request),
        estimate_screen([tissue], replace(lab.model, rates=RATES), request),
    )
    assert (estimate.n_near, estimate.n_far) == (len(plan.near), len(plan.far.pairs))
    assert estimate.n_tested == len(plan.index)
    assert estimate.can_reach_q
    assert estimate.t_needed > 2.5
    assert estimate.seconds > estimate.forwards / RATES.encodings_per_s
    few = replace(tissue, regions=(lab.box(tissue, "a", 0, 0, 600, 600),))
    refused = estimate_screen([few], lab.model, lab.request(unit="roi"))
    assert not refused.can_reach_q
    assert "6 are needed" in refused.reason_no_p
    assert refused.as_dict()["t_needed"] is None


def test_auroc_is_the_chance_that_a_near_pair_outranks_a_far_one():
    label = np.array([True, True, False, False])
    assert auroc(label, np.array([3.0, 1.0, 2.0, 0.0])) == 0.75
    assert auroc(label, np.zeros(4)) == 0.5
    # Weight 2 on the second positive: pairs won 2 + 2 of 6.
    weighted = auroc(label, np.array([3.0, 1.0, 2.0, 0.0]), np.array([1.0, 2.0, 1.0, 1.0]))
    assert weighted == pytest.approx((2 + 2 * 1) / 6)
    assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))


def test_presence_of_two_slides_keeps_the_order_of_the_pairs(lab):
    from spatialformer_core.perturbation.plan import presence
    from spatialformer_core.perturbation.tissue import concatenate, make_pairs

    tissues = [lab.tissue(seed=s, n=200) for s in (1, 2)]
    parts = [make_pairs(t, k, np.arange(5), np.arange(5, 10), -1) for k, t in enumerate(tissues)]
    pairs = concatenate(parts).take(np.array([7, 0, 9, 3]))
    found = presence(tissues, pairs, "left")
    expected = sparse.vstack(
        [
            tissues[1].presence[2],
            tissues[0].presence[0],
            tissues[1].presence[4],
            tissues[0].presence[3],
        ]
    )
    np.testing.assert_array_equal(found.toarray(), expected.toarray())
