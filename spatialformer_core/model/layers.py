"""The blocks of SpatialFormer: gated depthwise convolution, then ALiBi attention (paper 4.2).

Legend of the shapes: T packed rows, B sequences, L length of a group, H heads, K head width, D
model width, P rows with the gaps of the convolution.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatialformer_core.model.batch_norm import MaskedBatchNorm
from spatialformer_core.model.config import ModelConfig
from spatialformer_core.model.layout import Group, Packed

_BATCH_NORM_MOMENTUM = 0.05
_BIAS_NUMBERS = 1 << 24
"""Numbers of the attention bias that exist at once where sequences differ in length (64 MB)."""


def alibi_slopes(n_heads: int) -> Float[Tensor, " H"]:
    """Return one slope per head, ``2 ** (-8 (h + 1) / H)`` (Press et al. 2022)."""
    return 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, dtype=torch.float64) / n_heads)


def alibi_bias(slopes: Float[Tensor, " H"], length: int) -> Float[Tensor, "1 H L L"]:
    """Return the symmetric bias ``-slope |i - j|`` that is added to the attention logits."""
    place = torch.arange(length, device=slopes.device)
    distance = (place[:, None] - place[None, :]).abs().to(slopes.dtype)
    return (-slopes[:, None, None] * distance)[None]


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module of tensors to tensors (`nn.Module` itself is untyped)."""
    out: Tensor = module(x)
    return out


class ScaleBias(nn.Module):
    """A learned scale and shift of every channel, one and zero at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Scale and shift."""
        return torch.addcmul(self.bias, x, self.scale)


def _gate(x: Float[Tensor, "T E"]) -> Float[Tensor, "T E/2"]:
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


class GluFeedForward(nn.Module):
    """Expand, gate by SiLU, contract."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.dim * config.expansion
        self.expand = nn.Linear(config.dim, width)
        self.dropout = nn.Dropout(config.dropout)
        self.contract = nn.Linear(width // 2, config.dim)

    def forward(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Transform each row by itself."""
        return _run(self.contract, self.dropout(_gate(self.expand(x))))


class ConvBlock(nn.Module):
    """Gated convolution and feed-forward, both with a residual and LayerNorm after it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, config.conv_kernel, groups=dim, bias=False)
        self.batch_norm = MaskedBatchNorm(dim, momentum=_BATCH_NORM_MOMENTUM)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(dim, dim)
        self.conv_scale = ScaleBias(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.feed_forward = GluFeedForward(config)
        self.feed_forward_scale = ScaleBias(dim)
        self.norm2 = nn.LayerNorm(dim)

    def convolve(self, y: Float[Tensor, "T D"], batch: Packed) -> Float[Tensor, "T D"]:
        """Convolve every sequence by itself, zeros beyond both ends.

        One long row with gaps of zeros instead of a padded batch: on a CPU 2.6 times as fast.
        """
        gap = self.depthwise.kernel_size[0] // 2
        n_rows = len(y) + gap * (len(batch.starts) + 1)
        gapped = y.new_zeros(n_rows, y.shape[1]).index_copy(0, batch.conv_index, y)
        mixed = _run(self.depthwise, gapped.t().unsqueeze(0))[0].t()
        return mixed.index_select(0, batch.conv_index - gap)

    def forward(self, x: Float[Tensor, "T D"], batch: Packed) -> Float[Tensor, "T D"]:
        """Return the block's output for packed rows."""
        return self.finish(x, self.convolve(self.gated(x), batch))

    def gated(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Return what is convolved."""
        return _gate(self.expand(x))

    def finish(self, x: Float[Tensor, "T D"], y: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Normalise and project what was convolved, add, normalise, feed forward."""
        y = self.project(self.dropout(F.silu(self.batch_norm(y))))
        x = self.norm1(x + self.conv_scale(y))
        return _run(self.norm2, x + self.feed_forward_scale(self.feed_forward(x)))


class AttentionBlock(nn.Module):
    """Multi-head attention with ALiBi and feed-forward, residual and LayerNorm after both."""

    slopes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.attention_scale = ScaleBias(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.feed_forward = GluFeedForward(config)
        self.feed_forward_scale = ScaleBias(dim)
        self.norm2 = nn.LayerNorm(dim)
        slopes = alibi_slopes(config.n_heads).to(torch.get_default_dtype())
        self.register_buffer("slopes", slopes, persistent=False)

    def attend(self, qkv: Float[Tensor, "R 3D"], group: Group) -> Float[Tensor, "R D"]:
        """Attend within each sequence of one group; ``R`` are the group's packed rows."""
        if group.index is not None:
            padded = qkv.new_zeros(group.n * group.length, qkv.shape[1])
            qkv = padded.index_copy(0, group.index, qkv)
        q, k, v = qkv.view(group.n, group.length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        bias = alibi_bias(self.slopes, group.length).to(q.dtype)
        if group.padding is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            mixed = self._attend_padded((q, k, v), bias, group.padding)
        mixed = mixed.transpose(1, 2).reshape(group.n * group.length, -1)
        return mixed if group.index is None else mixed.index_select(0, group.index)

    @staticmethod
    def _attend_padded(
        qkv: tuple[Tensor, Tensor, Tensor], bias: Tensor, padding: Tensor
    ) -> Float[Tensor, "B H L K"]:
        """Attend with keys hidden; the bias of every sequence differs, so a few at a time."""
        step = max(1, _BIAS_NUMBERS // bias.numel())
        parts = []
        for first in range(0, len(padding), step):
            at = slice(first, first + step)
            own = bias.masked_fill(padding[at, None, None, :], float("-inf"))
            q, k, v = (part[at] for part in qkv)
            parts.append(F.scaled_dot_product_attention(q, k, v, attn_mask=own))
        return torch.cat(parts)

    def forward(
        self, x: Float[Tensor, "T D"], batch: Packed, qkv: Float[Tensor, "T 3D"] | None = None
    ) -> Float[Tensor, "T D"]:
        """Return the block's output for packed rows; ``qkv`` if it is known already."""
        qkv = self.qkv(x) if qkv is None else qkv
        mixed = torch.cat([self.attend(qkv[g.start : g.stop], g) for g in batch.groups])
        return self.finish(x, mixed)

    def forward_cls(self, x: Float[Tensor, "T D"], batch: Packed) -> Float[Tensor, "B D"]:
        """Return the block's output at CLS only, at a fraction of the work (last layer).

        Without a gradient neither keys nor values are computed: ``q . (W x) = (W' q) . x``, and a
        weighted mean of ``W x`` is ``W`` times that of ``x``, so rows are met once per head only.
        """
        short = isinstance(self.qkv, nn.Linear) and not torch.is_grad_enabled()
        asked = self._asked(x[batch.starts]) if short else None
        qkv = x if short else self.qkv(x)
        places = torch.searchsorted(
            batch.starts, torch.tensor([g.start for g in batch.groups], device=x.device)
        ).tolist()
        mixed = []
        for group, place in zip(batch.groups, places, strict=True):
            own = slice(place, place + group.n)
            rows = qkv[group.start : group.stop]
            if asked is None:
                cls = batch.starts[own] - group.start
                mixed.append(self.attend(rows, group)[cls])
            else:
                mixed.append(self._attend_cls(asked[own], rows, group))
        return self.finish(x[batch.starts], torch.cat(mixed))

    def _parts(self, number: int) -> tuple[Float[Tensor, "H K D"], Float[Tensor, "H K"]]:
        """Return weight and bias of queries (0), keys (1) or values (2) by head."""
        dim = self.qkv.in_features
        at = slice(number * dim, (number + 1) * dim)
        weight = self.qkv.weight[at].view(self.n_heads, -1, dim)
        return weight, self.qkv.bias[at].view(self.n_heads, -1)

    def _asked(self, cls: Float[Tensor, "B D"]) -> Float[Tensor, "B H D"]:
        """Return what each head of CLS looks for in a row; a key's bias is one for all rows."""
        (query, bias), (key, _) = self._parts(0), self._parts(1)
        q = F.linear(cls, query.flatten(0, 1), bias.flatten()).view(len(cls), self.n_heads, -1)
        return torch.einsum("bhk,hkd->bhd", q * q.shape[-1] ** -0.5, key)

    def _attend_cls(
        self, asked: Float[Tensor, "B H D"], rows: Float[Tensor, "R D"], group: Group
    ) -> Float[Tensor, "B D"]:
        if group.index is not None:
            rows = rows.new_zeros(group.n * group.length, rows.shape[1]).index_copy(
                0, group.index, rows
            )
        rows = rows.view(group.n, group.length, -1)
        logits = asked @ rows.transpose(1, 2)
        logits = logits - self.slopes[:, None] * torch.arange(group.length, device=rows.device)
        if group.padding is not None:
            logits = logits.masked_fill(group.padding[:, None, :], float("-inf"))
        value, bias = self._parts(2)
        met = torch.softmax(logits, -1).to(rows.dtype) @ rows
        return (torch.einsum("bhd,hkd->bhk", met, value) + bias).flatten(1)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Project what attention mixed, add, normalise, feed forward."""
        x = self.norm1(x + self.attention_scale(self.project(mixed)))
        return _run(self.norm2, x + self.feed_forward_scale(self.feed_forward(x)))
