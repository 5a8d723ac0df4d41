from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.evaluation.planted_scorer import NAME, PlantedScorer
from spatialformer_core.evaluation.reports import ROW_KEYS
from spatialformer_core.evaluation.screen_report import markdown, suite_rows
from spatialformer_core.evaluation.screen_tissue import TissueSize, dealt_order, make_tissue
from spatialformer_core.evaluation.screens import (
    EXPRESSION,
    LINKED,
    SPILLOVER,
    ZONE,
    ScreenSuiteSettings,
    decoy_kind,
    read_null,
    read_planted,
    run_suite,
    suite_genes,
)
from spatialformer_core.perturbation import ModelFacts, exact_effects
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.vocabulary import build_vocabulary

SIZE = TissueSize(cells=2_500, granulomas=6)


@pytest.fixture(scope="module")
def vocabulary():
    from scipy import sparse

    from spatialformer_core.config import SampleMetadata

    genes = load_panel().genes
    sample = SampleMetadata(
        donor="d", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
    )
    counts = sparse.csr_matrix(np.ones((2, len(genes)), np.int32))
    return build_vocabulary([(genes, counts)], [sample])


@pytest.fixture(scope="module")
def tissue(vocabulary):
    return make_tissue("planted", 3, SIZE, vocabulary)


def facts(vocabulary):
    return ModelFacts(
        NAME, "", True, vocabulary.genes, vocabulary.gene_offset, 1.0, vocabulary.fingerprint
    )


def test_a_simulated_slide_is_a_tissue_with_its_granulomas_as_units(tissue, vocabulary):
    assert len(tissue.regions) == SIZE.granulomas
    assert tissue.left.sum() > 100 < tissue.right.sum()
    # Tokens and presence are the same cells.
    for cell in np.flatnonzero(tissue.left)[:5]:
        genes = tissue.cells.row(cell) - vocabulary.gene_offset
        assert set(genes.tolist()) == set(tissue.presence[cell].indices.tolist())


def test_neighbours_share_the_programme_and_dealt_out_cells_do_not(tissue, vocabulary):
    def excess(one):
        """Share of near pairs that carry a lock with its key, over that with another key."""
        from spatialformer_core.cell_graph import near_pairs, radius_graph

        left, right = near_pairs(radius_graph(one.xy_um, 30.0), one.left, one.right)
        column = {gene: k for k, gene in enumerate(vocabulary.genes)}
        has = [
            np.asarray(one.presence[cells][:, [column[pair[side]] for pair in LINKED]].todense())
            for side, cells in enumerate((left, right))
        ]
        both = has[0].T @ has[1] / len(left)
        return np.diag(both).mean() / (both.sum() - np.trace(both)) * 12

    assert excess(tissue) > 4
    assert 0.7 < excess(make_tissue("dealt", 3, SIZE, vocabulary)) < 1.4
    assert 0.7 < excess(make_tissue("unplanted", 3, SIZE, vocabulary)) < 1.4


def test_dealing_out_keeps_types():
    kind = np.array([0, 1, 0, 1, 2, 0])
    order = dealt_order(kind, 5)
    assert sorted(order.tolist()) == list(range(6))
    np.testing.assert_array_equal(kind[order], kind)
    big = np.repeat([0, 1], 500)
    assert (dealt_order(big, 5) != np.arange(1000)).mean() > 0.98


def test_the_planted_scorer_joins_locks_with_keys_alone(tissue, vocabulary):
    scorer = PlantedScorer(vocabulary)
    left, right = np.flatnonzero(tissue.left)[:12], np.flatnonzero(tissue.right)[:12]
    encoded = scorer.encode(tissue.cells)
    grid = scorer.score_grid(encoded.take(left), encoded.take(right))
    there = scorer.score(encoded.take(left), encoded.take(right))
    back = scorer.score(encoded.take(right), encoded.take(left))
    np.testing.assert_allclose(np.diag(grid), there, atol=1e-5)
    np.testing.assert_allclose(there, back, atol=1e-5)
    linked, other = [], []
    for effects in exact_effects(scorer, tissue.cells, left, right):
        names = [
            [vocabulary.genes[token - vocabulary.gene_offset] for token in side]
            for side in (effects.left, effects.right)
        ]
        for i, one in enumerate(names[0]):
            for j, two in enumerate(names[1]):
                known = (one, two) in LINKED or (two, one) in LINKED
                (linked if known else other).append(effects.interaction[i, j])
    assert len(linked) > 3
    assert np.min(linked) > 1.5
    assert np.abs(other).max() < 0.2


def test_every_decoy_is_of_one_kind_and_none_is_planted():
    assert decoy_kind("TREM2", "TNFRSF9") == EXPRESSION
    assert decoy_kind("TREM2", "GZMK") is None
    assert decoy_kind("STAT1", "GEM") == ZONE
    assert decoy_kind("SFTPC", "VIM") == decoy_kind("VIM", "JCHAIN") == SPILLOVER
    assert decoy_kind("SFTPC", "PDCD1") is None
    assert all(decoy_kind(*pair) is None for pair in LINKED)
    genes = suite_genes(40)
    assert len(set(genes)) == len(genes)
    assert set(genes) <= set(load_panel().genes)


def table(rows):
    columns = ["gene_left", "gene_right", "d_diff", "q", "epsilon", "epsilon_p", "epsilon_q", "p"]
    return pd.DataFrame(rows, columns=columns)


def test_a_table_is_read_by_the_size_of_epsilon_and_its_q():
    found = read_planted(
        table(
            [
                ["STAT1", "GEM", -0.1, 0.01, 0.05, 1e-6, 0.01, 0.1],
                [*LINKED[0], -0.4, 0.2, 0.5, 1e-5, 0.02, 0.1],
                [*LINKED[1], -0.3, 0.2, 0.4, 0.02, 0.3, 0.1],
                [*LINKED[2], -0.3, 0.2, -0.6, 1e-4, 0.04, 0.1],
                ["CXCL10", "CTLA4", 0.1, 0.9, 0.01, 0.01, 0.04, 0.1],
            ]
        )
    )
    first, second, third, fourth = found["pairs"].values()
    assert (first["place"], first["place_by_p"], first["found"]) == (2, 2, True)
    assert (second["place"], second["found"]) == (3, False)
    # Redundancy is not what was planted.
    assert (third["place"], third["found"]) == (1, False)
    assert fourth is False
    assert found["decoys"][ZONE] == {"tested": 1, "called": 1, "called_by_d": 1}
    assert (found["called"], found["false"]) == (4, 1)


def test_rows_say_how_often_and_the_page_shows_them():
    null = read_null(table([["A", "B", 0, 0.5, 0, p, 0.5, p] for p in np.linspace(0.01, 1, 100)]))
    assert null["effect"]["rejected"] == pytest.approx(0.04)
    assert not null["interaction"]["any_q"]
    found = read_planted(table([[*pair, -1, 0.5, 0.5, 1e-6, 0.001, 0.5] for pair in LINKED]))
    about = {"method": "m", "gate": {"auroc": 0.9, "open": True}, "recall": None}
    records = [{"kind": "planted", "seed": k, **about, **found} for k in range(10)]
    records[0] |= {"called": 4, "false": 2}
    records += [{"kind": "dealt", "seed": k, **about, **null} for k in range(3)]
    rows = suite_rows(records)
    values = {(row["split"], row["metric"]): row for row in rows}
    whole = values["all", "share_of_tissues_first"]
    assert whole["value"] == 1.0
    # Wilson's interval of 10 of 10.
    assert whole["low"] == pytest.approx(0.7225, abs=1e-3)
    assert values["-".join(LINKED[0]), "median_place"]["value"] == 1
    false = values["epsilon", "share_of_called"]
    # One share of a half and nine of 0: 0.05 +- 0.098, and no share is below 0.
    assert (false["value"], false["low"]) == (pytest.approx(0.05), 0.0)
    assert false["high"] == pytest.approx(0.148, abs=1e-3)
    null_row = values["expression dealt out anew within types: effect", "share_below_05"]
    assert (null_row["value"], null_row["seeds"]) == (pytest.approx(0.04), 3)
    assert all(tuple(row) == ROW_KEYS for row in rows)
    assert "| CD274-PDCD1 | share_of_tissues_found | 1 (0.722 to 1) [10] |" in markdown(
        {"rows": rows}
    )


def test_the_suite_screens_planted_and_null_tissues(vocabulary):
    settings = ScreenSuiteSettings(
        seeds=1,
        nulls=1,
        unplanted=0,
        cells=SIZE.cells,
        granulomas=6,
        background=4,
        max_pairs_per_unit=80,
        control="none",
    )
    linked = replace(facts(vocabulary), name="linked")
    unlinked = replace(facts(vocabulary), name="unlinked")
    scorers = [
        (PlantedScorer(vocabulary), linked),
        (PlantedScorer(vocabulary, linked=False), unlinked),
    ]
    records = run_suite(scorers, vocabulary, settings)
    assert [(r["kind"], r["method"]) for r in records] == [
        ("planted", "linked"),
        ("planted", "unlinked"),
        ("dealt", "linked"),
        ("dealt", "unlinked"),
    ]
    there, without = (list(record["pairs"].values()) for record in records[:2])
    reached = [pair for pair in there if pair]
    assert len(reached) >= 3
    assert all(pair["place"] <= 4 and pair["epsilon"] > 0.1 for pair in reached)
    assert not any(pair and pair["found"] for pair in without)
    assert records[0]["decoys"][ZONE]["tested"] > 10
    assert all(decoys["called"] == 0 for decoys in records[0]["decoys"].values())
    assert all(0 <= record["interaction"]["rejected"] < 0.3 for record in records[2:])


@pytest.mark.slow
def test_what_was_planted_is_found_decoys_are_not_and_nulls_keep_their_level(vocabulary):
    scorer = [(PlantedScorer(vocabulary), facts(vocabulary))]
    settings = ScreenSuiteSettings(unplanted=0, control="none")
    rows = suite_rows(run_suite(scorer, vocabulary, settings))
    values = {(row["split"], row["metric"]): row["value"] for row in rows}
    assert values["all", "share_of_tissues_first"] >= 0.9
    for pair in LINKED:
        assert values["-".join(pair), "share_of_tissues_found"] >= 0.9
    for kind in (EXPRESSION, ZONE, SPILLOVER):
        assert values[kind, "share_called_by_epsilon"] <= 0.01
    for quantity in ("effect", "interaction"):
        split = f"expression dealt out anew within types: {quantity}"
        assert 0.04 <= values[split, "share_below_05"] <= 0.06
        # Of 20 tissues more than 3 have a false discovery once in 60 times.
        assert values[split, "share_of_tissues_with_any_q"] <= 0.15
