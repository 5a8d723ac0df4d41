"""Rows that see the same are computed once, and that changes no result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.model import build, preset_config, spatialformer
from spatialformer_core.model.windows import find_windows

N_TOKENS = 80
KERNEL = 17


def cells_of(rows: list[np.ndarray], seed: int = 0) -> CellTokens:
    flat = np.concatenate(rows).astype(np.int32)
    counts = 1 + flat % 7
    meta = np.tile(np.arange(5, 9, dtype=np.int32), (len(rows), 1))
    return CellTokens(np.cumsum([0, *map(len, rows)]), flat, counts, meta)


def knock_outs(length: int, seed: int) -> CellTokens:
    """One cell whole, then without each of its genes."""
    genes = np.random.default_rng(seed).permutation(np.arange(9, N_TOKENS))[:length]
    return cells_of([genes, *(np.delete(genes, k) for k in range(length))])


def network(architecture: str, n_blocks: int):
    config = preset_config(architecture, "tiny", N_TOKENS, magnitude_bins=6, n_blocks=n_blocks)
    model = build(config, seed=1)
    for block in model.blocks:
        block.conv.batch_norm.running_mean.uniform_(-0.3, 0.3)
        block.conv.batch_norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


def windows_by_hand(batch, kernel: int) -> list[tuple]:
    ends = np.append(batch.starts.numpy()[1:], len(batch.tokens))
    rows = zip(batch.tokens.tolist(), batch.segments.tolist(), batch.magnitudes.tolist())  # noqa: B905
    kinds = list(rows)
    half = kernel // 2
    return [
        tuple(kinds[at] if start <= at < end else None for at in range(r - half, r + half + 1))
        for start, end in zip(batch.starts.tolist(), ends.tolist(), strict=True)
        for r in range(start, end)
    ]


def test_distinct_rows_are_those_that_see_different_rows():
    model = network("cross-encoder", 1)
    left, right = knock_outs(30, 0), knock_outs(30, 1)
    batch = model.collate(left, right)
    found = find_windows(batch, KERNEL)
    assert found is not None
    by_hand = windows_by_hand(batch, KERNEL)
    assert len(found.around) == len(set(by_hand)) < 0.6 * len(by_hand)
    number = found.number.tolist()
    assert len(set(zip(number, by_hand, strict=True))) == len(found.around)
    n_kinds = len(found.kinds)
    assert (found.around.numpy()[number] == n_kinds).sum() == sum(w.count(None) for w in by_hand)


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
@pytest.mark.parametrize("architecture", ["two-tower", "cross-encoder"])
def test_sharing_changes_no_result(architecture, n_blocks, monkeypatch):
    model = network(architecture, n_blocks).double()
    left, right = knock_outs(24, 0), knock_outs(24, 1)
    batch = model.collate(left, right if architecture == "cross-encoder" else None)
    with torch.no_grad():
        assert find_windows(batch, KERNEL) is not None
        shared = model.cls(batch)
        monkeypatch.setattr(spatialformer, "find_windows", lambda *_: None)
        alone = model.cls(batch)
        whole = model.hidden(batch)[batch.starts]
    with torch.enable_grad():
        learning = model.cls(batch).detach()
    assert (shared - whole).abs().max() < 1e-10
    assert (alone - whole).abs().max() < 1e-10
    assert (learning - whole).abs().max() < 1e-10
    assert shared.std(0).max() > 1e-3


def test_cells_that_have_little_in_common_are_not_searched_to_the_end():
    rng = np.random.default_rng(0)
    cells = cells_of([rng.permutation(np.arange(9, N_TOKENS))[:40] for _ in range(30)])
    batch = network("two-tower", 1).collate(cells)
    assert find_windows(batch, KERNEL) is None


def test_no_rows_share_nothing():
    batch = network("two-tower", 1).collate(cells_of([np.arange(9, 12)]).take(np.arange(0)))
    assert find_windows(batch, KERNEL) is None
