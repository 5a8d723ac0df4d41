"""Baseline ``tower_mlp``: two towers of plain layers on log counts, no sequence, no pre-training.

What a transformer has to beat (design reference, co-localisation): each cell encoded once by two
hidden layers, a small symmetric head on the two embeddings, trained on a million pairs drawn half
with random and half with hard negatives, with the auxiliary loss of predicting a cell's niche.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional as F

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, LongArray
from spatialformer_core.cell_graph import PairSampler, niche_means, radius_graph, restrict
from spatialformer_core.evaluation.pairs import HARD_UM, PairSource

NAME = "tower_mlp"

_SCALE = 100.0
_CLIP = 8.0
_RINGS_UM = ((0.0, 30.0), (30.0, 80.0))


@dataclass(frozen=True, slots=True)
class TowerSettings:
    """Size and budget; fixed beforehand, never chosen on test tissue."""

    width: int = 512
    dim: int = 64
    head: int = 256
    pairs: int = 1_000_000
    batch: int = 4_096
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    input_dropout: float = 0.1
    niche_components: int = 16


class _Towers(nn.Module):
    def __init__(self, n_inputs: int, n_niche: int, settings: TowerSettings) -> None:
        super().__init__()
        width, dim = settings.width, settings.dim
        self.first, self.norm1 = nn.Linear(n_inputs, width), nn.LayerNorm(width)
        self.second, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Sequential(
            nn.Linear(3 * dim, settings.head), nn.GELU(), nn.Linear(settings.head, 1)
        )
        self.niche = nn.Sequential(nn.GELU(), nn.Linear(dim, n_niche))

    def embed(self, x: Tensor) -> Tensor:
        x = self.dropout(F.gelu(self.norm1(self.first(x))))
        x = x + self.dropout(F.gelu(self.norm2(self.second(x))))
        out: Tensor = self.out(x)
        return out

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([(a - b).abs(), a * b, a + b], -1)).squeeze(-1)
        return logits


class TowerMlp:
    """Two towers of plain layers, trained on a slide's training cells.

    Parameters
    ----------
    counts
        Raw counts, scipy CSR ``(n, genes)``.
    components
        Principal components fitted on training cells, for the niche targets, ``(n, k)``.
    source
        Positions and neighbours.
    train
        Cells that may be learnt from, shape ``(n,)``.
    seed
        Of weights and pairs.
    settings
        Size and budget.
    """

    def __init__(
        self,
        counts: Any,
        components: FloatArray,
        source: PairSource,
        train: BoolArray,
        *,
        seed: int,
        settings: TowerSettings | None = None,
    ) -> None:
        self._settings = settings or TowerSettings()
        inputs = _inputs(counts)
        mean, spread = inputs[train].mean(0), inputs[train].std(0) + 1e-2
        scaled = np.clip((inputs - mean) / spread, -_CLIP, _CLIP).astype(np.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._fit(torch.from_numpy(scaled), components, source, train, seed)
        with torch.no_grad():
            self._embedding = network.embed(torch.from_numpy(scaled))
        self._network = network

    @property
    def embedding(self) -> FloatArray:
        """What pairs are compared by, of every cell, shape ``(n, dim)``."""
        values: FloatArray = self._embedding.numpy()
        return values

    def _fit(
        self,
        x: Tensor,
        components: FloatArray,
        source: PairSource,
        train: BoolArray,
        seed: int,
    ) -> _Towers:
        settings = self._settings
        niche = _niche(components[:, : settings.niche_components], source, train)
        network = _Towers(x.shape[1], niche.shape[1], settings)
        sampler = PairSampler(
            source.graph, source.xy_um, train, radius_um=source.radius_um, hard_um=HARD_UM
        )
        optimiser = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        n_steps = max(1, settings.pairs // settings.batch)
        for step in range(n_steps):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * _rate(step / n_steps)
            pairs = sampler.sample(settings.batch, seed=seed, position=step * settings.batch)
            cells, place = np.unique(np.concatenate([pairs.left, pairs.right]), return_inverse=True)
            seen = x[torch.from_numpy(cells)]
            # Dropped genes stand for the transcripts that the instrument misses.
            seen = seen * (torch.rand_like(seen) > settings.input_dropout)
            embedding = network.embed(seen)
            left, right = torch.from_numpy(place.reshape(2, -1))
            logits = network.pair(embedding[left], embedding[right])
            label = torch.from_numpy(pairs.label.astype(np.float32))
            target = niche[torch.from_numpy(cells)]
            loss = F.binary_cross_entropy_with_logits(logits, label)
            loss = loss + F.mse_loss(network.niche(embedding), target)
            optimiser.zero_grad(set_to_none=True)
            # torch's own stub leaves the return type of backward open.
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return network.eval()

    @torch.no_grad()
    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return a probability per pair, shape ``(n,)``."""
        a, b = (self._embedding[torch.from_numpy(side)] for side in (left, right))
        return np.asarray(expit(self._network.pair(a, b).numpy().astype(np.float64)))


def _inputs(counts: Any) -> FloatArray:
    """Return log counts per hundred and the log total, dense, shape ``(n, genes + 1)``."""
    matrix = np.asarray(counts.toarray(), np.float32)
    total = matrix.sum(axis=1, keepdims=True)
    scaled = np.log1p(matrix / np.maximum(total, 1.0) * np.float32(_SCALE))
    inputs: FloatArray = np.concatenate([scaled, np.log1p(total)], axis=1)
    return inputs


def _niche(components: FloatArray, source: PairSource, train: BoolArray) -> Tensor:
    """Return scaled mean components and number of each cell's neighbours in the training set."""
    parts = []
    for inner, outer in _RINGS_UM:
        ring = restrict(radius_graph(source.xy_um, outer, inner_um=inner), train)
        means, counts = niche_means(ring, components)
        parts += [means, np.log1p(counts)[:, None]]
    values = np.concatenate(parts, axis=1)
    spread = values[train].std(0) + 1e-6
    return torch.from_numpy(((values - values[train].mean(0)) / spread).astype(np.float32))


def _rate(done: float) -> float:
    """Return the share of the learning rate: 5 % of warm-up, then a cosine."""
    return (
        done / 0.05 + 0.01 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))
    )
