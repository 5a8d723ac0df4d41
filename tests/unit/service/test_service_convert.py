"""From an official file to a checkpoint that scores: vocabulary, layout, card, refusals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from typer.testing import CliRunner

from spatialformer_core.cli import app
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import make_scorer
from spatialformer_core.model import load_checkpoint
from spatialformer_core.service import checkpoints as listing
from spatialformer_core.service import convert as module
from spatialformer_core.service.convert import (
    ConvertOptions,
    convert_spatialformer,
    published_vocabulary,
)
from spatialformer_core.service.evaluate import EvaluationRequest, run_evaluation
from spatialformer_core.vocabulary import tokenise

PAIRED = ConvertOptions(input_type="paired")
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def states(published):
    return {
        "new": published.published_state(6065),
        "old": published.published_state(1950, old=True),
    }


@pytest.fixture
def file(tmp_path, published, states):
    """Write a Lightning file; ``settings`` are its own, None leaves the wrapper out."""

    def write(which, settings=None, change=None):
        state = dict(states[which])
        if change is not None:
            change(state)
        content = state if settings is None else published.lightning(state, **settings)
        torch.save(content, tmp_path / "official.ckpt")
        return tmp_path / "official.ckpt"

    return write


def slide(genes, n=30):
    counts = sparse.csr_matrix(RNG.poisson(0.8, (n, len(genes))).astype(np.int32))
    meta = SimpleNamespace(sample=SAMPLE, slide_id="lung-1")
    passes = np.ones(n, bool)
    return SimpleNamespace(genes=genes, gene_ids=None, counts=counts, passes_qc=passes, meta=meta)


def test_old_vocabulary_is_the_first_1950_published_tokens():
    whole, all_rows = published_vocabulary(6065)
    old, rows = published_vocabulary(1950)
    assert len(old) == 1951
    assert sorted(rows.tolist()) == list(range(-1, 1950))
    for token in (1, 3, 10, 500, 1950):
        name = old.tokens[token]
        assert all_rows[whole.tokens.index(name)] == rows[token]
        assert old.medians[token] == whole.medians[whole.tokens.index(name)]
    with pytest.raises(SpatialFormerError, match="622 tokens"):
        published_vocabulary(622)


@pytest.mark.parametrize(
    ("which", "settings", "layout", "why"),
    [
        ("new", {"use_flash_attn": True}, "split", "own settings"),
        ("new", {"use_flash_attn": False}, "head-major", "own settings"),
        ("new", {}, "split", "71-slide"),
        ("old", {}, "head-major", "61-slide"),
        ("new", None, "split", "71-slide"),
    ],
)
def test_the_layout_is_told_apart_and_recorded(file, tmp_path, which, settings, layout, why):
    told = convert_spatialformer(file(which, settings), tmp_path / "own", PAIRED)
    loaded = load_checkpoint(tmp_path / "own")
    assert told["layout"] == loaded.config.source_attention == layout
    assert why in told["layout_from"]
    assert loaded.provenance["source_sha256"] == told["source_sha256"]
    assert loaded.provenance["simulated"] is False
    assert "ties by gene name" in loaded.provenance["tie_rule"]
    card = (tmp_path / "own" / "MODEL_CARD.md").read_text()
    assert f"attention layout | {layout} (" in card
    assert "parity is unproven" in card
    assert ("untrained" in card) == (which == "old")
    assert loaded.config.cooccurrence_head == ("additive" if which == "old" else "bilinear")


def test_a_converted_pair_model_scores_pairs_the_same_both_ways(file, tmp_path):
    convert_spatialformer(file("new", {}), tmp_path / "own")
    loaded = load_checkpoint(tmp_path / "own")
    lung = slide(list(loaded.vocabulary.genes[100:160]))
    ids = loaded.vocabulary.gene_ids(lung.genes)
    meta = loaded.vocabulary.meta_ids(SAMPLE)
    assert not loaded.vocabulary.unknown_words(SAMPLE)
    cells, _ = tokenise(lung.counts, ids, loaded.vocabulary, meta)
    scorer = make_scorer(loaded)
    left, right = (scorer.encode(cells.take(np.arange(k, 30, 2))) for k in (0, 1))
    there = scorer.score(left, right)
    np.testing.assert_array_equal(there, scorer.score(right, left))
    assert np.ptp(there) > 0


def test_a_single_cell_model_embeds_and_refuses_pairs(file, tmp_path):
    convert_spatialformer(file("new", {"input_type": "single"}), tmp_path / "own")
    loaded = load_checkpoint(tmp_path / "own")
    assert not loaded.config.pair_trained
    scorer = make_scorer(loaded)
    lung = slide(list(loaded.vocabulary.genes[100:160]))
    ids = loaded.vocabulary.gene_ids(lung.genes)
    cells, _ = tokenise(lung.counts, ids, loaded.vocabulary, loaded.vocabulary.meta_ids(SAMPLE))
    assert scorer.embed(cells).shape == (30, 16)
    with pytest.raises(SpatialFormerError, match="trained on single cells"):
        scorer.score(scorer.encode(cells), scorer.encode(cells))


def test_lora_is_merged_before_the_layout_is_changed(file, tmp_path, published, states):
    key = "encoder.layers.0.attn_blocks.0.self_attn.qkv"
    a, b = torch.randn(2, published.DIM), torch.randn(3 * published.DIM, 2)
    state = {f"base_model.model.{k}": v for k, v in states["new"].items()}
    state[f"base_model.model.{key}.base_layer.weight"] = state.pop(f"base_model.model.{key}.weight")
    state[f"base_model.model.{key}.base_layer.bias"] = state.pop(f"base_model.model.{key}.bias")
    state[f"base_model.model.{key}.lora_A.default.weight"] = a
    state[f"base_model.model.{key}.lora_B.default.weight"] = b
    torch.save(published.lightning(state), tmp_path / "tuned.ckpt")
    options = ConvertOptions("head-major", "paired")
    told = convert_spatialformer(tmp_path / "tuned.ckpt", tmp_path / "tuned", options)
    assert told["lora"] == {"layers": 1, "rank": 2, "scaling": 2.0}

    def merge(plain):
        plain[f"{key}.weight"] = plain[f"{key}.weight"] + 2 * b @ a

    convert_spatialformer(file("new", {}, merge), tmp_path / "merged", options)
    one, two = load_checkpoint(tmp_path / "tuned"), load_checkpoint(tmp_path / "merged")
    for name, value in one.model.state_dict().items():
        assert torch.allclose(value, two.model.state_dict()[name], atol=1e-6)


def verdict(monkeypatch, word):
    scores = {"chosen": {"nats": 5.0, "baseline_nats": 4.0}, "other": {"nats": 3.0}}
    monkeypatch.setattr(module, "self_check", lambda *_: {"slide": "s", "verdict": word, **scores})


def test_a_slide_that_speaks_against_the_layout_stops_the_conversion(file, tmp_path, monkeypatch):
    verdict(monkeypatch, "wrong")
    with pytest.raises(SpatialFormerError, match="--layout head-major"):
        convert_spatialformer(file("new", {}), tmp_path / "own", check_slide=slide([]))
    assert not (tmp_path / "own").exists()
    told = convert_spatialformer(
        file("new", {}), tmp_path / "own", ConvertOptions("split"), check_slide=slide([])
    )
    assert told["self_check"]["verdict"] == "wrong"
    assert "wrong on `s`: 5.000 nats" in (tmp_path / "own" / "MODEL_CARD.md").read_text()


def test_random_weights_leave_the_self_check_undecided(file, tmp_path):
    vocabulary, _ = published_vocabulary(6065)
    lung = slide(list(vocabulary.genes[100:160]))
    told = convert_spatialformer(file("new", {}), tmp_path / "own", check_slide=lung)
    check = told["self_check"]
    assert (check["slide"], check["verdict"]) == ("lung-1", "undecided")
    assert check["chosen"]["nats"] != check["other"]["nats"]


def test_a_panel_that_is_mostly_unknown_is_refused(file, tmp_path, services):
    with pytest.raises(SpatialFormerError, match="knows 0% of the slide's 3 genes"):
        convert_spatialformer(
            file("new", {}), tmp_path / "own", check_slide=slide(["X1", "X2", "X3"])
        )
    convert_spatialformer(file("new", {}), tmp_path / "own")
    slide_id = services.slides()[0].slide_id
    request = EvaluationRequest(slide_id=slide_id)
    (tmp_path / "out").mkdir()
    with pytest.raises(SpatialFormerError, match="'own' knows 0% of the slide's 10 genes"):
        run_evaluation(services.store, request, tmp_path / "own", tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "change", "words"),
    [
        (None, None, "pairs or on single cells"),
        ({"input_type": "triples"}, None, "pairs or on single cells"),
        ({}, lambda s: s.pop("embeddings.weight"), "embeddings.weight"),
        ({}, lambda s: s["encoder.norm.weight"].fill_(float("nan")), "NaN"),
        ({}, lambda s: s.update({"embeddings.weight": torch.zeros(622, 16)}), "622 tokens"),
    ],
)
def test_bad_files_are_named_and_leave_nothing(file, tmp_path, settings, change, words):
    def copied(state):
        state["encoder.norm.weight"] = state["encoder.norm.weight"].clone()
        if change is not None:
            change(state)

    path = file("new", settings, copied)
    with pytest.raises(SpatialFormerError, match=words):
        convert_spatialformer(path, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_an_extended_old_file_is_refused(published, states, tmp_path):
    content = published.lightning(states["new"])
    content["optimizer_states"] = [{"state": {}, "param_groups": [{"lr": 0.001}]}]
    torch.save(content, tmp_path / "x_extended.ckpt")
    with pytest.raises(SpatialFormerError, match="random numbers"):
        convert_spatialformer(tmp_path / "x_extended.ckpt", tmp_path / "own")


def test_the_command_line(file, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_SHIPPED", tmp_path / "none")
    home = tmp_path / "home"
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    out = home / "checkpoints" / "mine"
    runner = CliRunner()
    done = runner.invoke(app, ["convert", str(file("old", {})), str(out)])
    assert done.exit_code == 0, done.output
    assert "mine: layout head-major (its 61-slide vocabulary and head)" in done.output
    listed = runner.invoke(app, ["models", "list"])
    assert "published-61" in listed.output
    assert "61 slides (published)" in listed.output
    with pytest.raises(SpatialFormerError, match="none of auto, head-major, split"):
        runner.invoke(
            app,
            ["convert", "a", "b", "--layout", "flash"],
            catch_exceptions=False,
        )
