"""Losses on numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from spatialformer_core.objectives import (
    UncertaintyWeights,
    binary_loss,
    linear_lambda,
    masked_token_loss,
    niche_loss,
)


def test_masked_token_loss_is_cross_entropy():
    # Softmax of (0, ln 3) is (1/4, 3/4); targets 1 and 0: -(ln 3/4 + ln 1/4) / 2.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = masked_token_loss(logits, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_binary_loss_of_pairs():
    # Sigmoid of ln 3 is 3/4, of 0 is 1/2.
    loss = binary_loss(torch.tensor([math.log(3), 0.0]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2)


def test_losses_without_anything_to_learn_are_zero_and_differentiable():
    logits = torch.zeros(0, 5, requires_grad=True)
    masked_token_loss(logits, torch.zeros(0, dtype=torch.long)).backward()
    pairs = torch.zeros(0, requires_grad=True)
    assert binary_loss(pairs, torch.zeros(0)).item() == 0.0


def test_niche_loss_leaves_unknown_features_out():
    predicted = torch.tensor([[1.0, 5.0], [0.0, 2.0]])
    known = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # Squares 1, (25 unknown), 0, 4 over three known features.
    assert niche_loss(predicted, torch.zeros(2, 2), known).item() == pytest.approx(5 / 3)
    assert niche_loss(predicted, torch.zeros(2, 2), torch.zeros(2, 2)).item() == 0.0


def test_lambda_falls_linearly_from_one_to_zero():
    assert [linear_lambda(x) for x in (0.0, 0.25, 1.0, 1.5)] == [1.0, 0.75, 0.0, 0.0]


def weights() -> UncertaintyWeights:
    made = UncertaintyWeights(("masked", "pair", "co"))
    with torch.no_grad():
        made.log_variance["pair"].fill_(math.log(2))
        made.log_variance["co"].fill_(-math.log(4))
    return made


def test_uncertainty_weights_on_worked_numbers():
    losses = {k: torch.tensor(v) for k, v in {"masked": 4.0, "pair": 0.6, "co": 0.5}.items()}
    # 4 + 0   and   0.6 / 2 + ln 2   and   lambda (4 * 0.5 - ln 4)
    expected = 4 + 0.3 + math.log(2) + 0.25 * (2 - math.log(4))
    assert weights()(losses, {"co": 0.25}).item() == pytest.approx(expected)


def test_lambda_multiplies_the_whole_term():
    made = weights()
    made({"co": torch.tensor(0.5)}, {"co": 0.25}).backward()
    # d/ds of lambda (exp(-s) L + s) = lambda (1 - exp(-s) L); a lambda inside would give
    # 1 - lambda exp(-s) L = 0.5 and could be cancelled by s.
    assert made.log_variance["co"].grad.item() == pytest.approx(0.25 * (1 - 4 * 0.5))


def test_a_task_whose_lambda_is_zero_moves_nothing():
    made = weights()
    loss = torch.tensor(0.5, requires_grad=True)
    made({"co": loss}, {"co": 0.0}).backward()
    assert loss.grad.item() == 0.0
    assert made.log_variance["co"].grad.item() == 0.0
