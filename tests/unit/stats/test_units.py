"""Replicate units of cells: the largest that suffices, and never a piece of what differs."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.stats import Placed, best_level, choose_cell_units


def tissue(donors, per_slide=1200, side_um=3000.0, seed=0):
    """One slide per donor named, cells all over a square."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(np.arange(len(donors)), per_slide)
    names = tuple(f"slide{i}" for i in range(len(donors)))
    return Placed(slide, rng.uniform(0, side_um, (len(slide), 2)), names, tuple(donors))


def mixed(placed, seed=1):
    return np.random.default_rng(seed).integers(0, 2, len(placed.slide))


def test_donors_if_there_are_six_else_slides_else_blocks():
    six = tissue([f"P{i}" for i in range(6)])
    units = choose_cell_units(mixed(six), six)
    assert (units.kind, len(units.names), units.paired, units.no_p_reason) == (
        "donor",
        6,
        True,
        None,
    )
    of_two = tissue(["P1", "P2"] * 3)
    assert choose_cell_units(mixed(of_two), of_two).kind == "slide"
    one = tissue(["P1"])
    units = choose_cell_units(mixed(one), one)
    assert (units.kind, units.block_um, len(units.names)) == ("block", 1000.0, 9)
    assert units.label == "1000 um block"
    assert choose_cell_units(mixed(six), six, "block").kind == "block"


def test_blocks_shrink_until_six_hold_both_groups():
    placed = tissue(["P1"], side_um=1100.0)
    units = choose_cell_units(mixed(placed), placed)
    assert units.block_um == 400.0
    corner = np.floor(placed.xy_um / 400.0).astype(int)
    for unit in range(len(units.names)):
        assert len(np.unique(corner[units.of_cell == unit], axis=0)) == 1
    nowhere = Placed(placed.slide, None, placed.slides, placed.donors)
    assert choose_cell_units(mixed(placed), nowhere).no_p_reason is not None


@pytest.mark.parametrize("kind", ["auto", "donor"])
def test_what_differs_between_donors_is_replicated_by_donors_only(kind):
    placed = tissue([f"P{i}" for i in range(6)])
    units = choose_cell_units(placed.slide % 2, placed, kind)
    assert (units.kind, units.paired, len(units.names)) == ("donor", False, 6)
    assert units.no_p_reason is None
    two = tissue(["P1", "P2"])
    units = choose_cell_units(two.slide % 2, two, kind)
    assert not units.paired
    assert "donors. With at least 10 cells there are 1 and 1" in units.no_p_reason


def test_pieces_of_donors_are_no_replicates_of_what_differs_between_donors():
    two = tissue(["P1", "P2"])
    units = choose_cell_units(two.slide % 2, two, "block")
    assert units.kind == "all"
    assert "block is no replicate" in units.no_p_reason


def test_ten_donors_against_one_are_no_replication():
    placed = tissue([f"P{i}" for i in range(11)], per_slide=50)
    units = choose_cell_units((placed.slide == 0).astype(int), placed)
    assert "there are 10 and 1; 3 of each" in units.no_p_reason


def test_slides_where_the_groups_differ_between_slides_of_a_donor():
    placed = tissue(["P1"] * 4 + ["P2"] * 4, per_slide=60)
    units = choose_cell_units(placed.slide % 2, placed)
    assert (units.kind, units.paired, units.no_p_reason) == ("slide", False, None)


def test_small_units_and_other_cells_are_left_out():
    placed = tissue([f"P{i}" for i in range(7)], per_slide=40)
    side = mixed(placed)
    side[(placed.slide == 6) & (side == 0)] = -1
    units = choose_cell_units(side, placed)
    assert units.names == tuple(f"P{i}" for i in range(6))
    assert (units.of_cell[placed.slide == 6] == -1).all()
    assert ((units.of_cell >= 0) == ((side >= 0) & (placed.slide < 6))).all()


def test_no_unit_at_all():
    placed = tissue(["P1"], per_slide=30)
    side = np.where(np.arange(30) < 4, 0, 1)
    units = choose_cell_units(side, placed)
    assert units.kind == "all"
    assert units.no_p_reason is not None


def test_the_first_sufficient_level_or_the_one_with_most():
    assert best_level(iter([2, 7, 9]), int) == 7
    assert best_level(iter([2, 4, 4, 1]), int) == 4
    assert best_level(iter([]), int) is None
