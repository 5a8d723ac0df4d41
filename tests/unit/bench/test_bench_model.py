"""Stages model and screen: the references compute what ours computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.bench import BenchOptions, eager, model, run, screen, statistics
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import scorer_of
from spatialformer_core.model import build, preset_config

TINY = BenchOptions(scale=0.02, rounds=1)


@pytest.fixture
def tiny(monkeypatch):
    for room in (model, screen):
        monkeypatch.setattr(room, "PRESET", "tiny")


def cells_of_lengths(lengths, seed):
    parts = [model.random_cells(1, n, 90, seed + k) for k, n in enumerate(lengths)]
    tokens = np.concatenate([part.tokens for part in parts])
    indptr = np.cumsum([0, *lengths])
    return type(parts[0])(indptr, tokens, np.ones_like(tokens), np.tile(parts[0].meta, (3, 1)))


def test_the_padded_reference_computes_what_ours_computes():
    config = preset_config("cross-encoder", "tiny", 90, magnitude_bins=4)
    network = build(config, seed=1).eval().double()
    left, right = cells_of_lengths([5, 30, 12], 0), cells_of_lengths([20, 9, 7], 9)
    batch = network.collate(left, right)
    padded = eager.padded(network, left, right, length=80)
    assert padded.mask.sum(1).tolist() == [25 + 11, 39 + 11, 19 + 11]
    with torch.no_grad():
        ours = network.hidden(batch)
    theirs = eager.encode(network, padded)[batch.order]
    rows = torch.cat(
        [one[mask] for one, mask in zip(theirs, padded.mask[batch.order], strict=True)]
    )
    assert (ours - rows).abs().max() < 1e-10
    scorer = scorer_of(network.float(), "x")
    both = (eager.pair_logits(network, left, right) + eager.pair_logits(network, right, left)) / 2
    own = scorer.score(scorer.encode(left), scorer.encode(right))
    np.testing.assert_allclose(own, both, atol=1e-5)


def test_stage_model_gives_its_rows(tiny):
    rows = {row.name: row for row in run("model", TINY)}
    assert {"forward_fp32", "forward_fp32_equal_length", "forward_bf16", "training"} <= set(rows)
    assert rows["forward_fp32"].limit == 12
    assert rows["forward_fp32_equal_length"].limit == 1.3
    halved = rows["forward_bf16"]
    if "amx_bf16" in model.cpu_flags():
        assert halved.limit == 30
    else:
        assert halved.passed is None
        assert "not applicable: this CPU has no AMX" in halved.reference_is
    assert rows["training"].ours > 0
    if not torch.cuda.is_available():
        assert rows["training"].limit is None
        assert "CPU seconds" in rows["training"].unit


def test_stage_screen_gives_its_rows(tiny, monkeypatch):
    monkeypatch.setattr(screen, "_GENES", 12)
    rows = {row.name: row for row in run("screen", TINY)}
    limits = {"exact": 15, "exact_two_tower": 50, "screened": 6, "statistics": 300}
    assert {name: rows[name].limit for name in limits} == limits
    assert rows["exact_one_order"].passed is None
    assert rows["exact"].ratio == pytest.approx(2 * rows["exact_one_order"].ratio)
    for quantity in ("d", "epsilon"):
        # The strongest tenth of the gene pairs, looked for among three tenths.
        assert rows[f"screened_recall_{quantity}"].ours >= 0.8
        assert rows[f"screened_recall_{quantity}"].limit == 0.99


def test_a_reference_that_disagrees_stops_the_run(tiny, monkeypatch):
    encode = eager.encode
    monkeypatch.setattr(eager, "encode", lambda *given: encode(*given) + 0.1)
    with pytest.raises(SpatialFormerError, match="disagree on the last layer"):
        list(run("model", TINY, only=("forward",)))


def test_lists_of_the_reference_take_both_directions_together():
    effects = statistics.made_up_effects(40, 0)
    lists = statistics.pooled(effects)
    assert not [key for key in lists if key[0] != key[1] and key[::-1] in lists]
    assert sum(map(len, lists.values())) == sum(one.d_pair.size for one in effects)
    key = max(lists, key=lambda key: len(lists[key]))
    one, other = key
    by_hand = [
        effect.d_pair[i, j]
        for effect in effects
        for i, left in enumerate(effect.left)
        for j, right in enumerate(effect.right)
        if (left, right) in {(one, other), (other, one)}
    ]
    assert lists[key] == by_hand
    ((mean, p),) = statistics.tested(lists, [key])
    assert mean == pytest.approx(np.mean(by_hand))
    assert 0 < p < 1
