"""Training of the gene embedding: neighbouring transcripts against others.

Loss: binary cross-entropy on the dot product of two transcripts' vectors, as many neighbours as
non-neighbours. A gene's vector is the mean over its transcripts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray, LongArray
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.transcript_graph.graph import TranscriptGraph
from spatialformer_core.transcript_graph.network import GraphSage
from spatialformer_core.transcript_graph.sampling import (
    TranscriptPairs,
    draw_pairs,
    sample_two_hops,
)

_REPORT_EVERY = 20
_ROOTS_AT_ONCE = 4096


class SageRecipe(FrozenModel):
    """Network and training.

    Attributes
    ----------
    width, hidden, size
        Of a gene's input vector, of the first layer, and of the result.
    fan_out
        Neighbours drawn per hop, with replacement.
    steps, batch
        Updates, and positive pairs in each (with as many negative ones).
    learning_rate, weight_decay
        Of AdamW (paper: 0.001 and 0.1).
    transcripts_per_gene
        A gene's vector is the mean over this many of its transcripts at most.
    seed
        Of everything that is drawn.
    """

    width: int = Field(default=64, ge=2, le=1024)
    hidden: int = Field(default=64, ge=2, le=1024)
    size: int = Field(default=64, ge=2, le=1024)
    fan_out: tuple[int, int] = (10, 10)
    steps: int = Field(default=600, ge=1)
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=0.001, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    transcripts_per_gene: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, ge=0, lt=1 << 31)


@dataclass(frozen=True, slots=True)
class GeneGraph:
    """A transcript graph with the gene of each transcript.

    Attributes
    ----------
    graph
        Neighbouring transcripts.
    gene
        Gene of each transcript in the order of the graph, ``0..n_genes-1``, shape ``(n,)``.
    n_genes
        Number of genes.
    """

    graph: TranscriptGraph
    gene: IntArray
    n_genes: int


def new_network(recipe: SageRecipe, n_genes: int) -> GraphSage:
    """Return the network before training; the seed decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return GraphSage(n_genes, recipe.width, recipe.hidden, recipe.size)


def train_network(
    data: GeneGraph,
    recipe: SageRecipe,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> GraphSage:
    """Train a network on one graph; equal input, recipe and threads give equal weights.

    Raises
    ------
    SpatialFormerError
        If no transcript has a neighbour, or the loss is no longer finite.
    Cancelled
        If the user asked for it.
    """
    network = new_network(recipe, data.n_genes)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    network.train()
    for step in range(recipe.steps):
        check(cancel)
        pairs = draw_pairs(data.graph, recipe.batch, seed=_seed(recipe, step))
        near, far = _logits(network, data, recipe, pairs, _seed(recipe, step))
        logits = torch.cat([near, far])
        label = torch.cat([torch.ones_like(near), torch.zeros_like(far)])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SpatialFormerError(
                f"The loss is {value} in step {step}.", fix="Use a lower learning rate."
            )
        optimiser.zero_grad()
        # torch's own stub leaves the return type of backward open.
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % _REPORT_EVERY == 0 or step == recipe.steps - 1:
            progress(step + 1, recipe.steps, f"step {step + 1} of {recipe.steps}, loss {value:.4f}")
    network.eval()
    return network


def score_pairs(
    network: GraphSage, data: GeneGraph, recipe: SageRecipe, pairs: TranscriptPairs
) -> tuple[DoubleArray, DoubleArray]:
    """Return the probability of being neighbours for the near and for the far pairs."""
    scores = []
    with torch.inference_mode():
        for start in range(0, len(pairs.root), _ROOTS_AT_ONCE):
            rows = slice(start, start + _ROOTS_AT_ONCE)
            part = TranscriptPairs(pairs.root[rows], pairs.near[rows], pairs.far[rows])
            found = _logits(network, data, recipe, part, recipe.seed)
            scores.append(torch.stack(found).sigmoid().double().numpy())
    near, far = np.concatenate(scores, axis=1)
    return near, far


def gene_vectors(
    network: GraphSage, data: GeneGraph, recipe: SageRecipe, *, cancel: Cancel = never
) -> tuple[FloatArray, LongArray]:
    """Return the mean vector of each gene's transcripts, and of how many.

    Returns
    -------
    vectors, transcripts
        Zeros for a gene without transcripts, shape ``(n_genes, size)`` and ``(n_genes,)``.
    """
    roots = _some_of_each(data.gene, recipe.transcripts_per_gene, recipe.seed)
    total = np.zeros((data.n_genes, recipe.size))
    with torch.inference_mode():
        for start in range(0, len(roots), _ROOTS_AT_ONCE):
            check(cancel)
            part = roots[start : start + _ROOTS_AT_ONCE]
            hops = sample_two_hops(data.graph, part, seed=recipe.seed, fan_out=recipe.fan_out)
            np.add.at(total, data.gene[part], network(data.gene, hops).double().numpy())
    counts = np.bincount(data.gene[roots], minlength=data.n_genes).astype(np.int64)
    return (total / np.maximum(counts, 1)[:, None]).astype(np.float32), counts


def _logits(
    network: GraphSage, data: GeneGraph, recipe: SageRecipe, pairs: TranscriptPairs, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    roots = np.concatenate([pairs.root, pairs.near, pairs.far])
    hops = sample_two_hops(data.graph, roots, seed=seed, fan_out=recipe.fan_out)
    root, near, far = network(data.gene, hops).chunk(3)
    return (root * near).sum(1), (root * far).sum(1)


def _seed(recipe: SageRecipe, step: int) -> int:
    """Return a seed of its own for each step, which no other step or recipe seed shares."""
    return recipe.seed * (1 << 31) + step


def _some_of_each(gene: NDArray[np.integer], most: int, seed: int) -> LongArray:
    """Return at most so many transcripts of each gene, drawn evenly, ascending."""
    shuffled = np.random.default_rng(seed).permutation(len(gene))
    order = shuffled[np.argsort(gene[shuffled], kind="stable")]
    counts = np.bincount(gene)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < most])
