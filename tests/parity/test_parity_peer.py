"""The published package itself, in its own environment, against us: from counts to outputs.

`SPATIALFORMER_PEER_PYTHON` names a Python with ``spatialformer==0.1.8`` and what it imports without
declaring it (torchmetrics, peft, wandb, communities ...). Weights are random: no published file
could be fetched. Its FlashAttention path runs with an exact stand-in for the GPU kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from spatialformer_core.config import SampleMetadata
from spatialformer_core.model import load_checkpoint
from spatialformer_core.service.convert import ConvertOptions, convert_spatialformer
from spatialformer_core.vocabulary import load_published, tokenise

VARIABLE = "SPATIALFORMER_PEER_PYTHON"
PROGRAM = Path(__file__).parent / "programs" / "published_package.py"
PAIRS = np.array([(0, 1), (2, 3), (4, 0)])
SAMPLE = SampleMetadata(
    donor="d", block="b", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
LIMIT = 1e-5

pytestmark = [pytest.mark.peer, pytest.mark.parity]


def random_cells() -> anndata.AnnData:
    """Five cells whose expressed genes all differ in count / median: their order is no choice."""
    rng = np.random.default_rng(0)
    vocabulary = load_published().vocabulary
    ids = rng.permutation(len(vocabulary.genes))[:80]
    counts = np.zeros((5, 80), np.float32)
    for row in counts:
        expressed = rng.permutation(80)[: rng.integers(30, 60)]
        row[expressed] = rng.permutation(np.arange(1, 200))[: len(expressed)]
        scaled = row[expressed] / vocabulary.gene_medians[ids[expressed]]
        _, first = np.unique(scaled, return_index=True)
        row[np.delete(expressed, first)] = 0
    genes = np.array(vocabulary.genes)[ids]
    obs = pd.DataFrame(index=[f"c{k}" for k in range(5)])
    var = pd.DataFrame({"gene_name": genes}, index=genes)
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture(scope="module")
def cells():
    return random_cells()


@pytest.fixture(scope="module")
def run(tmp_path_factory, cells):
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} names no Python with the published package")
    folder = tmp_path_factory.mktemp("peer")
    cells.write_h5ad(folder / "cells.h5ad")
    done = subprocess.run(
        [python, str(PROGRAM), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, torch.load(folder / "outputs.pt", weights_only=True)  # noqa: TID251


def batch_of(loaded, cells):
    ids = loaded.vocabulary.gene_ids(list(cells.var_names))
    tokens, _ = tokenise(cells.X, ids, loaded.vocabulary, loaded.vocabulary.meta_ids(SAMPLE))
    left, right = (tokens.take(PAIRS[:, side]) for side in (0, 1))
    return loaded.model.collate(left, right)


def sequences(rows, batch):
    stops = [*batch.starts[1:].tolist(), len(rows)]
    pieces = [rows[a:b] for a, b in zip(batch.starts.tolist(), stops, strict=True)]
    return [pieces[k] for k in np.argsort(batch.order)]


def worst(name, pairs, capsys):
    gap = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(float(b.abs().max()) for _, b in pairs)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: largest difference {gap:.2g}, largest value {largest:.2g}")
    # Products of fp32 states reach beyond 1, and so does their rounding.
    assert gap <= LIMIT * max(1.0, largest), (name, gap)


@pytest.mark.parametrize("layout", ["head-major", "split"])
def test_from_counts_to_every_output(run, cells, tmp_path, layout, capsys):
    folder, theirs = run
    told = convert_spatialformer(folder / "model.ckpt", tmp_path / "own", ConvertOptions(layout))
    assert told["layout"] == layout
    loaded = load_checkpoint(tmp_path / "own")
    batch, expected = batch_of(loaded, cells), theirs["outputs"][layout]
    published = load_published()
    mask = theirs["batch"]["attention_mask"].bool()
    for k, ours in enumerate(sequences(batch.tokens, batch)):
        named = published.published_ids[ours.numpy()]
        assert named.tolist() == theirs["batch"]["indices"][k][mask[k]].tolist()
    with torch.no_grad():
        x = loaded.model.embedding(batch)
        layers = []
        for block in loaded.model.blocks:
            x = block(x, batch)
            layers.append(x)
        tokens = loaded.model.token_head(x)[:, torch.from_numpy(published.own_ids).long()]
        pair = loaded.model.pair_head(x[batch.starts])[np.argsort(batch.order)]
    hidden = [
        (ours, layer[k][mask[k]])
        for own, layer in zip(layers, expected["hidden"], strict=True)
        for k, ours in enumerate(sequences(own, batch))
    ]
    worst("hidden", hidden, capsys)
    per_token = sequences(tokens, batch)
    masked = [(ours, expected["tokens"][k][mask[k]]) for k, ours in enumerate(per_token)]
    worst("masked_tokens", masked, capsys)
    logit = expected["pair"][:, 1] - expected["pair"][:, 0]
    worst("pair", [(pair, logit)], capsys)
    blocks = []
    for k, ours in enumerate(sequences(x, batch)):
        n = int(theirs["batch"]["sequence_length"][k, 0])
        i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
        with torch.no_grad():
            logits = loaded.model.cooccurrence_head(ours, i.reshape(-1), j.reshape(-1))
        blocks.append((logits.view(n, n), expected["cooccurrence"][k]))
    worst("cooccurrence", blocks, capsys)
    if layout == "head-major":
        cls = x[batch.starts][np.argsort(batch.order)]
        worst("embed_data", [(cls, theirs["embeddings"])], capsys)
        told = theirs["probabilities"].reshape(len(PAIRS), -1)[:, -1]
        worst("embed_data_probability", [(torch.sigmoid(pair), told)], capsys)


def test_lora_of_peft_itself(run, cells, tmp_path, capsys):
    folder, theirs = run
    options = ConvertOptions("head-major", "paired")
    told = convert_spatialformer(folder / "lora.ckpt", tmp_path / "tuned", options)
    assert told["lora"] == {"layers": 10, "rank": 8, "scaling": 2.0}
    loaded = load_checkpoint(tmp_path / "tuned")
    batch, tuned = batch_of(loaded, cells), theirs["lora_pair"]
    with torch.no_grad():
        pair = loaded.model.pair_head(loaded.model.cls(batch))[np.argsort(batch.order)]
    worst("lora_pair", [(pair, tuned[:, 1] - tuned[:, 0])], capsys)
    plain = theirs["outputs"]["head-major"]["pair"]
    assert (plain - tuned).abs().max() > 100 * LIMIT
