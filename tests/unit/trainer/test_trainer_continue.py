"""Training further: all weights, low-rank changes, gene vectors from the transcript graph."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import build, load_checkpoint, preset_config
from spatialformer_core.model.layers import AttentionBlock
from spatialformer_core.trainer import Background, LoraRecipe, fit
from spatialformer_core.trainer.lora import LoraLinear, add_lora, merge_lora
from spatialformer_core.trainer.throughput import Meter, flops_per_token, peak_flops


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    return partial(toy_recipe, steps=3, seeds_per_step=8)


@pytest.fixture
def first(corpus, tmp_path, recipe):
    return load_checkpoint(fit(recipe(), corpus, tmp_path / "first", Background(simulated=True)))


def test_a_checkpoint_is_trained_further_with_all_its_heads(corpus, first, tmp_path, recipe):
    still = recipe(continue_from="first", learning_rate=1e-12)
    told = Background(simulated=False, start=first)
    again = load_checkpoint(fit(still, corpus, tmp_path / "again", told))
    old = first.model.state_dict()
    for name, value in again.model.state_dict().items():
        if not name.startswith("niche_head") and "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, old[name], atol=1e-6, rtol=0)
    assert again.provenance["continued_from"] == {"name": "first", "id": first.id}
    assert again.provenance["simulated"] is True


def test_low_rank_changes_leave_everything_else_and_merge_to_the_same_function(corpus, first):
    torch.manual_seed(0)
    model = build(first.config, 0)
    model.load_state_dict(first.model.state_dict())
    add_lora(model, LoraRecipe(rank=2, alpha=4, dropout=0.0, heads=False))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.endswith(("qkv.down", "qkv.up")) for name in trained)
    layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
    x = torch.randn(5, first.config.dim)
    torch.testing.assert_close(layers[0](x), layers[0].base(x))
    with torch.no_grad():
        layers[0].up.normal_()
    expected = layers[0](x)
    weight = layers[0].base.weight.clone()
    by_hand = x @ (weight + 2.0 * layers[0].up @ layers[0].down).t() + layers[0].base.bias
    torch.testing.assert_close(expected, by_hand, atol=1e-4, rtol=1e-4)
    merge_lora(model)
    block = next(m for m in model.modules() if isinstance(m, AttentionBlock))
    torch.testing.assert_close(block.qkv(x), expected, atol=1e-4, rtol=1e-4)
    assert set(model.state_dict()) == set(first.model.state_dict())


def test_a_low_rank_run_ends_as_an_ordinary_checkpoint(corpus, first, tmp_path, recipe):
    low = recipe(continue_from="first", lora={"rank": 2, "heads": False}, learning_rate=0.05)
    told = Background(simulated=True, start=first)
    out = load_checkpoint(fit(low, corpus, tmp_path / "low", told))
    old, new = first.model.state_dict(), out.model.state_dict()
    changed = {
        name
        for name, value in new.items()
        if "running" not in name and "tracked" not in name and not torch.equal(value, old[name])
    }
    assert changed
    assert all(name.endswith("qkv.weight") for name in changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"architecture": "cross-encoder", "preset": "tiny"}}, "is a two-tower"),
        (
            {"model": {"architecture": "two-tower", "preset": "tiny", "changes": {"dim": 32}}},
            "cannot change dim",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    corpus, first, tmp_path, changes, message, recipe
):
    with pytest.raises(SpatialFormerError, match=message):
        fit(
            recipe(continue_from="first", **changes),
            corpus,
            tmp_path / "x",
            Background(simulated=True, start=first),
        )


def test_recipes_that_contradict_themselves_are_refused(recipe):
    with pytest.raises(ValueError, match="lora needs continue_from"):
        recipe(lora={"rank": 2})
    with pytest.raises(ValueError, match="either warm_start or continue_from"):
        recipe(warm_start="a", continue_from="b")
    with pytest.raises(ValueError, match="no multiple"):
        recipe(parts_per_step=3)
    off = {"pair": False, "mask_fraction": 0, "cooccurrence": False}
    with pytest.raises(ValueError, match="every objective"):
        recipe(objectives=off)


def test_gene_vectors_fill_the_table_and_stay_if_frozen(corpus, tmp_path, recipe):
    model = {
        "architecture": "two-tower",
        "preset": "tiny",
        "changes": {"gene_spatial": "frozen", "gene_spatial_dim": 3, "dropout": 0.0},
    }
    table = torch.randn(len(corpus.vocabulary), 3)
    told = Background(simulated=True, gene_table=table)
    named = recipe(model=model, gene_embedding="demo")
    out = load_checkpoint(fit(named, corpus, tmp_path / "x", told))
    spatial = out.model.embedding.spatial
    assert spatial is not None
    assert torch.equal(spatial.weight, table)
    with pytest.raises(SpatialFormerError, match="gene embedding is 'demo', none was given"):
        fit(named, corpus, tmp_path / "y", Background(simulated=True))


def test_flops_by_hand_and_utilisation_only_for_known_devices():
    config = preset_config("cross-encoder", "base", 6065)
    d = 512
    # Convolution: 512->1024, 17 taps, 512->512; attention: 3 + 1 squares, two products with L;
    # both feed-forwards 512->2048, 1024->512.
    forward = 2 * (2 * d * d + 17 * d + d * d) + 2 * 4 * d * d + 4 * 140 * d + 2 * 2 * 3 * 2 * d * d
    assert flops_per_token(config, 140) == pytest.approx(10 * forward)
    # The reference measured 14.4 GFLOP for a forward of 140 tokens.
    assert flops_per_token(config, 140) * 140 == pytest.approx(14.4e9, rel=0.05)
    assert peak_flops(torch.device("cpu")) is None
    meter = Meter(config, torch.device("cpu"))
    meter.add(10, 1_400, 10)
    read = meter.read()
    assert read["tflops"] > 0
    assert "mfu" not in read
    assert meter.read()["pairs_per_s"] == 0
    assert np.isfinite(list(read.values())).all()
