"""Links to a view: what is not on the slide is left out, whatever the address says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pages.ui import view_link

META = SimpleNamespace(bounds_um=(0.0, 10.0, 400.0, 300.0), group_keys=("cell_type",))
PANEL = ("A", "B", "C", "D", "E", "F", "G")
HERE = {"x": "200", "y": "20.5", "zoom": "-1.25"}


@pytest.fixture
def address(monkeypatch):
    parts = {}
    monkeypatch.setattr(view_link, "linked", lambda name: parts.get(name) or None)
    return parts


def test_a_place_on_the_slide_is_taken(address):
    address.update(HERE)
    assert view_link.view(META) == {"x": 200.0, "y": 20.5, "zoom": -1.25}


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": ""},
        {"x": "401"},
        {"y": "9"},
        {"y": "nan"},
        {"x": "inf"},
        {"zoom": "7"},
        {"zoom": "-99"},
        {"zoom": "1;alert(1)"},
    ],
)
def test_a_place_elsewhere_is_none(address, wrong):
    address.update(HERE | wrong)
    assert view_link.view(META) is None


def test_only_known_colours_are_taken(address):
    for given, expected in (
        ("group:cell_type", ("group", "cell_type")),
        ("gene:C", ("gene", "C")),
        ("gene:cell_type", None),
        ("group:../x", None),
        ("none", None),
        ("", None),
    ):
        address["colour"] = given
        assert view_link.colour(META, PANEL) == expected


def test_genes_are_those_of_the_panel_once_and_at_most_six(address):
    address["genes"] = "B,NOPE,A,B,<script>"
    assert view_link.genes_of(PANEL) == ["B", "A"]
    address["genes"] = ",".join(PANEL)
    assert view_link.genes_of(PANEL) == list(PANEL[:6])
    address.clear()
    assert view_link.genes_of(PANEL) == []


def test_a_range_of_values_is_two_ordered_numbers(address):
    address["range"] = "1.5,30"
    assert view_link.value_range() == [1.5, 30.0]
    for wrong in ("", "3", "3,1", "1,1", "a,b", "1,inf", "nan,2", "1,2,3"):
        address["range"] = wrong
        assert view_link.value_range() is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("pair:A,C", ("pair", "A,C")),
        ("pair:A,A", None),
        ("pair:A,NOPE", None),
        ("pair:A", None),
        ("value:n_genes", ("value", "n_genes")),
        ("value:cell_ids", None),
        ("result:abc/cluster", ("result", "abc/cluster")),
        ("result:", None),
    ],
)
def test_other_colours_of_a_link(address, wanted, found):
    address["colour"] = wanted
    assert view_link.colour(META, PANEL) == found
