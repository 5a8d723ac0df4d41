"""Training: from a recipe and a corpus to a checkpoint folder."""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spatialformer_core import files
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import Checkpoint, SpatialFormer, build, save_checkpoint
from spatialformer_core.objectives import UncertaintyWeights, linear_lambda
from spatialformer_core.progress import Cancel, Estimate, Progress, check, never, silent
from spatialformer_core.trainer.card import model_card, provenance
from spatialformer_core.trainer.losses import COOCCURRENCE, NICHE, Task, step_losses
from spatialformer_core.trainer.niche import niche_values
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.sampling import Draw, StepCells, cross_draw, tower_draw
from spatialformer_core.trainer.validation import Quality, Validation
from spatialformer_core.trainer.warm import warm_start

_BETAS = (0.9, 0.98)
_REPORT_SECONDS = 2.0
_NAMED_CELLS = 5


class Optimiser:
    """AdamW with warm-up, cosine and clipping: the seam behind which devices differ.

    Parameters
    ----------
    recipe
        Rates.
    modules
        What is trained. Decay is for matrices; scales, biases and task weights have none.
    """

    def __init__(self, recipe: TrainRecipe, modules: list[nn.Module]) -> None:
        self.recipe = recipe
        self.parameters = [p for module in modules for p in module.parameters()]
        matrices = [p for p in self.parameters if p.ndim > 1]
        rest = [p for p in self.parameters if p.ndim <= 1]
        self._adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=_BETAS,
        )

    def rate(self, done: float) -> float:
        """Return the learning rate after a share of the budget."""
        warm = self.recipe.warmup_share
        if done < warm:
            return self.recipe.learning_rate * (done / warm + 0.01)
        return (
            self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
        )

    def step(self, loss: Tensor, done: float) -> float:
        """Update the weights; return the norm of the gradient before clipping."""
        for group in self._adamw.param_groups:
            group["lr"] = self.rate(done)
        self._adamw.zero_grad(set_to_none=True)
        # torch's own stub leaves the return type of backward open.
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self._adamw.step()
        return float(norm)


@dataclass
class Budget:
    """How far the run is, by steps or by the clock (time for validation does not count)."""

    recipe: TrainRecipe
    step: int = 0
    _start: float = field(default_factory=time.monotonic)
    _paused: float = 0.0

    @property
    def done(self) -> float:
        """Share of the budget that is used up, 0 to 1."""
        if self.recipe.steps is not None:
            return min(1.0, self.step / self.recipe.steps)
        spent = time.monotonic() - self._start - self._paused
        return min(1.0, spent / (60 * (self.recipe.minutes or 1.0)))

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock for a while."""
        before = time.monotonic()
        yield
        self._paused += time.monotonic() - before


@dataclass
class Run:
    """State of one training run."""

    recipe: TrainRecipe
    model: SpatialFormer
    weights: UncertaintyWeights
    task: Task
    draw: Draw
    validation: Validation
    log: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_quality: Quality = field(default_factory=lambda: Quality(0.0, 0.0))
    best_step: int = 0
    pairs_seen: int = 0
    cells_seen: int = 0


@dataclass(frozen=True)
class Background:
    """What a corpus does not say of itself.

    Attributes
    ----------
    simulated
        Whether any slide of the corpus is simulated.
    facts
        More for the provenance, such as the split recipe.
    start
        The checkpoint that the recipe's ``warm_start`` names.
    """

    simulated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    start: Checkpoint | None = None

    def told(self) -> dict[str, Any]:
        """Return its part of the provenance."""
        if self.start is None:
            return {**self.facts, "simulated": self.simulated}
        # Weights that began on simulated tissue stay marked, whatever they saw afterwards.
        return {
            **self.facts,
            "simulated": self.simulated or self.start.simulated,
            "warm_start": {"name": self.start.name, "id": self.start.id},
        }


def fit(
    recipe: TrainRecipe,
    corpus: Corpus,
    out: Path,
    background: Background,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Train and write the checkpoint with the best validation pair AUROC.

    Parameters
    ----------
    recipe
        What to train and how.
    corpus
        Cells with splits; training sees the training cells only, selection the validation cells.
    out
        Checkpoint folder; beside it ``NAME.csv`` logs the run while it lasts.
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
        If the folder exists, the corpus has no pairs to train on, the warm start does not fit, or
        the loss is not finite.
    Cancelled
        If ``cancel`` returned True; no checkpoint is left.
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
        run = _prepare(recipe, corpus, background.start)
        seconds = _train(run, out.with_name(f"{out.name}.csv"), progress, cancel)
    run.model.load_state_dict(run.best)
    told = background.told() | provenance(run, corpus, seconds)
    save_checkpoint(out, run.model, corpus.vocabulary, told, model_card(recipe, told))
    return out


def _prepare(recipe: TrainRecipe, corpus: Corpus, start: Checkpoint | None) -> Run:
    if (start is None) != (recipe.warm_start is None):
        raise SpatialFormerError(
            f"The recipe starts from {recipe.warm_start!r}, "
            f"{'no checkpoint' if start is None else repr(start.name)} was given.",
            where=recipe.name,
        )
    towers = recipe.model.architecture == "two-tower"
    wanted = recipe.objectives.niche
    niche = niche_values(corpus, wanted, recipe.seed) if towers and wanted.weight else None
    n_targets = niche.values.shape[1] if niche is not None else 0
    config = recipe.model.config(len(corpus.vocabulary), n_targets)
    model = build(config, recipe.seed)
    if start is not None:
        warm_start(model, corpus.vocabulary, start)
    model.to(recipe.device).train()
    task = Task(recipe, corpus, niche)
    weights = UncertaintyWeights(task.names).to(recipe.device)
    draw = tower_draw(corpus, recipe) if towers else cross_draw(corpus, recipe)
    return Run(recipe, model, weights, task, draw, Validation(corpus, recipe))


def _train(run: Run, log_path: Path, progress: Progress, cancel: Cancel) -> float:
    optimiser = Optimiser(run.recipe, [run.model, run.weights])
    budget, estimate = Budget(run.recipe), Estimate()
    start, reported, evaluated = time.monotonic(), 0.0, 0
    while budget.done < 1:
        check(cancel)
        done = budget.done
        drawn = run.draw(budget.step)
        losses = step_losses(run.model, run.task, drawn, budget.step)
        total = run.weights(losses, _lambdas(run.recipe, done))
        _check_finite(total, losses, drawn, run, budget.step)
        norm = optimiser.step(total, done)
        budget.step += 1
        run.pairs_seen += len(drawn.label)
        run.cells_seen += len(drawn.rows)
        _record(run, budget.step, losses, {"rate": optimiser.rate(done), "gradient_norm": norm})
        if math.floor(budget.done * run.recipe.evaluations) > evaluated:
            evaluated = math.floor(budget.done * run.recipe.evaluations)
            with budget.pause():
                _evaluate(run, budget.step, log_path)
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            progress(budget.done, 1.0, _message(run, budget, estimate))
    return time.monotonic() - start


def _lambdas(recipe: TrainRecipe, done: float) -> dict[str, float]:
    return {COOCCURRENCE: linear_lambda(done), NICHE: recipe.objectives.niche.weight}


def _check_finite(
    total: Tensor, losses: dict[str, Tensor], drawn: StepCells, run: Run, step: int
) -> None:
    if bool(torch.isfinite(total)):
        return
    values = ", ".join(f"{name} {float(value.detach()):g}" for name, value in losses.items())
    corpus = run.task.corpus
    slide = corpus.slide_of(drawn.rows)
    cells = [
        f"{corpus.shards[s].info.slide_id}:{corpus.shards[s].source_cells[row - corpus.offsets[s]]}"
        for s, row in zip(slide[:_NAMED_CELLS], drawn.rows[:_NAMED_CELLS], strict=True)
    ]
    raise SpatialFormerError(
        f"The loss of step {step} is not finite ({values}); its {len(drawn.rows)} cells begin "
        f"with {', '.join(cells)}.",
        where=run.recipe.name,
        fix="Lower the learning rate, or look at these cells.",
    )


def _record(run: Run, step: int, losses: dict[str, Tensor], more: dict[str, float]) -> None:
    values = {f"loss_{name}": float(value.detach()) for name, value in losses.items()}
    sigmas = {f"s_{k}": float(v.detach()) for k, v in run.weights.log_variance.items()}
    run.log.append({"step": step, **values, **sigmas, **more})


def _evaluate(run: Run, step: int, log_path: Path) -> None:
    quality = run.validation.measure(run.model)
    run.log[-1] |= {"validation_easy": quality.easy, "validation_hard": quality.hard}
    if quality.mean > run.best_quality.mean:
        run.best_quality, run.best_step = quality, step
        run.best = copy.deepcopy(run.model.state_dict())
    _write_log(run.log, log_path)


def _write_log(rows: list[dict[str, float]], path: Path) -> None:
    names = sorted({name for row in rows for name in row}, key=lambda n: (n != "step", n))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with files.atomic_write(path, "w") as stream:
        stream.write(text.getvalue())


def _message(run: Run, budget: Budget, estimate: Estimate) -> str:
    recent = [row["loss_pair"] for row in run.log[-20:]]
    left = estimate.remaining_s(budget.done, 1.0)
    time_left = "" if left is None else f", about {left / 60:.1f} min left"
    found = run.best_quality
    best = f", validation {found.easy:.3f} / {found.hard:.3f}" if found.easy else ""
    return f"step {budget.step}, pair loss {np.mean(recent):.3f}{best}{time_left}"
