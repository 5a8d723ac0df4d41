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
    hard_per_positive
        Most hard negatives per neighbour pair that a step of two towers takes of those among its
        cells; 0 takes all, which large steps pay for in their pair head.
    even
        Whether every cell of a two-tower step counts the same, as it does where each query cell
        brings one pair, instead of by how many pairs it has.
    shuffled
        A null model: the labels of a step's pairs are dealt out among them at random, so that
        nothing about pairs can be learnt. What a screen finds with it is no finding.
    """

    hard_um: tuple[float, float] = (80.0, 150.0)
    hard_share: float = Field(default=0.5, ge=0, le=1)
    hard_per_positive: int = Field(default=0, ge=0)
    even: bool = False
    shuffled: bool = False


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
    masked_weight
        Of the masked-token loss.
    cooccurrence
        Whether the co-occurrence task is trained (its weight falls linearly to 0).
    pair
        Whether neighbouring cells are told from others; False trains on single cells.
    pair_fades
        Whether the weight of the pair task falls linearly to 0 as that of co-occurrence does.
    niche
        The niche loss (two-tower only).
    """

    mask_fraction: float = Field(default=0.15, ge=0, lt=1)
    masked_weight: float = Field(default=1.0, gt=0)
    cooccurrence: bool = True
    pair: bool = True
    pair_fades: bool = False
    niche: NicheRecipe = NicheRecipe()


class TeacherRecipe(FrozenModel):
    """From whom a run learns beside the labels (see `trainer.teacher`).

    Attributes
    ----------
    checkpoint
        Name of a two-tower checkpoint, or of several whose mean teaches; None: plain towers on
        log counts are fitted on the training cells before the run (`evaluation.tower_mlp`), and
        their mean teaches.
    towers, pairs
        How many plain towers, and pairs that each is fitted on.
    share
        Share of a pair's label that is the teacher's probability.
    hints
        Whether the plain towers' embeddings of a cell are predicted beside its niche
        (two-tower only).
    """

    checkpoint: str | tuple[str, ...] | None = None
    towers: int = Field(default=4, ge=1, le=32)
    pairs: int = Field(default=1_000_000, ge=1000)
    share: float = Field(default=0.7, ge=0, le=1)
    hints: bool = False


class LoraRecipe(FrozenModel):
    """Low-rank changes of the attention weights (Hu et al. 2022); nothing else is trained.

    Attributes
    ----------
    rank, alpha
        The change is ``alpha / rank`` times a product of two matrices of this rank.
    dropout
        Of the input of the low-rank path.
    heads
        Whether the heads of the trained objectives learn too.
    """

    rank: int = Field(default=8, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    heads: bool = True


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
        two neighbour pairs and two other pairs per seed cell; on single cells it is the number of
        cells.
    parts_per_step
        In how many parts a step is drawn; each process takes as many of them as every other, so
        it must be a multiple of the number of processes. The result does not depend on how many
        processes share the parts.
    learning_rate, betas, weight_decay, warmup_share, clip_norm
        AdamW, linear warm-up over that share of the budget, then a cosine to zero.
    average
        Decay of a moving average of the weights, which is what is scored and kept; 0: the weights
        as they are (see `trainer.average`).
    evaluations
        How often the validation cells are scored during the run.
    patience
        Stop after this many evaluations without a better score; 0 never stops early.
    validation_queries
        Cells of which each gives one neighbour, one easy and one hard negative.
    save_every
        Steps between two resumable states; 0 saves at evaluations.
    device, precision
        ``bf16-mixed`` computes in bfloat16 and keeps float32 weights.
    threads
        CPU threads; 0 leaves torch's choice.
    tensorboard
        Whether TensorBoard files are written beside the CSV log.
    warm_start
        Name of a checkpoint whose encoder the training begins with.
    continue_from
        Name of a checkpoint that is trained further, with all its heads.
    lora
        Train low-rank changes only (with ``continue_from``).
    teacher
        A scorer that softens the labels of pairs.
    gene_embedding
        Folder name of a gene embedding from the transcript graph that fills the model's
        gene-spatial table.
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
    parts_per_step: int = Field(default=1, ge=1)
    neighbors_per_seed: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    evaluations: int = Field(default=8, ge=1)
    patience: int = Field(default=0, ge=0)
    validation_queries: int = Field(default=2000, ge=10)
    save_every: int = Field(default=0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    threads: int = Field(default=0, ge=0)
    tensorboard: bool = True
    warm_start: str | None = None
    continue_from: str | None = None
    lora: LoraRecipe | None = None
    teacher: TeacherRecipe | None = None
    gene_embedding: str | None = None
    card: str = ""

    @property
    def seeds_per_part(self) -> int:
        """Cells that one part is drawn around."""
        return self.seeds_per_step // self.parts_per_step

    @property
    def starts_from(self) -> str | None:
        """Name of the checkpoint that the run needs at its start."""
        return self.continue_from or self.warm_start

    @property
    def _has_niche_head(self) -> bool:
        return self.model.architecture == "two-tower" and self.objectives.niche.weight > 0

    @model_validator(mode="after")
    def _consistent(self) -> TrainRecipe:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        if self.seeds_per_step % self.parts_per_step:
            raise ValueError("seeds_per_step is no multiple of parts_per_step")
        if self.warm_start is not None and self.continue_from is not None:
            raise ValueError("give either warm_start or continue_from")
        if self.lora is not None and self.continue_from is None:
            raise ValueError("lora needs continue_from")
        objectives = self.objectives
        if not (objectives.pair or objectives.mask_fraction or objectives.cooccurrence):
            raise ValueError("every objective is switched off")
        if self.teacher is not None and not objectives.pair:
            raise ValueError("a teacher needs pairs to judge")
        if self.teacher is not None and self.teacher.hints and not self._has_niche_head:
            raise ValueError("hints need two towers with a niche loss")
        return self
