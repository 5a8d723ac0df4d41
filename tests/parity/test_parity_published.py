"""Converted weights against recorded outputs of the published package, both attention layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.model.layout import Rows, pack
from spatialformer_core.model.published import Published, convert_published, published_config
from spatialformer_core.model.spatialformer import SpatialFormer

pytestmark = pytest.mark.parity
LIMIT = 1e-5


@pytest.fixture(scope="module")
def recorded(fixtures_data):
    path = fixtures_data / "spaformer_pair_random_small.pt"
    return torch.load(path, weights_only=True)  # noqa: TID251 (a fixture of ours)


def converted(recorded, layout):
    state = recorded["state_dict"]
    config = published_config(state, Published(layout), 120)
    assert config.n_heads == recorded["config"]["nheads"]
    model = SpatialFormer(config)
    model.load_state_dict(convert_published(state, config, np.arange(120)), strict=True)
    return model.eval()


def packed(inputs):
    """Published tokens, padded and in their own ids, as our packed rows."""
    mask = inputs["attention_mask"].numpy()
    lengths = mask.sum(1)
    order = np.argsort(lengths, kind="stable")
    tokens = np.concatenate([inputs["indices"].numpy()[k][mask[k]] for k in order])
    segments = np.concatenate([inputs["token_type_ids"].numpy()[k][mask[k]] for k in order])
    lengths = lengths[order]
    starts = np.cumsum(lengths) - lengths
    zeros = np.zeros_like(tokens)
    none = np.zeros((len(order), 2), int)
    rows = Rows(tokens, segments, zeros, zeros, lengths, starts, order, none)
    return pack(rows, 17)


def per_sequence(rows, batch):
    """Rows of each sequence, in the recorded order."""
    stops = [*batch.starts[1:].tolist(), len(rows)]
    pieces = [rows[a:b] for a, b in zip(batch.starts.tolist(), stops, strict=True)]
    return [pieces[k] for k in np.argsort(batch.order)]


@pytest.mark.parametrize(
    ("layout", "outputs"), [("head-major", "outputs_alt"), ("split", "outputs_flash")]
)
def test_every_output_equals_the_published_one(recorded, layout, outputs):
    model, expected = converted(recorded, layout), recorded[outputs]
    batch = packed(recorded["pair_inputs"])
    mask = recorded["pair_inputs"]["attention_mask"]
    spans = recorded["pair_inputs"]["sequence_length"].tolist()
    with torch.no_grad():
        x = model.embedding(batch)
        for block, layer in zip(model.blocks, expected["hidden_layers"], strict=True):
            x = block(x, batch)
            for k, ours in enumerate(per_sequence(x, batch)):
                assert (ours - layer[k][mask[k]]).abs().max() <= LIMIT
        tokens = model.token_head(x)
        for k, ours in enumerate(per_sequence(tokens, batch)):
            assert (ours - expected["mlm_logits"][k][mask[k]]).abs().max() <= LIMIT
        pair = model.pair_head(x[batch.starts])[np.argsort(batch.order)]
        theirs = expected["pair_logits"]
        assert (pair - (theirs[:, 1] - theirs[:, 0])).abs().max() <= LIMIT
        starts = batch.starts[np.argsort(batch.order)].tolist()
        for k, (first, second) in enumerate(spans):
            for block, start, n in (
                ("co_block1", starts[k], first),
                ("co_block2", starts[k] + first, second),
            ):
                i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
                ours = model.cooccurrence_head(x, start + i.reshape(-1), start + j.reshape(-1))
                assert (ours.view(n, n) - expected[block][k]).abs().max() <= LIMIT


def test_the_wrong_layout_is_another_model(recorded):
    batch = packed(recorded["pair_inputs"])
    with torch.no_grad():
        wrong = converted(recorded, "head-major").cls(batch)[np.argsort(batch.order)]
    assert (wrong - recorded["outputs_flash"]["hidden_layers"][-1][:, 0]).abs().max() > 0.1
