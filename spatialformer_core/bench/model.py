"""The network forwards and in training, against the published way to compute the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import CellTokens
from spatialformer_core.bench import inputs
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.pace import training_pace
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.timing import compare, cpu_seconds, one_thread
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from torch import Tensor

    from spatialformer_core.model import SpatialFormer
    from spatialformer_core.model.config import Preset
    from spatialformer_core.model.layout import Packed

PADDED_LIMIT, EQUAL_LIMIT, BF16_LIMIT = 12.0, 1.3, 30.0
UTILISATION_FLOOR = 0.2
PAIR_TOKENS = 140
"""Tokens of a pair of cells of 64 and 65 genes with everything that is no gene."""

META = (5, 6, 7, 8)
"""Tokens of the four meta words in a vocabulary that holds one word of each."""

PRESET: Preset = "published-71"

_GENES = (64, 65)
_PUBLISHED_TOKENS = 6_065
_AGREE, _AGREE_BF16 = 1e-4, 0.1
_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def cpu_flags() -> tuple[str, ...]:
    """Return which of the instruction sets that matter here this CPU has (Linux; else none)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    own = set(line.split())
    return tuple(flag for flag in _FLAGS if flag in own)


def random_cells(n: int, n_genes: int, n_tokens: int, seed: int) -> CellTokens:
    """Return cells of distinct random genes, each of the same number."""
    rng = np.random.default_rng(seed)
    flat = np.concatenate([rng.permutation(np.arange(40, n_tokens))[:n_genes] for _ in range(n)])
    meta = np.tile(np.array(META, np.int32), (n, 1))
    tokens = flat.astype(np.int32)
    return CellTokens(np.arange(n + 1) * n_genes, tokens, np.ones_like(tokens), meta)


def forward(options: BenchOptions) -> list[Row]:
    """Time the whole encoder over pairs of 140 tokens, in float32 and bfloat16."""
    import torch

    from spatialformer_core.bench import eager
    from spatialformer_core.model import build, preset_config

    n_blocks = max(1, options.scaled(10))
    config = preset_config("cross-encoder", PRESET, _PUBLISHED_TOKENS, n_blocks=n_blocks)
    model = build(config, seed=options.seed).eval()
    n = max(2, options.scaled(4))
    pair = [random_cells(n, k, config.n_tokens, options.seed + k) for k in _GENES]
    batch = model.collate(*pair)
    reference = eager.padded(model, pair[0], pair[1])
    short = reference.cut(slice(None), PAIR_TOKENS)
    with torch.no_grad(), one_thread():
        mine = model.hidden(batch).view(n, PAIR_TOKENS, -1)
        theirs = eager.encode(model, reference)[:, :PAIR_TOKENS]
        if float((mine - theirs).abs().max()) > _AGREE:
            raise _disagree()
        whole = compare(
            lambda: model.hidden(batch),
            lambda: eager.encode(model, reference),
            rounds=options.rounds,
        )
        equal = compare(
            lambda: model.hidden(batch),
            lambda: eager.encode(model, short),
            rounds=options.rounds,
        )
        halved = _bf16(model, batch, mine)
    has_amx = "amx_bf16" in cpu_flags()
    flags = " ".join(cpu_flags()) or "no flags known"
    what = f"published encoder of {n_blocks} blocks, 64 heads, eager, float32"
    why = "" if has_amx else ", not applicable: this CPU has no AMX"
    return [
        _row("forward_fp32", whole, n, f"{what}, padded to {eager.PADDED} ({flags})", PADDED_LIMIT),
        _row("forward_fp32_equal_length", equal, n, f"{what}, unpadded ({flags})", EQUAL_LIMIT),
        _row(
            "forward_bf16",
            (halved, whole[1]),
            n,
            f"{what}, padded to {eager.PADDED}{why} ({flags})",
            BF16_LIMIT if has_amx else None,
        ),
    ]


def _row(name: str, times: tuple[float, float], n: int, what: str, limit: float | None) -> Row:
    each = (times[0] / n, times[1] / n)
    unit = "CPU-s per pair"
    return against("model", name, each, reference_is=what, limit=limit, unit=unit)


def _bf16(model: SpatialFormer, batch: Packed, exact: Tensor) -> float:
    """Return the CPU time in bfloat16 after it was shown to agree roughly."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        found = model.hidden(batch).float().view_as(exact)
        if float((found - exact).abs().mean() / exact.abs().mean()) > _AGREE_BF16:
            raise _disagree()
        return cpu_seconds(lambda: model.hidden(batch))


def training(options: BenchOptions) -> list[Row]:
    """Measure the pace of training: utilisation on a GPU, tokens and pairs per second elsewhere."""
    import torch

    on_gpu = torch.cuda.is_available()
    slide = inputs.made_up_slide(max(options.scaled(4_000), 400))
    with tempfile.TemporaryDirectory(prefix="spatialformer-bench-") as name:
        pace = training_pace(
            slide,
            Path(name),
            device="cuda" if on_gpu else "cpu",
            preset="base" if on_gpu else "small",
            seeds_per_step=256 if on_gpu else max(2, options.scaled(32)),
            steps=60 if on_gpu else max(4, options.scaled(10)),
        )
    rows = [
        bounded("model", "training", pace.pairs_per_s, f"pairs/s ({pace.device})"),
        bounded("model", "training_tokens", pace.tokens_per_s, f"tokens/s ({pace.device})"),
        bounded("model", "training_loader", pace.loading, "share of a step spent on drawing"),
    ]
    if pace.utilisation is not None:
        rows.append(
            bounded(
                "model",
                "training_utilisation",
                pace.utilisation,
                f"model FLOP utilisation ({pace.device})",
                at_least=UTILISATION_FLOOR,
            )
        )
    return rows


def _disagree() -> SpatialFormerError:
    return SpatialFormerError(
        "Ours and the reference disagree on the last layer; a time would compare nothing.",
        where="bench",
    )
