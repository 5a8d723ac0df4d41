"""The published network's way to compute, on our weights: padded batches and plain operations.

Written from the description of the published encoder: every sequence padded to 500, an ALiBi
matrix repeated for the batch, explicit logits and softmax, convolution over the padded batch.
What it computes is what ours computes; only how differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialformer_core.arrays import CellTokens, FloatArray
from spatialformer_core.model.layout import lay_out
from spatialformer_core.model.spatialformer import Block

if TYPE_CHECKING:
    from spatialformer_core.model import SpatialFormer
    from spatialformer_core.model.layers import AttentionBlock, ConvBlock

PADDED = 500
BATCH = 8


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Sequences of one length.

    Attributes
    ----------
    tokens, segments, magnitudes
        Shape ``(n, length)``, 0 where padded.
    mask
        True on real tokens, same shape.
    """

    tokens: Tensor
    segments: Tensor
    magnitudes: Tensor
    mask: Tensor

    def cut(self, rows: slice, length: int | None = None) -> PaddedBatch:
        """Return some sequences, cut to a length."""
        return PaddedBatch(
            self.tokens[rows, :length],
            self.segments[rows, :length],
            self.magnitudes[rows, :length],
            self.mask[rows, :length],
        )


def padded(
    model: SpatialFormer, cells: CellTokens, right: CellTokens | None, length: int = PADDED
) -> PaddedBatch:
    """Return cells or pairs of cells as padded sequences, in the given order."""
    rows = lay_out(cells, right, model.config.magnitude_bins)
    shape = (len(rows.lengths), length)
    parts = [np.zeros(shape, np.int64) for _ in range(3)]
    mask = np.zeros(shape, np.bool_)
    for own, start, n in zip(rows.order, rows.starts, rows.lengths, strict=True):
        for part, flat in zip(parts, (rows.tokens, rows.segments, rows.magnitudes), strict=True):
            part[own, :n] = flat[start : start + n]
        mask[own, :n] = True
    tokens, segments, magnitudes = (torch.from_numpy(part) for part in parts)
    return PaddedBatch(tokens, segments, magnitudes, torch.from_numpy(mask))


@torch.no_grad()
def encode(model: SpatialFormer, batch: PaddedBatch) -> Tensor:
    """Return the last layer, shape ``(n, length, dim)``; padded places hold nothing of use."""
    embedding = model.embedding
    x: Tensor = embedding.token(batch.tokens) + embedding.segment(batch.segments)
    if embedding.magnitude is not None:
        x = x + embedding.magnitude(batch.magnitudes)
    if embedding.spatial is not None:
        vectors = embedding.spatial(batch.tokens)
        projection = embedding.spatial_projection
        x = x + (vectors if projection is None else projection(vectors))
    x = embedding.norm(x)
    place = torch.arange(batch.tokens.shape[1])
    distance = (place[:, None] - place[None]).abs()
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    slopes = blocks[0].attention.slopes
    bias = (-slopes[:, None, None] * distance).repeat(len(x), 1, 1, 1)
    for block in blocks:
        x = _attention(block.attention, _convolution(block.conv, x, batch.mask), batch.mask, bias)
    return x


@torch.no_grad()
def pair_logits(model: SpatialFormer, left: CellTokens, right: CellTokens) -> FloatArray:
    """Return the logits of aligned pairs in the given order alone, in padded batches of 8."""
    batch = padded(model, left, right)
    found = [
        model.pair_head(encode(model, batch.cut(slice(first, first + BATCH)))[:, 0])
        for first in range(0, left.n_cells, BATCH)
    ]
    logits: FloatArray = torch.cat(found).numpy()
    return logits


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


def _feed_forward(block: ConvBlock | AttentionBlock, x: Tensor) -> Tensor:
    y = block.feed_forward.contract(_gated(block.feed_forward.expand(x)))
    scale = block.feed_forward_scale
    out: Tensor = block.norm2(x + y * scale.scale + scale.bias)
    return out


def _convolution(block: ConvBlock, x: Tensor, mask: Tensor) -> Tensor:
    y = _gated(block.expand(x)).transpose(1, 2) * mask[:, None]
    taps = block.depthwise.kernel_size[0]
    y = F.conv1d(y, block.depthwise.weight, padding=taps // 2, groups=x.shape[-1])
    norm = block.batch_norm
    y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    y = block.project(F.silu(y).transpose(1, 2))
    return _feed_forward(block, block.norm1(x + y * block.conv_scale.scale + block.conv_scale.bias))


def _attention(block: AttentionBlock, x: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
    n, length, dim = x.shape
    q, k, v = block.qkv(x).view(n, length, 3, block.n_heads, -1).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(-1, -2) * (dim // block.n_heads) ** -0.5 + bias
    logits = logits.masked_fill(~mask[:, None, None, :], torch.finfo(x.dtype).min)
    y = (torch.softmax(logits, -1) @ v).transpose(1, 2).reshape(n, length, dim)
    scale = block.attention_scale
    return _feed_forward(block, block.norm1(x + block.project(y) * scale.scale + scale.bias))
