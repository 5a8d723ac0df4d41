"""What a run begins with: the network, its task, and where the weights come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spatialformer_core.config import validate
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import Checkpoint, ModelConfig, SpatialFormer, build
from spatialformer_core.trainer.batch import COOCCURRENCE, MASKED, PAIR, Task
from spatialformer_core.trainer.lora import add_lora
from spatialformer_core.trainer.losses import StepModule
from spatialformer_core.trainer.niche import expression_levels, niche_values
from spatialformer_core.trainer.recipe import TrainRecipe
from spatialformer_core.trainer.sampling import (
    Draw,
    cross_draw,
    shuffled_draw,
    single_draw,
    tower_draw,
)
from spatialformer_core.trainer.teacher import Teacher, taught_draw, with_hints
from spatialformer_core.trainer.warm import warm_start

_NEW = "niche_head."
_MAY_CHANGE = {"dropout", "expression_dropout", "gene_dropout", "blocks_trained"}
"""What a run that continues a checkpoint may set anew: no weight's shape follows from it."""


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
        The checkpoint that the recipe starts from or continues.
    gene_table
        Gene-spatial vectors by vocabulary id, ``(n_tokens, width)``, where the recipe names a
        gene embedding.
    teacher
        Where the recipe names one.
    """

    simulated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    start: Checkpoint | None = None
    gene_table: Tensor | None = None
    teacher: Teacher | None = None

    def told(self, recipe: TrainRecipe) -> dict[str, Any]:
        """Return its part of the provenance."""
        facts = dict(self.facts)
        if self.teacher is not None:
            facts["teacher"] = self.teacher.facts
        if self.start is None:
            return {**facts, "simulated": self.simulated}
        key = "continued_from" if recipe.continue_from else "warm_start"
        # Weights that began on simulated tissue stay marked, whatever they saw afterwards.
        return {
            **facts,
            "simulated": self.simulated or self.start.simulated,
            key: {"name": self.start.name, "id": self.start.id},
        }


def prepare(recipe: TrainRecipe, corpus: Corpus, background: Background) -> tuple[StepModule, Task]:
    """Return the module to train, with its starting weights, and what it is asked.

    Raises
    ------
    SpatialFormerError
        If the checkpoint or the gene embedding does not fit the recipe and the corpus.
    """
    _check_start(recipe, background)
    towers = recipe.model.architecture == "two-tower"
    wanted = recipe.objectives.niche
    niche = niche_values(corpus, wanted, recipe.seed) if towers and wanted.weight else None
    if niche is not None and background.teacher is not None:
        niche = with_hints(niche, background.teacher)
    n_targets = niche.values.shape[1] if niche is not None else 0
    if recipe.continue_from is not None and background.start is not None:
        model = _continued(recipe, corpus, background.start, n_targets)
    else:
        model = build(recipe.model.config(len(corpus.vocabulary), n_targets), recipe.seed)
        if background.start is not None:
            warm_start(model, corpus.vocabulary, background.start)
    if model.paths and recipe.continue_from is None:
        levels = expression_levels(corpus)
        for path in model.paths:
            path.set_scale(torch.from_numpy(levels.scale))
            path.centre(torch.from_numpy(levels.mean), levels.depth)
    if background.gene_table is not None:
        model.embedding.set_gene_spatial(background.gene_table)
    if recipe.lora is not None:
        add_lora(model, recipe.lora)
    draw = _draw(recipe, corpus)
    if recipe.teacher is not None and background.teacher is not None:
        draw = taught_draw(draw, background.teacher, recipe.teacher.share)
    task = Task(recipe, corpus, niche, draw)
    model.config = _told_heads(model.config, task.names, recipe)
    return StepModule(model.train(), task.names), task


def _told_heads(config: ModelConfig, tasks: tuple[str, ...], recipe: TrainRecipe) -> ModelConfig:
    """Return the configuration with what this run's heads will be good for.

    A head that takes no part is stale afterwards: the blocks move on without it.
    """
    if not config.blocks_trained and {MASKED, COOCCURRENCE} & set(tasks):
        raise SpatialFormerError(
            "Masked tokens and co-occurrence are read from the blocks, and blocks_trained is "
            "false.",
            where=recipe.name,
            fix="Switch both objectives off, or train the blocks.",
        )
    told = {
        "token_trained": MASKED in tasks,
        "cooccurrence_trained": COOCCURRENCE in tasks,
        "pair_trained": PAIR in tasks,
    }
    return config.model_copy(update=told)


def _draw(recipe: TrainRecipe, corpus: Corpus) -> Draw:
    if not recipe.objectives.pair:
        return single_draw(corpus, recipe)
    towers = recipe.model.architecture == "two-tower"
    draw = tower_draw(corpus, recipe) if towers else cross_draw(corpus, recipe)
    return shuffled_draw(draw, recipe.seed) if recipe.pairs.shuffled else draw


def _check_start(recipe: TrainRecipe, background: Background) -> None:
    start = background.start
    if (start is None) != (recipe.starts_from is None):
        raise SpatialFormerError(
            f"The recipe starts from {recipe.starts_from!r}, "
            f"{'no checkpoint' if start is None else repr(start.name)} was given.",
            where=recipe.name,
        )
    if (background.teacher is None) != (recipe.teacher is None):
        raise SpatialFormerError(
            "A teacher must be given where the recipe names one, and nowhere else.",
            where=recipe.name,
        )
    if (background.gene_table is None) != (recipe.gene_embedding is None):
        raise SpatialFormerError(
            f"The recipe's gene embedding is {recipe.gene_embedding!r}, "
            f"{'none' if background.gene_table is None else 'one'} was given.",
            where=recipe.name,
        )


def _continued(
    recipe: TrainRecipe, corpus: Corpus, start: Checkpoint, n_targets: int
) -> SpatialFormer:
    """Return the checkpoint's network, to be trained further."""
    if start.vocabulary.fingerprint != corpus.vocabulary.fingerprint:
        raise SpatialFormerError(
            f"The checkpoint {start.name!r} has another vocabulary than the corpus.",
            where=recipe.name,
            fix="Build the corpus with the checkpoint's own vocabulary.",
        )
    if start.config.architecture != recipe.model.architecture:
        raise SpatialFormerError(
            f"The checkpoint {start.name!r} is a {start.config.architecture}, the recipe wants a "
            f"{recipe.model.architecture}.",
            where=recipe.name,
        )
    config = _with_changes(start.config, recipe, n_targets)
    model = build(config, recipe.seed)
    old = start.model.state_dict()
    own = model.state_dict()
    # A niche head of another size begins anew; everything else is taken over.
    kept = {k: v for k, v in old.items() if k in own and own[k].shape == v.shape}
    lost = [k for k in own if k not in kept and not k.startswith(_NEW)]
    if lost:
        raise SpatialFormerError(
            f"The checkpoint {start.name!r} lacks {', '.join(lost[:3])}.", where=recipe.name
        )
    model.load_state_dict({**own, **kept})
    return model


def _with_changes(config: ModelConfig, recipe: TrainRecipe, n_targets: int) -> ModelConfig:
    changes = recipe.model.changes
    unknown = set(changes) - _MAY_CHANGE
    if unknown:
        raise SpatialFormerError(
            f"A run that continues a checkpoint cannot change {', '.join(sorted(unknown))}.",
            where=recipe.name,
            fix=f"Only {', '.join(sorted(_MAY_CHANGE))} may be changed.",
        )
    values = {**config.model_dump(), **changes, "niche_targets": n_targets}
    return validate(ModelConfig, values, recipe.name)
