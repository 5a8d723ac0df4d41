"""What one process computes in one step, from the parts of the step that are its own.

A step consists of ``parts_per_step`` parts. Each is drawn, masked and sampled from the recipe's
seed and its own number, so the step is the same whether one process lays all of them behind each
other or several processes take some each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialformer_core.arrays import FloatArray, LongArray
from spatialformer_core.corpus import Corpus
from spatialformer_core.model import ModelConfig, Packed, Rows, lay_out, pack
from spatialformer_core.objectives import mask_tokens, sample_gene_pairs
from spatialformer_core.trainer.niche import NicheValues
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.sampling import Draw, StepCells

MASKED, COOCCURRENCE, PAIR, NICHE = "masked_tokens", "cooccurrence", "pair", "niche"

_MASK_STREAM, _PAIR_STREAM = 1, 2


@dataclass(frozen=True)
class Task:
    """Everything that the losses of a step are computed from.

    Attributes
    ----------
    recipe
        Which objectives are on.
    corpus
        Cells.
    niche
        Niche targets of the corpus, None without that objective.
    draw
        Gives the cells of a part by its number in the run.
    """

    recipe: TrainRecipe
    corpus: Corpus
    niche: NicheValues | None
    draw: Draw

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the losses that are trained."""
        objectives = self.recipe.objectives
        wanted = {
            MASKED: objectives.mask_fraction > 0,
            COOCCURRENCE: objectives.cooccurrence,
            PAIR: objectives.pair,
            NICHE: self.niche is not None,
        }
        return tuple(name for name, on in wanted.items() if on)


@dataclass(frozen=True, slots=True)
class PartRows:
    """One part, laid out, its tokens hidden.

    Attributes
    ----------
    cells
        Drawn cells and pairs.
    rows
        As the network sees them.
    positions, targets
        Packed rows of the hidden tokens, and what they were.
    genes
        Packed rows of the asked gene pairs, shape ``(n, 2)``.
    gene_label
        1.0 where they co-occur, shape ``(n,)``.
    """

    cells: StepCells
    rows: Rows
    positions: LongArray
    targets: LongArray
    genes: LongArray
    gene_label: FloatArray


class StepBatch:
    """The tensors of one process's share of a step.

    A plain class: Fabric and DDP look into dataclasses and would copy them.

    Attributes
    ----------
    packed
        Sequences.
    to_caller
        Brings CLS states from packed order into the order of the parts.
    positions, targets, genes, gene_label, left, right, label, weight, niche, niche_known
        What the losses ask, on the device of ``packed``.
    counts
        How many terms each loss is the mean of.
    rows
        Corpus rows of all cells, for messages.
    n_pairs, n_tokens
        Sizes, for the log.
    """

    packed: Packed
    to_caller: Tensor
    positions: Tensor
    targets: Tensor
    genes: Tensor
    gene_label: Tensor
    left: Tensor
    right: Tensor
    label: Tensor
    weight: Tensor
    niche: Tensor | None
    niche_known: Tensor | None

    def __init__(self, task: Task, config: ModelConfig, parts: list[PartRows], device: Any) -> None:
        rows, places = merge([part.rows for part in parts])

        def tensor(values: list[np.ndarray[Any, Any]]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(np.concatenate(values))).to(device)

        self.packed = pack(rows, config.conv_kernel).to(device)
        self.to_caller = torch.from_numpy(np.argsort(rows.order)).to(device)
        placed = list(zip(parts, places, strict=True))
        self.positions = tensor([at[part.positions] for part, at in placed])
        self.targets = tensor([part.targets for part in parts])
        self.genes = tensor([at[part.genes] for part, at in placed])
        self.gene_label = tensor([part.gene_label for part in parts])
        # Places among the sequences: those of a part follow those of the part before it.
        first = np.cumsum([0, *(len(part.rows.lengths) for part in parts)])
        self.left = tensor([p.cells.left + k for p, k in zip(parts, first, strict=False)])
        self.right = tensor([p.cells.right + k for p, k in zip(parts, first, strict=False)])
        self.label = tensor([part.cells.label for part in parts])
        self.weight = tensor([part.cells.weight for part in parts]) / max(len(parts), 1)
        self.rows = np.concatenate([part.cells.rows for part in parts])
        self.niche = self.niche_known = None
        known = 0.0
        if task.niche is not None:
            self.niche = tensor([task.niche.values[self.rows]])
            self.niche_known = tensor([task.niche.known[self.rows]])
            known = float(task.niche.known[self.rows].sum())
        self.n_pairs, self.n_tokens = len(self.label), len(rows.tokens)
        self.counts = {
            MASKED: float(len(self.targets)),
            COOCCURRENCE: float(len(self.gene_label)),
            PAIR: float(len(parts)),
            NICHE: known,
        }


def part_rows(task: Task, config: ModelConfig, number: int) -> PartRows:
    """Draw, lay out and hide one part.

    Parameters
    ----------
    number
        Of the part in the run; with the recipe's seed it decides everything.
    """
    recipe, corpus = task.recipe, task.corpus
    drawn = task.draw(number)
    cells = corpus.cells(drawn.rows)
    if config.architecture == "two-tower" or not recipe.objectives.pair:
        rows = lay_out(cells, None, config.magnitude_bins)
    else:
        half = len(drawn.rows) // 2
        sides = cells.take(np.arange(half)), cells.take(np.arange(half) + half)
        rows = lay_out(*sides, config.magnitude_bins)
    masked = mask_tokens(
        rows.tokens,
        gene_offset=corpus.vocabulary.gene_offset,
        n_tokens=config.n_tokens,
        seed=(recipe.seed, number, _MASK_STREAM),
        fraction=recipe.objectives.mask_fraction,
    )
    magnitudes, counts = rows.magnitudes.copy(), rows.counts.copy()
    # The count of a hidden gene would narrow down which gene it is.
    magnitudes[masked.positions] = counts[masked.positions] = 0
    seen = replace(rows, tokens=masked.tokens, magnitudes=magnitudes, counts=counts)
    genes, label = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    if recipe.objectives.cooccurrence:
        pairs = corpus.cooccurrence(drawn.rows)
        sample = sample_gene_pairs(cells, pairs, (recipe.seed, number, _PAIR_STREAM))
        # Of a pair sequence: all left cells, then all right cells, as the part lists them.
        first = rows.first_gene.T.reshape(-1)[sample.cell]
        genes = np.stack([first + sample.left, first + sample.right], 1)
        label = sample.label
    return PartRows(drawn, seen, masked.positions, masked.targets, genes, label)


def merge(parts: list[Rows]) -> tuple[Rows, list[LongArray]]:
    """Lay parts behind each other as one batch, sorted by length.

    Returns
    -------
    rows, places
        The batch, and for each part where its packed rows went.
    """
    if len(parts) == 1:
        return parts[0], [np.arange(len(parts[0].tokens))]
    own = [_by_caller(part) for part in parts]
    lengths = np.concatenate([length for length, _ in own])
    order = np.argsort(lengths, kind="stable")
    starts = np.empty(len(lengths), np.int64)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    places, first = [], 0
    for length, start in own:
        place = np.empty(int(length.sum()), np.int64)
        place[_ragged(start, length)] = _ragged(starts[first : first + len(length)], length)
        places.append(place)
        first += len(length)

    def moved(name: str) -> LongArray:
        out = np.empty(int(lengths.sum()), np.int64)
        for part, place in zip(parts, places, strict=True):
            out[place] = getattr(part, name)
        return out

    first_gene = [place[part.first_gene] for part, place in zip(parts, places, strict=True)]
    rows = Rows(
        moved("tokens"),
        moved("segments"),
        moved("magnitudes"),
        moved("counts"),
        lengths[order],
        starts[order],
        order,
        np.concatenate(first_gene),
    )
    return rows, places


def _by_caller(rows: Rows) -> tuple[LongArray, LongArray]:
    """Return length and start of each sequence in the caller's order."""
    lengths, starts = np.empty_like(rows.lengths), np.empty_like(rows.starts)
    lengths[rows.order], starts[rows.order] = rows.lengths, rows.starts
    return lengths, starts


def _ragged(starts: LongArray, lengths: LongArray) -> LongArray:
    first = np.cumsum(lengths) - lengths
    rows: LongArray = np.repeat(starts - first, lengths) + np.arange(lengths.sum())
    return rows
