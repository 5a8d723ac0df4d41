"""Both scorers keep what `PairScorer` promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import CrossEncoderScorer, TwoTowerScorer, scorer_of
from spatialformer_core.inference import scorers as module
from spatialformer_core.model import build, preset_config

ARCHITECTURES = ["two-tower", "cross-encoder"]


def cells(n: int, seed: int = 0) -> CellTokens:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(9, 60))[:k] for k in rng.integers(0, 40, n)]
    flat = np.concatenate(rows).astype(np.int32)
    counts = rng.integers(1, 30, len(flat)).astype(np.int32)
    meta = np.tile(np.arange(5, 9, dtype=np.int32), (n, 1))
    return CellTokens(np.cumsum([0, *map(len, rows)]), flat, counts, meta)


def scorer(architecture: str):
    model = build(preset_config(architecture, "tiny", 60, magnitude_bins=5), seed=2)
    for block in model.blocks:
        block.conv.batch_norm.running_var.uniform_(0.5, 2.0)
    return scorer_of(model, "toy")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_do_not_depend_on_the_order_of_the_two_cells(architecture):
    one = scorer(architecture)
    left, right = one.encode(cells(25)), one.encode(cells(25, 1))
    there, back = one.score(left, right), one.score(right, left)
    assert there.dtype == np.float32
    assert there.shape == (25,)
    np.testing.assert_array_equal(there, back)
    assert np.ptp(there) > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_do_not_depend_on_the_batch(architecture, monkeypatch):
    one = scorer(architecture)
    many, other = cells(60), cells(60, 1)
    together = one.score(one.encode(many), one.encode(other))
    alone = [
        one.score(one.encode(many.take(np.array([k]))), one.encode(other.take(np.array([k]))))[0]
        for k in (0, 31, 59)
    ]
    np.testing.assert_allclose(together[[0, 31, 59]], alone, atol=1e-5)
    monkeypatch.setattr(module, "_TOKENS_PER_BATCH", 100)
    monkeypatch.setattr(module, "_PAIRS_PER_BATCH", 7)
    in_pieces = one.score(one.encode(many), one.encode(other))
    np.testing.assert_allclose(together, in_pieces, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_grid_equals_rows(architecture, monkeypatch):
    monkeypatch.setattr(module, "_PAIRS_PER_BATCH", 8)
    one = scorer(architecture)
    left, right = one.encode(cells(5)), one.encode(cells(3, 1))
    grid = one.score_grid(left, right)
    assert grid.shape == (5, 3)
    for i in range(5):
        for j in range(3):
            single = one.score(left.take(np.array([i])), right.take(np.array([j])))
            assert grid[i, j] == pytest.approx(single[0], abs=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_can_be_taken_in_any_order(architecture):
    one = scorer(architecture)
    encoded = one.encode(cells(10))
    order = np.array([7, 0, 7])
    np.testing.assert_allclose(
        one.score(encoded.take(order), encoded.take(order[::-1])),
        one.score(one.encode(cells(10).take(order)), one.encode(cells(10).take(order[::-1]))),
        atol=1e-5,
    )
    assert len(encoded.take(order)) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_are_cls_states_of_single_cells(architecture):
    one = scorer(architecture)
    found = one.embed(cells(12))
    model = one._model
    with torch.no_grad():
        batch = model.collate(cells(12))
        expected = model.hidden(batch)[batch.starts].numpy()
    np.testing.assert_allclose(found[batch.order], expected, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_cells_are_no_error(architecture):
    one = scorer(architecture)
    none = one.encode(cells(3).take(np.zeros(0, np.int64)))
    assert one.score(none, none).shape == (0,)
    assert one.score_grid(none, one.encode(cells(3))).shape == (0, 3)


def test_a_knocked_out_gene_changes_the_score():
    one = scorer("two-tower")
    cell = cells(8).take(np.array([3]))
    other = one.encode(cells(1, 5))
    assert cell.lengths[0] > 1
    whole = one.score(one.encode(cell), other)
    without = one.score(one.encode(cell.without(np.array([0]))), other)
    assert whole[0] != without[0]


def test_wrong_uses_are_refused():
    towers, cross = scorer("two-tower"), scorer("cross-encoder")
    with pytest.raises(ValueError, match="aligned"):
        towers.score(towers.encode(cells(2)), towers.encode(cells(3)))
    with pytest.raises(TypeError, match="another scorer"):
        towers.score(cross.encode(cells(2)), cross.encode(cells(2)))
    with pytest.raises(SpatialFormerError, match="two-tower"):
        TwoTowerScorer(cross._model, "toy")
    with pytest.raises(SpatialFormerError, match="cross-encoder"):
        CrossEncoderScorer(towers._model, "toy")
