"""Blocks of the network against naive implementations written from the formulas, fp64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spatialformer_core.arrays import CellTokens
from spatialformer_core.model import build, lay_out, pack, preset_config
from spatialformer_core.model.layers import alibi_bias, alibi_slopes

pytestmark = pytest.mark.parity


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch_of(lengths: list[int], kernel: int = 17):
    indptr = np.cumsum([0, *lengths])
    tokens = np.full(indptr[-1], 9, np.int32)
    cells = CellTokens(indptr, tokens, tokens, np.full((len(lengths), 4), 5, np.int32))
    return pack(lay_out(cells), kernel)


def sequences(x: torch.Tensor, batch):
    stops = [*batch.starts[1:].tolist(), len(x)]
    return [x[a:b] for a, b in zip(batch.starts.tolist(), stops, strict=True)]


def slopes_by_hand(n_heads: int) -> list[float]:
    return [1 / 2 ** (8 * (h + 1) / n_heads) for h in range(n_heads)]


def test_slopes_are_those_of_the_paper():
    # 64 heads: 2 ** -((h + 1) / 8).
    assert alibi_slopes(64)[0].item() == pytest.approx(2 ** (-1 / 8))
    assert alibi_slopes(64)[63].item() == pytest.approx(1 / 256)
    assert alibi_slopes(4).tolist() == slopes_by_hand(4)


def test_alibi_bias_is_symmetric_distance():
    bias = alibi_bias(torch.tensor([0.5, 0.25]), 3)
    assert bias[0, 0].tolist() == [[0, -0.5, -1], [-0.5, 0, -0.5], [-1, -0.5, 0]]
    assert bias[0, 1, 0].tolist() == [0, -0.25, -0.5]


def reference_attention_block(block, x: torch.Tensor) -> torch.Tensor:
    """One sequence ``(L, D)``, with torch's SDPA and a bias made by loops."""
    length, dim = x.shape
    heads = block.n_heads
    q, k, v = F.linear(x, block.qkv.weight, block.qkv.bias).split(dim, -1)
    q, k, v = (t.view(length, heads, dim // heads).transpose(0, 1) for t in (q, k, v))
    bias = torch.zeros(heads, length, length)
    for h, slope in enumerate(slopes_by_hand(heads)):
        for i in range(length):
            for j in range(length):
                bias[h, i, j] = -slope * abs(i - j)
    mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias[None])[0]
    mixed = F.linear(
        mixed.transpose(0, 1).reshape(length, dim), block.project.weight, block.project.bias
    )
    mixed = mixed * block.attention_scale.scale + block.attention_scale.bias
    x = F.layer_norm(x + mixed, (dim,), block.norm1.weight, block.norm1.bias)
    return reference_feed_forward(block, x)


def reference_feed_forward(block, x: torch.Tensor) -> torch.Tensor:
    ff = block.feed_forward
    wide = F.linear(x, ff.expand.weight, ff.expand.bias)
    half = wide.shape[-1] // 2
    value, gate = wide[:, :half], wide[:, half:]
    y = F.linear(value * gate / (1 + torch.exp(-gate)), ff.contract.weight, ff.contract.bias)
    y = y * block.feed_forward_scale.scale + block.feed_forward_scale.bias
    return F.layer_norm(x + y, (x.shape[-1],), block.norm2.weight, block.norm2.bias)


def reference_conv_block(block, x: torch.Tensor) -> torch.Tensor:
    """One sequence ``(L, D)``; the convolution as three loops."""
    length, dim = x.shape
    wide = F.linear(x, block.expand.weight, block.expand.bias)
    y = wide[:, :dim] * F.silu(wide[:, dim:])
    taps = block.depthwise.weight[:, 0]
    half = taps.shape[1] // 2
    mixed = torch.zeros_like(y)
    for i in range(length):
        for t in range(taps.shape[1]):
            if 0 <= i + t - half < length:
                mixed[i] += taps[:, t] * y[i + t - half]
    norm = block.batch_norm
    mixed = (mixed - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5)
    mixed = F.silu(mixed * norm.weight + norm.bias)
    mixed = F.linear(mixed, block.project.weight, block.project.bias)
    mixed = mixed * block.conv_scale.scale + block.conv_scale.bias
    x = F.layer_norm(x + mixed, (dim,), block.norm1.weight, block.norm1.bias)
    return reference_feed_forward(block, x)


def _model():
    torch.manual_seed(0)
    model = build(preset_config("two-tower", "tiny", 20, n_heads=4)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    norm = model.blocks[0].conv.batch_norm
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return model


# Equal lengths take the path without padding, near-equal and far ones that with it.
@pytest.mark.parametrize("lengths", [[12, 12, 12], [30, 31, 32, 4, 4], [1, 25, 0]])
def test_attention_block_equals_sdpa_with_alibi(double, lengths):
    block = _model().blocks[0].attention
    batch = batch_of(lengths)
    x = torch.randn(len(batch.tokens), 16)
    with torch.no_grad():
        ours = block(x, batch)
        theirs = torch.cat([reference_attention_block(block, s) for s in sequences(x, batch)])
    assert (ours - theirs).abs().max() < 1e-12


@pytest.mark.parametrize("lengths", [[12, 12, 12], [30, 31, 32, 4, 4], [1, 25, 0]])
def test_conv_block_equals_the_loop(double, lengths):
    block = _model().blocks[0].conv
    batch = batch_of(lengths)
    x = torch.randn(len(batch.tokens), 16)
    with torch.no_grad():
        ours = block(x, batch)
        theirs = torch.cat([reference_conv_block(block, s) for s in sequences(x, batch)])
    assert (ours - theirs).abs().max() < 1e-12


def test_pair_head_equals_its_formula(double):
    head = _model().pair_head
    a, b = torch.randn(3, 16), torch.randn(3, 16)
    with torch.no_grad():
        for row in range(3):
            u, v = a[row], b[row]
            hidden = (
                head.difference.weight @ abs(u - v)
                + head.product.weight @ (u * v)
                + head.sum.weight @ (u + v)
                + head.hidden_bias
            )
            hidden = torch.tensor([0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
            bilinear = u @ ((head.bilinear + head.bilinear.T) / 2) @ v
            expected = head.out.weight[0] @ hidden + head.out.bias[0] + bilinear
            assert head(a, b)[row].item() == pytest.approx(expected.item(), abs=1e-12)
