"""The self-check finds the layout that a network was trained in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import build, in_other_layout, preset_config
from spatialformer_core.objectives import (
    MaskedScore,
    compare_layouts,
    mask_tokens,
    masked_token_loss,
    masked_token_score,
)

OFFSET, N_GENES = 9, 24


def cells(n: int, seed: int) -> CellTokens:
    """Cells of two kinds, told apart by which genes they hold; order within a cell is random."""
    rng = np.random.default_rng(seed)
    half = N_GENES // 2
    rows = [OFFSET + half * (k % 2) + rng.permutation(half)[:10] for k in range(n)]
    flat = np.concatenate(rows).astype(np.int32)
    meta = np.tile(np.arange(5, 9, dtype=np.int32), (n, 1))
    return CellTokens(np.arange(n + 1) * 10, flat, np.ones_like(flat), meta)


@pytest.fixture(scope="module")
def trained():
    """A network of the published form after a little training on masked tokens."""
    config = preset_config(
        "cross-encoder",
        "tiny",
        OFFSET + N_GENES,
        n_heads=4,
        n_blocks=2,
        conv_kernel=1,
        dropout=0.0,
        source_attention="head-major",
    )
    model = build(config, seed=0).train()
    # Queries that matter, so that reading them wrongly does too.
    source = torch.Generator().manual_seed(1)
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.qkv.weight, std=0.5, generator=source)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(130):
        batch = model.collate(cells(24, 1000 + step))
        masked = mask_tokens(
            batch.tokens.numpy(), gene_offset=OFFSET, n_tokens=config.n_tokens, seed=(0, step)
        )
        batch.tokens.copy_(torch.from_numpy(masked.tokens))
        logits = model.token_head(model.hidden(batch)[torch.from_numpy(masked.positions)])
        loss = masked_token_loss(logits, torch.from_numpy(masked.targets))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_the_trained_layout_scores_better_and_is_found_from_either_side(trained):
    held_out = cells(200, 1)
    right = masked_token_score(trained, held_out, OFFSET)
    wrong = masked_token_score(in_other_layout(trained), held_out, OFFSET)
    assert right.nats < right.baseline_nats - 0.2
    assert compare_layouts(right, wrong)["verdict"] == "right"
    assert compare_layouts(wrong, right)["verdict"] == "wrong"


def test_random_weights_decide_nothing(trained):
    model = build(trained.config, seed=1).eval()
    one = masked_token_score(model, cells(60, 1), OFFSET)
    two = masked_token_score(in_other_layout(model), cells(60, 1), OFFSET)
    assert compare_layouts(one, two)["verdict"] == "undecided"


def test_verdicts_by_hand():
    def score(nats):
        return MaskedScore(nats, baseline_nats=3.0, tokens=10)

    assert compare_layouts(score(2.0), score(2.06))["verdict"] == "right"
    assert compare_layouts(score(2.0), score(2.04))["verdict"] == "undecided"
    assert compare_layouts(score(2.5), score(2.0))["verdict"] == "wrong"
    assert compare_layouts(score(3.5), score(3.1))["verdict"] == "undecided"


def test_the_score_repeats_and_leaves_the_batch_out(trained, monkeypatch):
    from spatialformer_core.objectives import self_check as module

    first = masked_token_score(trained, cells(50, 2), OFFSET)
    assert first == masked_token_score(trained, cells(50, 2), OFFSET)
    monkeypatch.setattr(module, "MAX_CELLS", 20)
    assert masked_token_score(trained, cells(50, 2), OFFSET).tokens < first.tokens


def test_uniform_guessing_costs_the_logarithm(trained):
    model = build(trained.config, seed=1).eval()
    torch.nn.init.zeros_(model.token_head.weight)
    torch.nn.init.zeros_(model.token_head.bias)
    score = masked_token_score(model, cells(40, 3), OFFSET)
    assert score.nats == pytest.approx(np.log(OFFSET + N_GENES), abs=1e-5)
    assert score.baseline_nats == pytest.approx(np.log(N_GENES), abs=0.1)


def test_cells_without_genes(trained):
    empty = cells(3, 0).take(np.zeros(0, np.int64))
    with pytest.raises(SpatialFormerError, match="no gene"):
        masked_token_score(trained, empty, OFFSET)
