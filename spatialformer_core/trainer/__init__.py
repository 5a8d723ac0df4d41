"""Training from a recipe and a corpus."""

from __future__ import annotations

from spatialformer_core.trainer.fit import Background, fit
from spatialformer_core.trainer.recipe import (
    ModelRecipe,
    NicheRecipe,
    ObjectiveRecipe,
    PairRecipe,
    TrainRecipe,
)
from spatialformer_core.trainer.validation import Quality, Validation, auroc

__all__ = [
    "Background",
    "ModelRecipe",
    "NicheRecipe",
    "ObjectiveRecipe",
    "PairRecipe",
    "Quality",
    "TrainRecipe",
    "Validation",
    "auroc",
    "fit",
]
