import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.arrays import CellTokens
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.evaluation.colocalisation import (
    ColocalisationSettings,
    EvaluationSlide,
    run,
)
from spatialformer_core.evaluation.pairs import HARD_UM, PairSource, draw_pairs
from spatialformer_core.evaluation.reports import ROW_KEYS, markdown, write_report
from spatialformer_core.evaluation.splits import SplitRecipe, split_by_recipe

SMALL = ColocalisationSettings(
    negatives=("easy", "hard", "matched"),
    n_queries=300,
    n_train_pairs=600,
    tower_pairs=20_000,
    seeds=(0, 1),
)


class Rows:
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def take(self, rows):
        return Rows(self.values[rows])


class Zones:
    """Scores the likeness of the cells' first gene count: 1 or 9 by the side of the tissue."""

    name = "zones"

    def encode(self, cells):
        return Rows(cells.counts[cells.indptr[:-1]])

    def score(self, left, right):
        return np.where(left.values == right.values, 2.0, -2.0).astype(np.float32)


@pytest.fixture(scope="module")
def slide():
    rng = np.random.default_rng(0)
    n = 5_000
    xy = rng.random((n, 2)) * (2600.0, 1300.0)
    # Stripes of 250 um: what a cell expresses tells its stripe's kind.
    zone = (xy[:, 0] // 250).astype(int) % 2
    counts = rng.poisson(2.0, (n, 10))
    counts[:, 0] = np.where(zone == 1, 9, 1)
    cells = CellTokens(
        np.arange(n + 1),
        np.full(n, 9, np.int32),
        counts[:, 0].astype(np.int32),
        np.zeros((n, 4), np.int32),
    )
    return EvaluationSlide(
        slide_id="stripes",
        xy_um=xy,
        counts=sparse.csr_matrix(counts),
        kept=rng.random(n) < 0.9,
        split=split_by_recipe(xy, SplitRecipe(patches=2)),
        types=rng.integers(0, 3, n),
        cells=cells,
    )


def source_of(slide):
    graph = radius_graph(slide.xy_um, 30.0)
    depth = np.asarray(slide.counts.sum(axis=1), float).ravel()
    return PairSource(slide.xy_um, graph, 30.0, slide.types, depth)


@pytest.mark.parametrize("kind", ["easy", "hard", "matched"])
def test_pairs_are_what_their_label_says_and_stay_in_the_split(slide, kind):
    test = slide.kept & (slide.split == 2)
    pairs = draw_pairs(source_of(slide), test, kind, 300, 5)
    away = np.hypot(*(slide.xy_um[pairs.left] - slide.xy_um[pairs.right]).T)
    assert (away[pairs.label] <= 30.0).all()
    negative = away[~pairs.label]
    assert (negative > 30.0).all()
    if kind != "easy":
        assert ((negative >= HARD_UM[0]) & (negative <= HARD_UM[1])).all()
    assert test[pairs.left].all()
    assert test[pairs.right].all()
    queries = [np.sort(pairs.left[pairs.label == value]) for value in (True, False)]
    np.testing.assert_array_equal(*queries)
    assert len(np.unique(queries[0])) == len(queries[0])


def test_matched_negatives_have_the_neighbours_type_and_the_closest_depth(slide):
    source = source_of(slide)
    test = slide.kept & (slide.split == 2)
    pairs = draw_pairs(source, test, "matched", 50, 1)
    for k in range(0, len(pairs.left), 2):
        query, neighbour, other = pairs.left[k], pairs.right[k], pairs.right[k + 1]
        assert slide.types[neighbour] == slide.types[other]
        away = np.hypot(*(slide.xy_um - slide.xy_um[query]).T)
        ring = test & (away > 80) & (away <= 150) & (slide.types == slide.types[neighbour])
        gap = np.abs(np.log1p(source.depth) - np.log1p(source.depth[neighbour]))
        assert gap[other] == pytest.approx(gap[ring].min())


@pytest.fixture(scope="module")
def report(slide):
    return run(slide, {"spatialformer": Zones()}, SMALL)


def test_report_has_the_stable_rows_and_the_model_stands_beside_the_baselines(report, tmp_path):
    assert all(tuple(row) == ROW_KEYS for row in report["rows"])
    value = {(row["negatives"], row["method"], row["metric"]): row for row in report["rows"]}
    methods = {row["method"] for row in report["rows"]}
    assert methods == {
        "spatialformer",
        "always_positive",
        "tower_mlp",
        "type_pair_prior",
        "pca_cosine",
        "pca_logistic",
        "pca_boosting",
    }
    for kind in ("easy", "hard", "matched"):
        constant = value[(kind, "always_positive", "auroc")]
        assert constant["value"] == 0.5
        assert value[(kind, "always_positive", "recall")]["value"] == 1.0
        assert value[(kind, "spatialformer", "auroc")]["low"] > 0.5
        assert value[(kind, "spatialformer", "auroc")]["seeds"] == 2
        # Types were dealt at random here: they cannot tell anything.
        assert abs(value[(kind, "type_pair_prior", "auroc")]["value"] - 0.5) < 0.06
    assert value[("easy", "pca_boosting", "auroc")]["value"] > 0.65
    write_report(report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == report["rows"]
    assert "| pca_boosting |" in markdown(report)
    assert (tmp_path / "report.svg").read_bytes().startswith(b"<?xml")


def test_it_runs_without_a_model_and_without_types(slide):
    bare = replace(slide, types=None, cells=None)
    settings = SMALL.model_copy(update={"negatives": ("easy",), "seeds": (0,)})
    methods = {row["method"] for row in run(bare, {}, settings)["rows"]}
    assert methods == {
        *("always_positive", "pca_cosine", "pca_logistic", "pca_boosting", "tower_mlp")
    }
    with pytest.raises(SpatialFormerError, match="cell types"):
        run(bare, {}, SMALL)


def test_same_seeds_same_report(slide):
    settings = SMALL.model_copy(update={"negatives": ("hard",), "seeds": (3,)})
    one, other = (run(slide, {"spatialformer": Zones()}, settings) for _ in range(2))
    assert one["rows"] == other["rows"]


def test_too_few_test_cells_are_refused(slide):
    with pytest.raises(SpatialFormerError, match="test cells"):
        run(replace(slide, split=np.zeros(len(slide.split), np.int8)), {}, SMALL)


class Asked(Zones):
    """Keeps how many cells it was shown."""

    def encode(self, cells):
        self.shown = cells.n_cells
        return super().encode(cells)


def test_validation_blocks_can_be_asked_without_a_look_at_the_test_blocks(slide):
    settings = SMALL.model_copy(
        update={"negatives": ("easy",), "seeds": (0,), "tower_pairs": 0, "part": "validation"}
    )
    scorer = Asked()
    report = run(slide, {"spatialformer": scorer}, settings)
    assert {row["split"] for row in report["rows"]} == {"validation blocks"}
    assert scorer.shown == np.sum(slide.kept & (slide.split == 1))
    # Whatever stands in the test blocks: the answers stay the same.
    counts = slide.counts.toarray()
    counts[slide.split == 2] = 1
    blind = run(
        replace(slide, counts=sparse.csr_matrix(counts)), {"spatialformer": Asked()}, settings
    )
    assert blind["rows"] == report["rows"]


def test_cancel_stops_it(slide):
    with pytest.raises(Cancelled):
        run(slide, {}, SMALL, cancel=lambda: True)


def test_differences_are_of_the_same_pairs(report):
    values = {
        (row["negatives"], row["method"]): row["value"]
        for row in report["rows"]
        if row["metric"] == "auroc"
    }
    rows = [row for row in report["differences"] if row["metric"] == "auroc"]
    assert {row["against"] for row in rows} == {m for _, m in values} - {"spatialformer"}
    for row in rows:
        kind = row["negatives"]
        expected = values[(kind, "spatialformer")] - values[(kind, row["against"])]
        assert row["value"] == pytest.approx(expected, abs=2e-6)
        assert row["low"] <= row["high"]
    assert "ahead of" in markdown(report)


def test_a_model_is_not_ahead_of_itself(slide):
    both = {"spatialformer": Zones(), "spatialformer_again": Zones()}
    report = run(slide, both, SMALL.model_copy(update={"negatives": ("hard",), "tower_pairs": 0}))
    same = [
        row
        for row in report["differences"]
        if (row["method"], row["against"]) == ("spatialformer", "spatialformer_again")
    ]
    assert same
    assert all(row["value"] == row["low"] == row["high"] == 0 for row in same)


def test_scores_fall_with_distance_where_zones_end(slide):
    report = run(
        slide,
        {"spatialformer": Zones()},
        SMALL.model_copy(update={"negatives": ("easy",), "tower_pairs": 0}),
    )
    curve = {
        row["distance_um"]: row["mean_probability"]
        for row in report["by_distance"]
        if row["method"] == "spatialformer"
    }
    assert curve[5.0] > 0.8
    # One stripe away everything is of the other kind.
    assert curve[245.0] < curve[5.0] - 0.2
    flat = {
        row["mean_probability"]
        for row in report["by_distance"]
        if row["method"] == "always_positive"
    }
    assert flat == {1.0}


def test_plain_towers_learn_and_never_see_test_cells(slide):
    from spatialformer_core.evaluation.baselines import principal_components
    from spatialformer_core.evaluation.splits import TEST, TRAIN
    from spatialformer_core.evaluation.tower_mlp import TowerMlp, TowerSettings

    train = slide.kept & (slide.split == TRAIN)
    source = PairSource(slide.xy_um, radius_graph(slide.xy_um, 30.0), 30.0, slide.types, np.ones(0))
    settings = TowerSettings(width=32, dim=8, head=16, pairs=150_000, batch=500)

    def fitted(counts):
        components = principal_components(counts, train, 0)
        return TowerMlp(counts, components, source, train, seed=0, settings=settings)

    test = draw_pairs(source, slide.kept & (slide.split == TEST), "easy", 300, 0)
    first = fitted(slide.counts).predict(test.left, test.right)
    assert first[test.label].mean() > first[~test.label].mean() + 0.1
    other = slide.counts.copy().tolil()
    other[np.flatnonzero(slide.split == TEST)] = 3
    seen = draw_pairs(source, train, "easy", 100, 0)
    np.testing.assert_allclose(
        fitted(slide.counts).predict(seen.left, seen.right),
        fitted(other.tocsr()).predict(seen.left, seen.right),
        atol=1e-6,
    )
