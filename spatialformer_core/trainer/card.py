"""What a checkpoint says about its training: provenance for programs, card for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spatialformer_core import __version__
from spatialformer_core.corpus import Corpus
from spatialformer_core.model import ModelConfig, n_parameters
from spatialformer_core.trainer.recipe import TrainRecipe

if TYPE_CHECKING:
    from spatialformer_core.trainer.fit import Run


def provenance(run: Run, corpus: Corpus) -> dict[str, Any]:
    """Return the run's part of ``provenance.json``."""
    return {
        "trained_on": [
            {
                "slide": shard.info.slide_id,
                "donor": shard.info.sample.donor,
                "cells": int(shard.info.split_cells.get("train", 0)),
                "split": dict(shard.info.split_cells),
            }
            for shard in corpus.shards
        ],
        "seed": run.recipe.seed,
        "steps": run.budget.step,
        "best_step": run.best_step,
        "pairs_seen": run.pairs_seen,
        "cells_encoded": run.cells_seen,
        "seconds": round(run.budget.spent_s, 1),
        "processes": run.engine.world_size,
        "parameters": n_parameters(run.module.model),
        "untrained": _untrained(run.module.model.config),
        "recipe": run.recipe.model_dump(mode="json"),
        "metrics": {
            f"validation_{name}": round(value, 4) for name, value in run.best_quality.values.items()
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }


_PARTS = {
    "blocks_trained": "blocks (skipped: the expression path stands alone)",
    "token_trained": "masked-token head",
    "cooccurrence_trained": "co-occurrence head",
    "pair_trained": "pair head",
}


def _untrained(config: ModelConfig) -> list[str]:
    """Name what took no part in the run: it is stale, or as it was born."""
    return [words for field, words in _PARTS.items() if not getattr(config, field)]


def model_card(recipe: TrainRecipe, told: dict[str, Any]) -> str:
    """Return ``MODEL_CARD.md``."""
    slides = "\n".join(
        f"- `{s['slide']}` (donor `{s['donor']}`): {s['cells']:,} training cells"
        for s in told["trained_on"]
    )
    scores = "\n".join(
        f"| {_in_words(name, recipe)} | {value:.3f} |" for name, value in told["metrics"].items()
    )
    warning = (
        "**Trained on simulated tissue. It knows nothing about real tissue and is refused on real "
        "slides unless that is overridden.**\n\n"
        if told["simulated"]
        else ""
    )
    return f"""# {recipe.name}

{recipe.card.strip()}

{warning}| | |
|---|---|
| architecture | {recipe.model.architecture}, {recipe.model.preset} |
| parameters | {told["parameters"]:,} |
| trained | {told["steps"]:,} steps, {told["pairs_seen"]:,} cell pairs, {told["seconds"]:.0f} s |
| not trained in this run | {", ".join(told["untrained"]) or "nothing"} |
{scores}

Trained on

{slides}

The weights are those of the best validation score, so the validation figures flatter slightly;
the test blocks took no part in training or selection. Scores are logits that rank pairs; they are
no calibrated probabilities.
"""


def _in_words(metric: str, recipe: TrainRecipe) -> str:
    low, high = recipe.pairs.hard_um
    words = {
        "validation_auroc_easy": "validation AUROC, random negatives",
        "validation_auroc_hard": f"validation AUROC, negatives at {low:g}-{high:g} um",
    }
    return words.get(metric, metric.replace("_", " "))
