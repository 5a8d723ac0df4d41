"""Embeddings at three levels against the network run on one cell at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import Cancelled
from spatialformer_core.inference import (
    EmbedSettings,
    cls_states,
    gene_means,
    gene_states,
    pair_states,
    with_meta,
)
from spatialformer_core.model import build, preset_config
from spatialformer_core.vocabulary import MASK

ARCHITECTURES = ["two-tower", "cross-encoder"]
OFFSET = 9


def cells(n: int, seed: int = 0, meta: int = 5) -> CellTokens:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(OFFSET, 60))[:k] for k in rng.integers(0, 40, n)]
    flat = np.concatenate(rows).astype(np.int32)
    counts = rng.integers(1, 30, len(flat)).astype(np.int32)
    words = np.tile(np.arange(meta, meta + 4, dtype=np.int32), (n, 1))
    return CellTokens(np.cumsum([0, *map(len, rows)]), flat, counts, words)


def network(architecture: str = "two-tower"):
    model = build(preset_config(architecture, "tiny", 60, magnitude_bins=5), seed=2).eval()
    for block in model.blocks:
        block.conv.batch_norm.running_var.uniform_(0.5, 2.0)
    return model


@torch.no_grad()
def hidden_of(model, one: CellTokens) -> np.ndarray:
    """Last layer of a single cell, without batches: CLS, meta, genes, SEP."""
    return model.hidden(model.collate(one)).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("budget", [1, 60])
def test_cells_and_genes_equal_one_cell_at_a_time(architecture, budget):
    model, many = network(architecture), cells(9)
    settings = EmbedSettings(tokens_per_batch=budget)
    found = cls_states(model, many, settings=settings)
    states = gene_states(model, many, settings=settings)
    assert found.dtype == states.dtype == np.float32
    for k in range(many.n_cells):
        alone = hidden_of(model, many.take(np.array([k])))
        np.testing.assert_allclose(found[k], alone[0], atol=1e-5)
        own = states[many.indptr[k] : many.indptr[k + 1]]
        np.testing.assert_allclose(own, alone[5:-1], atol=1e-5)


def test_gene_means_are_means_over_expressing_cells():
    model, many = network(), cells(30)
    states = gene_states(model, many)
    found = gene_means(model, many, settings=EmbedSettings(tokens_per_batch=100))
    assert found.tokens.tolist() == sorted(set(many.tokens.tolist()))
    for token, mean, n in zip(found.tokens, found.mean, found.n_cells, strict=True):
        rows = states[many.tokens == token]
        assert n == len(rows)
        np.testing.assert_allclose(mean, rows.mean(0), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_order_of_cells_does_not_matter(architecture):
    model, many = network(architecture), cells(15)
    order = np.random.default_rng(1).permutation(15)
    np.testing.assert_allclose(
        cls_states(model, many.take(order)), cls_states(model, many)[order], atol=1e-5
    )
    one, other = gene_means(model, many), gene_means(model, many.take(order))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masked_meta_says_nothing_of_the_sample(architecture):
    model = network(architecture)
    here = cells(12)
    there = replace(here, meta=here.meta[:, ::-1].copy())
    given = [cls_states(model, one) for one in (here, there)]
    assert np.abs(given[0] - given[1]).max() > 1e-3
    masked = EmbedSettings(meta="masked")
    for states in (cls_states, gene_states):
        one, other = (states(model, c, settings=masked) for c in (here, there))
        np.testing.assert_array_equal(one, other)
    pairs = [pair_states(model, c, cells(12, 1), settings=masked) for c in (here, there)]
    np.testing.assert_array_equal(*pairs)
    assert (with_meta(here, "masked").meta == MASK).all()
    assert with_meta(here, "given") is here


def test_pair_of_a_cross_encoder_is_the_mean_of_both_orders():
    model, left, right = network("cross-encoder"), cells(5), cells(5, 1)
    found = pair_states(model, left, right)
    for k in range(5):
        a, b = (side.take(np.array([k])) for side in (left, right))
        with torch.no_grad():
            both = [model.hidden(model.collate(*pair)).numpy()[0] for pair in ((a, b), (b, a))]
        np.testing.assert_allclose(found[k], np.mean(both, axis=0), atol=1e-5)
    np.testing.assert_array_equal(found, pair_states(model, right, left))


def test_pair_of_two_towers_is_what_the_head_sees():
    model, left, right = network(), cells(9), cells(9, 1)
    found = pair_states(model, left, right)
    np.testing.assert_array_equal(found, pair_states(model, right, left))
    head = model.pair_head
    with torch.no_grad():
        a, b = (head.project(torch.from_numpy(cls_states(model, side))) for side in (left, right))
        symmetric = (head.bilinear + head.bilinear.t()) / 2
        rest = head.forward(a, b) - ((a @ symmetric) * b).sum(-1)
        logits = torch.from_numpy(found) @ head.out.weight[0] + head.out.bias
    np.testing.assert_allclose(logits.numpy(), rest.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="aligned"):
        pair_states(model, left, cells(3))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_is_near_and_coarser(architecture):
    model, many = network(architecture), cells(20)
    full = cls_states(model, many)
    half = cls_states(model, many, settings=EmbedSettings(precision="bfloat16"))
    assert half.dtype == np.float32
    error = np.abs(half - full).max()
    assert 0 < error < 0.1
    again = cls_states(model, many, settings=EmbedSettings(precision="bfloat16"))
    np.testing.assert_array_equal(half, again)


def test_progress_reaches_its_end_and_a_user_may_cancel():
    model, many = network(), cells(20)
    seen = []
    cls_states(
        model,
        many,
        settings=EmbedSettings(tokens_per_batch=50),
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert seen[-1] == (20, 20)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    with pytest.raises(Cancelled):
        cls_states(model, many, cancel=lambda: True)


def test_no_cells_are_no_error():
    model, none = network(), cells(3).take(np.zeros(0, np.int64))
    assert cls_states(model, none).shape == (0, 16)
    assert gene_means(model, none).mean.shape == (0, 16)
    assert pair_states(model, none, none).shape == (0, 16)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cpu_and_gpu_agree(architecture):
    model, many = network(architecture), cells(200)
    here = cls_states(model, many)
    means = gene_means(model, many).mean
    model.to("cuda")
    np.testing.assert_allclose(cls_states(model, many), here, atol=1e-4)
    np.testing.assert_allclose(gene_means(model, many).mean, means, atol=1e-4)
