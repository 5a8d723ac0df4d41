"""Ids, names and groups, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import checks
from spatialformer_core.io.records import Groups


def test_lookup_equals_a_dictionary() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation([f"c{i}" for i in range(50)])
    wanted = rng.choice([f"c{i}" for i in range(70)], 200)
    place = {name: i for i, name in enumerate(ids)}
    assert checks.lookup(ids, wanted).tolist() == [place.get(name, -1) for name in wanted]


@pytest.mark.parametrize(
    "name",
    ["NegControlProbe_00042", "NegControlCodeword_0500", "antisense_ACTB", "BLANK_0069",
     "UnassignedCodeword_0001", "DeprecatedCodeword_0123", "Intergenic_Region_123", "Blank-5"],
)  # fmt: skip
def test_controls_are_known_by_name(name: str) -> None:
    assert checks.is_control(name)


@pytest.mark.parametrize("name", ["NEGR1", "BLNK", "ACTB", "ANTXR1", "UNASSIGNEDX", "SYSTEM1"])
def test_genes_are_no_controls(name: str) -> None:
    assert not checks.is_control(name)


def test_names_for_nothing_become_no_group() -> None:
    groups = Groups(("a", "<NA>", "b"), np.array([0, 1, 2, -1], np.int16))
    found = checks.without_missing(groups)
    assert found.categories == ("a", "b")
    assert found.codes.tolist() == [0, -1, 1, -1]
    same = Groups(("unassigned",), np.array([0], np.int16))
    assert checks.without_missing(same) is same


@pytest.mark.parametrize("ids", [[], ["a", "b", "a"], ["a", ""], ["a", "x" * 200]])
def test_bad_ids_are_refused(ids: list[str]) -> None:
    with pytest.raises(SpatialFormerError):
        checks.check_ids(np.array(ids, np.str_), "file")


@pytest.mark.parametrize(
    ("names", "genes"), [(["BLANK_1"], [False]), (["A", "A"], [True, True]), ([""], [True])]
)
def test_bad_panels_are_refused(names: list[str], genes: list[bool]) -> None:
    with pytest.raises(SpatialFormerError):
        checks.check_panel(names, np.array(genes), "file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e6])
def test_bad_coordinates_are_refused(value: float) -> None:
    xy = np.zeros((5, 2))
    checks.check_xy(xy, "file")
    xy[3, 1] = value
    with pytest.raises(SpatialFormerError):
        checks.check_xy(xy, "file")
