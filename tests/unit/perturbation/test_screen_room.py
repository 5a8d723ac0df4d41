from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.perturbation import COLUMNS, Gate, read_result, run_screen, write_result
from spatialformer_core.perturbation.screen import Given
from spatialformer_core.perturbation.tissue import SPILLED, UNDECIDED


def row(table, pair):
    found = table[(table.gene_left == pair[0]) & (table.gene_right == pair[1])]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def screened(lab):
    return run_screen([lab.tissue()], lab.scorer(), lab.model, lab.request())


def test_the_planted_contact_pair_is_first_and_decoys_have_no_interaction(lab, screened):
    table = screened.table
    assert screened.info["p_values"]
    best = table.sort_values("epsilon_p").iloc[0]
    assert (best.gene_left, best.gene_right) == lab.contact
    planted, decoy = row(table, lab.contact), row(table, lab.additive)
    assert planted.epsilon_q < 0.05
    assert planted.p < 0.05
    # A joint requirement: losing both costs less than the two single losses together.
    assert planted.epsilon > 0 > planted.d_diff
    assert abs(decoy.epsilon) < 1e-6
    assert decoy.d_diff < 0
    others = table[(table.gene_left != lab.contact[0]) | (table.gene_right != lab.contact[1])]
    assert (others.epsilon.abs() < 1e-6).all()


def test_effects_agree_with_sums_over_pairs_worked_out_from_expression(lab, screened):
    # For this scorer d of the planted pair is -2 wherever both genes are there, else 0.
    planted = row(screened.table, lab.contact)
    share = planted.n_pairs / screened.info["pairs"]["near_used"]
    assert planted.d_near == pytest.approx(-2.0 * share, abs=0.12)
    np.testing.assert_allclose(
        screened.table.d_diff,
        screened.table.epsilon + screened.table.d_left + screened.table.d_right,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        screened.table.d_diff, screened.table.d_near - screened.table.d_far, atol=1e-9
    )


def test_columns_are_those_of_the_design_and_uncomputed_ones_are_empty(screened):
    expected = (
        "gene_left,gene_right,n_pairs,n_units,d_near,d_far,d_diff,d_low,d_high,t,df,p,q,epsilon,"
        "epsilon_p,epsilon_q,d_left,d_right,rank_left,rank_right,is_ligand_receptor,co_occurs,"
        "spillover,in_sample"
    )
    assert list(screened.table.columns) == list(COLUMNS)
    assert ",".join(list(COLUMNS)[:24]) == expected
    for name in ("is_ligand_receptor", "spillover", "co_occurs"):
        assert screened.table[name].isna().all()
        assert name in screened.info["not_computed"]
    assert not screened.table["in_sample"].any()


def test_gene_pairs_with_spillover_in_their_type_are_marked(lab):
    tissue = lab.tissue()
    left, right = (np.zeros(len(lab.model.genes), np.int8) for _ in range(2))
    left[lab.model.genes.index(lab.contact[0])] = SPILLED
    right[lab.model.genes.index(lab.contact[1])] = UNDECIDED
    found = run_screen(
        [replace(tissue, spillover=(left, right))],
        lab.scorer(),
        lab.model,
        lab.request(),
    )
    expected = found.table["gene_left"] == lab.contact[0]
    assert 0 < expected.sum() < len(found.table)
    np.testing.assert_array_equal(found.table["spillover"].fillna(value=False), expected)
    undecided = ~expected & (found.table["gene_right"] == lab.contact[1])
    assert undecided.any()
    np.testing.assert_array_equal(found.table["spillover"].isna(), undecided)
    assert "spillover" not in found.info["not_computed"]


def test_swapping_the_types_mirrors_the_table(lab, screened):
    tissue = lab.mirrored(lab.tissue())
    other = run_screen(
        [tissue], lab.scorer(), lab.model, lab.request(group_left="B", group_right="A")
    )
    there, back = row(screened.table, lab.contact), row(other.table, lab.contact[::-1])
    assert back.d_near == pytest.approx(there.d_near, abs=1e-9)
    assert back.n_pairs == there.n_pairs
    assert back.rank_left == pytest.approx(there.rank_right)


def test_a_gene_that_neither_cell_has_changes_nothing(lab):
    tissue = lab.tissue(n=900, width=1200.0)
    absent = 7
    genes = tissue.presence.toarray()
    genes[:, absent] = 0
    tissue = replace(
        tissue,
        presence=sparse.csr_matrix(genes),
        cells=lab.cells(genes.astype(bool), np.random.default_rng(0)),
    )
    scorer, heavy = lab.scorer(), lab.scorer()
    heavy.pair = heavy.pair.copy()
    heavy.pair[absent] = heavy.pair[:, absent] = 50.0
    one, other = (run_screen([tissue], s, lab.model, lab.request()).table for s in (scorer, heavy))
    assert not one[["gene_left", "gene_right"]].isin([lab.genes[absent]]).to_numpy().any()
    assert one.equals(other)


def test_fewer_than_six_units_give_intervals_and_no_p_value(lab):
    tissue = lab.tissue()
    tissue = replace(
        tissue,
        regions=tuple(lab.box(tissue, f"r{k}", 400 * k, 0, 400 * k + 380, 600) for k in range(3)),
    )
    result = run_screen([tissue], lab.scorer(), lab.model, lab.request(unit="roi"))
    assert result.table[["p", "q", "epsilon_p", "epsilon_q", "t"]].isna().all().all()
    assert (result.table.d_low <= result.table.d_high).all()
    assert not result.info["p_values"]
    assert "6 are needed" in result.info["no_p_reason"]
    assert result.info["pairs"]["far_source"] == "within"
    assert "around the near pairs" in result.info["methods"]
    outside = run_screen(
        [tissue], lab.scorer(), lab.model, lab.request(unit="roi", far_from="outside")
    )
    assert outside.info["pairs"]["far_source"] == "outside"
    assert "outside all regions" in outside.info["methods"]


def test_one_unit_gives_an_interval_over_its_cell_pairs_and_says_so(lab):
    tissue = lab.tissue()
    tissue = replace(tissue, regions=(lab.box(tissue, "only", 0, 0, 700, 700),))
    result = run_screen([tissue], lab.scorer(), lab.model, lab.request(unit="roi"))
    assert result.info["interval_over"] == "cell pairs of one unit"
    planted = row(result.table, lab.contact)
    assert planted.d_low < planted.d_diff < planted.d_high
    assert np.isnan(planted.p)


def test_a_checkpoint_that_cannot_tell_near_from_far_gives_no_p_value(lab):
    tissue = lab.tissue(contact=False)
    scorer = lab.random_scorer(np.random.default_rng(0))
    result = run_screen([tissue], scorer, lab.model, lab.request())
    gate = result.info["gate"]
    assert gate["low"] < 0.5 < gate["high"]
    assert not result.info["p_values"]
    assert result.table["p"].isna().all()


def test_p_values_are_uniform_where_there_is_nothing(lab, monkeypatch):
    from spatialformer_core.perturbation import screen

    opened = Gate(0.7, 0.6, 0.8, 100, 100, 10, "unseen", open=True, reason="given")
    monkeypatch.setattr(screen, "measure_gate", lambda *a, **k: opened)
    p = []
    for seed in range(10):
        tissue = lab.tissue(seed=100 + seed, n=1000, width=1400.0, contact=False)
        scorer = lab.random_scorer(np.random.default_rng(seed))
        result = run_screen([tissue], scorer, lab.model, lab.request(seed=seed, min_support=1))
        assert result.info["p_values"]
        # Pairs that share genes are correlated: a handful of disjoint ones is kept per tissue.
        p += [row(result.table, (lab.genes[k], lab.genes[k + 6])).p for k in range(6)]
    rejected = np.mean(np.array(p) < 0.05)
    assert rejected <= 0.125
    assert 0.35 < np.mean(p) < 0.65


@pytest.mark.slow
def test_four_to_six_percent_of_null_tests_reject(lab, monkeypatch):
    from spatialformer_core.perturbation import screen

    opened = Gate(0.7, 0.6, 0.8, 100, 100, 10, "unseen", open=True, reason="given")
    monkeypatch.setattr(screen, "measure_gate", lambda *a, **k: opened)
    effect, interaction, any_called = [], [], []
    for seed in range(80):
        tissue = lab.tissue(seed=1000 + seed, n=1500, width=1800.0, contact=False)
        scorer = lab.random_scorer(np.random.default_rng(seed))
        result = run_screen([tissue], scorer, lab.model, lab.request(seed=seed, min_support=1))
        effect.append((result.table.p < 0.05).mean())
        interaction.append((result.table.epsilon_p < 0.05).mean())
        any_called.append([(result.table[q] < 0.05).any() for q in ("q", "epsilon_q")])
    assert 0.04 < np.mean(effect) < 0.06
    assert 0.04 < np.mean(interaction) < 0.06
    # Where nothing is true every discovery is false: the FDR is how often there is any. Of 80
    # tissues at 5 % more than 8 are found once in 50 times.
    assert np.sum(any_called, axis=0).max() <= 8


def test_one_type_counts_both_orientations_and_pairs_have_no_direction(lab):
    tissue = lab.tissue()
    tissue = replace(tissue, right=tissue.left)
    scorer = lab.random_scorer(np.random.default_rng(1))
    request = lab.request(group_right="A")
    table = run_screen([tissue], scorer, lab.model, request).table
    assert (table.gene_left <= table.gene_right).all()
    # Numbering the cells the other way round must change nothing.
    order = np.arange(len(tissue.xy_um))[::-1]
    turned = replace(
        tissue,
        xy_um=tissue.xy_um[order],
        left=tissue.left[order],
        right=tissue.right[order],
        depth=tissue.depth[order],
        presence=tissue.presence[order],
        seen=tissue.seen[order],
        cells=tissue.cells.take(order),
    )
    other = run_screen([turned], scorer, lab.model, request).table
    keys = ["gene_left", "gene_right"]
    both = table.merge(other, on=keys, suffixes=("", "_turned"))
    assert len(both) == len(table)
    np.testing.assert_allclose(both.d_near, both.d_near_turned, atol=1e-6)
    np.testing.assert_array_equal(both.n_pairs, both.n_pairs_turned)


def test_two_slides_are_screened_together_and_named_in_the_units(lab):
    tissues = [lab.tissue(seed=s, n=1200, width=1600.0, donor=f"d{s}") for s in (1, 2)]
    result = run_screen(tissues, lab.scorer(), lab.model, lab.request())
    names = " ".join(unit["unit"] for unit in result.info["units"]["used"])
    assert "slide1" in names
    assert "slide2" in names
    assert result.info["marks"] == []


def test_seen_cells_are_flagged_and_kept_out_of_the_gate(lab):
    tissue = lab.tissue()
    tissue = replace(tissue, seen=tissue.xy_um[:, 0] < 1200)
    result = run_screen([tissue], lab.scorer(), lab.model, lab.request())
    assert result.info["gate"]["cells"] == "unseen"
    assert 0.3 < result.info["pairs"]["near_with_seen_cell"] < 0.7
    assert result.table.in_sample.any()
    held = replace(tissue, held_out=tissue.xy_um[:, 0] > 1800)
    fewer = run_screen([held], lab.scorer(), lab.model, lab.request())
    assert fewer.info["gate"]["n_near"] < result.info["gate"]["n_near"]
    blind = run_screen([replace(tissue, seen=None)], lab.scorer(), lab.model, lab.request())
    assert blind.table.in_sample.isna().all()
    assert blind.info["gate"]["cells"] == "unknown"
    everything = replace(tissue, seen=np.ones(len(tissue.xy_um), bool))
    closed = run_screen([everything], lab.scorer(), lab.model, lab.request())
    assert closed.info["gate"]["auroc"] is None
    assert not closed.info["p_values"]


def test_a_simulated_checkpoint_on_a_real_slide_is_refused_or_marked(lab):
    tissue = lab.tissue(n=900, width=1200.0, simulated=False)
    with pytest.raises(SpatialFormerError, match="simulated tissue"):
        run_screen([tissue], lab.scorer(), lab.model, lab.request())
    result = run_screen([tissue], lab.scorer(), lab.model, lab.request(allow_simulated=True))
    assert any("SIMULATED" in mark for mark in result.info["marks"])


def test_a_checkpoint_of_another_panel_is_refused(lab):
    model = replace(lab.model, coverage=0.4)
    with pytest.raises(SpatialFormerError, match="40%"):
        run_screen([lab.tissue(n=300)], lab.scorer(), model, lab.request())


def test_cancel_leaves_with_cancelled(lab):
    calls = iter(range(10_000))
    with pytest.raises(Cancelled):
        run_screen(
            [lab.tissue(n=600, width=900.0)],
            lab.scorer(),
            lab.model,
            lab.request(),
            cancel=lambda: next(calls) > 30,
        )


def test_same_request_same_table(lab):
    tissue = lab.tissue(n=900, width=1200.0)
    one, other = (
        run_screen([tissue], lab.scorer(), lab.model, lab.request()).table for _ in range(2)
    )
    assert one.equals(other)


def test_result_folder_holds_table_facts_and_marks(lab, screened, tmp_path):
    import pandas as pd
    import pyarrow.parquet as pq

    write_result(screened, tmp_path)
    back = read_result(tmp_path)
    pd.testing.assert_frame_equal(back.table, screened.table, check_dtype=False)
    assert back.info["verdict"] == screened.info["verdict"]
    csv = pd.read_csv(tmp_path / "pairs.csv")
    assert list(csv.columns) == list(COLUMNS)
    assert len(csv) == len(screened.table)
    mark = "One donor: this describes this section only."
    assert mark in (tmp_path / "NOTES.txt").read_text()
    assert mark in pq.read_schema(tmp_path / "pairs.parquet").metadata[b"spatialformer"].decode()
    with pytest.raises(SpatialFormerError, match="no result"):
        read_result(tmp_path / "nothing")


def test_a_screen_in_which_no_gene_pair_is_supported_says_so(lab):
    linked = sparse.csr_matrix(np.ones((len(lab.genes), len(lab.genes)), np.bool_))
    request = lab.request(min_support=10_000)
    result = run_screen([lab.tissue()], lab.scorer(), lab.model, request, given=Given(linked))
    assert not len(result.table)
    assert "No gene pair reaches the support threshold" in result.info["no_p_reason"]
