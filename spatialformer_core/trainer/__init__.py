"""Training from a recipe and a corpus."""

from __future__ import annotations

from spatialformer_core.trainer.fit import fit
from spatialformer_core.trainer.prepare import Background
from spatialformer_core.trainer.recipe import (
    LoraRecipe,
    ModelRecipe,
    NicheRecipe,
    ObjectiveRecipe,
    PairRecipe,
    TeacherRecipe,
    TrainRecipe,
)
from spatialformer_core.trainer.teacher import Teacher, checkpoint_teacher, mean_teacher
from spatialformer_core.trainer.validation import Quality, Validation, auroc

__all__ = [
    "Background",
    "LoraRecipe",
    "ModelRecipe",
    "NicheRecipe",
    "ObjectiveRecipe",
    "PairRecipe",
    "Quality",
    "Teacher",
    "TeacherRecipe",
    "TrainRecipe",
    "Validation",
    "auroc",
    "checkpoint_teacher",
    "fit",
    "mean_teacher",
]
