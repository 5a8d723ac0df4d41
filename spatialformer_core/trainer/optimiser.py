"""AdamW with warm-up and cosine, and the budget of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from spatialformer_core.trainer.recipe import TrainRecipe


def adamw(recipe: TrainRecipe, module: nn.Module) -> torch.optim.AdamW:
    """Return the optimiser of what is trained in a module.

    Decay is for matrices; scales, biases and task weights have none.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )


def rate(recipe: TrainRecipe, done: float) -> float:
    """Return the learning rate after a share of the budget: linear warm-up, then a cosine."""
    warm = recipe.warmup_share
    if done < warm:
        return recipe.learning_rate * (done / warm + 0.01)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


@dataclass
class Budget:
    """How far the run is, by steps or by the clock (time for validation does not count).

    Attributes
    ----------
    step
        Steps done.
    before_s
        Time spent by the processes that were killed before this one.
    """

    recipe: TrainRecipe
    step: int = 0
    before_s: float = 0.0
    _start: float = field(default_factory=time.monotonic)
    _paused: float = 0.0

    @property
    def spent_s(self) -> float:
        """Training time so far."""
        return self.before_s + time.monotonic() - self._start - self._paused

    @property
    def done(self) -> float:
        """Share of the budget that is used up, 0 to 1."""
        if self.recipe.steps is not None:
            return min(1.0, self.step / self.recipe.steps)
        return min(1.0, self.spent_s / (60 * (self.recipe.minutes or 1.0)))

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock for a while."""
        before = time.monotonic()
        yield
        self._paused += time.monotonic() - before
