"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spatialformer_core.errors import Cancelled
from spatialformer_core.model import load_checkpoint
from spatialformer_core.trainer import Background, fit
from spatialformer_core.trainer.average import AveragedWeights

REAL = Background(simulated=False)


def test_worked_numbers_and_what_is_no_float():
    model = nn.BatchNorm1d(1)
    average = AveragedWeights(model, 0.5)
    wanted = 1.0
    for step, weight in enumerate((3.0, 5.0, -1.0), start=1):
        model.weight.data.fill_(weight)
        model.num_batches_tracked.fill_(step)
        average.update(model, step)
        keep = min(0.5, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * weight
    assert average.values["weight"].item() == pytest.approx(wanted)
    assert average.values["num_batches_tracked"].item() == 3
    with average.in_place(model):
        assert model.weight.item() == pytest.approx(wanted)
    assert model.weight.item() == -1.0


def test_without_a_decay_there_is_none():
    model = nn.Linear(1, 1)
    average = AveragedWeights(model, 0.0)
    before = model.weight.clone()
    with average.in_place(model):
        assert torch.equal(model.weight, before)
    assert average.values == {}


def test_the_average_is_what_is_kept_and_the_way_there_is_the_same(corpus, tmp_path, toy_recipe):
    plain = load_checkpoint(fit(toy_recipe(), corpus, tmp_path / "plain", REAL))
    averaged = load_checkpoint(fit(toy_recipe(average=0.9), corpus, tmp_path / "mean", REAL))
    kept, last = averaged.model.state_dict(), plain.model.state_dict()
    assert not torch.equal(kept["token_head.weight"], last["token_head.weight"])
    losses = [(tmp_path / f"{name}.csv").read_text().splitlines()[3] for name in ("plain", "mean")]
    assert losses[0].split(",")[:4] == losses[1].split(",")[:4]


def test_a_stopped_run_keeps_its_average(corpus, tmp_path, toy_recipe):
    whole = load_checkpoint(fit(toy_recipe(average=0.9), corpus, tmp_path / "whole", REAL))
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        fit(
            toy_recipe(average=0.9),
            corpus,
            tmp_path / "cut",
            REAL,
            cancel=lambda: next(asked, True),
        )
    again = load_checkpoint(fit(toy_recipe(average=0.9), corpus, tmp_path / "cut", REAL))
    assert again.id == whole.id
