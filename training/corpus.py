"""Build a training corpus from ingested slides: ``python -m training.corpus recipe.yaml``.

Vocabulary and medians are fitted on the training cells only. Beside the corpus a JSON file keeps
the recipe, which slides are simulated and how each was split; the checkpoint inherits all of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import GenePairs
from spatialformer_core.config import FrozenModel, load_recipe
from spatialformer_core.cooccurrence import cooccurring_pairs
from spatialformer_core.corpus import CorpusSlide, build_corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import TRAIN, SplitRecipe, split_by_recipe
from spatialformer_core.slides import Slide, SlideStore
from spatialformer_core.vocabulary import build_vocabulary
from training import common


class CooccurrenceRecipe(FrozenModel):
    """Which genes count as co-occurring in a cell (paper section 4.1)."""

    radius_um: float = Field(default=5.0, gt=0)
    min_copies: int = Field(default=3, ge=1)
    dims: Literal[2, 3] = 2


class CorpusRecipe(FrozenModel):
    """What a corpus is made of.

    Attributes
    ----------
    name
        Of the corpus folder.
    slides
        Ids in the slide store.
    split
        Held-out blocks, the same recipe for every slide.
    cooccurrence
        How co-occurring genes are found.
    radius_um
        Largest distance of neighbours.
    max_genes
        Keep the highest-ranked genes of each cell only.
    """

    name: str
    slides: tuple[str, ...] = Field(min_length=1)
    split: SplitRecipe = SplitRecipe()
    cooccurrence: CooccurrenceRecipe = CooccurrenceRecipe()
    radius_um: float = Field(default=30.0, gt=0)
    max_genes: int | None = Field(default=None, ge=1)


def gene_pairs(slide: Slide, recipe: CooccurrenceRecipe) -> GenePairs:
    """Return the co-occurring gene columns of every cell of a slide."""
    transcripts = slide.transcripts_by_cell()
    return cooccurring_pairs(
        np.asarray(transcripts.xyz_um),
        np.asarray(transcripts.gene),
        np.asarray(transcripts.indptr),
        n_genes=len(slide.genes),
        radius_um=recipe.radius_um,
        min_copies=recipe.min_copies,
        dims=recipe.dims,
    )


def build(recipe: CorpusRecipe, home: Path) -> Path:
    """Build the corpus of a recipe below a home folder; return its folder.

    Raises
    ------
    SpatialFormerError
        If a slide is not there, is too small to be split, or the corpus exists.
    """
    out = common.corpus_folder(home, recipe.name)
    if out.exists():
        raise SpatialFormerError(
            f"The corpus {recipe.name!r} exists already.", str(out.parent), "Use --replace."
        )
    store = SlideStore(home)
    slides = [store.open(slide_id) for slide_id in recipe.slides]
    splits = {s.meta.slide_id: split_by_recipe(s.xy_um, recipe.split) for s in slides}
    vocabulary = build_vocabulary(
        ((s.genes, s.counts[s.passes_qc & (splits[s.meta.slide_id] == TRAIN)]) for s in slides),
        [s.meta.sample for s in slides],
    )
    facts = {
        "corpus": recipe.model_dump(mode="json"),
        "simulated_slides": [s.meta.slide_id for s in slides if s.meta.simulated],
        "blocks": {s: recipe.split.model_dump(mode="json") for s in splits},
        "qc": {s.meta.slide_id: s.meta.qc.model_dump(mode="json") for s in slides},
    }
    # Written first: a corpus without it would not know whether it is simulated.
    files.write_json(common.facts_file(home, recipe.name), facts)

    def records() -> Iterator[CorpusSlide]:
        for slide in slides:
            yield CorpusSlide(
                slide_id=slide.meta.slide_id,
                sample=slide.meta.sample,
                genes=slide.genes,
                counts=slide.counts,
                xy_um=np.asarray(slide.xy_um),
                passes_qc=np.asarray(slide.passes_qc),
                split=splits[slide.meta.slide_id],
                gene_pairs=gene_pairs(slide, recipe.cooccurrence),
            )

    return build_corpus(
        records(),
        vocabulary,
        out,
        radius_um=recipe.radius_um,
        max_genes=recipe.max_genes,
        progress=common.report,
    )


def _door(arguments: argparse.Namespace) -> Path:
    recipe = load_recipe(arguments.recipe, CorpusRecipe)
    home = arguments.home or files.home()
    if arguments.replace:
        shutil.rmtree(common.corpus_folder(home, recipe.name), ignore_errors=True)
    return build(recipe, home)


def main() -> int:
    """Build the corpus of the recipe named on the command line."""
    return common.run(_door, common.parser("Build a training corpus.").parse_args())


if __name__ == "__main__":
    sys.exit(main())
