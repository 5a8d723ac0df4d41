"""Whole runs on a small tissue."""

from __future__ import annotations

import csv
from functools import partial

import numpy as np
import pytest
import torch

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.model import build, load_checkpoint
from spatialformer_core.trainer import Background, fit
from spatialformer_core.trainer.losses import StepModule
from spatialformer_core.trainer.optimiser import adamw, rate
from spatialformer_core.trainer.warm import warm_start
from spatialformer_core.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    return partial(toy_recipe, steps=40, evaluations=3, validation_queries=60)


REAL = Background(simulated=False)


def log_of(checkpoint):
    text = checkpoint.with_name(f"{checkpoint.name}.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def test_two_towers_learn_who_is_next_to_whom(corpus, tmp_path, recipe):
    seen = []
    out = fit(
        recipe(),
        corpus,
        tmp_path / "toy",
        Background(simulated=True, facts={"blocks": {"one": {"seed": 0}}}),
        progress=lambda done, total, message: seen.append((done / total, message)),
    )
    loaded = load_checkpoint(out)
    told = loaded.provenance
    # Stripes of two kinds: a random negative is of the other kind half of the time.
    assert told["metrics"]["validation_auroc_easy"] > 0.65
    assert told["simulated"] is True
    assert [s["slide"] for s in told["trained_on"]] == ["one", "two"]
    assert told["trained_on"][0]["cells"] == int((corpus.shards[0].split == 0).sum())
    assert told["blocks"] == {"one": {"seed": 0}}
    assert told["recipe"]["seed"] == 0
    assert "simulated" in (out / "MODEL_CARD.md").read_text()
    rows = log_of(tmp_path / "toy")
    assert len(rows) == 40
    assert float(rows[-1]["loss_pair"]) < float(rows[0]["loss_pair"])
    assert {"loss_cooccurrence", "loss_masked_tokens", "loss_niche", "rate"} <= set(rows[0])
    assert seen
    assert "min left" in seen[-1][1]


def test_the_cross_encoder_trains_and_its_pair_loss_falls(corpus, tmp_path, recipe):
    out = fit(
        recipe("cross-encoder", steps=30, seeds_per_step=8, validation_queries=30),
        corpus,
        tmp_path / "x",
        REAL,
    )
    rows = log_of(tmp_path / "x")
    losses = [float(row["loss_pair"]) for row in rows]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert load_checkpoint(out).config.architecture == "cross-encoder"


def test_the_same_recipe_gives_the_same_weights(corpus, tmp_path, recipe):
    small = recipe(steps=4, evaluations=1, validation_queries=20)
    before = torch.random.get_rng_state()
    one = load_checkpoint(fit(small, corpus, tmp_path / "one", REAL))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    two = load_checkpoint(fit(small, corpus, tmp_path / "two", REAL))
    assert one.id == two.id


def test_objectives_can_be_switched_off(corpus, tmp_path, recipe):
    plain = recipe(
        steps=2,
        evaluations=1,
        validation_queries=20,
        objectives={"mask_fraction": 0, "cooccurrence": False, "niche": {"weight": 0}},
    )
    fit(plain, corpus, tmp_path / "plain", REAL)
    rows = log_of(tmp_path / "plain")
    assert [name for name in rows[0] if name.startswith("loss")] == ["loss_pair"]


def test_cancel_leaves_no_checkpoint(corpus, tmp_path, recipe):
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        fit(recipe(), corpus, tmp_path / "toy", REAL, cancel=lambda: next(calls))
    assert not (tmp_path / "toy").exists()


def test_a_gradient_that_is_not_finite_stops_with_the_cells(corpus, tmp_path, monkeypatch, recipe):
    sound = StepModule._losses

    def broken(module, batch):
        losses = sound(module, batch)
        return losses | {"pair": losses["pair"] * torch.nan}

    monkeypatch.setattr(StepModule, "_losses", broken)
    with pytest.raises(SpatialFormerError, match=r"step 0 is not finite.*pair nan.*(one|two):\d+"):
        fit(recipe(), corpus, tmp_path / "toy", REAL)
    assert not (tmp_path / "toy").exists()


def test_an_existing_checkpoint_is_kept(corpus, tmp_path, recipe):
    (tmp_path / "toy").mkdir()
    with pytest.raises(SpatialFormerError, match="exists already"):
        fit(recipe(), corpus, tmp_path / "toy", REAL)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"steps": None}, "steps or minutes"),
        ({"minutes": 1.0}, "steps or minutes"),
        ({"learning_rat": 1.0}, "learning_rat"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change, word, recipe):
    with pytest.raises(ValueError, match=word):
        recipe(**change)


def test_learning_rate_warms_up_and_falls_as_a_cosine(recipe):
    warm = recipe(learning_rate=1.0, warmup_share=0.1)
    assert rate(warm, 0.0) == pytest.approx(0.01)
    assert rate(warm, 0.05) == pytest.approx(0.51)
    assert rate(warm, 0.1) == pytest.approx(1.0)
    assert rate(warm, 0.55) == pytest.approx(0.5)
    assert rate(warm, 1.0) == pytest.approx(0.0)
    decays = [group["weight_decay"] for group in adamw(warm, torch.nn.Linear(2, 2)).param_groups]
    assert decays == [0.05, 0.0]


def test_a_cross_encoder_begins_with_the_blocks_of_two_towers(corpus, tmp_path, recipe):
    short = {"steps": 2, "evaluations": 1, "validation_queries": 20}
    towers = load_checkpoint(
        fit(recipe(**short), corpus, tmp_path / "towers", Background(simulated=True))
    )
    model = build(recipe("cross-encoder").model.config(len(corpus.vocabulary)), 1)
    copied = warm_start(model, corpus.vocabulary, towers)
    own = model.state_dict()
    for name in ("blocks.0.attention.qkv.weight", "embedding.token.weight"):
        assert name in copied
        assert torch.equal(own[name], towers.model.state_dict()[name])
    assert not any(name.startswith("pair_head") for name in copied)
    begun = recipe("cross-encoder", warm_start="towers", **short)
    out = fit(begun, corpus, tmp_path / "x", Background(simulated=False, start=towers))
    told = load_checkpoint(out).provenance
    assert told["warm_start"] == {"name": "towers", "id": towers.id}
    # The towers saw simulated tissue, so what grew out of them did.
    assert told["simulated"] is True


def test_a_warm_start_that_does_not_fit_is_refused(corpus, tmp_path, recipe):
    short = {"steps": 1, "evaluations": 1, "validation_queries": 20}
    towers = load_checkpoint(fit(recipe(**short), corpus, tmp_path / "towers", REAL))
    # Other heads have the same shapes and would silently be another function.
    config = recipe().model.config(len(corpus.vocabulary)).model_copy(update={"n_heads": 4})
    many_heads = build(config, 1)
    with pytest.raises(SpatialFormerError, match=r"n_heads 4.* has 2"):
        warm_start(many_heads, corpus.vocabulary, towers)
    other = Vocabulary((), ("A",), np.ones(1, np.float32))
    with pytest.raises(SpatialFormerError, match="another vocabulary"):
        warm_start(many_heads, other, towers)
    with pytest.raises(SpatialFormerError, match="no checkpoint"):
        fit(recipe(warm_start="towers"), corpus, tmp_path / "x", REAL)
