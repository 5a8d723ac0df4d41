"""Every check that needs a GPU, in one run: ``python -m training.gpu_check --out DIR``.

Writes ``gpu_check.json`` and ``gpu_check.md``; exit code 1 if a check fails. ``--device cpu`` runs
the same code small, which shows that the script is ready; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from spatialformer_core import files
from spatialformer_core.arrays import CellTokens
from spatialformer_core.bench import inputs
from spatialformer_core.bench.pace import Pace, pace_of
from spatialformer_core.corpus import Corpus, CorpusSlide, build_corpus
from spatialformer_core.errors import Cancelled
from spatialformer_core.inference import scorer_of
from spatialformer_core.inference.embed import gene_means, pair_states
from spatialformer_core.model import (
    ModelConfig,
    SpatialFormer,
    build,
    load_checkpoint,
    preset_config,
)
from spatialformer_core.model.config import Architecture
from spatialformer_core.perturbation.engine import exact_effects
from spatialformer_core.trainer import Background, TrainRecipe, fit
from spatialformer_core.vocabulary import build_vocabulary, tokenise

AGREEMENT = 1e-4
UTILISATION_AIM, UTILISATION_FLOOR = 0.40, 0.20
PAPER_PAIRS = 102.4e6
SCREEN_PAIRS, SCREEN_HOURS = 5_000, 3.0

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run, at which size."""

    device: Device
    n_cells: int
    steps: int
    preset: Literal["tiny", "base"]
    seeds_per_step: int

    @classmethod
    def of(cls, device: Device) -> Settings:
        """Return full sizes on a GPU, small ones on a CPU."""
        if device == "cuda":
            return cls(device, 20_000, 60, "base", 256)
        return cls(device, 600, 4, "tiny", 4)


@dataclass(frozen=True, slots=True)
class Check:
    """One result; ``passed`` is None where a figure is only recorded."""

    name: str
    value: float
    unit: str
    bound: str
    passed: bool | None


def some_cells(slide: CorpusSlide, n: int) -> tuple[CellTokens, int]:
    """Return tokens of the first cells and the size of their vocabulary."""
    vocabulary = build_vocabulary([(slide.genes, slide.counts)], [slide.sample])
    tokens, _ = tokenise(
        slide.counts[:n],
        vocabulary.gene_ids(slide.genes),
        vocabulary,
        vocabulary.meta_ids(slide.sample),
    )
    return tokens, len(vocabulary)


def agreement(settings: Settings, slide: CorpusSlide, architecture: Architecture) -> list[Check]:
    """Compare scores, embeddings and knock-out effects with the CPU's, in float32."""
    cells, n_tokens = some_cells(slide, 48)
    config = preset_config(architecture, settings.preset, n_tokens, dropout=0.0)
    left, right = cells.take(np.arange(24)), cells.take(np.arange(24, 48))
    found = []
    for device in ("cpu", settings.device):
        scorer = scorer_of(_fresh(config).to(device), device)
        a, b = scorer.encode(left), scorer.encode(right)
        short = cells.take(np.arange(2))
        effects = next(iter(exact_effects(scorer, short, np.array([0]), np.array([1]))))
        model = _fresh(config).to(device)
        pairs, genes = pair_states(model, left, right), gene_means(model, cells).mean
        found.append((scorer.score(a, b), scorer.embed(cells), pairs, genes, effects.d_pair))
    names = ("scores", "cell embeddings", "pair embeddings", "gene embeddings", "knock-out effects")
    return [
        _at_most(
            f"{architecture}: largest difference of {name}",
            float(np.abs(np.asarray(mine) - np.asarray(theirs)).max()),
            "",
            AGREEMENT,
        )
        for name, mine, theirs in zip(names, *found, strict=True)
    ]


def _fresh(config: ModelConfig) -> SpatialFormer:
    return build(config, 0).eval()


def training(settings: Settings, corpus: Corpus, folder: Path) -> list[Check]:
    """Train the paper's architecture for some steps; then interrupt and resume."""
    recipe = TrainRecipe.model_validate(
        {
            "name": "gpu-check",
            "corpus": "made-up",
            "model": {"architecture": "cross-encoder", "preset": settings.preset},
            "steps": settings.steps,
            "seeds_per_step": settings.seeds_per_step,
            "evaluations": 1,
            "validation_queries": 20,
            "device": settings.device,
            "precision": "bf16-mixed",
            "tensorboard": False,
        }
    )
    out = folder / "whole"
    background = Background(simulated=True)
    pace = pace_of(recipe, corpus, out, background, settings.device)
    hours = PAPER_PAIRS / pace.pairs_per_s / 3600
    on_gpu = settings.device == "cuda"
    return [
        Check("training pace", pace.pairs_per_s, "pairs/s", "", None),
        Check("training pace", pace.tokens_per_s, "tokens/s", "", None),
        Check("102.4 M pairs at this pace", hours, "h", "<= 8", hours <= 8 if on_gpu else None),
        Check("share of a step spent on drawing", pace.loading, "", "", None),
        Check("steps", float(load_checkpoint(out).provenance["steps"]), "", "", None),
        *_utilisation(pace),
        _resumed(recipe, corpus, folder),
    ]


def _utilisation(pace: Pace) -> list[Check]:
    checks = [Check("model arithmetic", pace.tflops, "TFLOP/s", "", None)]
    if pace.utilisation is not None:
        share, bound = pace.utilisation, f">= {UTILISATION_AIM:g} (floor {UTILISATION_FLOOR:g})"
        checks.append(Check("model FLOP utilisation", share, "", bound, share >= UTILISATION_FLOOR))
    return checks


def _resumed(recipe: TrainRecipe, corpus: Corpus, folder: Path) -> Check:
    """Stop a run in its middle and take it up; report how far the weights end from the whole."""
    asked = iter([False] * ((recipe.steps or 2) // 2))
    out = folder / "resumed"
    try:
        fit(recipe, corpus, out, Background(simulated=True), cancel=lambda: next(asked, True))
    except Cancelled:
        fit(recipe, corpus, out, Background(simulated=True))
    whole = load_checkpoint(folder / "whole").model.state_dict()
    again = load_checkpoint(out).model.state_dict()
    apart = max(float((whole[k].float() - again[k].float()).abs().max()) for k in whole)
    return Check("resumed run, largest difference of a weight", apart, "", "recorded", None)


def screening(settings: Settings, slide: CorpusSlide) -> list[Check]:
    """Time exact knock-outs of one cell pair by the cross-encoder in float32."""
    cells, n_tokens = some_cells(slide, 200)
    near = np.argsort(np.abs(cells.lengths - 69))[:2]
    config = preset_config("cross-encoder", settings.preset, n_tokens, dropout=0.0)
    scorer = scorer_of(_fresh(config).to(settings.device), "gpu-check")
    pair = cells.take(near)
    start = time.perf_counter()
    effects = next(iter(exact_effects(scorer, pair, np.array([0]), np.array([1]))))
    seconds = time.perf_counter() - start
    size = f"{len(effects.left)} x {len(effects.right)} genes"
    hours = seconds * SCREEN_PAIRS / 3600
    passed = hours <= SCREEN_HOURS if settings.device == "cuda" else None
    return [
        Check(f"exact screen of one cell pair, {size}", seconds, "s", "", None),
        Check("5,000 such pairs", hours, "h", f"<= {SCREEN_HOURS:g}", passed),
    ]


def _at_most(name: str, value: float, unit: str, bound: float) -> Check:
    return Check(name, value, unit, f"<= {bound:g}", value <= bound)


def run(settings: Settings) -> list[Check]:
    """Run all checks."""
    slide = inputs.made_up_slide(settings.n_cells)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="spatialformer-gpu-") as name:
        folder = Path(name)
        vocabulary = build_vocabulary([(slide.genes, slide.counts)], [slide.sample])
        corpus = Corpus.load(build_corpus([slide], vocabulary, folder / "corpus"))
        parts: list[Callable[[], list[Check]]] = [
            lambda: agreement(settings, slide, "two-tower"),
            lambda: agreement(settings, slide, "cross-encoder"),
            lambda: training(settings, corpus, folder),
            lambda: screening(settings, slide),
        ]
        for part in parts:
            checks += part()
    return checks


def report(settings: Settings, checks: list[Check], out: Path) -> dict[str, Any]:
    """Write the results; return them."""
    is_gpu = settings.device == "cuda"
    told = {
        "device": torch.cuda.get_device_name() if is_gpu else "cpu (small sizes, no figures)",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "checks": [
            {"name": c.name, "value": c.value, "unit": c.unit, "bound": c.bound, "passed": c.passed}
            for c in checks
        ],
    }
    files.write_json(out / "gpu_check.json", told)
    words = {None: "", True: "yes", False: "NO"}
    lines = [
        f"# GPU checks: {told['device']}",
        "",
        "`python -m training.gpu_check --out DIR`",
        "",
        "| check | value | bound | passed |",
        "|---|---|---|---|",
        *(f"| {c.name} | {c.value:.4g} {c.unit} | {c.bound} | {words[c.passed]} |" for c in checks),
    ]
    with files.atomic_write(out / "gpu_check.md", "w") as stream:
        stream.write("\n".join(lines) + "\n")
    return told


def main() -> int:
    """Run the checks on the device that the command line names."""
    parser = argparse.ArgumentParser(description="Every check that needs a GPU, in one run.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("torch sees no CUDA device; `--device cpu` tries the script itself.\n")
        return 2
    settings = Settings.of(arguments.device)
    checks = run(settings)
    report(settings, checks, arguments.out)
    for check in checks:
        sys.stdout.write(f"{check.name}: {check.value:.4g} {check.unit} {check.bound}\n")
    return 1 if any(check.passed is False for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
