"""Runs in the environment of the published package (0.1.8), never in ours: random weights, outputs.

Usage: python published_package.py FOLDER. Reads ``cells.h5ad``; writes ``model.ckpt`` and
``outputs.pt``.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import anndata
import torch
from peft import LoraConfig, get_peft_model
from spatialformer.tools import get_embeddings as package

PAIRS = [("c0", "c1"), ("c2", "c3"), ("c4", "c0")]


def attention(q, k, v, cu_seqlens_q, alibi_slopes, **_):
    """What FlashAttention computes, exactly and in fp32: its kernel needs a GPU."""
    out = torch.empty_like(q)
    bounds = cu_seqlens_q.tolist()
    for n, (a, b) in enumerate(pairwise(bounds)):
        place = torch.arange(b - a)
        bias = -alibi_slopes[n][:, None, None] * (place[:, None] - place[None]).abs()
        logits = torch.einsum("ihd,jhd->hij", q[a:b], k[a:b]) * q.shape[-1] ** -0.5 + bias
        out[a:b] = torch.einsum("hij,jhd->ihd", logits.softmax(-1), v[a:b])
    return out


def random_model(config, flash):
    model = package.manual_train_fm(config, use_flash_attn=flash)
    torch.manual_seed(3)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point() or "embed" in name or "slopes" in name:
            continue
        if name.endswith("running_var"):
            value.data.uniform_(0.5, 2.0)
        elif value.ndim == 1:
            value.data.add_(0.1 * torch.randn_like(value))
    return model.eval()


def fine_tuned(model, inputs, path: Path):
    """Wrap the model as the published fine-tuning does, save it, return its pair logits."""
    wrapped = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["qkv"])).eval()
    torch.manual_seed(4)
    for name, value in wrapped.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.05)
    state = {f"model.{key}": value for key, value in wrapped.state_dict().items()}
    torch.save({"state_dict": state}, path)
    with torch.no_grad():
        return wrapped.base_model.model(*inputs)["pair_prediction"]


def main(folder: Path) -> None:
    path = package.get_file_path("config", "_config_train_large_pair.json")
    config = json.loads(Path(path).read_text()) | {"input_type": "pair"}
    config["embedding_path"] = package.get_file_path(
        "spatial_embeddings", "xenium_5k_pandavid_gene_embeddings.pkl"
    )
    model = random_model(config, flash=False)
    wrapper = {"use_flash_attn": False, "nheads": config["nheads"], "outer_config": config}
    wrapped = {"state_dict": model.state_dict(), "hyper_parameters": wrapper}
    torch.save(wrapped, folder / "model.ckpt")
    adata = anndata.read_h5ad(folder / "cells.h5ad")
    left, right = ([pair[side] for pair in PAIRS] for side in (0, 1))
    arguments = {
        "adata": adata,
        "tissue": "Lung",
        "condition": "Disease",
        "model_ckp_path": str(folder / "model.ckpt"),
        "mode": "pair",
        "left_cell": left,
        "right_cell": right,
        "pair_label": [1, 0, 1],
        "num_workers": 1,
        "batch_size": 3,
    }
    embeddings, probabilities = package.embed_data(**arguments)
    loader = package.embed_data(**arguments, only_loader=True)
    batch = next(iter(loader))
    inputs = (batch["indices"], False, batch["attention_mask"], batch["token_type_ids"])
    outputs = {}
    for layout, flash in (("head-major", False), ("split", True)):
        twin = package.manual_train_fm(config, use_flash_attn=flash)
        twin.load_state_dict(model.state_dict(), strict=True)
        sys.modules["modules"].flash_attn_varlen_func = attention
        with torch.no_grad():
            found = twin.eval()(*inputs, batch["sequence_length"])
        outputs[layout] = {
            "hidden": found["transformer_output"],
            "tokens": found["mlm_prediction"],
            "pair": found["pair_prediction"],
            "cooccurrence": found["spa_prediction"]["block1_list"],
        }
    inputs = (*inputs, batch["sequence_length"])
    torch.save(
        {
            "lora_pair": fine_tuned(model, inputs, folder / "lora.ckpt"),
            "embeddings": torch.as_tensor(embeddings),
            "probabilities": torch.cat([torch.as_tensor(p) for p in probabilities]),
            "batch": {key: batch[key] for key in ("indices", "attention_mask", "sequence_length")},
            "outputs": outputs,
        },
        folder / "outputs.pt",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
