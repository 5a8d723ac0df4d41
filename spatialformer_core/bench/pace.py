"""How fast a network trains, loader and optimiser included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spatialformer_core.corpus import Corpus, CorpusSlide

_DRAWN = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """Pace of the second half of a run.

    Attributes
    ----------
    device
        Its name, and for a CPU what the seconds are.
    pairs_per_s, tokens_per_s
        Per second; on a CPU per CPU second, so that neighbours change it little.
    loading
        Share of a step that drawing and packing takes.
    tflops
        Arithmetic of the model per second, 1e12 operations.
    utilisation
        Share of the device's peak; None where the peak is not known.
    """

    device: str
    pairs_per_s: float
    tokens_per_s: float
    loading: float
    tflops: float
    utilisation: float | None


def training_pace(
    slide: CorpusSlide,
    folder: Path,
    *,
    device: Literal["cpu", "cuda"],
    preset: str,
    seeds_per_step: int,
    steps: int,
) -> Pace:
    """Train the paper's architecture on a slide for some steps and time the second half.

    Parameters
    ----------
    slide
        Cells with neighbours.
    folder
        Takes corpus and checkpoint.
    """
    import torch

    from spatialformer_core.corpus import build_corpus
    from spatialformer_core.trainer import Background, TrainRecipe
    from spatialformer_core.vocabulary import build_vocabulary

    vocabulary = build_vocabulary([(slide.genes, slide.counts)], [slide.sample])
    corpus = Corpus.load(build_corpus([slide], vocabulary, folder / "corpus"))
    recipe = TrainRecipe.model_validate(
        {
            "name": "pace",
            "corpus": "made-up",
            "model": {"architecture": "cross-encoder", "preset": preset},
            "steps": steps,
            "seeds_per_step": seeds_per_step,
            "evaluations": 1,
            "validation_queries": 20,
            "device": device,
            "precision": "bf16-mixed" if device == "cuda" else "32-true",
            "tensorboard": False,
        }
    )
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU seconds, {preset}"
    return pace_of(recipe, corpus, folder / "run", Background(simulated=True), name)


def pace_of(recipe: Any, corpus: Corpus, out: Path, background: Any, name: str) -> Pace:
    """Return the pace of a recipe."""
    import torch

    from spatialformer_core.model import load_checkpoint
    from spatialformer_core.trainer import fit
    from spatialformer_core.trainer.batch import part_rows
    from spatialformer_core.trainer.prepare import prepare
    from spatialformer_core.trainer.throughput import flops_per_token, peak_flops

    clock = time.perf_counter if recipe.device == "cuda" else time.process_time
    stamps: list[float] = []

    def stamp() -> bool:
        if recipe.device == "cuda":
            torch.cuda.synchronize()
        stamps.append(clock())
        return False

    fit(recipe, corpus, out, background, cancel=stamp)
    half = len(stamps) // 2
    per_step = (stamps[-1] - stamps[half]) / max(len(stamps) - 1 - half, 1)
    told = load_checkpoint(out).provenance
    pairs = float(told["pairs_seen"]) / float(told["steps"])
    module, task = prepare(recipe, corpus, background)
    start = clock()
    for number in range(_DRAWN):
        part_rows(task, module.model.config, number)
    loading = (clock() - start) / _DRAWN
    length = 2 * float(np.mean(corpus.n_genes_of_cell)) + 11
    config = recipe.model.config(len(corpus.vocabulary))
    flops = 3 * flops_per_token(config, length) * length * pairs / per_step
    peak = peak_flops(torch.device(recipe.device))
    return Pace(
        device=name,
        pairs_per_s=pairs / per_step,
        tokens_per_s=pairs * length / per_step,
        loading=loading / per_step,
        tflops=flops / 1e12,
        utilisation=None if peak is None else flops / peak,
    )
