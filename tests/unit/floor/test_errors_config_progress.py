from __future__ import annotations

import copy
from pathlib import Path

import pytest

from spatialformer_core import progress
from spatialformer_core.config import QcThresholds, SampleMetadata, load_recipe, validate
from spatialformer_core.errors import Cancelled, SpatialFormerError


def test_an_error_says_what_where_and_what_to_do_and_survives_a_process() -> None:
    error = SpatialFormerError("Found 3, expected 4.", where="cells.h5ad", fix="Export it again.")
    again = copy.deepcopy(error)  # through __reduce__, as a process boundary does
    assert str(again) == "Found 3, expected 4. (cells.h5ad) Export it again."
    assert (again.where, again.fix) == ("cells.h5ad", "Export it again.")
    assert isinstance(copy.deepcopy(Cancelled()), Cancelled)


def test_an_unknown_key_in_a_recipe_is_an_error(tmp_path: Path) -> None:
    recipe = tmp_path / "qc.yaml"
    recipe.write_text("min_qv: 20\nmin_gens: 10\n")
    with pytest.raises(SpatialFormerError, match="min_gens"):
        load_recipe(recipe, QcThresholds)


@pytest.mark.security
@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [id]", "a: [", "- 1", "\x00"])
def test_a_hostile_recipe_is_refused(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "qc.yaml"
    recipe.write_text(text)
    with pytest.raises(SpatialFormerError):
        load_recipe(recipe, QcThresholds)


def test_an_empty_recipe_means_the_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "qc.yaml"
    recipe.write_text("")
    assert load_recipe(recipe, QcThresholds) == QcThresholds()


def test_missing_metadata_is_named() -> None:
    with pytest.raises(SpatialFormerError, match=r"donor.*assay|assay.*donor"):
        validate(
            SampleMetadata,
            {"block": "1", "condition": "Disease", "tissue": "Lung", "species": "Human"},
            "form",
        )


def test_stages_map_onto_their_share() -> None:
    seen: list[tuple[float, float]] = []
    step = progress.staged(lambda done, total, _: seen.append((done, total)), 0.5, 0.75)
    step(1, 2, "half of the second stage")
    assert seen == [(0.625, 1.0)]


def test_check_stops_the_work() -> None:
    progress.check(progress.never)
    with pytest.raises(Cancelled):
        progress.check(lambda: True)
