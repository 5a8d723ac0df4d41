"""The offline doors: recipes that ship are valid, and what a user gets wrong is said."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from spatialformer_core.config import load_recipe
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.trainer import TrainRecipe
from training import common, pretrain
from training.corpus import CorpusRecipe, build
from training.graphsage import GraphsageRecipe

RECIPES = Path(common.__file__).parent / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(path):
    if path.stem.endswith("_corpus"):
        assert load_recipe(path, CorpusRecipe).slides
        return
    if path.stem.endswith("_graphsage"):
        assert load_recipe(path, GraphsageRecipe).network.steps
        return
    recipe = load_recipe(path, TrainRecipe)
    config = recipe.model.config(n_tokens=400)
    assert config.preset == ("base" if path.stem.startswith("paper") else "small")
    # By steps, so that anybody gets the same weights.
    assert recipe.steps
    if recipe.warm_start:
        start = load_recipe(RECIPES / f"{recipe.warm_start.replace('-', '_')}.yaml", TrainRecipe)
        assert start.corpus == recipe.corpus


def arguments(recipe: Path, home: Path) -> argparse.Namespace:
    return argparse.Namespace(recipe=recipe, home=home, replace=False, out=None, changes=[])


def test_a_missing_corpus_is_one_sentence_and_code_2(tmp_path, capsys):
    code = common.run(pretrain.door, arguments(RECIPES / "pancreas_two_tower.yaml", tmp_path))
    assert code == 2
    assert "no corpus 'pancreas'" in capsys.readouterr().err


def test_a_missing_slide_is_named(tmp_path):
    with pytest.raises(SpatialFormerError, match="nowhere"):
        build(CorpusRecipe(name="x", slides=("nowhere",)), tmp_path)
    assert not (tmp_path / "corpora" / "x").exists()


def test_a_corpus_name_cannot_climb_out(tmp_path):
    with pytest.raises(SpatialFormerError, match="name"):
        build(CorpusRecipe(name="../x", slides=("s",)), tmp_path)


def test_a_missing_start_is_named(tmp_path):
    with pytest.raises(SpatialFormerError, match="no checkpoint 'towers'"):
        common.find_checkpoint(tmp_path, tmp_path, "towers")
    (tmp_path / "towers").mkdir()
    assert common.find_checkpoint(tmp_path / "home", tmp_path, "towers") == tmp_path / "towers"


def test_single_fields_of_a_recipe_are_set_on_the_command_line(tmp_path, capsys):
    given = ["seed=1", "model.changes.dropout=0.2", "teacher={towers: 2}", "warm_start=null"]
    path = RECIPES / "pancreas_two_tower_path.yaml"
    asked = common.parser("").parse_args(
        [str(path), *(part for one in given for part in ("--set", one))]
    )
    plain, found = (load_recipe(path, TrainRecipe, c) for c in ((), asked.changes))
    assert (plain.seed, found.seed) == (0, 1)
    assert found.model.changes == {**plain.model.changes, "dropout": 0.2}
    assert (found.teacher.towers, found.warm_start) == (2, None)
    # The door reads them: no corpus of that name is there.
    door = arguments(path, tmp_path)
    door.changes = ["corpus=other"]
    assert common.run(pretrain.door, door) == 2
    assert "no corpus 'other'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sed=1", "sed"),
        ("seed", "FIELD=VALUE"),
        ("name.first=1", "FIELD=VALUE"),
        ("seed=[", "FIELD=VALUE"),
        ("seed=!!python/object/apply:os.getcwd []", "FIELD=VALUE"),
        ("model.changes.colour=1", "colour"),
    ],
)
def test_a_field_that_cannot_be_set_is_refused(change, message):
    with pytest.raises(SpatialFormerError, match=message):
        load_recipe(RECIPES / "pancreas_two_tower.yaml", TrainRecipe, [change]).model.config(400)
