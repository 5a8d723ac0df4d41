"""Training: from a recipe and a corpus to a checkpoint folder."""

from __future__ import annotations

import copy
import hashlib
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.model import save_checkpoint
from spatialformer_core.objectives import linear_lambda
from spatialformer_core.progress import Cancel, Estimate, Progress, never, silent
from spatialformer_core.trainer.average import AveragedWeights
from spatialformer_core.trainer.batch import (
    COOCCURRENCE,
    MASKED,
    NICHE,
    PAIR,
    StepBatch,
    Task,
    part_rows,
)
from spatialformer_core.trainer.card import model_card, provenance
from spatialformer_core.trainer.engine import Engine
from spatialformer_core.trainer.logs import Log
from spatialformer_core.trainer.lora import merge_lora
from spatialformer_core.trainer.losses import StepModule
from spatialformer_core.trainer.optimiser import Budget, adamw, rate
from spatialformer_core.trainer.prepare import Background, prepare
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.state import (
    fingerprint,
    latest_state,
    restore_optimiser,
    save_state,
)
from spatialformer_core.trainer.throughput import Meter
from spatialformer_core.trainer.validation import Measures, Quality, validation

_REPORT_SECONDS = 2.0
_NAMED_CELLS = 5
_CANCEL = "cancel"


@dataclass
class Run:
    """State of one training run.

    Attributes
    ----------
    folder
        Where resumable states and TensorBoard files lie while it lasts.
    module
        Network and task weights, not wrapped.
    average
        Moving average of the network's weights, where the recipe wants one: what is scored and
        kept.
    best, best_quality, best_step
        Weights with the best validation score so far.
    stale
        Evaluations since then.
    """

    recipe: TrainRecipe
    folder: Path
    fingerprint: str
    engine: Engine
    module: StepModule
    task: Task
    optimiser: torch.optim.Optimizer
    questions: Measures
    log: Log
    budget: Budget
    average: AveragedWeights
    best: dict[str, Tensor] = field(default_factory=dict)
    best_quality: Quality = field(default_factory=Quality)
    best_step: int = 0
    stale: int = 0
    evaluated: int = 0
    pairs_seen: int = 0
    cells_seen: int = 0


def fit(
    recipe: TrainRecipe,
    corpus: Corpus,
    out: Path,
    background: Background,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Train and write the checkpoint with the best validation score.

    A run that was killed or cancelled is taken up where its last state was saved; on a CPU in
    float32 the result is then the same to the bit.

    Parameters
    ----------
    recipe
        What to train and how.
    corpus
        Cells with splits; training sees the training cells only, selection the validation cells.
    out
        Checkpoint folder; beside it ``NAME.csv`` logs the run, ``NAME.run`` holds its states.
    background
        Where the cells come from, and what the weights begin with.
    progress, cancel
        Called at least every few seconds with the share done and a message with the time left.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    SpatialFormerError
        If the folder exists, the corpus has no cells to train on, the start does not fit, an
        unfinished run of another recipe is in the way, or a gradient is not finite.
    Cancelled
        If ``cancel`` returned True; the state is saved, no checkpoint is left.
    """
    if out.exists():
        raise SpatialFormerError(
            f"The checkpoint {out.name!r} exists already.",
            where=str(out.parent),
            fix="Remove it or choose another name.",
        )
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        run = _begin(recipe, corpus, out, background)
        try:
            _train(run, progress, cancel)
        finally:
            run.log.close()
    if run.engine.is_first:
        _finish(run, corpus, out, background)
    run.engine.wait()
    return out


def _finish(run: Run, corpus: Corpus, out: Path, background: Background) -> None:
    model = run.module.model.cpu().float()
    model.load_state_dict(run.best)
    merge_lora(model)
    told = background.told(run.recipe) | provenance(run, corpus)
    save_checkpoint(out, model, corpus.vocabulary, told, model_card(run.recipe, told))
    shutil.rmtree(run.folder, ignore_errors=True)


def _begin(recipe: TrainRecipe, corpus: Corpus, out: Path, background: Background) -> Run:
    engine = Engine(recipe)
    module, task = prepare(recipe, corpus, background)
    optimiser = adamw(recipe, module)
    folder = out.with_name(f"{out.name}.run")
    board = folder / "tensorboard" if recipe.tensorboard and engine.is_first else None
    run = Run(
        recipe,
        folder,
        fingerprint(recipe, corpus),
        engine,
        module,
        task,
        optimiser,
        validation(task),
        Log(out.with_name(f"{out.name}.csv"), board),
        Budget(recipe),
        AveragedWeights(module.model, recipe.average),
    )
    engine.set_up(module, optimiser)
    saved = latest_state(folder, run.fingerprint)
    if saved is not None:
        # After `set_up`: the moments go to where the weights are.
        module.load_state_dict(saved.part("module"))
        restore_optimiser(optimiser, saved.part("adamw"))
        run.average.values = saved.part("average")
        _take_up(run, saved.numbers, saved.part("best"))
    return run


def _take_up(run: Run, numbers: dict[str, float], best: dict[str, Tensor]) -> None:
    run.budget = Budget(run.recipe, int(numbers["step"]), float(numbers["spent_s"]))
    run.best, run.best_step = best, int(numbers["best_step"])
    values = {k[5:]: float(v) for k, v in numbers.items() if k.startswith("best/")}
    if best:
        run.best_quality = Quality(float(numbers["best_score"]), values)
    run.stale, run.evaluated = int(numbers["stale"]), int(numbers["evaluated"])
    run.pairs_seen, run.cells_seen = int(numbers["pairs_seen"]), int(numbers["cells_seen"])
    run.log.resume(run.budget.step)


def _train(run: Run, progress: Progress, cancel: Cancel) -> None:
    meter, estimate = Meter(run.module.model.config, run.engine.device), Estimate()
    reported = 0.0
    done = _done(run)
    while done < 1 and not _is_stale(run):
        if not _step(run, meter, done, cancel):
            _save(run)
            raise Cancelled(
                f"Cancelled after step {run.budget.step}.",
                where=run.recipe.name,
                fix="The same command takes the run up where it stopped.",
            )
        step, done = run.budget.step, _done(run)
        due = math.floor(done * run.recipe.evaluations) > run.evaluated
        if due:
            run.evaluated += 1
            with run.budget.pause():
                _evaluate(run)
        if due or (run.recipe.save_every and step % run.recipe.save_every == 0):
            with run.budget.pause():
                _save(run)
        if run.engine.is_first and time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            run.log.amend(meter.read())
            progress(done, 1.0, run.log.line(done, estimate))
    if not run.best:
        _evaluate(run)


def _done(run: Run) -> float:
    """Return the share of the budget that is used up, the same in every process."""
    if run.recipe.minutes is None:
        return run.budget.done
    # Clocks differ between processes: the first one's decides.
    return float(run.engine.from_first(run.budget.done))


def _is_stale(run: Run) -> bool:
    return bool(run.recipe.patience and run.stale >= run.recipe.patience)


def _step(run: Run, meter: Meter, done: float, cancel: Cancel) -> bool:
    """Do one step; return False, having done nothing, if any process was cancelled."""
    engine, recipe, step = run.engine, run.recipe, run.budget.step
    config = run.module.model.config
    own = recipe.parts_per_step // engine.world_size
    first = step * recipe.parts_per_step + engine.rank * own
    parts = [part_rows(run.task, config, number) for number in range(first, first + own)]
    batch = StepBatch(run.task, config, parts, engine.device)
    sums = engine.totals(batch.counts | {_CANCEL: float(cancel())})
    if sums[_CANCEL]:
        return False
    shares = {
        name: count * engine.world_size / max(sums[name], 1.0)
        for name, count in batch.counts.items()
    }
    # Dropout follows from seed, step and process, so that a resumed run drops the same places.
    torch.manual_seed(_dropout_seed(recipe.seed, step, engine.rank))
    total, losses = engine.forward(batch, shares, _lambdas(recipe, done))
    learning_rate = rate(recipe, done)
    norm = engine.step(total, learning_rate, recipe.clip_norm)
    values = {name: float(loss.detach()) / engine.world_size for name, loss in losses.items()}
    if not math.isfinite(norm):
        raise _not_finite(run, values, batch)
    run.budget.step += 1
    run.average.update(run.module.model, run.budget.step)
    values = engine.totals(values)
    sizes = engine.totals({"pairs": float(batch.n_pairs), "cells": float(len(batch.rows))})
    run.pairs_seen += int(sizes["pairs"])
    run.cells_seen += int(sizes["cells"])
    meter.add(batch.n_pairs, batch.n_tokens, len(batch.packed.starts))
    sigmas = {f"s_{k}": float(v.detach()) for k, v in run.module.weights.log_variance.items()}
    row = {f"loss_{name}": value for name, value in values.items()} | sigmas
    run.log.add({"step": step + 1, **row, "rate": learning_rate, "gradient_norm": norm})
    return True


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _lambdas(recipe: TrainRecipe, done: float) -> dict[str, float]:
    fading = linear_lambda(done)
    objectives = recipe.objectives
    return {
        MASKED: objectives.masked_weight,
        COOCCURRENCE: fading,
        PAIR: fading if objectives.pair_fades else 1.0,
        NICHE: objectives.niche.weight,
    }


def _not_finite(run: Run, values: dict[str, float], batch: StepBatch) -> SpatialFormerError:
    said = ", ".join(f"{name} {value:g}" for name, value in values.items())
    corpus = run.task.corpus
    rows = np.asarray(batch.rows[:_NAMED_CELLS])
    cells = [
        f"{corpus.shards[s].info.slide_id}:{corpus.shards[s].source_cells[row - corpus.offsets[s]]}"
        for s, row in zip(corpus.slide_of(rows), rows, strict=True)
    ]
    return SpatialFormerError(
        f"The gradient of step {run.budget.step} is not finite (losses: {said}); the step's "
        f"{len(batch.rows)} cells begin with {', '.join(cells)}.",
        where=run.recipe.name,
        fix="Lower the learning rate, or look at these cells. The last saved state is whole.",
    )


def _evaluate(run: Run) -> None:
    with run.average.in_place(run.module.model):
        _measure(run)


def _measure(run: Run) -> None:
    quality = run.questions.measure(run.module) if run.engine.is_first else Quality()
    quality = run.engine.from_first(quality)
    run.stale += 1
    if quality.score > run.best_quality.score or not run.best:
        run.best_quality, run.best_step, run.stale = quality, run.budget.step, 0
        run.best = copy.deepcopy(run.module.model.state_dict())
    if run.engine.is_first:
        named = {f"validation_{name}": value for name, value in quality.values.items()}
        run.log.amend({"validation": quality.score, **named})
        run.log.write()


def _save(run: Run) -> None:
    if run.engine.is_first and run.log.rows:
        run.log.write()
        numbers = {
            "fingerprint": run.fingerprint,
            "step": run.budget.step,
            "spent_s": run.budget.spent_s,
            "best_step": run.best_step,
            "best_score": run.best_quality.score if run.best else 0.0,
            "stale": run.stale,
            "evaluated": run.evaluated,
            "pairs_seen": run.pairs_seen,
            "cells_seen": run.cells_seen,
            **{f"best/{name}": value for name, value in run.best_quality.values.items()},
        }
        weights = {"best": run.best, "average": run.average.values}
        save_state(run.folder, numbers, run.module, weights, run.optimiser)
    run.engine.wait()
