"""Device, precision and processes of a run: lightning-fabric behind one small class.

One process without a launcher, several under ``torchrun`` (or ``srun torchrun``); gloo on CPUs,
NCCL on GPUs.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor, nn

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.trainer.recipe import TrainRecipe


class Engine:
    """Runs a module on the recipe's device, alone or as one of several processes.

    Parameters
    ----------
    recipe
        Device and precision, and the parts of a step that the processes share.

    Attributes
    ----------
    rank, world_size
        Number of this process, and how many there are.
    device
        Where this process computes.

    Raises
    ------
    SpatialFormerError
        If there is no such device, or the parts of a step cannot be shared evenly.
    """

    def __init__(self, recipe: TrainRecipe) -> None:
        from lightning_fabric import Fabric

        world = int(os.environ.get("WORLD_SIZE", "1"))
        _check(recipe, world)
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._fabric: Any = Fabric(
            accelerator=recipe.device,
            devices=local,
            num_nodes=world // local,
            precision=recipe.precision,
            strategy=_strategy(recipe.device) if world > 1 else "auto",
        )
        self._fabric.launch()
        self._module: Any = None
        self._optimiser: Any = None
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size
        self.device: torch.device = self._fabric.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def set_up(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Bring module and optimiser to the device and, with several processes, wrap them."""
        self._module, self._optimiser = self._fabric.setup(module, optimiser)

    def forward(self, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the module."""
        out: tuple[Tensor, dict[str, Tensor]] = self._module(*arguments)
        return out

    def step(self, loss: Tensor, learning_rate: float, clip_norm: float) -> float:
        """Update the weights; return the norm of the gradient before clipping.

        Where the gradient is not finite, in every process at once, the weights stay.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        self._optimiser.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._module, self._optimiser, max_norm=clip_norm, error_if_nonfinite=False
        )
        size = float(norm)
        if math.isfinite(size):
            self._optimiser.step()
        return size

    def totals(self, values: dict[str, float]) -> dict[str, float]:
        """Return the sums over all processes."""
        if self.world_size == 1:
            return dict(values)
        own = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        summed = self._fabric.all_reduce(own, reduce_op="sum").tolist()
        return dict(zip(values, summed, strict=True))

    def from_first(self, value: Any) -> Any:
        """Return the first process's value everywhere."""
        return value if self.world_size == 1 else self._fabric.broadcast(value)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            self._fabric.barrier()


def _strategy(device: str) -> Any:
    from lightning_fabric.strategies.ddp import DDPStrategy

    # The statistics of the batch norm are equal everywhere already, and every head that takes
    # part in no loss is frozen, so DDP need not look for it.
    return DDPStrategy(
        process_group_backend="nccl" if device == "cuda" else "gloo",
        broadcast_buffers=False,
        find_unused_parameters=False,
    )


def _check(recipe: TrainRecipe, world: int) -> None:
    if recipe.parts_per_step % world:
        raise SpatialFormerError(
            f"{world} processes cannot share {recipe.parts_per_step} parts of a step evenly.",
            where="parts_per_step",
            fix=f"Set parts_per_step to a multiple of {world}.",
        )
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise SpatialFormerError(
            "The recipe wants a CUDA device and torch sees none.",
            where="device",
            fix="Set `device: cpu`, or install torch's CUDA build on a machine with a GPU.",
        )
