"""Batch norm over real tokens, over all processes of a training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Normalise each channel by its mean and variance over the packed rows of a step.

    Packed rows hold no padding, so this is the masked batch norm of the paper. Where several
    processes share a step, the statistics are those of all their rows, so the step's result does
    not depend on how many there are (torch's own synchronised batch norm refuses CPUs).
    """

    def forward(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Normalise; in training also move the running statistics."""
        if not (self.training and _n_processes() > 1):
            return super().forward(x)
        # In the precision of the statistics: half precision would lose the variance.
        rows = x.to(self.weight.dtype)
        sums = _over_all(rows.new_full((1,), float(len(rows))), rows.sum(0))
        count = sums[:1].detach()
        mean = sums[1:] / count
        centred = rows - mean
        # Two passes: a difference of large squares would lose what the variance is.
        variance = _over_all(centred.square().sum(0)) / count
        self._move(mean.detach(), (variance * (count / (count - 1).clamp_min(1.0))).detach())
        normal = centred * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias, normal, self.weight).to(x.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def _n_processes() -> int:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def _over_all(*values: Tensor) -> Tensor:
    """Return the sums over all processes, behind each other, with their gradient."""
    from torch.distributed.nn.functional import all_reduce

    # torch leaves this function without types; it sums, and its gradient sums too.
    summed: Tensor = all_reduce(torch.cat(values))  # type: ignore[no-untyped-call]
    return summed
