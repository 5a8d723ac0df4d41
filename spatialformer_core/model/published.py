"""Weights of the published SpatialFormer in our own layout (reference: the PyPI package 0.1.8).

The published code has two attention classes that load the same file and compute different
functions. ``head-major``: rows of ``qkv`` ordered (head, [q, k, v], width), logits scaled by
``dim ** -0.5`` (61-slide models). ``split``: rows ordered ([q, k, v], head, width), scaled by
``width ** -0.5`` (71-slide models, trained with FlashAttention). Ours is ``split``; head-major rows
are permuted and the query rows multiplied by the ratio of the scales, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spatialformer_core.arrays import LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model.config import ModelConfig, Preset, preset_config
from spatialformer_core.model.spatialformer import SpatialFormer

Layout = Literal["head-major", "split"]

DROPPED = (
    "encoder.emb_proj.",
    "encoder.bpp_feature_proj.",
    "encoder.bpp_convnet.",
    "log_sigma_",
)
"""Tensors of the published file that its forward pass never reads, and its loss weights."""

_PAIR = "pair_head.weight"
_ADDITIVE = "adjprojector.fc.weight"
_SPATIAL = "spatialembeds.emb.weight"
_HEAD_WIDTH = 8
_NEVER = -1e4
_FIX = "Give the file that was published, whole; a truncated download has to be fetched again."

_CONV = {
    "expand_conv.weight": "expand.weight",
    "expand_conv.bias": "expand.bias",
    "conv.conv.conv.weight": "depthwise.weight",
    "conv_norm.weight": "batch_norm.weight",
    "conv_norm.bias": "batch_norm.bias",
    "conv_norm.running_mean": "batch_norm.running_mean",
    "conv_norm.running_var": "batch_norm.running_var",
    "conv_norm.num_batches_tracked": "batch_norm.num_batches_tracked",
    "conv_proj.weight": "project.weight",
    "conv_proj.bias": "project.bias",
    "conv_scale.scale": "conv_scale.scale",
    "conv_scale.bias": "conv_scale.bias",
}
_ATTENTION = {
    "self_attn.qkv.weight": "qkv.weight",
    "self_attn.qkv.bias": "qkv.bias",
    "self_attn.proj.weight": "project.weight",
    "self_attn.proj.bias": "project.bias",
    "attn_scale.scale": "attention_scale.scale",
    "attn_scale.bias": "attention_scale.bias",
}
_BOTH = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.ffn1.weight": "feed_forward.expand.weight",
    "mlp.ffn1.bias": "feed_forward.expand.bias",
    "mlp.ffn2.weight": "feed_forward.contract.weight",
    "mlp.ffn2.bias": "feed_forward.contract.bias",
    "mlp_scale.scale": "feed_forward_scale.scale",
    "mlp_scale.bias": "feed_forward_scale.bias",
}
_TABLES = {
    "embeddings.weight": "embedding.token.weight",
    _SPATIAL: "embedding.spatial.weight",
    "classifier_head.weight": "token_head.weight",
    "classifier_head.bias": "token_head.bias",
}
_TOP = {
    "encoder.norm.weight": "embedding.norm.weight",
    "encoder.norm.bias": "embedding.norm.bias",
    "token_type_embeddings.weight": "embedding.segment.weight",
    "adjprojector.project_i.weight": "cooccurrence_head.project_left.weight",
    "adjprojector.project_j.weight": "cooccurrence_head.project_right.weight",
}


@dataclass(frozen=True, slots=True)
class Published:
    """What is known about a published file before it is converted.

    Attributes
    ----------
    layout
        How its attention has to be read.
    n_heads
        Attention heads; None: as many as its unused tensors tell, else heads of width 8.
    cooccurrence_trained, pair_trained
        As in `ModelConfig`.
    """

    layout: Layout
    n_heads: int | None = None
    cooccurrence_trained: bool = True
    pair_trained: bool = True


def published_config(state: Mapping[str, Tensor], about: Published, n_tokens: int) -> ModelConfig:
    """Return the configuration of a published model, read from the shapes of its weights.

    Parameters
    ----------
    state
        The published weights, LoRA merged.
    about
        What the shapes do not tell.
    n_tokens
        Tokens of the vocabulary that the converted model will have.

    Raises
    ------
    SpatialFormerError
        If a weight that gives a size is missing or the sizes are impossible.
    """
    additive = _ADDITIVE in state
    preset: Preset = "published-61" if additive else "published-71"
    dim = _shape(state, "embeddings.weight", 2)[1]
    conv = "encoder.layers.0.conv_blocks.0."
    rank = 1 if additive else _shape(state, "adjprojector.project_i.weight", 2)[0]
    return preset_config(
        "cross-encoder",
        preset,
        n_tokens,
        dim=dim,
        n_blocks=_n_blocks(state),
        n_heads=about.n_heads or _n_heads(state, dim),
        conv_kernel=_shape(state, conv + "conv.conv.conv.weight", 3)[2],
        expansion=_shape(state, conv + "mlp.ffn1.weight", 2)[0] // dim,
        cooccurrence_rank=rank,
        pair_hidden=dim,
        cooccurrence_trained=about.cooccurrence_trained and not additive,
        pair_trained=about.pair_trained,
        source_attention=about.layout,
        gene_spatial="trainable" if _SPATIAL in state else "none",
    )


def convert_published(
    state: Mapping[str, Tensor], config: ModelConfig, rows: LongArray
) -> dict[str, Tensor]:
    """Return the weights for our network, every one checked.

    Parameters
    ----------
    state
        The published weights, LoRA merged.
    config
        From `published_config`.
    rows
        For each of our tokens its row in the published tables, -1 where those have none (the
        unknown word, which becomes a zero vector that is never predicted), shape ``(n_tokens,)``.

    Raises
    ------
    SpatialFormerError
        If a weight is missing, unexpected, of another shape or type, or not finite; if the
        vocabulary names other rows than the tables have.
    """
    names = _names(config)
    _check_keys(state, config, names)
    n_rows = _shape(state, "embeddings.weight", 2)[0]
    _check_rows(rows, n_rows)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in SpatialFormer(config).state_dict().items()}
    out = {ours: checked(state, theirs, shapes[ours]) for theirs, ours in names.items()}
    for k in range(config.n_blocks):
        for part in ("weight", "bias"):
            key = f"blocks.{k}.attention.qkv.{part}"
            out[key] = to_split(out[key], config)
    at = torch.from_numpy(rows)
    for theirs, ours in _TABLES.items():
        if ours in shapes:
            out[ours] = _take(checked(state, theirs, (n_rows, *shapes[ours][1:])), at)
    # A token that the published model cannot predict takes no share of the softmax.
    out["token_head.bias"] = out["token_head.bias"].masked_fill(at < 0, _NEVER)
    pair = checked(state, _PAIR, (2, config.dim))
    # softmax over two classes is the logistic function of their difference.
    out["pair_head.linear.weight"] = pair[1:] - pair[:1]
    out["pair_head.linear.bias"] = torch.zeros(1)
    if config.cooccurrence_head == "additive":
        scores = checked(state, _ADDITIVE, (1, 2 * config.dim))
        out["cooccurrence_head.scores.weight"] = scores.view(2, config.dim)
    return out


def to_split(qkv: Tensor, config: ModelConfig) -> Tensor:
    """Return ``qkv`` rows (weight or bias) in our layout, from the layout that was recorded."""
    if config.source_attention != "head-major":
        return qkv
    heads, width = config.n_heads, config.dim // config.n_heads
    by_head = qkv.view(heads, 3, width, *qkv.shape[1:])
    split = by_head.transpose(0, 1).reshape(qkv.shape).clone()
    split[: config.dim] *= (width / config.dim) ** 0.5
    return split


def from_split(qkv: Tensor, config: ModelConfig) -> Tensor:
    """Return our ``qkv`` rows as they lay in the published file; undoes `to_split`."""
    if config.source_attention != "head-major":
        return qkv
    heads, width = config.n_heads, config.dim // config.n_heads
    raw = qkv.clone()
    raw[: config.dim] /= (width / config.dim) ** 0.5
    return raw.view(3, heads, width, *qkv.shape[1:]).transpose(0, 1).reshape(qkv.shape).clone()


def in_other_layout(model: SpatialFormer) -> SpatialFormer:
    """Return a converted network as if its file had been read in the other layout.

    Raises
    ------
    SpatialFormerError
        If the network is no converted published one.
    """
    other: dict[str, Layout] = {"head-major": "split", "split": "head-major"}
    if model.config.source_attention not in other:
        raise SpatialFormerError("Only published models have a second attention layout.")
    layout = other[model.config.source_attention]
    config = model.config.model_copy(update={"source_attention": layout})
    weights = {
        key: to_split(from_split(value, model.config), config) if ".qkv." in key else value
        for key, value in model.state_dict().items()
    }
    twin = SpatialFormer(config)
    twin.load_state_dict(weights, strict=True)
    return twin.eval()


def _names(config: ModelConfig) -> dict[str, str]:
    names = dict(_TOP)
    if config.cooccurrence_head == "additive":
        names = {k: v for k, v in names.items() if not k.startswith("adjprojector.")}
    for k in range(config.n_blocks):
        theirs, ours = f"encoder.layers.{k}.", f"blocks.{k}."
        for part, table in (("conv", _CONV), ("attn", _ATTENTION)):
            block = "conv." if part == "conv" else "attention."
            for name, own in (table | _BOTH).items():
                names[f"{theirs}{part}_blocks.0.{name}"] = ours + block + own
    return names


def _check_keys(state: Mapping[str, Tensor], config: ModelConfig, names: Mapping[str, str]) -> None:
    wanted = {*names, *_TABLES, _PAIR}
    if config.cooccurrence_head == "additive":
        wanted.add(_ADDITIVE)
    if config.gene_spatial == "none":
        wanted.discard(_SPATIAL)
    missing = sorted(wanted - set(state))
    surplus = sorted(key for key in set(state) - wanted if not key.startswith(DROPPED))
    if missing or surplus:
        raise SpatialFormerError(
            f"The file is no published SpatialFormer checkpoint: {len(missing)} weights are "
            f"missing ({', '.join(missing[:3]) or 'none'}), {len(surplus)} are unexpected "
            f"({', '.join(surplus[:3]) or 'none'}).",
            fix=_FIX,
        )


def checked(state: Mapping[str, Tensor], key: str, shape: Sequence[int] | None = None) -> Tensor:
    """Return one weight as finite fp32 (counters as they are).

    Raises
    ------
    SpatialFormerError
        If it is missing, no plain array, of another shape, or holds NaN or infinity.
    """
    value = state.get(key)
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized:
        raise SpatialFormerError(f"Weight {key!r} is missing or no plain array.", fix=_FIX)
    # Before anything is copied: a view of one number can claim any shape.
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise SpatialFormerError(
            f"Weight {key!r} is {tuple(value.shape)}, {tuple(shape)} was expected.", fix=_FIX
        )
    if value.is_complex() or value.device.type != "cpu":
        raise SpatialFormerError(f"Weight {key!r} is no array of real numbers.", fix=_FIX)
    if not value.is_floating_point():
        return value.to(torch.int64).clone()
    value = value.detach().to(torch.float32)
    if not bool(torch.isfinite(value).all()):
        raise SpatialFormerError(f"Weight {key!r} holds NaN or infinity.", fix=_FIX)
    return value.clone(memory_format=torch.contiguous_format)


def _check_rows(rows: LongArray, n_rows: int) -> None:
    used = rows[rows >= 0]
    if len(used) != n_rows or len(set(used.tolist())) != n_rows or int(used.max()) >= n_rows:
        raise SpatialFormerError(
            f"The checkpoint has {n_rows:,} tokens, the vocabulary {len(used):,}.",
            fix="Give the vocabulary that the checkpoint was trained with (--vocabulary).",
        )


def _take(values: Tensor, at: Tensor) -> Tensor:
    taken = values[at.clamp_min(0)]
    return taken.masked_fill((at < 0).view(-1, *[1] * (values.ndim - 1)), 0.0)


def _shape(state: Mapping[str, Tensor], key: str, n_axes: int) -> torch.Size:
    value = state.get(key)
    if not isinstance(value, Tensor) or value.ndim != n_axes or not all(value.shape):
        raise SpatialFormerError(
            f"The file is no published SpatialFormer checkpoint: weight {key!r} is missing or "
            "of another form.",
            fix=_FIX,
        )
    return value.shape


def _n_blocks(state: Mapping[str, Tensor]) -> int:
    numbers = {
        int(part)
        for key in state
        if key.startswith("encoder.layers.") and (part := key.split(".")[2]).isdigit()
    }
    return max(numbers, default=0) + 1


def _n_heads(state: Mapping[str, Tensor], dim: int) -> int:
    unused = state.get("encoder.bpp_convnet.conv2.conv.conv.bias")
    # Never read by the published network, but built with one channel per head.
    return len(unused) if isinstance(unused, Tensor) and unused.ndim == 1 else dim // _HEAD_WIDTH
