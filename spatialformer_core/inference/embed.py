"""Embeddings at three levels: the genes of cells, cells, and pairs of cells.

Cells are handled in batches of similar length with a budget of tokens; what comes out does not
depend on the budget or on the order of the cells (<= 1e-5 in float32). bfloat16 is for embeddings
only: effects and scores are always computed in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from spatialformer_core.arrays import CellTokens, FloatArray, IntArray, LongArray
from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import SpatialFormer
from spatialformer_core.model.heads import ClsPairHead
from spatialformer_core.model.layout import HEAD_TOKENS, Packed
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.vocabulary import MASK

TOKENS_PER_BATCH = 16_384
_SPECIAL_TOKENS = 6
"""CLS, four meta tokens and SEP: of a short cell they are a large part."""

Level = Literal["gene", "cell", "pair"]
Meta = Literal["given", "masked"]
Precision = Literal["float32", "bfloat16"]


class EmbedSettings(FrozenModel):
    """How cells are embedded.

    Attributes
    ----------
    meta
        ``given``: condition, tissue, species and assay as they are. ``masked``: all four hidden,
        since they otherwise leak into the embedding.
    precision
        ``bfloat16`` is faster on devices that have it, and coarser.
    tokens_per_batch
        Tokens that the network sees at once.
    """

    meta: Meta = "given"
    precision: Precision = "float32"
    tokens_per_batch: int = Field(default=TOKENS_PER_BATCH, ge=1)


@dataclass(frozen=True, slots=True)
class GeneEmbedding:
    """Last-layer states of genes, averaged over the cells that express them.

    Attributes
    ----------
    tokens
        Vocabulary ids, ascending, shape ``(g,)``.
    mean
        Shape ``(g, dim)``.
    n_cells
        Cells that each mean is over, shape ``(g,)``.
    """

    tokens: IntArray
    mean: FloatArray
    n_cells: LongArray


def length_batches(lengths: LongArray, budget: int) -> Iterator[LongArray]:
    """Cut rows, sorted by length, into batches of at most ``budget`` tokens (one row at least)."""
    order = np.argsort(lengths, kind="stable")
    number = (np.cumsum(lengths[order]) - lengths[order]) // budget
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(number)) + 1)


def with_meta(cells: CellTokens, meta: Meta) -> CellTokens:
    """Return the cells as they are, or with all four meta tokens hidden."""
    if meta == "given":
        return cells
    return replace(cells, meta=np.full_like(cells.meta, MASK))


def cls_states(
    model: SpatialFormer,
    cells: CellTokens,
    right: CellTokens | None = None,
    *,
    settings: EmbedSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> FloatArray:
    """Return the CLS state of single cells, or of pairs read in one sequence, ``(n, dim)``.

    Parameters
    ----------
    model
        In evaluation mode, on any device.
    cells
        The cells, or the left cells of the pairs.
    right
        The right cells, as many; None for single cells.

    Raises
    ------
    Cancelled
        If it was cancelled.
    """
    out = np.empty((cells.n_cells, model.config.state_dim), np.float32)
    for rows, batch in _passes(model, cells, right, settings, (progress, cancel)):
        with _computing(model, settings):
            out[rows] = model.cls(batch).float().cpu().numpy()
    return out


def pair_states(
    model: SpatialFormer,
    left: CellTokens,
    right: CellTokens,
    *,
    settings: EmbedSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> FloatArray:
    """Return one vector per pair of cells, the same for both orders.

    A cross-encoder gives the mean of the CLS states of both orders, ``(n, dim)``; two towers give
    the hidden layer of their pair head, ``(n, pair_hidden)``.

    Raises
    ------
    ValueError
        If the sides differ in length.
    """
    if left.n_cells != right.n_cells:
        message = f"pairs want aligned rows, got {left.n_cells} and {right.n_cells}"
        raise ValueError(message)
    head = model.pair_head
    if isinstance(head, ClsPairHead):
        there, back = (
            cls_states(model, a, b, settings=settings, progress=progress, cancel=cancel)
            for a, b in ((left, right), (right, left))
        )
        return (there + back) / np.float32(2)
    a, b = (
        torch.from_numpy(
            cls_states(model, side, settings=settings, progress=progress, cancel=cancel)
        ).to(model.device)
        for side in (left, right)
    )
    with torch.no_grad():
        features: FloatArray = head.features(head.project(a), head.project(b)).cpu().numpy()
    return features


def _require_blocks(model: SpatialFormer) -> None:
    if not model.config.blocks_trained:
        raise SpatialFormerError(
            "The blocks of this checkpoint were not trained: its genes have no states.",
            fix="Embed cells with it, or train its blocks (`blocks_trained: true`).",
        )


def gene_states(
    model: SpatialFormer,
    cells: CellTokens,
    *,
    settings: EmbedSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> FloatArray:
    """Return the last layer at every gene of every cell, aligned with ``cells.tokens``.

    Returns
    -------
    numpy.ndarray
        Shape ``(nnz, dim)``: a large array; `gene_means` needs little memory.

    Raises
    ------
    SpatialFormerError
        If the blocks were not trained.
    """
    _require_blocks(model)
    out = np.empty((len(cells.tokens), model.config.dim), np.float32)
    lengths = cells.lengths
    for rows, batch in _passes(model, cells, None, settings, (progress, cancel)):
        first = np.cumsum(lengths[rows]) - lengths[rows]
        place = np.repeat(cells.indptr[:-1][rows] - first, lengths[rows])
        states = _hidden(model, batch, settings)
        at = _gene_rows(batch, lengths[rows])
        out[place + np.arange(len(at))] = states[at]
    return out


def gene_means(
    model: SpatialFormer,
    cells: CellTokens,
    *,
    settings: EmbedSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> GeneEmbedding:
    """Return the mean last-layer state of each gene over the cells that express it.

    Raises
    ------
    SpatialFormerError
        If the blocks were not trained.
    """
    _require_blocks(model)
    n_tokens = model.config.n_tokens
    total = np.zeros((n_tokens, model.config.dim))
    for rows, batch in _passes(model, cells, None, settings, (progress, cancel)):
        at = _gene_rows(batch, cells.lengths[rows])
        states = _hidden(model, batch, settings)[at].astype(np.float64)
        token = batch.tokens.cpu().numpy()[at]
        ones = np.ones(len(at))
        shape = (n_tokens, len(at))
        total += sparse.csr_matrix((ones, (token, np.arange(len(at)))), shape=shape) @ states
    n_cells = np.bincount(cells.tokens, minlength=n_tokens)
    found = np.flatnonzero(n_cells)
    mean = (total[found] / n_cells[found, None]).astype(np.float32)
    return GeneEmbedding(found.astype(np.int32), mean, n_cells[found].astype(np.int64))


def _passes(
    model: SpatialFormer,
    cells: CellTokens,
    right: CellTokens | None,
    settings: EmbedSettings | None,
    watch: tuple[Progress, Cancel],
) -> Iterator[tuple[LongArray, Packed]]:
    """Yield packed batches with the caller's rows in packed order."""
    chosen = settings or EmbedSettings()
    progress, cancel = watch
    cells = with_meta(cells, chosen.meta)
    right = None if right is None else with_meta(right, chosen.meta)
    lengths = cells.lengths if right is None else cells.lengths + right.lengths
    done = 0
    for rows in length_batches(lengths + _SPECIAL_TOKENS, chosen.tokens_per_batch):
        check(cancel)
        batch = model.collate(cells.take(rows), None if right is None else right.take(rows))
        yield rows[batch.order], batch
        done += len(rows)
        progress(done, cells.n_cells, "Reading cells")


@contextlib.contextmanager
def _computing(model: SpatialFormer, settings: EmbedSettings | None) -> Iterator[None]:
    """Compute without gradients, and in bfloat16 where that is asked for."""
    halved = settings is not None and settings.precision == "bfloat16"
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=halved):
        yield


def _hidden(model: SpatialFormer, batch: Packed, settings: EmbedSettings | None) -> FloatArray:
    with _computing(model, settings):
        states: FloatArray = model.hidden(batch).float().cpu().numpy()
    return states


def _gene_rows(batch: Packed, lengths: LongArray) -> LongArray:
    """Return the packed rows of the genes of single cells; ``lengths`` in packed order."""
    first = batch.starts.cpu().numpy() + HEAD_TOKENS
    before = np.cumsum(lengths) - lengths
    rows: LongArray = np.repeat(first - before, lengths) + np.arange(lengths.sum())
    return rows
