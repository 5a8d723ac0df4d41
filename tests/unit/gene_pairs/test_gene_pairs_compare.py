"""Differential pairs on planted cells: found where planted, and for what they are."""

from __future__ import annotations

from types import SimpleNamespace

import networkx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spatialformer_core.cooccurrence import named_matrix
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.gene_pairs import (
    COLUMNS,
    GenePairSettings,
    Grouping,
    PairCells,
    compare_groups,
    join_cells,
    read_result,
    words,
    write_result,
)
from spatialformer_core.stats import Placed

GENES = [f"G{i:02d}" for i in range(12)]
QUICK = GenePairSettings(n_described=5, per_cell_test=False)
TYPES = ("T", "M", "F")


def planted(seed=0, n=3000, slide="one", donor="P1", boost=None):
    """Three types over 2.4 mm. All pairs of 12 genes; of those, given enough copies of both,

    - G00|G01: type T carries more copies AND has them together: expression and closeness,
    - G02|G03: type T carries more copies, together no more often than others: expression only,
    - G04|G05: equal copies, together only in type M: closeness only.
    """
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    mean = np.full((n, 12), 2.5)
    mean[:, :4] = np.where(codes == 0, 6.0, 3.0)[:, None]
    mean[:, 4:6] = 5.0
    depth = rng.gamma(6, 1 / 6, (n, 1))
    counts = rng.poisson(mean * depth)
    names = [f"{a}|{b}" for i, a in enumerate(GENES) for b in GENES[i + 1 :]]
    index = np.array([[GENES.index(g) for g in name.split("|")] for name in names])
    together = np.full((n, len(names)), 0.4)
    together[:, names.index("G00|G01")] = np.where(codes == 0, 0.9, 0.4)
    together[:, names.index("G04|G05")] = np.where(codes == 1, 0.9, 0.4)
    for name in boost or ():
        together[:, names.index(name)] = 0.95
    both = np.minimum(counts[:, index[:, 0]], counts[:, index[:, 1]]) >= 3
    present = sparse.csr_matrix(both & (rng.random(both.shape) < together))
    placed = Placed(np.zeros(n, np.int64), rng.uniform(0, 2400, (n, 2)), (slide,), (donor,))
    matrix = named_matrix(present, names, GENES)
    # Four genes of twelve make T: a sum over genes would call its cells deep.
    cells = PairCells(matrix, sparse.csr_matrix(counts), 100 * depth[:, 0], placed)
    return cells, Grouping("type", TYPES, codes)


@pytest.fixture(scope="module")
def result():
    return compare_groups(*planted(), QUICK.model_copy(update={"n_described": 66}))


def row(result, pair, group):
    table = result.table
    found = table[(table["pair"] == pair) & (table["group"] == group)]
    return found.iloc[0]


def test_table_and_facts(result):
    assert list(result.table.columns) == list(COLUMNS)
    assert result.info["marks"] == ["One donor: this describes this section only."]
    assert {u["kind"] for u in result.info["units"]} == {"block"}
    assert result.info["tests"] == len(result.table)
    assert set(result.table["reference"]) == {"rest"}
    inside = result.table.dropna(subset=["low"])
    assert (inside["low"] <= inside["effect"]).all()
    assert (inside["effect"] <= inside["high"]).all()


def test_planted_pairs_are_found_in_the_right_type(result):
    for pair in ("G00|G01", "G02|G03"):
        assert row(result, pair, "T")["q"] < 1e-4
        assert row(result, pair, "T")["effect"] > 0.1
        assert row(result, pair, "M")["effect"] < 0
    assert row(result, "G04|G05", "M")["q"] < 1e-4
    assert row(result, "G04|G05", "M")["effect"] > 0.1


def test_pairs_of_other_genes_are_not_found(result):
    others = result.table["gene_left"].isin(GENES[6:]) & result.table["gene_right"].isin(GENES[6:])
    assert others.sum() == 45
    assert (result.table.loc[others, "q"] < 0.05).sum() <= 2


def test_closeness_is_told_from_expression(result):
    assert row(result, "G00|G01", "T")["closeness_gain"] == pytest.approx(0.5, abs=0.1)
    assert row(result, "G00|G01", "T")["closeness_q"] < 1e-3
    assert row(result, "G04|G05", "M")["closeness_gain"] == pytest.approx(0.5, abs=0.1)
    assert row(result, "G04|G05", "M")["closeness_q"] < 1e-3
    decoy = row(result, "G02|G03", "T")
    assert abs(decoy["closeness_gain"]) < 0.1
    assert decoy["closeness_q"] > 0.05
    assert 0 < result.info["closeness"]["different_pairs_closer"] < 20
    assert "closer together" in result.info["closeness_verdict"]


def test_without_a_difference_closeness_is_not_asked(result):
    from spatialformer_core.gene_pairs.words import _closeness_verdict

    table = result.table.assign(q=1.0)
    assert _closeness_verdict(table, 5).startswith("No pair differs")
    assert _closeness_verdict(table, 0).startswith("Whether closeness")
    unknown = result.table.assign(q=0.0, closeness_p=np.nan)
    assert _closeness_verdict(unknown, 5).startswith("For none of the")


def test_what_the_genes_tell_without_the_pair(result):
    only_close = row(result, "G04|G05", "M")
    assert only_close["auroc_genes"] < 0.58
    assert only_close["d2_genes_pair"] > 3 * only_close["d2_genes_both"]
    assert only_close["auroc_pair"] > 0.6
    expressed = row(result, "G02|G03", "T")
    assert expressed["auroc_genes"] > max(expressed["auroc_pair"], expressed["auroc_left"])
    assert expressed["d2_genes_pair"] - expressed["d2_genes"] < 0.01
    assert (result.table["d2_genes_pair"] >= result.table["d2_genes"] - 1e-6).all()
    assert expressed["r_min"] > 0.2


def test_no_order_matters(result):
    cells, grouping = planted()
    rng = np.random.default_rng(5)
    order, genes = rng.permutation(3000), rng.permutation(12)
    placed = Placed(
        np.zeros(3000, np.int64), cells.placed.xy_um[order], cells.placed.slides, ("P1",)
    )
    columns = rng.permutation(66)
    matrix = named_matrix(
        cells.matrix.presence[order][:, columns],
        [cells.matrix.names[i] for i in columns],
        [GENES[i] for i in genes],
    )
    shuffled = PairCells(matrix, cells.counts[order], cells.depth[order], placed)
    again = compare_groups(
        shuffled,
        Grouping("type", TYPES[::-1], 2 - grouping.codes[order]),
        QUICK.model_copy(update={"n_described": 66}),
    )
    key = ["group", "pair"]
    ours, theirs = (r.table.sort_values(key, ignore_index=True) for r in (result, again))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, atol=1e-8)


def test_one_group_against_another_and_the_published_way_beside():
    cells, grouping = planted(1, 1500)
    settings = GenePairSettings(groups=("M", "T"), n_described=0)
    table = compare_groups(cells, grouping, settings).table
    assert set(zip(table["group"], table["reference"], strict=True)) == {("M", "T")}
    assert table["d2_genes"].isna().all()
    assert (table["percell_q"] >= table["percell_p"]).all()
    # More cells of the same tissue: the published p shrinks, whatever the number of units.
    x = cells.matrix.presence[:, list(cells.matrix.names).index("G00|G01")].toarray().ravel()
    from scipy import stats

    one, other = (x[grouping.codes == code].astype(float) for code in (1, 0))
    expected = stats.ttest_ind(one, other, equal_var=False).pvalue
    found = table.set_index("pair").loc["G00|G01", "percell_p"]
    assert np.log(found) == pytest.approx(np.log(expected), rel=1e-3)


def sections(healthy, diseased):
    parts, labels = [], []
    for number in range(healthy + diseased):
        ill = number >= healthy
        cells, _ = planted(
            20 + number, 300, f"s{number}", f"P{number}", ["G06|G07"] if ill else None
        )
        parts.append(cells)
        labels.append(np.full(300, int(ill)))
    return join_cells(parts), Grouping("condition", ("Healthy", "Disease"), np.concatenate(labels))


def test_healthy_against_disease_with_donors_as_replicates():
    result = compare_groups(*sections(4, 4), QUICK)
    (unit,) = result.info["units"]
    assert (unit["kind"], unit["paired"], unit["n_units"]) == ("donor", False, 8)
    assert result.info["marks"] == []
    table = result.table.set_index("pair")
    assert table.loc["G06|G07", "q"] < 0.01
    assert table.loc["G06|G07", "effect"] < -0.1  # Healthy less Disease
    assert (table["q"] < 0.05).sum() <= 3


def test_one_donor_per_arm_gives_effects_and_no_p(tmp_path):
    result = compare_groups(*sections(1, 1), QUICK)
    assert result.table["p"].isna().all()
    assert result.table["effect"].notna().all()
    assert result.info["significant"] is None
    assert "no p-values" in result.info["verdict"]
    assert "donors. With at least 10 cells there are 1 and 1" in result.info["verdict"]
    write_result(result, tmp_path)
    graph = networkx.read_graphml(tmp_path / "network.graphml")
    assert "no p-values" in graph.graph["edges_are"]


def test_result_folder_and_network(result, tmp_path):
    write_result(result, tmp_path)
    table, info = read_result(tmp_path)
    pd.testing.assert_frame_equal(table, result.table)
    assert info["verdict"] == result.info["verdict"]
    assert list(pd.read_csv(tmp_path / "gene_pairs.csv").columns) == list(COLUMNS)
    graph = networkx.read_graphml(tmp_path / "network.graphml")
    edges = {(*sorted(pair), data["group"]) for *pair, data in graph.edges(data=True)}
    chosen = result.table[(result.table["q"] < 0.05) & (result.table["effect"] > 0)]
    columns = (chosen["gene_left"], chosen["gene_right"], chosen["group"])
    assert edges == set(zip(*columns, strict=True))
    data = next(d for *pair, d in graph.edges(data=True) if sorted(pair) == ["G00", "G01"])
    assert data["effect"] == pytest.approx(row(result, "G00|G01", data["group"])["effect"])
    assert graph.nodes["G00"]["cells"] == int((planted()[0].counts[:, 0] > 0).sum())
    assert "not about the tissue" in (tmp_path / "NOTES.txt").read_text()
    with pytest.raises(SpatialFormerError, match="no result"):
        read_result(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("groups", "match"),
    [(("T", "T"), "with itself"), (("T", "X"), "no group 'X'"), (("rare", "T"), "at least 10")],
)
def test_groups_that_cannot_be_compared(groups, match):
    cells, grouping = planted(2, 300)
    codes = grouping.codes.copy()
    codes[:5] = 3
    named = Grouping("type", (*TYPES, "rare"), codes)
    with pytest.raises(SpatialFormerError, match=match):
        compare_groups(cells, named, QUICK.model_copy(update={"groups": groups}))


def test_nothing_to_compare_and_cancel():
    cells, grouping = planted(2, 300)
    with pytest.raises(SpatialFormerError, match=r"has 1 group\(s\)"):
        compare_groups(cells, Grouping("x", ("a",), np.zeros(300, int)), QUICK)
    with pytest.raises(SpatialFormerError, match="No gene pair"):
        compare_groups(cells, grouping, QUICK.model_copy(update={"min_cells": 5000}))
    with pytest.raises(Cancelled):
        compare_groups(cells, grouping, QUICK, cancel=lambda: True)
    with pytest.raises(SpatialFormerError, match="named twice"):
        join_cells([cells, cells])


def test_a_gene_that_a_panel_lacks_is_not_known_there_instead_of_absent():
    one, grouping = planted(3, 900, "a", "P1")
    other, _ = planted(4, 900, "b", "P2")
    kept = [i for i, name in enumerate(other.matrix.names) if "G01" not in name]
    genes = [gene for gene in GENES if gene != "G01"]
    smaller = named_matrix(
        other.matrix.presence[:, kept], [other.matrix.names[i] for i in kept], genes
    )
    columns = [GENES.index(gene) for gene in genes]
    cells = join_cells(
        [one, PairCells(smaller, other.counts[:, columns], other.depth, other.placed)]
    )
    both = Grouping("type", TYPES, np.tile(grouping.codes, 2))
    table = compare_groups(cells, both, QUICK).table.set_index(["pair", "group"])
    alone = compare_groups(one, grouping, QUICK).table.set_index(["pair", "group"])
    here, everywhere = (table.loc[(pair, "T"), "cells_group"] for pair in ("G00|G01", "G02|G03"))
    assert here / everywhere == pytest.approx(0.5, abs=0.05)
    shares = [t.loc[("G00|G01", "T"), "share_group"] for t in (table, alone)]
    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def null_rates(seed):
    cells, _ = planted(seed, 2000)
    patch = np.floor(cells.placed.xy_um / 60).astype(int)
    _, at = np.unique(patch, axis=0, return_inverse=True)
    side = np.random.default_rng(seed).integers(0, 2, at.max() + 1)[at.ravel()]
    table = compare_groups(cells, Grouping("null", ("a", "b"), side), QUICK).table
    return [(table[name].dropna() < 0.05).mean() for name in ("p", "closeness_p")]


def test_groups_that_mean_nothing_are_rejected_rarely():
    # 4 repeats x 66 correlated pairs: wide bounds; the slow test has the narrow ones.
    assert np.mean([null_rates(seed) for seed in range(4)], axis=0).max() < 0.12


@pytest.mark.slow
def test_type_one_error_is_four_to_six_in_a_hundred():
    rates = np.mean([null_rates(seed) for seed in range(150)], axis=0)
    assert ((rates >= 0.04) & (rates <= 0.06)).all(), rates


def test_comparisons_without_p_values_are_counted_one_by_one():
    table = pd.DataFrame({"pair": ["A|B", "A|C"], "q": [0.01, 0.5]})
    with_p, without = (SimpleNamespace(no_p_reason=reason) for reason in (None, "Too few."))
    used = [("g", "rest", with_p), ("h", "rest", without), ("i", "rest", without)]
    said = words._verdict(table, used, tested=2)
    assert "2 gene pairs in 3 comparisons" in said
    assert "1 with q < 0.05. 2 comparisons without p-values." in said
