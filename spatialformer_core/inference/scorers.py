"""The two scorers: two towers, and the paper's cross-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from spatialformer_core.arrays import CellTokens, FloatArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.embed import TOKENS_PER_BATCH, EmbedSettings, cls_states
from spatialformer_core.inference.protocol import Encoded, PairScorer
from spatialformer_core.model import Checkpoint, SpatialFormer
from spatialformer_core.model.heads import AnyTowerHead, ClsPairHead
from spatialformer_core.progress import Cancel, Progress, check, never, silent

_TOKENS_PER_BATCH = TOKENS_PER_BATCH
_PAIRS_PER_BATCH = 16_384
_MAX_GRID = 1 << 26
_CELLS_PER_PIECE = 2_048

_Kind = TypeVar("_Kind", bound=Encoded)


def _cls(model: SpatialFormer, cells: CellTokens, right: CellTokens | None = None) -> FloatArray:
    """Return CLS states in the caller's order, shape ``(n, dim)``."""
    settings = EmbedSettings(tokens_per_batch=_TOKENS_PER_BATCH)
    return cls_states(model, cells, right, settings=settings)


@dataclass(frozen=True, slots=True)
class EncodedTower:
    """Embeddings of cells, shape ``(n, dim)``."""

    embedding: FloatArray

    def __len__(self) -> int:
        return len(self.embedding)

    def take(self, rows: NDArray[np.integer]) -> EncodedTower:
        """Return the given rows."""
        return EncodedTower(self.embedding[rows])


@dataclass(frozen=True, slots=True)
class EncodedTokens:
    """Tokens of cells: a cross-encoder can do nothing before it sees both cells."""

    cells: CellTokens

    def __len__(self) -> int:
        return self.cells.n_cells

    def take(self, rows: NDArray[np.integer]) -> EncodedTokens:
        """Return the given rows."""
        return EncodedTokens(self.cells.take(rows))


def _own(encoded: Encoded, kind: type[_Kind]) -> _Kind:
    if not isinstance(encoded, kind):
        message = f"{type(encoded).__name__} was encoded by another scorer, not as {kind.__name__}"
        raise TypeError(message)
    return encoded


def _check_aligned(left: Encoded, right: Encoded) -> None:
    if len(left) != len(right):
        message = f"score wants aligned rows, got {len(left)} and {len(right)}"
        raise ValueError(message)


def _require_pairs(model: SpatialFormer, name: str) -> None:
    if not model.config.pair_trained:
        raise SpatialFormerError(
            "The checkpoint was trained on single cells; its pair head is random.",
            where=name,
            fix="Score pairs with a checkpoint of pairs; this one embeds cells.",
        )


class TwoTowerScorer:
    """Encodes each cell once; a small symmetric head compares embeddings.

    Parameters
    ----------
    model
        Of architecture ``two-tower``.
    name
        Name of the checkpoint.
    """

    def __init__(self, model: SpatialFormer, name: str) -> None:
        if not isinstance(model.pair_head, AnyTowerHead):
            raise SpatialFormerError("The checkpoint is no two-tower model.", where=name)
        self.name = name
        self._model = model.eval()
        self._head = model.pair_head

    def _tensor(self, encoded: Encoded) -> torch.Tensor:
        embedding = _own(encoded, EncodedTower).embedding
        return torch.from_numpy(embedding).to(self._model.device)

    @torch.no_grad()
    def encode(self, cells: CellTokens) -> EncodedTower:
        """Encode each cell once."""
        cls = torch.from_numpy(_cls(self._model, cells)).to(self._model.device)
        return EncodedTower(self._head.project(cls).cpu().numpy())

    @torch.no_grad()
    def score(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of aligned rows, shape ``(n,)``.

        Raises
        ------
        SpatialFormerError
            If the pair head was never trained (single cells only).
        """
        _check_aligned(left, right)
        _require_pairs(self._model, self.name)
        a, b = self._tensor(left), self._tensor(right)
        parts = [
            self._head(a[k : k + _PAIRS_PER_BATCH], b[k : k + _PAIRS_PER_BATCH]).cpu().numpy()
            for k in range(0, len(left), _PAIRS_PER_BATCH)
        ]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    @torch.no_grad()
    def score_grid(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of every left with every right row, shape ``(L, R)``.

        Raises
        ------
        SpatialFormerError
            If the pair head was never trained (single cells only).
        """
        _require_pairs(self._model, self.name)
        a, b = self._tensor(left), self._tensor(right)
        rows = max(1, _PAIRS_PER_BATCH // max(1, len(right)))
        parts = [
            self._head.grid(a[k : k + rows], b).cpu().numpy() for k in range(0, len(left), rows)
        ]
        return np.concatenate([np.zeros((0, len(right)), np.float32), *parts])

    @torch.no_grad()
    def embed(self, cells: CellTokens) -> FloatArray:
        """Return the CLS state of each single cell, shape ``(n, dim)``."""
        return _cls(self._model, cells)


class CrossEncoderScorer:
    """Reads both cells in one sequence, in both orders, and averages the two logits.

    Parameters
    ----------
    model
        Of architecture ``cross-encoder``.
    name
        Name of the checkpoint.
    """

    def __init__(self, model: SpatialFormer, name: str) -> None:
        if not isinstance(model.pair_head, ClsPairHead):
            raise SpatialFormerError("The checkpoint is no cross-encoder.", where=name)
        self.name = name
        self._model = model.eval()
        self._head = model.pair_head

    def encode(self, cells: CellTokens) -> EncodedTokens:
        """Keep the tokens."""
        return EncodedTokens(cells)

    def _one_order(self, first: CellTokens, second: CellTokens) -> FloatArray:
        cls = torch.from_numpy(_cls(self._model, first, second)).to(self._model.device)
        logits: FloatArray = self._head(cls).cpu().numpy()
        return logits

    @torch.no_grad()
    def score(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of aligned rows, the mean of both orders, shape ``(n,)``.

        Raises
        ------
        SpatialFormerError
            If the pair head was never trained (a published single-cell model).
        """
        _check_aligned(left, right)
        _require_pairs(self._model, self.name)
        first, second = _own(left, EncodedTokens).cells, _own(right, EncodedTokens).cells
        there = self._one_order(first, second)
        back = self._one_order(second, first)
        return (there + back) / np.float32(2)

    def score_grid(self, left: Encoded, right: Encoded) -> FloatArray:
        """Return the logits of every left with every right row, shape ``(L, R)``.

        Raises
        ------
        SpatialFormerError
            If there are more than 67 million pairs: each costs two passes of the network.
        """
        n_left, n_right = len(left), len(right)
        if n_left * n_right > _MAX_GRID:
            raise SpatialFormerError(
                f"{n_left:,} x {n_right:,} cells are too many pairs for a cross-encoder.",
                where=self.name,
                fix="Use a two-tower checkpoint, or fewer cells.",
            )
        out = np.empty((n_left, n_right), np.float32)
        rows = max(1, _PAIRS_PER_BATCH // max(1, n_right))
        for k in range(0, n_left, rows):
            chosen = np.arange(k, min(k + rows, n_left))
            a = left.take(np.repeat(chosen, n_right))
            b = right.take(np.tile(np.arange(n_right), len(chosen)))
            out[chosen] = self.score(a, b).reshape(len(chosen), n_right)
        return out

    @torch.no_grad()
    def embed(self, cells: CellTokens) -> FloatArray:
        """Return the CLS state of each single cell, shape ``(n, dim)``."""
        return _cls(self._model, cells)


def encode_cells(
    scorer: PairScorer, cells: CellTokens, *, progress: Progress = silent, cancel: Cancel = never
) -> Encoded:
    """Encode many cells as ``scorer.encode`` does, telling how far it is.

    Raises
    ------
    Cancelled
        If it was cancelled.
    """
    if not isinstance(scorer, TwoTowerScorer):
        return scorer.encode(cells)
    parts = [scorer.encode(cells.take(np.arange(0)))]
    for first in range(0, cells.n_cells, _CELLS_PER_PIECE):
        check(cancel)
        rows = np.arange(first, min(first + _CELLS_PER_PIECE, cells.n_cells))
        parts.append(scorer.encode(cells.take(rows)))
        progress(rows[-1] + 1, cells.n_cells, "Reading cells")
    return EncodedTower(np.concatenate([part.embedding for part in parts]))


def make_scorer(checkpoint: Checkpoint, device: str = "cpu") -> PairScorer:
    """Return the scorer for a checkpoint's architecture.

    Parameters
    ----------
    checkpoint
        From `load_checkpoint`.
    device
        A torch device; effects are always computed in fp32.
    """
    return scorer_of(checkpoint.model.to(device), checkpoint.name)


def scorer_of(model: SpatialFormer, name: str) -> PairScorer:
    """Return the scorer for a network (while it is being trained: for validation)."""
    if model.config.architecture == "two-tower":
        return TwoTowerScorer(model, name)
    return CrossEncoderScorer(model, name)
