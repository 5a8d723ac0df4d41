import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.perturbation import Farm, Given, engine, make_plan, run_screen
from spatialformer_core.perturbation.cost import cost_of
from spatialformer_core.perturbation.effects import carry_out, make_work, on_targets
from spatialformer_core.perturbation.engine import exact_effects
from spatialformer_core.perturbation.evaluator import Evaluator

SIZE = {"n": 700, "width": 1200.0}


class Counting:
    """The planted scorer, counting pairs; it may be slow, or run out of memory."""

    name = "counting"

    def __init__(self, scorer, seconds_per_pair=0.0, room=None):
        self.scorer, self.seconds, self.room = scorer, seconds_per_pair, room
        self.pairs, self.failed = 0, 0

    def _enter(self, n):
        import torch

        if self.room is not None and n > self.room:
            self.failed += 1
            raise torch.OutOfMemoryError("simulated")
        time.sleep(self.seconds * n)

    def encode(self, cells):
        self._enter(cells.n_cells)
        return self.scorer.encode(cells)

    def score(self, left, right):
        self._enter(len(left))
        self.pairs += len(left)
        return self.scorer.score(left, right)

    def score_grid(self, left, right):
        self._enter(len(left) * len(right))
        self.pairs += len(left) * len(right)
        return self.scorer.score_grid(left, right)


def run(lab, scorer, folder=None, mode="exact", **changes):
    model = replace(lab.model, architecture="cross-encoder", pairs_per_call=64)
    request = lab.request(mode=mode, candidates=12, control="subtract", **changes)
    farm = None if folder is None else Farm(folder, key="same", n_shards=4)
    return run_screen([lab.tissue(**SIZE)], scorer, model, request, given=Given(farm=farm))


@pytest.mark.parametrize("mode", ["exact", "screened"])
def test_shards_that_are_there_are_not_made_again_and_the_table_is_the_same(lab, tmp_path, mode):
    first = Counting(lab.scorer())
    whole = run(lab, first, tmp_path, mode)
    again = Counting(lab.scorer())
    resumed = run(lab, again, tmp_path, mode)
    gate_only = again.pairs
    pd.testing.assert_frame_equal(resumed.table, whole.table, check_exact=True)
    assert resumed.info["cost"]["head_evaluations"] == whole.info["cost"]["head_evaluations"]
    stage = tmp_path / ("exact" if mode == "exact" else "candidates")
    lost = sorted(path for path in stage.iterdir() if path.name.startswith("shard"))[1]
    for path in lost.iterdir():
        path.unlink()
    lost.rmdir()
    part = Counting(lab.scorer())
    mended = run(lab, part, tmp_path, mode)
    assert gate_only < part.pairs < first.pairs
    pd.testing.assert_frame_equal(mended.table, whole.table, check_exact=True)


def test_shards_on_disk_and_in_memory_give_the_same_bits(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "spatialformer_core.perturbation.cost._PER_SHARD",
        {"two-tower": 4_000.0, "cross-encoder": 4_000.0},
    )
    request = lab.request(control="subtract")
    runs = [
        run_screen([lab.tissue(**SIZE)], lab.scorer(), lab.model, request, given=given)
        for given in (None, Given(farm=Farm(tmp_path)))
    ]
    assert len(list((tmp_path / "exact").glob("shard-*"))) >= 3
    pd.testing.assert_frame_equal(runs[0].table, runs[1].table, check_exact=True)


def test_other_settings_never_reuse_a_shard(lab, tmp_path):
    first, other = Counting(lab.scorer()), Counting(lab.scorer())
    run(lab, first, tmp_path)
    run(lab, other, tmp_path, min_support=6)
    assert other.pairs > 0.8 * first.pairs


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import conftest, test_shards
scorer = test_shards.Counting(conftest.planted_scorer(), seconds_per_pair=2e-5)
test_shards.run(conftest.Lab, scorer, Path(sys.argv[2]))
"""


def test_a_screen_killed_in_the_middle_goes_on_to_the_same_table(lab, tmp_path):
    made = tmp_path / "killed" / "exact"
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(tmp_path / "killed")]
    ) as process:
        until = time.monotonic() + 120
        while not (made / "shard-00001").exists() and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = sorted(path.name for path in made.iterdir() if ".partial-" not in path.name)
    assert 2 <= len(kept) < 4
    scorer = Counting(lab.scorer())
    resumed = run(lab, scorer, tmp_path / "killed")
    fresh = Counting(lab.scorer())
    whole = run(lab, fresh, tmp_path / "whole")
    assert scorer.pairs < 0.8 * fresh.pairs
    pd.testing.assert_frame_equal(resumed.table, whole.table, check_exact=True)
    assert not [path for path in made.iterdir() if ".partial-" in path.name]


@pytest.mark.parametrize("mode", ["exact", "screened"])
def test_cancel_is_heard_within_five_seconds(lab, mode):
    scorer = Counting(lab.random_scorer(np.random.default_rng(0)), seconds_per_pair=2e-3)
    model = replace(lab.model, architecture="cross-encoder", pairs_per_call=64)
    tissue = lab.tissue(**SIZE)
    request = lab.request(mode=mode)
    targets, tissues = on_targets([tissue], model, request)
    plan = make_plan(tissues, request)
    flag = threading.Event()
    work = make_work(plan, scorer, model, request, targets, cancel=flag.is_set)
    cost = cost_of(plan, request, mode, model.architecture)
    asked = []

    def ask():
        asked.append(time.monotonic())
        flag.set()

    threading.Timer(0.5, ask).start()
    with pytest.raises(Cancelled):
        carry_out(work, cost, mode, request, cancel=flag.is_set)
    assert time.monotonic() - asked[0] < 5


def test_a_full_device_gets_half_as_much_and_the_effects_stay(lab):
    rng = np.random.default_rng(1)
    cells = lab.cells(rng.random((4, lab.n_genes)) < 0.7, rng)
    left, right = np.array([0, 2]), np.array([1, 3])
    plain = lab.random_scorer(np.random.default_rng(2))
    scorer = Counting(plain, room=9)
    evaluator = Evaluator(scorer)
    found = list(exact_effects(evaluator, cells, left, right))
    for one, other in zip(found, exact_effects(plain, cells, left, right), strict=True):
        np.testing.assert_allclose(one.d_pair, other.d_pair, atol=1e-6)
        np.testing.assert_allclose(one.d_left, other.d_left, atol=1e-6)
    assert scorer.failed > 0
    assert max(evaluator.cells_per_call, evaluator.pairs_per_call) <= 9
    # What was learnt is kept: the next cells do not run into it again.
    before = scorer.failed
    list(exact_effects(evaluator, cells, left, right))
    assert scorer.failed == before


def test_a_device_that_holds_nothing_is_an_error_and_others_are_not_hidden(lab):
    cells = lab.cells(np.ones((2, lab.n_genes), bool), np.random.default_rng(0))
    evaluator = Evaluator(Counting(lab.scorer(), room=0))
    with pytest.raises(SpatialFormerError, match="too little memory"):
        evaluator.encode(cells)

    class Broken(Counting):
        def encode(self, cells):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Evaluator(Broken(lab.scorer())).encode(cells)


def test_memory_does_not_grow_with_the_number_of_cell_pairs(lab, monkeypatch):
    monkeypatch.setattr(engine, "MAX_VARIANTS", 400)
    tissue = lab.tissue(n=1500, width=1300.0)

    def peak(limit):
        request = lab.request(max_pairs_per_unit=limit, control="subtract", min_support=1)
        plan = make_plan([tissue], request)
        targets, _ = on_targets([tissue], lab.model, request)
        work = make_work(plan, lab.scorer(), lab.model, request, targets)
        cost = cost_of(plan, request, "exact", "two-tower", 1)
        tracemalloc.start()
        carry_out(work, cost, "exact", request)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return len(work.ordered.unit), highest

    few, many = peak(15), peak(120)
    assert many[0] > 5 * few[0]
    assert many[1] < 1.3 * few[1]
