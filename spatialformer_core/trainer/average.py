"""A moving average of the weights: steadier than the last step's, at no cost in cells.

Steps on few cells make the weights wander around a good place; their mean lies nearer to it
(Polyak and Juditsky 1992, *SIAM J Control Optim* 30).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_FIRST_STEPS = 10


class AveragedWeights:
    """Exponential moving average of everything that a network's state holds.

    Parameters
    ----------
    model
        The network in training.
    decay
        Share of the old average that a step keeps; less in the first steps, ``(1 + k) / (10 + k)``
        after ``k`` of them, so that the start is soon forgotten. 0: the average is the last step.

    Attributes
    ----------
    values
        The average, named as in ``state_dict``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values: dict[str, Tensor] = _copied(model) if decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step (from 1)."""
        keep = min(self._decay, (1 + step) / (_FIRST_STEPS + step))
        own = model.state_dict()
        for name, mean in self.values.items():
            new = own[name]
            if mean.is_floating_point():
                mean.lerp_(new.to(mean.device), 1 - keep)
            else:
                mean.copy_(new)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Give the network the averaged weights for a while."""
        if not self.values:
            yield
            return
        own = _copied(model)
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
