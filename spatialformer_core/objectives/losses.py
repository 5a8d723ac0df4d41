"""The losses of pre-training and how they are weighed against each other (paper 4.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def masked_token_loss(
    logits: Float[Tensor, "M V"], targets: Int[Tensor, " M"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over the chosen tokens; 0 if none was chosen."""
    if not len(targets):
        return logits.sum() * 0.0
    return F.cross_entropy(logits, targets)


def binary_loss(logits: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of pairs of genes or of cells; 0 without pairs."""
    if not len(labels):
        return logits.sum() * 0.0
    return F.binary_cross_entropy_with_logits(logits, labels)


def niche_loss(
    predicted: Float[Tensor, "B N"],
    target: Float[Tensor, "B N"],
    known: Float[Tensor, "B N"],
) -> Float[Tensor, ""]:
    """Return the mean squared error over the known niche features.

    A cell without neighbours in a ring has no mean profile there; ``known`` is 0 for it.
    """
    return ((predicted - target).square() * known).sum() / known.sum().clamp_min(1.0)


def linear_lambda(done: float) -> float:
    """Return the weight of the co-occurrence task: 1 at the start of training, 0 at its end.

    Parameters
    ----------
    done
        Share of the training that is behind, 0 to 1.
    """
    return min(1.0, max(0.0, 1.0 - done))


class UncertaintyWeights(nn.Module):
    """Homoscedastic uncertainty weighting of tasks (Kendall et al. 2018).

    ``total = sum_k lambda_k (exp(-s_k) loss_k + s_k)`` with one learned ``s_k`` per task, 0 at the
    start. Lambda multiplies the WHOLE weighted term: inside, as ``lambda exp(-s) loss + s``, a
    smaller lambda would only be answered by a smaller ``s``, which cancels it.

    Parameters
    ----------
    tasks
        Names of the tasks.
    """

    def __init__(self, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({task: torch.zeros(()) for task in tasks})

    def forward(
        self, losses: Mapping[str, Tensor], lambdas: Mapping[str, float] | None = None
    ) -> Float[Tensor, ""]:
        """Return the weighted sum of the given tasks' losses.

        Parameters
        ----------
        losses
            Loss of each task.
        lambdas
            Outer weights; 1 for tasks that are not named.
        """
        terms = []
        for task, loss in losses.items():
            s = self.log_variance[task]
            weight = 1.0 if lambdas is None else lambdas.get(task, 1.0)
            terms.append(weight * (torch.exp(-s) * loss + s))
        return torch.stack(terms).sum()
