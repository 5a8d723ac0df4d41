"""Small files in the form of the published package: random weights, its keys and shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DIM, HEADS, WIDE, KERNEL, RANK = 16, 2, 4, 17, 8


def _linear(out: dict[str, Tensor], name: str, rows: int, columns: int, bias: bool = True) -> None:
    out[f"{name}.weight"] = torch.randn(rows, columns) / columns**0.5
    if bias:
        out[f"{name}.bias"] = 0.1 * torch.randn(rows)


def _vector(out: dict[str, Tensor], name: str, first: str = "weight") -> None:
    out[f"{name}.{first}"] = 1 + 0.1 * torch.randn(DIM)
    out[f"{name}.bias"] = 0.1 * torch.randn(DIM)


def published_state(n_rows: int = 6065, old: bool = False, n_blocks: int = 1) -> dict[str, Tensor]:
    """Random weights with every key that a published file has."""
    torch.manual_seed(5)
    out: dict[str, Tensor] = {}
    for name in ("log_sigma_class", "log_sigma_reg1", "log_sigma_reg2"):
        out[name] = torch.zeros(1)
    for name in ("embeddings", "spatialembeds.emb"):
        out[f"{name}.weight"] = torch.randn(n_rows, DIM)
    out["token_type_embeddings.weight"] = torch.randn(3, DIM)
    _linear(out, "classifier_head", n_rows, DIM)
    _linear(out, "pair_head", 2, DIM, bias=False)
    if old:
        _linear(out, "adjprojector.fc", 1, 2 * DIM, bias=False)
    else:
        _linear(out, "adjprojector.project_i", RANK, DIM, bias=False)
        _linear(out, "adjprojector.project_j", RANK, DIM, bias=False)
    _vector(out, "encoder.norm")
    _linear(out, "encoder.emb_proj", DIM, 5 * DIM)
    _linear(out, "encoder.bpp_feature_proj", DIM, 3)
    out["encoder.bpp_convnet.conv2.conv.conv.weight"] = torch.randn(HEADS, 64, 7, 7)
    out["encoder.bpp_convnet.conv2.conv.conv.bias"] = torch.randn(HEADS)
    for k in range(n_blocks):
        conv, attention = (f"encoder.layers.{k}.{part}_blocks.0." for part in ("conv", "attn"))
        for block in (conv, attention):
            _vector(out, block + "norm1")
            _vector(out, block + "norm2")
            _vector(out, block + "mlp_scale", "scale")
            _linear(out, block + "mlp.ffn1", WIDE * DIM, DIM)
            _linear(out, block + "mlp.ffn2", DIM, WIDE * DIM // 2)
        _linear(out, conv + "expand_conv", 2 * DIM, DIM)
        out[conv + "conv.conv.conv.weight"] = torch.randn(DIM, 1, KERNEL) / 4
        _vector(out, conv + "conv_norm")
        out[conv + "conv_norm.running_mean"] = 0.1 * torch.randn(DIM)
        out[conv + "conv_norm.running_var"] = 0.5 + torch.rand(DIM)
        out[conv + "conv_norm.num_batches_tracked"] = torch.tensor(7)
        _linear(out, conv + "conv_proj", DIM, DIM)
        _vector(out, conv + "conv_scale", "scale")
        _linear(out, attention + "self_attn.qkv", 3 * DIM, DIM)
        _linear(out, attention + "self_attn.proj", DIM, DIM)
        _vector(out, attention + "attn_scale", "scale")
    return out


def lightning(state: dict[str, Tensor], **outer: Any) -> dict[str, Any]:
    """Wrap weights as Lightning does, with the numpy scalars of the published scheduler."""
    import numpy as np

    rate = np.float64(1e-3)
    return {
        "state_dict": state,
        "global_step": 96_000,
        "epoch": 0,
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"nheads": HEADS, "outer_config": {"input_type": "pair", **outer}},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": rate}]}
        ],
        "lr_schedulers": [{"_last_lr": [rate], "last_epoch": 3}],
    }
