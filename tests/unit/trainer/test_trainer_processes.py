"""Runs that are killed, resumed, shared by processes, cut short."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.model import load_checkpoint
from spatialformer_core.trainer import Background, TrainRecipe, fit
from spatialformer_core.trainer.engine import Engine
from spatialformer_core.trainer.state import latest_state

REAL = Background(simulated=True)
WORKER = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def recipe(toy_recipe):
    return partial(toy_recipe, dropout=0.1, steps=8, seeds_per_step=8, evaluations=2)


def stop_after(n: int):
    """Return a cancel that says yes at its ``n + 1``-th question."""
    asked = iter([False] * n)
    return lambda: next(asked, True)


@pytest.mark.parametrize("architecture", ["two-tower", "cross-encoder"])
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(corpus, tmp_path, architecture, recipe):
    whole = load_checkpoint(fit(recipe(architecture), corpus, tmp_path / "whole", REAL))
    for step in (1, 4, 7):
        out = tmp_path / f"cut{step}"
        with pytest.raises(Cancelled, match=f"after step {step}"):
            fit(recipe(architecture), corpus, out, REAL, cancel=stop_after(step))
        assert not out.exists()
        again = load_checkpoint(fit(recipe(architecture), corpus, out, REAL))
        assert again.id == whole.id
        assert again.provenance["steps"] == 8
        assert again.provenance["pairs_seen"] == whole.provenance["pairs_seen"]
        assert len((tmp_path / f"cut{step}.csv").read_text().splitlines()) == 9
        assert not (tmp_path / f"cut{step}.run").exists()


def start(settings: TrainRecipe, corpus, out: Path, launcher=(sys.executable,), **variables):
    command = [*launcher, str(WORKER), settings.model_dump_json(), str(corpus.path), str(out)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), **variables}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_process_resumes_to_the_same_bits(corpus, tmp_path, recipe):
    settings = recipe(steps=40, save_every=1, evaluations=1)
    out, states = tmp_path / "killed", tmp_path / "killed.run"
    child = start(settings, corpus, out)
    deadline = time.monotonic() + 120
    while len(list(states.glob("step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stderr.close()
    assert not out.exists()
    resumed = fit(settings, corpus, out, REAL)
    whole = fit(settings, corpus, tmp_path / "whole", REAL)
    assert load_checkpoint(resumed).id == load_checkpoint(whole).id


def test_only_three_states_are_kept_and_a_damaged_one_is_passed_over(corpus, tmp_path, recipe):
    settings = recipe(save_every=1)
    with pytest.raises(Cancelled):
        fit(settings, corpus, tmp_path / "x", REAL, cancel=stop_after(6))
    states = sorted((tmp_path / "x.run").glob("step-*"))
    assert [path.name for path in states] == [f"step-{step:09d}" for step in (4, 5, 6)]
    wanted = json.loads((states[0] / "numbers.json").read_text())["fingerprint"]
    (states[-1] / "tensors.safetensors").write_bytes(b"cut off")
    found = latest_state(tmp_path / "x.run", wanted)
    assert found is not None
    assert found.numbers["step"] == 5
    with pytest.raises(SpatialFormerError, match="another recipe or corpus"):
        fit(recipe(learning_rate=0.02), corpus, tmp_path / "x", REAL)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.mark.parametrize(
    "architecture", ["two-tower", pytest.param("cross-encoder", marks=pytest.mark.slow)]
)
def test_two_processes_give_what_one_gives(corpus, tmp_path, architecture, recipe):
    settings = recipe(
        architecture,
        # Dropout differs by process on purpose; double precision shows that nothing else does.
        model={"architecture": architecture, "preset": "tiny", "changes": {"dropout": 0.0}},
        parts_per_step=2,
        precision="64-true",
        steps=4,
    )
    port = free_port()
    children = [
        start(
            settings,
            corpus,
            tmp_path / "two",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            GROUP_RANK="0",
            WORLD_SIZE="2",
            LOCAL_WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            TORCHELASTIC_RUN_ID="test",
            TORCHELASTIC_USE_AGENT_STORE="False",
        )
        for rank in (0, 1)
    ]
    one = fit(settings, corpus, tmp_path / "one", REAL)
    for child in children:
        _, said = child.communicate(timeout=200)
        assert child.returncode == 0, said[-2000:]
    weights = [
        safetensors.torch.load_file(folder / "weights.safetensors")
        for folder in (one, tmp_path / "two")
    ]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-6, err_msg=name)
    told = load_checkpoint(tmp_path / "two").provenance
    assert told["processes"] == 2
    assert told["pairs_seen"] == load_checkpoint(one).provenance["pairs_seen"]


def test_parts_that_cannot_be_shared_are_refused(monkeypatch, recipe):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpatialFormerError, match="2 processes cannot share 3 parts"):
        Engine(recipe(parts_per_step=3, seeds_per_step=9))
    if not torch.cuda.is_available():
        monkeypatch.delenv("WORLD_SIZE")
        with pytest.raises(SpatialFormerError, match="torch sees none"):
            Engine(recipe(device="cuda"))


def test_a_run_that_does_not_improve_stops_early(corpus, tmp_path, recipe):
    still = recipe(learning_rate=1e-12, steps=40, evaluations=20, patience=2)
    told = load_checkpoint(fit(still, corpus, tmp_path / "x", REAL)).provenance
    assert told["steps"] < 40


def test_half_precision_trains_and_keeps_full_weights(corpus, tmp_path, recipe):
    out = fit(recipe(precision="bf16-mixed"), corpus, tmp_path / "x", REAL)
    weights = safetensors.torch.load_file(out / "weights.safetensors")
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float32}
    assert load_checkpoint(out).provenance["metrics"]["validation_auroc_easy"] > 0.4


@pytest.mark.parametrize("architecture", ["two-tower", "cross-encoder"])
def test_single_cells_are_trained_without_pairs(corpus, tmp_path, architecture, recipe):
    alone = recipe(architecture, objectives={"pair": False, "niche": {"weight": 0}}, steps=20)
    told = load_checkpoint(fit(alone, corpus, tmp_path / "x", REAL)).provenance
    assert set(told["metrics"]) == {"validation_loss_masked_tokens", "validation_loss_cooccurrence"}
    assert told["pairs_seen"] == 0
    assert told["cells_encoded"] == 20 * 8
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert "loss_pair" not in rows[0]


def test_tensorboard_files_are_written(corpus, tmp_path, recipe):
    settings = recipe(tensorboard=True, steps=2, evaluations=1, save_every=1)
    with pytest.raises(Cancelled):
        fit(settings, corpus, tmp_path / "x", REAL, cancel=stop_after(1))
    assert list((tmp_path / "x.run" / "tensorboard").glob("events.out.tfevents.*"))
