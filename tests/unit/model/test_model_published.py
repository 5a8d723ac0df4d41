"""Conversion of published weights: layouts, heads, files, LoRA, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import (
    Published,
    SpatialFormer,
    convert_published,
    has_lora,
    in_other_layout,
    merge_lora,
    n_parameters,
    preset_config,
    published_config,
    read_torch_file,
)
from spatialformer_core.model import torch_file as module

N = 40
ROWS = np.arange(N)


@pytest.fixture
def state(published):
    return published.published_state(N)


def convert(state, layout="split", rows=ROWS, **about):
    config = published_config(state, Published(layout, **about), len(rows))
    model = SpatialFormer(config)
    model.load_state_dict(convert_published(state, config, rows), strict=True)
    return model.eval()


def meta_size(config):
    with torch.device("meta"):
        return n_parameters(SpatialFormer(config))


def test_presets_have_the_published_size():
    new = preset_config("cross-encoder", "published-71", 6065)
    old = preset_config("cross-encoder", "published-61", 1950)
    for config in (new, old):
        assert (config.n_heads, config.dim // config.n_heads) == (64, 8)
    # 59.53 M of the published parameters are used.
    assert meta_size(new) / 1e6 == pytest.approx(59.53, abs=0.01)
    # Three tables and the classifier's bias are shorter, the low-rank head is a sum.
    assert meta_size(new) - meta_size(old) == 4115 * (3 * 512 + 1) + 2 * 128 * 512 - 1024
    assert (new.cooccurrence_head, old.cooccurrence_head) == ("bilinear", "additive")
    assert (new.cooccurrence_trained, old.cooccurrence_trained) == (True, False)


def test_published_presets_are_cross_encoders():
    with pytest.raises(SpatialFormerError, match="is a cross-encoder"):
        preset_config("two-tower", "published-71", 100)


def test_head_major_rows_are_permuted_and_the_queries_scaled(published):
    # One head of width 2 in a model 4 wide would be trivial: two heads, rows numbered.
    state = published.published_state(N)
    key = "encoder.layers.0.attn_blocks.0.self_attn.qkv.bias"
    width = published.DIM // published.HEADS
    # Published rows: head 0 [q, k, v], head 1 [q, k, v]; each of width 8.
    state[key] = torch.arange(6.0).repeat_interleave(width)
    bias = convert(state, "head-major").blocks[0].attention.qkv.bias
    scale = (width / published.DIM) ** 0.5
    expected = [0 * scale, 3 * scale, 1, 4, 2, 5]
    assert bias.view(6, width)[:, 0].tolist() == pytest.approx(expected)


def test_the_other_layout_and_back_is_the_same_network(state):
    model = convert(state, "head-major")
    twin = in_other_layout(model)
    assert twin.config.source_attention == "split"
    direct = convert(state, "split")
    back = in_other_layout(twin)
    for key, value in model.state_dict().items():
        assert torch.allclose(twin.state_dict()[key], direct.state_dict()[key], atol=1e-6)
        assert torch.allclose(back.state_dict()[key], value, atol=1e-6)
    with pytest.raises(SpatialFormerError, match="second attention layout"):
        in_other_layout(SpatialFormer(preset_config("cross-encoder", "tiny", N)))


def test_rows_go_where_the_vocabulary_says_and_unknown_is_never_predicted(state):
    rows = np.concatenate([[3, 0, -1, 1, 2], np.arange(N - 1, 3, -1)])
    model = convert(state, rows=rows)
    for ours, theirs in (
        ("embedding.token.weight", "embeddings.weight"),
        ("embedding.spatial.weight", "spatialembeds.emb.weight"),
        ("token_head.weight", "classifier_head.weight"),
    ):
        table = model.state_dict()[ours]
        assert torch.equal(table[0], state[theirs][3])
        assert torch.equal(table[-1], state[theirs][4])
        assert not table[2].any()
    share = torch.softmax(model.token_head(torch.randn(4, 16)), -1)
    assert share[:, 2].max() == 0


def test_the_pair_logit_is_the_difference_of_the_two_classes(state):
    cls = torch.randn(5, 16)
    two = cls @ state["pair_head.weight"].T
    with torch.no_grad():
        ours = torch.sigmoid(convert(state).pair_head(cls))
    assert torch.allclose(ours, torch.softmax(two, -1)[:, 1], atol=1e-6)


def test_old_files_keep_their_additive_head_and_it_counts_as_untrained(published):
    state = published.published_state(N, old=True)
    model = convert(state, "head-major")
    assert model.config.preset == "published-61"
    assert model.config.cooccurrence_head == "additive"
    assert not model.config.cooccurrence_trained
    hidden, pairs = torch.randn(4, 16), torch.tensor([[0, 1], [2, 3]])
    both = torch.cat([hidden[pairs[0]], hidden[pairs[1]]], -1)
    expected = both @ state["adjprojector.fc.weight"][0]
    with torch.no_grad():
        ours = model.cooccurrence_head(hidden, pairs[0], pairs[1])
    assert torch.allclose(ours, expected, atol=1e-6)


def test_the_bilinear_head_is_the_published_product(published):
    state = published.published_state(N)
    hidden = torch.randn(4, 16)
    u = hidden @ state["adjprojector.project_i.weight"].T
    v = hidden @ state["adjprojector.project_j.weight"].T
    i, j = torch.tensor([0, 3]), torch.tensor([1, 2])
    with torch.no_grad():
        ours = convert(state).cooccurrence_head(hidden, i, j)
    assert torch.allclose(ours, (u @ v.T)[i, j], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("classifier_head.bias"), r"1 weights are missing \(classifier_head"),
        (lambda s: s.update(surprise=torch.zeros(2)), r"1 are unexpected \(surprise"),
        (lambda s: s["encoder.norm.weight"].fill_(torch.nan), r"encoder\.norm\.weight.*NaN"),
        (lambda s: s["embeddings.weight"].fill_(torch.inf), "NaN or infinity"),
        (
            lambda s: s.update({"encoder.norm.bias": torch.zeros(5)}),
            r"\(5,\), \(16,\) was expected",
        ),
        (lambda s: s.update({"pair_head.weight": torch.zeros(3, 16)}), r"\(2, 16\) was expected"),
        (lambda s: s.update({"encoder.norm.bias": torch.zeros(16).to_sparse()}), "no plain array"),
        (lambda s: s.update({"encoder.norm.bias": torch.zeros(16) * 1j}), "real numbers"),
        (lambda s: s.pop("embeddings.weight"), "no published SpatialFormer"),
    ],
)
def test_weights_that_do_not_fit_are_named(state, change, words):
    change(state)
    with pytest.raises(SpatialFormerError, match=words):
        convert(state)


def test_another_vocabulary_is_refused(state):
    with pytest.raises(SpatialFormerError, match="has 40 tokens, the vocabulary 39"):
        convert(state, rows=np.arange(39))
    with pytest.raises(SpatialFormerError, match="vocabulary"):
        convert(state, rows=np.concatenate([np.arange(39), [38]]))


def test_a_bare_state_dict_and_a_lightning_file(published, state, tmp_path):
    torch.save(state, tmp_path / "bare.pt")
    bare = read_torch_file(tmp_path / "bare.pt")
    assert bare.facts == {}
    torch.save(
        published.lightning(state, use_flash_attn=True, where="/scratch/x"), tmp_path / "whole.ckpt"
    )
    whole = read_torch_file(tmp_path / "whole.ckpt")
    assert whole.facts["hyper_parameters"] == {
        "nheads": 2,
        "input_type": "pair",
        "use_flash_attn": True,
    }
    assert whole.facts["global_step"] == 96_000
    assert whole.facts["resumed"] is False
    for key, value in state.items():
        assert torch.equal(bare.state[key], value)
        assert torch.equal(whole.state[key], value)


def test_numpy_scalars_become_plain_floats(tmp_path):
    torch.save({"rate": np.float64(0.125), "n": np.int64(3)}, tmp_path / "x.pt")
    assert module._load(tmp_path / "x.pt") == {"rate": 0.125, "n": None}


class Bomb:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('fired').write_text('x')",))


def test_pickles_are_not_executed(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (Bomb(), {"state_dict": state, "extra": Bomb()}, {**state, "x": Bomb()}):
        torch.save(content, tmp_path / "bomb.pt")
        with pytest.raises(SpatialFormerError, match="more than weights"):
            read_torch_file(tmp_path / "bomb.pt")
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.0])
def test_truncated_files(state, tmp_path, keep):
    path = tmp_path / "cut.ckpt"
    torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SpatialFormerError, match=r"truncated|damaged|empty"):
        read_torch_file(path)


def test_files_that_hold_no_weights(tmp_path):
    for content in ([1, 2], {}, {"a": 1}, {"state_dict": {"a": "b"}}, torch.zeros(3)):
        torch.save(content, tmp_path / "odd.pt")
        with pytest.raises(SpatialFormerError, match=r"no named weights|no weights"):
            read_torch_file(tmp_path / "odd.pt")
    (tmp_path / "text.pt").write_text("hello\n" * 20)
    with pytest.raises(SpatialFormerError):
        read_torch_file(tmp_path / "text.pt")
    with pytest.raises(SpatialFormerError, match="no such file"):
        read_torch_file(tmp_path / "nothing.pt")


QKV = "encoder.layers.0.attn_blocks.0.self_attn.qkv"


def peft_state(state, prefix="model.base_model.model.", adapter="default."):
    a, b = torch.randn(3, 16), torch.randn(48, 3)
    out = {
        prefix + key.replace(f"{QKV}.", f"{QKV}.base_layer."): value for key, value in state.items()
    }
    out[f"{prefix}{QKV}.lora_A.{adapter}weight"] = a
    out[f"{prefix}{QKV}.lora_B.{adapter}weight"] = b
    return out, b @ a


@pytest.mark.parametrize("prefix", ["base_model.model.", "model.base_model.model.", ""])
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_lora_is_merged(state, prefix, alpha):
    wrapped, product = peft_state(state, prefix)
    assert has_lora(wrapped)
    assert not has_lora(state)
    plain, told = merge_lora(wrapped, alpha=alpha)
    scaling = 2.0 if alpha is None else 4.0
    assert told == {"layers": 1, "rank": 3, "scaling": scaling}
    assert set(plain) == set(state)
    expected = state[f"{QKV}.weight"] + scaling * product
    assert torch.allclose(plain[f"{QKV}.weight"], expected, atol=1e-6)
    assert torch.equal(plain["pair_head.weight"], state["pair_head.weight"])


def test_an_adapter_alone_needs_its_base(state):
    wrapped, product = peft_state(state, "base_model.model.", "")
    adapter = {key: value for key, value in wrapped.items() if "lora_" in key}
    with pytest.raises(SpatialFormerError, match="--base"):
        merge_lora(adapter)
    plain, _ = merge_lora(adapter, state)
    expected = state[f"{QKV}.weight"] + 2 * product
    assert torch.allclose(plain[f"{QKV}.weight"], expected, atol=1e-6)


def test_lora_that_cannot_be_merged(state):
    wrapped, _ = peft_state(state)
    odd = {**wrapped, f"model.base_model.model.{QKV}.lora_magnitude_vector": torch.zeros(48)}
    with pytest.raises(SpatialFormerError, match="only plain LoRA"):
        merge_lora(odd)
    key = f"model.base_model.model.{QKV}.lora_B.default.weight"
    with pytest.raises(SpatialFormerError, match="do not fit"):
        merge_lora({**wrapped, key: torch.zeros(5, 3)})
    with pytest.raises(SpatialFormerError, match="other factor"):
        merge_lora({k: v for k, v in wrapped.items() if k != key})
