"""A training recipe: everything that decides a run, beside the corpus."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from spatialformer_core.config import FrozenModel
from spatialformer_core.model.config import Architecture, ModelConfig, Preset, preset_config


class ModelRecipe(FrozenModel):
    """Which network to train; ``changes`` overrides fields of the preset."""

    architecture: Architecture
    preset: Preset = "small"
    changes: dict[str, Any] = Field(default_factory=dict)

    def config(self, n_tokens: int, niche_targets: int = 0) -> ModelConfig:
        """Return the configuration for a vocabulary."""
        extra = {"niche_targets": niche_targets} if niche_targets else {}
        return preset_config(self.architecture, self.preset, n_tokens, **{**extra, **self.changes})


class PairRecipe(FrozenModel):
    """Which cell pairs stand against neighbours (within the corpus's radius).

    Attributes
    ----------
    hard_um
        Nearest and farthest distance of hard negatives.
    hard_share
        Share of hard among all negatives; the rest is anywhere on the slide beyond the radius.
    """

    hard_um: tuple[float, float] = (80.0, 150.0)
    hard_share: float = Field(default=0.5, ge=0, le=1)


class NicheRecipe(FrozenModel):
    """The auxiliary niche loss of two towers (see `trainer.niche`).

    Attributes
    ----------
    weight
        Of the loss; 0 switches it off.
    components
        Principal components of expression that are averaged over the neighbours.
    rings_um
        Nearest and farthest distance of each ring around a cell.
    """

    weight: float = Field(default=1.0, ge=0)
    components: int = Field(default=16, ge=1, le=128)
    rings_um: tuple[tuple[float, float], ...] = ((0.0, 30.0), (30.0, 80.0))


class ObjectiveRecipe(FrozenModel):
    """Which objectives are trained; 0 switches one off.

    Attributes
    ----------
    mask_fraction
        Share of the tokens that the masked-token task hides.
    cooccurrence
        Whether the co-occurrence task is trained (its weight falls linearly to 0).
    niche
        The niche loss (two-tower only).
    """

    mask_fraction: float = Field(default=0.15, ge=0, lt=1)
    cooccurrence: bool = True
    niche: NicheRecipe = NicheRecipe()


class TrainRecipe(FrozenModel):
    """One run of `trainer.fit`.

    Attributes
    ----------
    name
        Of the checkpoint folder.
    corpus
        Name of the corpus folder.
    steps, minutes
        Exactly one: the budget. A run by minutes cannot be repeated exactly.
    seeds_per_step
        Cells that a step is drawn around. Two towers encode each with ``neighbors_per_seed``
        neighbours and one hard negative, and use all pairs among them; the cross-encoder makes
        one neighbour pair and one other pair per seed cell.
    learning_rate, weight_decay, warmup_share, clip_norm
        AdamW, linear warm-up over that share of the budget, then a cosine to zero.
    evaluations
        How often the validation cells are scored during the run.
    validation_queries
        Cells of which each gives one neighbour, one easy and one hard negative.
    threads
        CPU threads; 0 leaves torch's choice.
    warm_start
        Name of a checkpoint whose encoder the training begins with.
    card
        First paragraph of the model card.
    """

    name: str
    corpus: str
    model: ModelRecipe
    pairs: PairRecipe = PairRecipe()
    objectives: ObjectiveRecipe = ObjectiveRecipe()
    seed: int = 0
    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    seeds_per_step: int = Field(default=128, ge=2)
    neighbors_per_seed: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    evaluations: int = Field(default=8, ge=1)
    validation_queries: int = Field(default=2000, ge=10)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=0, ge=0)
    warm_start: str | None = None
    card: str = ""

    @model_validator(mode="after")
    def _one_budget(self) -> TrainRecipe:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self
