"""Invariances of the network: what must not change a result, and what must."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import build, n_parameters, preset_config
from spatialformer_core.model.config import ModelConfig

N_TOKENS = 60


def random_cells(n: int, seed: int = 0, longest: int = 30) -> CellTokens:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(9, N_TOKENS))[:k] for k in rng.integers(1, longest, n)]
    flat = np.concatenate(rows).astype(np.int32)
    indptr = np.cumsum([0, *map(len, rows)])
    counts = rng.integers(1, 20, len(flat)).astype(np.int32)
    return CellTokens(indptr, flat, counts, np.tile(np.arange(5, 9, dtype=np.int32), (n, 1)))


def network(architecture: str = "two-tower", **changes):
    config = preset_config(architecture, "tiny", N_TOKENS, magnitude_bins=6, **changes)
    model = build(config, seed=1)
    # Running statistics that are not 0 and 1, so that batch norm does something when evaluated.
    for block in model.blocks:
        block.conv.batch_norm.running_mean.uniform_(-0.3, 0.3)
        block.conv.batch_norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("paired", [False, True])
def test_a_cell_gives_the_same_alone_and_among_others(dtype, limit, paired):
    model = network().to(dtype)
    left, right = random_cells(40), random_cells(40, seed=1)
    batch = model.collate(left, right if paired else None)
    with torch.no_grad():
        together = torch.empty(40, 16, dtype=dtype)
        together[torch.from_numpy(batch.order)] = model.cls(batch)
        for k in (0, 7, 39):
            one = np.array([k])
            alone = model.cls(model.collate(left.take(one), right.take(one) if paired else None))
            assert (alone[0] - together[k]).abs().max() < limit


def test_cls_alone_equals_cls_of_the_whole_last_layer():
    model = network(n_blocks=2)
    batch = model.collate(random_cells(30))
    with torch.no_grad():
        assert torch.allclose(model.cls(batch), model.hidden(batch)[batch.starts], atol=1e-6)


def test_training_statistics_come_from_every_token_once():
    model = network().train()
    norm = model.blocks[0].conv.batch_norm
    norm.reset_running_stats()
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    cells = random_cells(25)
    model.hidden(model.collate(cells))
    assert len(seen[0]) == cells.lengths.sum() + 25 * 6
    assert torch.allclose(norm.running_mean, 0.05 * seen[0].mean(0), atol=1e-6)


def test_order_of_genes_matters_and_so_does_their_magnitude():
    model = network()
    cell = random_cells(1, longest=20)
    swapped = CellTokens(cell.indptr, cell.tokens[::-1].copy(), cell.counts, cell.meta)
    richer = CellTokens(cell.indptr, cell.tokens, cell.counts * 4, cell.meta)
    with torch.no_grad():
        reference = model.cls(model.collate(cell))
        for other in (swapped, richer):
            assert (model.cls(model.collate(other)) - reference).abs().max() > 1e-4


def test_pair_head_is_symmetric_and_its_grid_equals_its_rows():
    head = network().pair_head
    a, b = torch.randn(5, 16), torch.randn(7, 16)
    with torch.no_grad():
        grid = head.grid(a, b)
        rows = head(a.repeat_interleave(7, 0), b.repeat(5, 1)).view(5, 7)
        assert torch.equal(head(a, b[:5]), head(b[:5], a))
    assert torch.allclose(grid, rows, atol=1e-5)


def test_cooccurrence_head_is_symmetric_and_no_sum_of_gene_scores():
    head = network().cooccurrence_head
    with torch.no_grad():
        hidden = torch.randn(4, 16)
        i, j = torch.tensor([0, 1, 0, 1]), torch.tensor([2, 3, 3, 2])
        logits = head(hidden, i, j)
        assert torch.allclose(logits, head(hidden, j, i))
        # f(0,2) + f(1,3) = f(0,3) + f(1,2) for every additive score.
        assert (logits[0] + logits[1] - logits[2] - logits[3]).abs() > 1e-4


def test_seeded_weights_repeat_and_leave_the_global_state_alone():
    config = preset_config("two-tower", "tiny", N_TOKENS)
    before = torch.random.get_rng_state()
    one, two = build(config, seed=3), build(config, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("architecture", ["two-tower", "cross-encoder"])
def test_small_stays_small(architecture):
    model = build(preset_config(architecture, "small", 6_065), seed=0)
    assert n_parameters(model) <= 3_500_000


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dim": 15}, "n_heads"),
        ({"conv_kernel": 4}, "even"),
        ({"dim": 1 << 20}, "dim"),
        ({"colour": 1}, "colour"),
    ],
)
def test_an_impossible_configuration_is_named(change, word):
    with pytest.raises(SpatialFormerError, match=word):
        preset_config("two-tower", "tiny", N_TOKENS, **change)


def test_an_unknown_preset_is_named():
    with pytest.raises(SpatialFormerError, match="huge"):
        preset_config("two-tower", "huge", N_TOKENS)


def test_niche_targets_belong_to_the_towers():
    with pytest.raises(SpatialFormerError, match="two-tower"):
        preset_config("cross-encoder", "tiny", N_TOKENS, niche_targets=3)
    assert isinstance(preset_config("two-tower", "tiny", N_TOKENS, niche_targets=3), ModelConfig)


def test_padded_attention_in_pieces_is_the_same(monkeypatch):
    from spatialformer_core.model import layers

    model = network("cross-encoder")
    batch = model.collate(random_cells(30))
    assert any(group.padding is not None for group in batch.groups)
    with torch.no_grad():
        whole = model.cls(batch)
        monkeypatch.setattr(layers, "_BIAS_NUMBERS", 1)
        assert torch.allclose(model.cls(batch), whole, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 5])
@pytest.mark.parametrize("kind", ["trainable", "frozen"])
def test_gene_spatial_vectors_are_added_to_the_tokens(kind, dim):
    model = network("cross-encoder", gene_spatial=kind, gene_spatial_dim=dim)
    plain = network("cross-encoder")
    table = torch.randn(N_TOKENS, dim or 16)
    table[9] = 0
    batch = model.collate(random_cells(3))
    empty = model.embedding(batch)
    model.embedding.set_gene_spatial(table)
    spatial = model.embedding.spatial.weight
    assert spatial.requires_grad == (kind == "trainable")
    with torch.no_grad():
        x = model.embedding.token(batch.tokens) + model.embedding.segment(batch.segments)
        x = x + model.embedding.magnitude(batch.magnitudes)
        own = table[batch.tokens]
        x = x + (own @ model.embedding.spatial_projection.weight.T if dim else own)
        assert torch.allclose(model.embedding(batch), model.embedding.norm(x), atol=1e-6)
        assert (model.embedding(batch) - empty).abs().max() > 1e-3
    assert n_parameters(model) - n_parameters(plain) == N_TOKENS * (dim or 16) + 16 * dim


def test_a_gene_table_that_does_not_fit_is_refused():
    model = network("cross-encoder", gene_spatial="frozen")
    with pytest.raises(SpatialFormerError, match=r"\(3, 16\), the model wants \(60, 16\)"):
        model.embedding.set_gene_spatial(torch.zeros(3, 16))
    with pytest.raises(SpatialFormerError, match="NaN"):
        model.embedding.set_gene_spatial(torch.full((N_TOKENS, 16), torch.nan))
    with pytest.raises(SpatialFormerError, match="wants None"):
        network().embedding.set_gene_spatial(torch.zeros(N_TOKENS, 16))
    with pytest.raises(SpatialFormerError, match="gene_spatial_dim"):
        network(gene_spatial_dim=5)
