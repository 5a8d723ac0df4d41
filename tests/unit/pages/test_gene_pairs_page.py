"""The page Gene pairs: without a slide, from form to table, and what goes wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from pages.ui import pair_charts, pair_detail
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import GenePairRequest, gene_pairs
from spatialformer_core.service.cooccurrence import CooccurrenceSettings
from spatialformer_core.service.gene_pair_view import PairNetwork, group_choices
from spatialformer_core.service.kinds import resolve


@pytest.fixture(scope="module")
def home(make_home):
    """Two slides of two donors."""
    return make_home(models=(), First="P1", Second="P2")


@pytest.fixture
def open_pairs(open_page):
    return partial(open_page, "gene_pairs")


def one_pair(at, services, job_id):
    """A pair is shown by unit and on three maps; every cell has all pairs within 12 um."""
    assert any(s.label == "Violin of" for s in at.selectbox)
    assert [b.label for b in at.get("download_button")].count("PNG") == 3
    pair = at.selectbox(key=f"pair-one-{job_id}-T cell-B cell").value
    found = services.gene_pairs.pair(job_id, ("T cell", "B cell"), pair)
    slide = services.slide("first")
    codes = np.asarray(slide.group("cell_type").codes)[np.asarray(slide.passes_qc)]
    sizes = {"B cell": int((codes == 0).sum()), "T cell": int((codes == 2).sum())}
    assert found.cells["group"].value_counts().to_dict() == sizes
    assert found.cells["together"].all()
    assert (found.units["share"] == 1).all()
    assert found.units["cells"].sum() == (found.cells["unit"] != "").sum()
    left = np.asarray(slide.gene_column(found.genes[0]))
    row = found.cells.iloc[7]
    assert row["copies_left"] == left[slide.cell_ids.tolist().index(row["cell_id"])]
    turned = services.gene_pairs.pair(job_id, ("T cell", "B cell"), "|".join(found.genes[::-1]))
    assert turned.cells["together"].all()
    assert turned.genes == found.genes[::-1]


def test_from_form_to_table(services, open_pairs):
    at = open_pairs(slide="first")
    at.number_input(key="pairs-radius").set_value(12.0)
    at.number_input(key="pairs-permutations").set_value(0)
    at.radio(key="pairs-how").set_value("Two groups with each other").run()
    assert not [b for b in at.button if b.label == "Compare"]
    at.selectbox(key="pairs-Group-cell_type").set_value("T cell")
    at.selectbox(key="pairs-Reference-cell_type").set_value("B cell").run()
    assert not at.error, at.error[0].value
    assert {m.label: m.value for m in at.metric}["comparisons"] == "1"
    next(b for b in at.button if b.label == "Compare").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    assert job.params["settings"]["groups"] == ["T cell", "B cell"]
    assert job.params["cooccurrence"]["radius_um"] == 12.0
    run_job(services.queue, job.id, resolve, silent)
    at = open_pairs(pairs=job.id)
    assert not at.error, at.error[0].value
    assert any("describes this section only" in warning.value for warning in at.warning)
    table = next(f.value for f in at.dataframe if "share_group" in f.value)
    assert len(table) == 66  # 12 genes, all of them in every cell
    assert (table["share_group"] == 100).all()
    assert {"CSV", "Parquet", "GraphML", "Notes", "Facts"} <= {
        b.label for b in at.get("download_button")
    }
    one_pair(at, services, job.id)
    at.text_input(key=f"pairs-gene-{job.id}").input("gene03").run()
    table = next(f.value for f in at.dataframe if "share_group" in f.value)
    assert len(table) == 11
    at.text_input(key=f"pairs-gene-{job.id}").input("nothing").run()
    assert any("No pair matches" in m.value for m in at.markdown)


def test_conditions_stand_beside_each_other_on_the_map(services, open_pairs, run_now):
    values = {"slide_ids": ["first", "second"], "groupby": "donor"}
    values["settings"] = {"groups": ["P1", "P2"], "unit": "block"}
    values["cooccurrence"] = {"radius_um": 12.0, "permutations": 0}
    job_id = run_now(services, "gene-pairs", GenePairRequest.model_validate(values))
    at = open_pairs(pairs=job_id)
    assert not at.error, at.error[0].value
    (box,) = (box for box in at.multiselect if box.key.startswith("pair-slides"))
    assert box.options == ["First (P1)", "Second (P2)"]
    assert box.value == ["first", "second"]
    assert [b.label for b in at.get("download_button")].count("PNG") == 6
    box.set_value(["second"]).run()
    assert not at.exception
    assert [b.label for b in at.get("download_button")].count("PNG") == 3


def test_donors_are_a_choice_only_where_they_differ(services):
    first, second = (services.slide(name).meta for name in ("first", "second"))
    assert group_choices([first]) == ("cell_type",)
    assert group_choices([first, second]) == ("cell_type", "donor")
    assert services.gene_pairs.groups(["first", "second"], "donor") == ("P1", "P2")


def many(q=0.01):
    """Three pairs in two groups; pair A|B belongs to group g, C|D to group h."""
    rows = [("A|B", "g", 0.5), ("C|D", "g", -0.2), ("E|F", "g", 0.1)]
    rows += [("A|B", "h", -0.3), ("C|D", "h", 0.4), ("E|F", "h", 0.2)]
    table = pd.DataFrame(rows, columns=["pair", "group", "effect"])
    table["reference"], table["q"] = "rest", q
    table["share_group"] = table["effect"].abs()
    table["low"], table["high"] = table["effect"] - 0.1, table["effect"] + 0.1
    table["cells_with_pair"] = 5
    return table


def test_top_pairs_are_each_groups_own():
    assert pair_charts.top_pairs(many(), 1) == ["A|B", "C|D"]
    assert pair_charts.top_pairs(many(q=0.2), 1) == []
    assert pair_charts.top_pairs(many(q=np.nan), 2) == ["A|B", "E|F", "C|D"]


def test_top_pairs_of_one_comparison_are_those_of_both_sides():
    one = many()[:3]
    assert pair_charts.top_pairs(one, 1) == ["A|B", "C|D"]
    assert pair_charts.top_pairs(one, 2) == ["A|B", "E|F", "C|D"]


def test_heat_map_and_dots_hold_the_table():
    figure = pair_charts.heatmap(many(), ["A|B", "C|D"])
    np.testing.assert_allclose(figure.data[0].z, [[50, -30], [-20, 40]])
    assert list(figure.data[0].x) == ["g", "h"]
    dots = pair_charts.dots(many(), ["A|B"]).data[0]
    np.testing.assert_allclose(dots.customdata, [50, 30])
    np.testing.assert_allclose(dots.marker.color, [50, -30])


def test_one_comparison_shows_both_sides():
    table = many()[:3].assign(
        reference="h", adjusted_group=0.6, adjusted_reference=0.1, share_reference=0.2
    )
    values, shares, _ = pair_charts.cells_of(table, ["A|B"])
    np.testing.assert_allclose(values.loc["A|B", ["g", "h"]], [60, 10])
    np.testing.assert_allclose(shares.loc["A|B", ["g", "h"]], [50, 20])


def test_volcano_colours_what_is_significant():
    drawn = {t.name: list(t.x) for t in pair_charts.volcano(many()[:3]).data}
    assert drawn == {"fewer cells of the group": [-20], "more cells of the group": [50, 10]}
    without = pair_charts.volcano(many(q=np.nan)[:3])
    assert [t.name for t in without.data] == ["other pairs"]
    np.testing.assert_allclose(without.data[0].y, 0.2)


def test_network_joins_the_pairs():
    nodes = pd.DataFrame([("A", 0, 0, 9), ("B", 1, 1, 9)], columns=["gene", "x", "y", "cells"])
    edges = pd.DataFrame(
        [("A", "B", 0.5, 0.01)], columns=["gene_left", "gene_right", "effect", "q"]
    )
    line, genes = pair_charts.network(PairNetwork(nodes, edges, 1, "")).data
    np.testing.assert_array_equal(line.x, [0, 1, np.nan])
    assert list(genes.text) == ["A", "B"]


def test_violins_hold_what_is_given():
    values = {"g": pd.Series([1.0, 2.0]), "h": pd.Series([3.0])}
    names = {"g": pd.Series(["a", "b"]), "h": pd.Series(["c"])}
    first, second = pair_detail.violin(values, names, "cells (%)").data
    assert (list(first.y), list(first.text), first.name) == ([1.0, 2.0], ["a", "b"], "g")
    assert list(second.y) == [3.0]


def test_the_table_of_a_picture_is_what_it_draws():
    drawn = pair_charts.flat(many(), ["A|B"]).set_index("group")
    np.testing.assert_allclose(drawn["value_percent"], [50, -30])
    np.testing.assert_allclose(drawn["share_percent"], [50, 30])


def test_kept_cooccurrence_follows_settings_and_format(services, monkeypatch):
    slide = services.slide("first")
    usual = gene_pairs.cooccurrence_folder(slide, CooccurrenceSettings())
    other = gene_pairs.cooccurrence_folder(slide, CooccurrenceSettings(radius_um=7))
    assert usual != other
    monkeypatch.setattr(gene_pairs, "__version__", "999")
    assert gene_pairs.cooccurrence_folder(slide, CooccurrenceSettings()) == usual
    monkeypatch.setattr(gene_pairs, "FORMAT", 999)
    assert gene_pairs.cooccurrence_folder(slide, CooccurrenceSettings()) != usual
