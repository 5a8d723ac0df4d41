from dataclasses import replace

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import Knocking, exact_effects, run_screen
from spatialformer_core.perturbation.control import NEIGHBOURS, neighbour_set
from spatialformer_core.perturbation.knockouts import knock_out
from spatialformer_core.perturbation.targets import choose_targets, every_token


@pytest.fixture(scope="module")
def cells(lab):
    rng = np.random.default_rng(5)
    expressed = rng.random((8, lab.n_genes)) < 0.7
    expressed[:, :3] = True
    return lab.cells(expressed, rng)


def sets(lab, **gene_sets):
    request = lab.request(knockout_sets=gene_sets)
    return choose_targets(request, lab.genes, lab.offset)


def test_a_control_is_another_gene_of_neighbouring_rank(lab):
    rng = np.random.default_rng(0)
    long = lab.cells(np.ones((200, lab.n_genes), bool), rng)
    made = knock_out(long, every_token(long), "delete", 3)
    distance = np.array([cell.control - np.arange(1, 13) for cell in made.of_cell])
    assert (distance != 0).all()
    assert (np.abs(distance) <= NEIGHBOURS).all()
    # Every gene near enough is drawn, about equally often.
    middle = np.bincount(distance[:, 5] + NEIGHBOURS, minlength=11)
    assert (middle[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]] > 5).all()


def test_controls_do_not_depend_on_numbering_company_or_chunk_but_on_the_seed(lab, cells):
    targets = every_token(cells)
    together = knock_out(cells, targets, "delete", 7).of_cell
    turned = knock_out(cells.take(np.arange(8)[::-1]), targets, "delete", 7).of_cell
    for k in range(8):
        alone = knock_out(cells.take(np.array([k])), targets, "delete", 7).of_cell[0]
        np.testing.assert_array_equal(together[k].control, alone.control)
        np.testing.assert_array_equal(together[k].control, turned[7 - k].control)
    other = knock_out(cells, targets, "delete", 8).of_cell
    assert any((a.control != b.control).any() for a, b in zip(together, other, strict=True))


@pytest.mark.parametrize("knockout", ["delete", "mask"])
def test_controlled_effects_are_those_less_the_control_pair(lab, cells, knockout):
    scorer = lab.random_scorer(np.random.default_rng(2))
    how = Knocking(knockout, control_seed=1)
    (found,) = exact_effects(scorer, cells, np.array([0]), np.array([1]), how=how)
    made = knock_out(cells.take(np.array([0, 1])), every_token(cells), knockout, 1).of_cell
    less, raw = found.controlled(), found
    for i, a in enumerate(made[0].control - 1):
        assert less.d_left[i] == pytest.approx(raw.d_left[i] - raw.d_left[a], abs=1e-6)
        for j, b in enumerate(made[1].control - 1):
            expected = raw.d_pair[i, j] - raw.d_pair[a, b]
            assert less.d_pair[i, j] == pytest.approx(expected, abs=1e-6)
            chance = raw.d_probability[i, j] - raw.d_probability[a, b]
            assert less.d_probability[i, j] == pytest.approx(chance, abs=1e-6)
    np.testing.assert_allclose(
        less.d_pair,
        less.interaction + less.d_left[:, None] + less.d_right[None, :],
        atol=1e-12,
    )


def test_probability_is_that_of_the_logits(lab, cells):
    scorer = lab.random_scorer(np.random.default_rng(2))
    (found,) = exact_effects(scorer, cells, np.array([0]), np.array([1]))
    chance = 1 / (1 + np.exp(-(found.reference + found.d_pair)))
    before = 1 / (1 + np.exp(-found.reference))
    np.testing.assert_allclose(found.d_probability, chance - before, atol=1e-7)


class PlaceScorer:
    """Its logit is the place of gene 0 in the left cell: deletion above it moves it."""

    name = "place"

    def __init__(self, offset):
        self.offset = offset

    def encode(self, cells):
        places = [np.flatnonzero(cells.row(k) == self.offset) for k in range(cells.n_cells)]
        return Places(np.array([float(p[0]) if len(p) else 6.0 for p in places]))

    def score_grid(self, left, right):
        return np.repeat(left.place[:, None], len(right), axis=1).astype(np.float32)


class Places:
    def __init__(self, place):
        self.place = place

    def __len__(self):
        return len(self.place)

    def take(self, rows):
        return Places(self.place[rows])


def test_what_comes_from_the_shift_of_places_alone_is_taken_away(lab):
    cells = lab.cells(np.ones((300, lab.n_genes), bool), np.random.default_rng(0))
    pairs = np.zeros(300, int), np.arange(300)
    raw, less = [], []
    for found in exact_effects(
        PlaceScorer(lab.offset), cells, pairs[1], pairs[0], how=Knocking(control_seed=0)
    ):
        others = found.left != lab.offset
        raw.append(found.d_left[others].mean())
        less.append(found.controlled().d_left[others].mean())
    assert np.mean(raw) < -0.3
    assert abs(np.mean(less)) < 0.25 * abs(np.mean(raw))


def test_a_cell_without_another_gene_has_no_control(lab):
    expressed = np.zeros((2, lab.n_genes), bool)
    expressed[0, 3] = expressed[1, [1, 2]] = True
    lone = lab.cells(expressed, np.random.default_rng(0))
    scorer = lab.random_scorer(np.random.default_rng(1))
    (found,) = exact_effects(
        scorer, lone, np.array([0]), np.array([1]), how=Knocking(control_seed=0)
    )
    assert found.controlled().d_left == pytest.approx(found.d_left)
    assert found.controlled().d_right[0] == pytest.approx(found.d_right[0] - found.d_right[1])
    assert neighbour_set([0, 1], 3, np.uint64(1)) == []


def test_a_set_is_knocked_out_together_and_its_control_lies_outside_it(lab, cells):
    targets = sets(lab, both=("G00", "G02"), far=("G01", "G11"))
    scorer = lab.random_scorer(np.random.default_rng(4))
    how = Knocking(targets=targets, control_seed=0)
    left, right = np.array([0, 3]), np.array([1, 2])
    for found, a, b in zip(
        exact_effects(scorer, cells, left, right, how=how), left, right, strict=True
    ):
        rows = [lab.names_out(cells, k, targets) for k in (a, b)]
        encoded = [scorer.encode(part) for part in rows]
        grid = scorer.score_grid(*encoded)
        order = [np.argsort(side) for side in (found.left, found.right)]
        np.testing.assert_array_equal(found.left[order[0]], np.arange(2))
        np.testing.assert_allclose(
            found.d_pair[np.ix_(*order)], grid[1:, 1:] - grid[0, 0], atol=1e-5
        )
        np.testing.assert_allclose(found.d_left[order[0]], grid[1:, 0] - grid[0, 0], atol=1e-5)
    made = knock_out(cells, targets, "delete", 0)
    for k, cell in enumerate(made.of_cell):
        whole = cells.row(k)
        for number, version in enumerate(cell.control):
            lost = set(whole) - set(made.versions.row(cell.first + version))
            members = set(targets.members[cell.target[number]].indices + lab.offset)
            assert len(lost) == len(members & set(whole))
            assert not lost & members


def test_genes_and_sets_make_the_rows_of_the_table(lab):
    tissue = lab.tissue()
    model = replace(lab.model, architecture="two-tower")
    wanted = lab.request(
        genes=(*lab.contact, "UNHEARD"), knockout_sets={"pair": ("G02", "G03", "OTHER")}
    )
    found = run_screen([tissue], lab.scorer(), model, wanted)
    # The other contact gene is expressed in the other type alone.
    assert set(found.table.gene_left) == {lab.contact[0], "pair"}
    assert found.info["genes_unknown"] == ["UNHEARD", "OTHER"]
    whole = run_screen([tissue], lab.scorer(), lab.model, lab.request()).table
    keys = ["gene_left", "gene_right"]
    shared = found.table.merge(whole, on=keys, suffixes=("", "_whole"))
    assert len(shared) >= 1
    np.testing.assert_allclose(shared.d_diff, shared.d_diff_whole, atol=1e-6)
    np.testing.assert_allclose(shared.rank_left, shared.rank_left_whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genes": ("NO",)}, "none of the chosen genes"),
        ({"knockout_sets": {"s": ("NO",)}}, "no gene of the set"),
        ({"knockout_sets": {"G01": ("G02",)}}, "name of a gene"),
    ],
)
def test_genes_that_cannot_be_knocked_out_are_refused(lab, changes, message):
    with pytest.raises(SpatialFormerError, match=message):
        choose_targets(lab.request(**changes), lab.genes, lab.offset)


def test_raw_and_controlled_effects_stand_side_by_side(lab):
    tissue = lab.tissue(n=1200, width=1600.0)
    keys = ["gene_left", "gene_right"]
    runs = {
        use: run_screen([tissue], lab.scorer(), lab.model, lab.request(control=use))
        for use in ("none", "beside", "subtract")
    }
    tables = {use: run.table.sort_values(keys).reset_index(drop=True) for use, run in runs.items()}
    np.testing.assert_allclose(tables["beside"].d_diff, tables["none"].d_diff)
    np.testing.assert_allclose(tables["subtract"].d_raw, tables["none"].d_diff)
    np.testing.assert_allclose(tables["subtract"].d_diff, tables["beside"].d_controlled)
    np.testing.assert_allclose(tables["subtract"].epsilon, tables["beside"].epsilon_controlled)
    assert tables["none"].d_controlled.isna().all()
    assert (tables["subtract"].d_diff - tables["subtract"].d_raw).abs().max() > 0.01
    assert runs["subtract"].info["control"] == "subtract"
    assert "random gene" in runs["subtract"].info["methods"]
    both = tables["subtract"]
    np.testing.assert_allclose(both.d_diff, both.epsilon + both.d_left + both.d_right, atol=1e-9)


def test_swapping_the_types_mirrors_the_table_with_controls(lab):
    tissue = lab.tissue(n=1200, width=1600.0)
    scorer = lab.random_scorer(np.random.default_rng(6))
    there = run_screen([tissue], scorer, lab.model, lab.request(control="subtract")).table
    swapped = lab.request(control="subtract", group_left="B", group_right="A")
    back = run_screen([lab.mirrored(tissue)], scorer, lab.model, swapped).table
    both = there.merge(
        back, left_on=["gene_left", "gene_right"], right_on=["gene_right", "gene_left"]
    )
    # Far pairs are drawn anew for each left cell; near pairs are the same ones.
    assert len(both) > 50
    np.testing.assert_array_equal(both.n_pairs_x, both.n_pairs_y)
    np.testing.assert_allclose(both.d_near_x, both.d_near_y, atol=1e-6)
