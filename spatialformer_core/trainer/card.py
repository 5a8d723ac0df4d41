"""What a checkpoint says about its training: provenance for programs, card for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spatialformer_core import __version__
from spatialformer_core.corpus import Corpus
from spatialformer_core.model import n_parameters
from spatialformer_core.trainer.recipe import TrainRecipe

if TYPE_CHECKING:
    from spatialformer_core.trainer.fit import Run


def provenance(run: Run, corpus: Corpus, seconds: float) -> dict[str, Any]:
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
        "steps": len(run.log),
        "best_step": run.best_step,
        "pairs_seen": run.pairs_seen,
        "cells_encoded": run.cells_seen,
        "seconds": round(seconds, 1),
        "parameters": n_parameters(run.model),
        "recipe": run.recipe.model_dump(mode="json"),
        "metrics": {
            "validation_auroc_easy": round(run.best_quality.easy, 4),
            "validation_auroc_hard": round(run.best_quality.hard, 4),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }


def model_card(recipe: TrainRecipe, told: dict[str, Any]) -> str:
    """Return ``MODEL_CARD.md``."""
    slides = "\n".join(
        f"- `{s['slide']}` (donor `{s['donor']}`): {s['cells']:,} training cells"
        for s in told["trained_on"]
    )
    metrics = told["metrics"]
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
| validation AUROC, random negatives | {metrics["validation_auroc_easy"]:.3f} |
| validation AUROC, negatives at {recipe.pairs.hard_um[0]:g}-{recipe.pairs.hard_um[1]:g} um | \
{metrics["validation_auroc_hard"]:.3f} |

Trained on

{slides}

The weights are those of the best validation score, so the validation figures flatter slightly;
the test blocks took no part in training or selection. Scores are logits that rank pairs; they are
no calibrated probabilities.
"""
