"""The expression path: worked numbers, knock-outs, invariance, checkpoints."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import scorer_of
from spatialformer_core.inference.embed import gene_means
from spatialformer_core.model import build, load_checkpoint, preset_config, save_checkpoint
from spatialformer_core.objectives.self_check import masked_token_score
from spatialformer_core.perturbation.knockouts import knock_out
from spatialformer_core.perturbation.targets import every_token
from spatialformer_core.vocabulary import MASK, Vocabulary

N_TOKENS, OFFSET = 60, 9


def random_cells(n: int, seed: int = 0, longest: int = 30) -> CellTokens:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(OFFSET, N_TOKENS))[:k] for k in rng.integers(1, longest, n)]
    flat = np.concatenate(rows).astype(np.int32)
    counts = rng.integers(1, 20, len(flat)).astype(np.int32)
    meta = np.tile(np.arange(5, 9, dtype=np.int32), (n, 1))
    return CellTokens(np.cumsum([0, *map(len, rows)]), flat, counts, meta)


def network(**changes):
    config = preset_config(
        "two-tower", "tiny", N_TOKENS, magnitude_bins=6, expression_width=12, **changes
    )
    model = build(config, seed=1)
    rng = torch.Generator().manual_seed(5)
    # As after training: the blocks count, and rare genes have a large factor.
    for path in model.paths:
        path.set_scale(torch.rand(N_TOKENS, generator=rng) * 3 + 0.1)
        if path.gate is not None:
            path.gate.data.uniform_(-0.5, 0.5, generator=rng)
    return model.eval()


def states(model, cells):
    batch = model.collate(cells)
    with torch.no_grad():
        cls = model.cls(batch)
    out = torch.empty_like(cls)
    out[torch.from_numpy(batch.order)] = cls
    return out


def naive_sum(path, cells, k):
    """One cell's sum, gene by gene."""
    vectors, scale = path.token.weight.double(), path.scale.double()
    at = slice(cells.indptr[k], cells.indptr[k + 1])
    total = int(cells.counts[at].sum())
    weight, bias = path.total.weight.double()[:, 0], path.total.bias.double()
    out = weight * np.log1p(total) + bias
    for token, count in zip(cells.tokens[at], cells.counts[at], strict=True):
        level = np.log1p(100 * int(count) / max(total, 1)) * float(scale[token])
        out = out + vectors[token] * min(level, 10.0)
    return out


def test_the_sum_of_a_cell_is_what_adding_gene_by_gene_gives():
    model = network()
    cells = random_cells(20)
    batch = model.collate(cells)
    with torch.no_grad():
        summed = model.expression.summed(batch)
        for place, k in enumerate(batch.order):
            wanted = naive_sum(model.expression, cells, k)
            assert torch.allclose(summed[place].double(), wanted, atol=1e-5)


def test_the_path_and_the_gated_blocks_are_added():
    model = network()
    bare = build(preset_config("two-tower", "tiny", N_TOKENS, magnitude_bins=6), seed=1).eval()
    own = model.state_dict()
    bare.load_state_dict({name: own[name] for name in bare.state_dict()})
    batch = model.collate(random_cells(9))
    with torch.no_grad():
        wanted = model.expression(batch) + model.expression.gate * bare.cls(batch)
        assert torch.allclose(model.cls(batch), wanted, atol=1e-6)
        hidden = model.hidden(batch)
        assert torch.equal(hidden, bare.hidden(batch))
        assert torch.allclose(model.states(hidden[batch.starts], batch), wanted, atol=1e-6)


def branched(**changes):
    return network(expression_members=2, expression_pair_hidden=5, niche_targets=3, **changes)


def test_branches_stand_side_by_side_and_a_score_is_the_mean_of_their_logits():
    model, cells = branched(), random_cells(6)
    bare = build(preset_config("two-tower", "tiny", N_TOKENS, magnitude_bins=6), seed=1).eval()
    own = model.state_dict()
    bare.load_state_dict(
        {k: own[k.replace("pair_head.", "pair_head.heads.0.")] for k in bare.state_dict()}
    )
    batch, head = model.collate(cells), model.pair_head
    with torch.no_grad():
        state = model.cls(batch)
        parts = [bare.cls(batch), *(path(batch) for path in model.members)]
        assert torch.allclose(state, torch.cat(parts, 1), atol=1e-6)
        assert state.shape == (6, model.config.state_dim)
        a, b = head.project(state[:3]), head.project(state[3:])
        each = [
            one(one.project(part[:3]), one.project(part[3:]))
            for one, part in zip(head.heads, parts, strict=True)
        ]
        assert torch.allclose(head(a, b), torch.stack(each).mean(0), atol=1e-6)
        assert torch.equal(head(a, b), head(b, a))
        assert torch.allclose(head.grid(a, b).diagonal(), head(a, b), atol=1e-6)
        assert head.features(a, b).shape == (3, 16 + 5 + 5)
        assert model.niche_head(a).shape == (3, 9)


def test_a_branch_of_untrained_blocks_takes_no_part():
    whole, alone = branched(), branched(blocks_trained=False)
    alone.load_state_dict(whole.state_dict())
    cells = random_cells(6)
    with torch.no_grad():
        state = alone.cls(alone.collate(cells))
        a, b = alone.pair_head.project(state[:3]), alone.pair_head.project(state[3:])
        assert not state[:, :16].any()
        assert not a[:, :16].any()
        assert alone.pair_head.branch_logits(a, b).shape == (2, 3)
        assert torch.equal(
            alone.pair_head.branch_logits(a, b), whole.pair_head.branch_logits(a, b)[1:]
        )
        assert alone.niche_head(a).shape == (3, 6)


@pytest.mark.parametrize("members", [0, 2])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_cell_gives_the_same_alone_and_among_others(dtype, limit, members):
    model, cells = network(expression_members=members).to(dtype), random_cells(40)
    together = states(model, cells)
    for k in (0, 7, 39):
        alone = states(model, cells.take(np.array([k])))
        assert (alone[0] - together[k]).abs().max() < limit


@pytest.mark.parametrize("knockout", ["delete", "mask"])
def test_knock_outs_act_on_the_path_as_on_a_cell_that_never_had_the_gene(knockout):
    model, cells = network(), random_cells(3, longest=8)
    found = knock_out(cells, every_token(cells), knockout)
    batch = model.collate(found.versions)
    with torch.no_grad():
        summed = torch.empty(found.versions.n_cells, 12)
        summed[torch.from_numpy(batch.order)] = model.expression.summed(batch)
    for k, own in enumerate(found.of_cell):
        at = np.arange(cells.indptr[k], cells.indptr[k + 1])
        for version, gene in enumerate(own.target, start=1):
            keep = at[cells.tokens[at] != gene]
            without = CellTokens(
                np.array([0, len(keep)]), cells.tokens[keep], cells.counts[keep], cells.meta[:1]
            )
            wanted = naive_sum(model.expression, without, 0)
            got = summed[own.first + version].double()
            assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("members", [0, 2])
def test_scores_of_knock_outs_equal_those_of_cells_encoded_anew(members):
    scorer = scorer_of(network(expression_members=members), "toy")
    cell, other = random_cells(1, seed=3, longest=12), random_cells(1, seed=4)
    n = int(cell.lengths[0])
    variants = cell.take(np.zeros(n, np.int64)).without(np.arange(n))
    together = scorer.score_grid(scorer.encode(variants), scorer.encode(other))[:, 0]
    whole = scorer.score(scorer.encode(cell), scorer.encode(other))[0]
    for k in range(n):
        one = scorer.encode(cell.without(np.array([k])))
        assert abs(scorer.score(one, scorer.encode(other))[0] - together[k]) < 1e-5
    assert np.abs(together - whole).max() > 1e-4


def test_a_hidden_gene_tells_the_path_nothing():
    model, cells = network(), random_cells(1, longest=12)
    tokens, counts = cells.tokens.copy(), cells.counts.copy()
    tokens[0], counts[0] = MASK, 0
    hidden = CellTokens(cells.indptr, tokens, counts, cells.meta)
    with torch.no_grad():
        masked = model.expression.summed(model.collate(hidden))
        gone = model.expression.summed(model.collate(cells.without(np.array([0]))))
    assert torch.allclose(masked, gone, atol=1e-6)


def test_untrained_blocks_are_skipped_and_say_nothing():
    model = network(blocks_trained=False)
    cells = random_cells(5)
    batch = model.collate(cells)
    with torch.no_grad():
        for block in model.blocks:
            block.register_forward_pre_hook(lambda *_: pytest.fail("the blocks were run"))
        assert torch.equal(model.cls(batch), model.expression(batch))
    with pytest.raises(SpatialFormerError, match="blocks of this checkpoint were not trained"):
        gene_means(model, cells)


def test_a_cell_without_genes_and_dropped_genes_stay_finite():
    model = network(gene_dropout=0.5).train()
    empty = CellTokens(
        np.array([0, 0]), np.zeros(0, np.int32), np.zeros(0, np.int32), np.full((1, 4), 5, np.int32)
    )
    batch = model.collate(empty)
    assert bool(torch.isfinite(model.expression.summed(batch)).all())
    batch = model.collate(random_cells(1, longest=20))
    torch.manual_seed(0)
    assert (model.expression.summed(batch) - model.expression.summed(batch)).abs().max() > 1e-4


def test_round_trip_and_old_checkpoints(tmp_path):
    genes = tuple(f"G{k:03d}" for k in range(N_TOKENS - 6))
    vocabulary = Vocabulary(("tissue:lung",), genes, np.full(len(genes), 2.0, np.float32))
    facts = {"simulated": True, "trained_on": []}
    model = network(blocks_trained=True, token_trained=False)
    save_checkpoint(tmp_path / "new", model, vocabulary, facts, "")
    loaded = load_checkpoint(tmp_path / "new")
    assert loaded.config == model.config
    assert torch.equal(loaded.model.expression.scale, model.expression.scale)
    cells = random_cells(7)
    assert torch.equal(states(loaded.model, cells), states(model, cells))
    with pytest.raises(SpatialFormerError, match="masked-token head"):
        masked_token_score(loaded.model, cells, OFFSET)
    # A configuration written before there was such a path means: no path, every head trained.
    old = build(preset_config("two-tower", "tiny", N_TOKENS), seed=2).eval()
    save_checkpoint(tmp_path / "old", old, vocabulary, facts, "")
    text = (tmp_path / "old" / "config.yaml").read_text()
    assert not any(name.startswith("expression") for name in old.state_dict())
    assert "expression_width: 0" in text


def test_a_model_of_single_cells_scores_no_pairs():
    scorer = scorer_of(network(pair_trained=False), "toy")
    encoded = scorer.encode(random_cells(2))
    for ask in (scorer.score, scorer.score_grid):
        with pytest.raises(SpatialFormerError, match="trained on single cells"):
            ask(encoded, encoded)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "cross-encoder", "expression_width": 8}, "two-tower"),
        ({"blocks_trained": False}, "expression_width is needed"),
        ({"expression_members": 2}, "want an expression_width"),
        ({"expression_width": 5000}, "less than or equal"),
    ],
)
def test_impossible_configurations(changes, message):
    values = {"architecture": "two-tower", **changes}
    architecture = values.pop("architecture")
    with pytest.raises((SpatialFormerError, pydantic.ValidationError), match=message):
        preset_config(architecture, "tiny", N_TOKENS, **values)


@pytest.mark.parametrize(
    "bad", [torch.ones(3), torch.zeros(N_TOKENS), torch.full((N_TOKENS,), torch.nan)]
)
def test_a_scale_must_be_positive(bad):
    with pytest.raises(SpatialFormerError, match="positive numbers"):
        network().expression.set_scale(bad)


def test_training_begins_with_the_average_cell_at_the_origin():
    model = build(preset_config("two-tower", "tiny", N_TOKENS, expression_width=12), seed=1)
    path, cells = model.expression, random_cells(50)
    levels, depth = torch.zeros(N_TOKENS), 0.0
    for k in range(50):
        at = slice(cells.indptr[k], cells.indptr[k + 1])
        total = int(cells.counts[at].sum())
        levels[cells.tokens[at]] += torch.from_numpy(np.log1p(100 * cells.counts[at] / total)) / 50
        depth += float(np.log1p(total)) / 50
    path.centre(levels, depth)
    with torch.no_grad():
        summed = path.summed(model.eval().collate(cells))
    assert summed.mean(0).abs().max() < 1e-5 < summed.abs().max()
