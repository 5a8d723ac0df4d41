"""A checkpoint comes back as it was written, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import build, load_checkpoint, preset_config, save_checkpoint
from spatialformer_core.vocabulary import Vocabulary

FACTS = {"simulated": True, "trained_on": []}


def vocabulary(n_genes: int = 20, median: float = 2.0) -> Vocabulary:
    genes = tuple(f"G{k:03d}" for k in range(n_genes))
    return Vocabulary(("tissue:lung",), genes, np.full(n_genes, median, np.float32))


@pytest.fixture
def folder(tmp_path):
    model = build(preset_config("two-tower", "tiny", 26, niche_targets=3), seed=4)
    model.blocks[0].conv.batch_norm.running_mean.fill_(0.25)
    save_checkpoint(tmp_path / "toy", model, vocabulary(), FACTS, "# toy\n")
    return tmp_path / "toy"


def seal(folder):
    """Write the manifest again, as somebody would who changed a file on purpose."""
    names = [p.name for p in folder.iterdir() if p.name != files.MANIFEST]
    hashes = {name: files.sha256_file(folder / name) for name in names}
    files.write_json(folder / files.MANIFEST, {"files": hashes})


def change_weights(folder, change, metadata=None):
    path = folder / "weights.safetensors"
    weights = safetensors.torch.load(path.read_bytes())
    change(weights)
    metadata = metadata or {"vocabulary": vocabulary().fingerprint}
    path.write_bytes(safetensors.torch.save(weights, metadata))
    seal(folder)


def test_round_trip(folder):
    model = build(preset_config("two-tower", "tiny", 26, niche_targets=3), seed=4).eval()
    model.blocks[0].conv.batch_norm.running_mean.fill_(0.25)
    loaded = load_checkpoint(folder)
    assert loaded.config == model.config
    assert loaded.vocabulary == vocabulary()
    assert loaded.simulated
    assert loaded.name == "toy"
    assert not loaded.model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key])
    assert torch.equal(loaded.model.blocks[0].attention.slopes, model.blocks[0].attention.slopes)


def test_the_id_follows_the_content_not_the_name(folder, tmp_path):
    one = load_checkpoint(folder)
    folder.rename(tmp_path / "renamed")
    assert load_checkpoint(tmp_path / "renamed").id == one.id
    other = build(preset_config("two-tower", "tiny", 26), seed=5)
    save_checkpoint(tmp_path / "other", other, vocabulary(), FACTS, "")
    assert load_checkpoint(tmp_path / "other").id != one.id


def test_the_card_may_be_edited(folder):
    (folder / "MODEL_CARD.md").write_text("Better words.\n")
    load_checkpoint(folder)


def test_no_folder(tmp_path):
    with pytest.raises(SpatialFormerError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "config.yaml", "vocabulary.json", "provenance.json"]
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(SpatialFormerError, match=name):
        load_checkpoint(folder)


def test_truncated_weights(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SpatialFormerError, match="damaged"):
        load_checkpoint(folder)
    seal(folder)
    with pytest.raises(SpatialFormerError, match="cannot be read"):
        load_checkpoint(folder)


def test_not_a_number(folder):
    def spoil(weights):
        weights["token_head.bias"][3] = torch.nan

    change_weights(folder, spoil)
    with pytest.raises(SpatialFormerError, match=r"token_head\.bias.*NaN"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("token_head.bias"), "missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected"),
        (lambda w: w.update({"token_head.bias": torch.zeros(5)}), "shape|configuration wants"),
        (lambda w: w.update({"token_head.bias": torch.zeros(26).half()}), "float16"),
    ],
)
def test_weights_that_do_not_fit(folder, change, words):
    change_weights(folder, change)
    with pytest.raises(SpatialFormerError, match=words):
        load_checkpoint(folder)


def test_a_swollen_weights_file_is_refused_before_it_is_read(folder):
    change_weights(folder, lambda w: w.update(extra=torch.zeros(1 << 20)))
    with pytest.raises(SpatialFormerError, match="larger"):
        load_checkpoint(folder)


def test_another_vocabulary_of_the_same_size(folder):
    vocabulary(median=3.0).save(folder / "vocabulary.json")
    seal(folder)
    with pytest.raises(SpatialFormerError, match="another vocabulary"):
        load_checkpoint(folder)


def test_another_vocabulary_of_another_size(folder):
    vocabulary(21).save(folder / "vocabulary.json")
    seal(folder)
    with pytest.raises(SpatialFormerError, match="26 tokens, the vocabulary 27"):
        load_checkpoint(folder)


@pytest.mark.parametrize("change", [{"dim": 1 << 30}, {"surprise": 1}, {"n_heads": 3}])
def test_a_configuration_beyond_its_caps_or_unknown(folder, change):
    path = folder / "config.yaml"
    values = yaml.safe_load(path.read_text()) | change
    path.write_text(yaml.safe_dump(values))
    seal(folder)
    with pytest.raises(SpatialFormerError, match="ModelConfig"):
        load_checkpoint(folder)


def test_provenance_must_say_whether_it_is_simulated(folder, tmp_path):
    (folder / "provenance.json").write_text(json.dumps({"trained_on": []}))
    seal(folder)
    with pytest.raises(SpatialFormerError, match="simulated"):
        load_checkpoint(folder)
    model = build(preset_config("two-tower", "tiny", 26), seed=4)
    with pytest.raises(SpatialFormerError, match="simulated"):
        save_checkpoint(tmp_path / "x", model, vocabulary(), {}, "")
    assert not (tmp_path / "x").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = build(preset_config("two-tower", "tiny", 26), seed=4)
    model.token_head.bias.data[0] = torch.inf
    with pytest.raises(SpatialFormerError, match="NaN or infinity"):
        save_checkpoint(tmp_path / "x", model, vocabulary(), FACTS, "")
    assert not (tmp_path / "x").exists()
