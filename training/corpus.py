"""Build a training corpus from ingested slides: ``python -m training.corpus recipe.yaml``.

Vocabulary and medians are fitted on the training cells only, unless the recipe names a vocabulary.
Every slide is a shard of its own: made in this process, in ``--workers`` local processes or on a
Dask cluster (``--scheduler``). A run that was stopped goes on with the slides that are missing; a
slide or a recipe that changed is made again. Beside the corpus a JSON file keeps the recipe, which
slides are simulated and how each was split; the checkpoint inherits all of it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from pydantic import Field

from spatialformer_core import corpus as corpora
from spatialformer_core import files
from spatialformer_core.arrays import GenePairs
from spatialformer_core.config import FrozenModel, load_recipe, validate
from spatialformer_core.cooccurrence import CooccurrenceSettings, Molecules, find_cooccurrence
from spatialformer_core.corpus import (
    SLIDES,
    VOCABULARY,
    CorpusSettings,
    CorpusSlide,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import TRAIN, SplitRecipe, split_by_recipe
from spatialformer_core.jobs import Engine, ShardFolders, ShardTask, result_key, run_shards
from spatialformer_core.progress import Cancel, Progress, check, never
from spatialformer_core.slides import Slide, SlideStore
from spatialformer_core.vocabulary import (
    PUBLISHED,
    SHIPPED_ENSEMBL,
    GeneMapping,
    GeneNames,
    Vocabulary,
    build_vocabulary,
    load_published,
    map_genes,
    read_gene_names,
)
from training import common

FIT = "fit"
_MAKE = "training.corpus:make_slide"
_REVISION = 1
"""Raised when equal settings begin to give other shards."""


class GeneNamesRecipe(FrozenModel):
    """How genes of another name are recognised (see `read_gene_names`).

    Attributes
    ----------
    ensembl
        ``shipped``, ``none`` or the path of a table.
    aliases
        Path of a table of former symbols.
    ignore_case
        Whether mouse and human spelling are the same gene.
    """

    ensembl: str = "shipped"
    aliases: Path | None = None
    ignore_case: bool = False

    @property
    def ensembl_path(self) -> Path | None:
        """The table of Ensembl ids."""
        named = {"shipped": SHIPPED_ENSEMBL, "none": None}
        return named[self.ensembl] if self.ensembl in named else Path(self.ensembl)

    def read(self) -> GeneNames:
        """Return the tables."""
        return read_gene_names(self.ensembl_path, self.aliases, ignore_case=self.ignore_case)

    def hashes(self) -> list[str]:
        """Return the hash of each table."""
        paths = [path for path in (self.ensembl_path, self.aliases) if path is not None]
        return [files.sha256_file(path) if path.is_file() else "" for path in paths]


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
    vocabulary
        ``fit`` to the training cells, ``published`` (6,065 tokens), or the path of a
        ``vocabulary.json``.
    genes
        How genes of another name are recognised.
    """

    name: str
    slides: tuple[str, ...] = Field(min_length=1)
    split: SplitRecipe = SplitRecipe()
    cooccurrence: CooccurrenceSettings = CooccurrenceSettings()
    radius_um: float = Field(default=30.0, gt=0)
    max_genes: int | None = Field(default=None, ge=1)
    vocabulary: str = FIT
    genes: GeneNamesRecipe = GeneNamesRecipe()

    @property
    def settings(self) -> CorpusSettings:
        """What the corpus itself records."""
        return CorpusSettings(
            radius_um=self.radius_um, max_genes=self.max_genes, cooccurrence=self.cooccurrence
        )


def gene_pairs(
    slide: Slide, recipe: CooccurrenceSettings, mapping: GeneMapping
) -> GenePairs | None:
    """Return the co-occurring genes of every cell, as columns of the mapped names."""
    if not slide.meta.has_transcripts:
        return None
    transcripts = slide.transcripts_by_cell()
    # Before linking, so that copies under two names of a gene count together.
    gene = mapping.column[np.asarray(transcripts.gene)]
    n_genes = len(mapping.names)
    molecules = Molecules(transcripts.xyz_um, gene, np.asarray(transcripts.indptr), n_genes)
    return find_cooccurrence(molecules, recipe).labels


def make_slide(params: dict[str, Any], folder: Path, cancel: Cancel) -> None:
    """Make the shard of one slide; runs in whatever process the engine chooses."""
    recipe = validate(CorpusRecipe, params["recipe"], "recipe")
    slide = SlideStore(Path(params["home"])).open(params["slide"])
    vocabulary = Vocabulary.load(Path(params["vocabulary"]))
    mapping = map_genes(slide.genes, vocabulary.genes, recipe.genes.read(), slide.gene_ids)
    check(cancel)
    pairs = gene_pairs(slide, recipe.cooccurrence, mapping)
    check(cancel)
    record = CorpusSlide(
        slide_id=slide.meta.slide_id,
        sample=slide.meta.sample,
        genes=mapping.names,
        counts=mapping.counts(slide.counts),
        xy_um=np.asarray(slide.xy_um),
        passes_qc=np.asarray(slide.passes_qc),
        split=split_by_recipe(slide.xy_um, recipe.split),
        gene_pairs=pairs,
        cooccurrence=recipe.cooccurrence,
        cell_ids=np.asarray(slide.cell_ids),
        mapping=mapping,
        simulated=slide.meta.simulated,
    )
    corpora.write_slide(folder, record, vocabulary, recipe.settings)


def build(
    recipe: CorpusRecipe,
    home: Path,
    *,
    engine: Engine | None = None,
    replace: bool = False,
    progress: Progress = common.report,
    cancel: Cancel = never,
) -> Path:
    """Build the corpus of a recipe below a home folder; return its folder.

    Raises
    ------
    SpatialFormerError
        If a slide is not there, is too small to be split, the corpus exists and ``replace`` is
        False, or the engine cannot work.
    Cancelled
        If ``cancel`` returned True; finished slides are kept for the next run.
    """
    home = home.resolve()
    out = common.corpus_folder(home, recipe.name)
    if out.exists() and not replace:
        raise SpatialFormerError(
            f"The corpus {recipe.name!r} exists already.", str(out.parent), "Use --replace."
        )
    if len(set(recipe.slides)) != len(recipe.slides):
        raise SpatialFormerError("The recipe names a slide twice.", where=recipe.name)
    store = SlideStore(home)
    slides = {slide_id: store.open(slide_id) for slide_id in recipe.slides}
    building = out.with_name(f"{out.name}.building")
    state = building / ".state"
    told = recipe.model_dump(mode="json", exclude={"name", "slides"})
    sources = {s: files.sha256_file(slide.folder / files.MANIFEST) for s, slide in slides.items()}
    decides = {"revision": _REVISION, "recipe": told, "tables": recipe.genes.hashes()}
    key = result_key({**decides, "sources": sources})
    vocabulary, path = _vocabulary(recipe, list(slides.values()), state, key)
    decides["vocabulary"] = vocabulary.fingerprint
    params = {"home": str(home), "vocabulary": str(path), "recipe": _portable(recipe)}
    tasks = [
        ShardTask(
            slide_id,
            {**params, "slide": slide_id},
            result_key({**decides, "slide": slide_id, "source": sources[slide_id]}),
        )
        for slide_id in recipe.slides
    ]
    folders = ShardFolders(building / SLIDES, state)
    run_shards(_MAKE, tasks, folders, engine=engine, progress=progress, cancel=cancel)
    vocabulary.save(building / VOCABULARY)
    corpora.describe(building, recipe.slides, vocabulary, recipe.settings)
    # Written first: a corpus without it would not know whether it is simulated.
    files.write_json(common.facts_file(home, recipe.name), _facts(recipe, list(slides.values())))
    return corpora.publish(building, out)


def _portable(recipe: CorpusRecipe) -> dict[str, Any]:
    """Return the recipe with absolute paths: a worker elsewhere has another current folder."""
    genes = recipe.genes
    changes: dict[str, Any] = {}
    if genes.ensembl not in {"shipped", "none"}:
        changes["ensembl"] = str(Path(genes.ensembl).resolve())
    if genes.aliases is not None:
        changes["aliases"] = genes.aliases.resolve()
    portable = recipe.model_copy(update={"genes": genes.model_copy(update=changes)})
    return portable.model_dump(mode="json")


def _facts(recipe: CorpusRecipe, slides: list[Slide]) -> dict[str, Any]:
    return {
        "corpus": recipe.model_dump(mode="json"),
        "simulated_slides": [s.meta.slide_id for s in slides if s.meta.simulated],
        "blocks": {s.meta.slide_id: recipe.split.model_dump(mode="json") for s in slides},
        "qc": {s.meta.slide_id: s.meta.qc.model_dump(mode="json") for s in slides},
    }


def _vocabulary(
    recipe: CorpusRecipe, slides: list[Slide], state: Path, key: str
) -> tuple[Vocabulary, Path]:
    """Return the vocabulary and the file where shards find it; a fit of equal slides is kept."""
    path = state / f"vocabulary-{key}.json"
    if path.is_file():
        return Vocabulary.load(path), path
    if recipe.vocabulary == PUBLISHED:
        vocabulary = load_published().vocabulary
    elif recipe.vocabulary != FIT:
        vocabulary = Vocabulary.load(Path(recipe.vocabulary))
    else:
        names = recipe.genes.read()
        panels = (_panel(slide, recipe, names) for slide in slides)
        vocabulary = build_vocabulary(panels, [slide.meta.sample for slide in slides])
    vocabulary.save(path)
    return vocabulary, path


def _panel(slide: Slide, recipe: CorpusRecipe, names: GeneNames) -> tuple[tuple[str, ...], Any]:
    mapping = map_genes(slide.genes, None, names, slide.gene_ids)
    train = slide.passes_qc & (split_by_recipe(slide.xy_um, recipe.split) == TRAIN)
    return mapping.names, mapping.counts(slide.counts[train])


def _door(arguments: argparse.Namespace) -> Path:
    recipe = load_recipe(arguments.recipe, CorpusRecipe, arguments.changes)
    engine = Engine(arguments.workers, arguments.scheduler, dict(arguments.resource))
    home = arguments.home or files.home()
    return build(recipe, home, engine=engine, replace=arguments.replace)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Build the corpus of the recipe named on the command line, or run one of its tools."""
    from training import corpus_tools

    if len(sys.argv) > 1 and sys.argv[1] in corpus_tools.TOOLS:
        return corpus_tools.main(sys.argv[1:])
    parser = common.parser("Build a training corpus. Also: " + ", ".join(corpus_tools.TOOLS) + ".")
    common.add_engine(parser)
    # Like Ctrl-C: shards in other processes, also on other machines, are told to stop.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return common.run(_door, parser.parse_args())
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Finished slides are kept; the same command goes on.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
