"""Learn a vector per gene from where transcripts lie: ``python -m training.graphsage recipe.yaml``.

Slides, split and vocabulary are those of a corpus: the embedding is fitted on its training blocks,
measured on its validation blocks, and never sees its test blocks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core import __version__, files
from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.config import FrozenModel, load_recipe, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.metrics import Metrics, Scored, block_interval, blocks
from spatialformer_core.evaluation.splits import TRAIN, VALIDATION, split_by_recipe
from spatialformer_core.progress import Cancel, Progress, never, staged
from spatialformer_core.slides import Slide, SlideStore
from spatialformer_core.transcript_graph import (
    GeneEmbedding,
    TranscriptPairs,
    draw_pairs,
    join,
    save_gene_embedding,
    transcript_graph,
)
from spatialformer_core.transcript_graph.fit import (
    GeneGraph,
    SageRecipe,
    gene_vectors,
    new_network,
    score_pairs,
    train_network,
)
from spatialformer_core.vocabulary import Vocabulary
from training import common
from training.corpus import CorpusRecipe

_BLOCK_UM = 200.0
_TILE_UM = 250.0
_PRIOR_PAIRS = 400_000


class GraphsageRecipe(FrozenModel):
    """What a gene embedding is made from.

    Attributes
    ----------
    name
        Of the folder below ``gene_embeddings/``.
    corpus
        Names slides, split and vocabulary; the corpus is built by `training.corpus`.
    radius_um, dims
        Largest distance of linked transcripts (paper: 3 um in three dimensions).
    within_cells
        Whether only transcripts of one cell are linked; the paper links across borders.
    max_transcripts
        Of each slide and split; beyond, whole tiles of tissue are left out by the seed.
    held_out_pairs
        Neighbours and as many non-neighbours on which the network is measured.
    network
        Network and training.
    """

    name: str
    corpus: str
    radius_um: float = Field(default=3.0, gt=0, le=20)
    dims: Literal[2, 3] = 3
    within_cells: bool = False
    max_transcripts: int = Field(default=1_500_000, ge=1000)
    held_out_pairs: int = Field(default=20_000, ge=100)
    network: SageRecipe = SageRecipe()


@dataclass(frozen=True, slots=True)
class _Material:
    """What a recipe names: slides with the split of their cells, and the vocabulary."""

    slides: list[Slide]
    splits: list[Any]
    vocabulary: Vocabulary


def train(
    recipe: GraphsageRecipe,
    home: Path,
    *,
    replace: bool = False,
    progress: Progress = common.report,
    cancel: Cancel = never,
) -> Path:
    """Train the gene embedding of a recipe; return its folder.

    Raises
    ------
    SpatialFormerError
        If corpus or slides are not there, or the embedding exists and shall not be replaced.
    """
    out = common.gene_embedding_folder(home, recipe.name)
    if out.exists() and not replace:
        raise SpatialFormerError(
            f"The gene embedding {recipe.name!r} exists already.", str(out.parent), "Use --replace."
        )
    material = _material(recipe, home)
    progress(0.0, 1.0, "Linking the transcripts")
    fitted, held_out = (gene_graph(material, recipe, code) for code in (TRAIN, VALIDATION))
    network = train_network(
        fitted, recipe.network, progress=staged(progress, 0.05, 0.85), cancel=cancel
    )
    progress(0.85, 1.0, "Averaging over the transcripts of each gene")
    vectors, counts = gene_vectors(network, fitted, recipe.network, cancel=cancel)
    progress(0.95, 1.0, "Measuring on held-out cells")
    pairs = draw_pairs(held_out.graph, recipe.held_out_pairs, seed=recipe.network.seed)
    methods = {
        "graphsage": score_pairs(network, held_out, recipe.network, pairs),
        "untrained": score_pairs(
            new_network(recipe.network, fitted.n_genes), held_out, recipe.network, pairs
        ),
        "gene_pair_prior": gene_pair_prior(fitted, held_out, pairs, recipe.network.seed),
        "always": (np.full(len(pairs.root), 0.5),) * 2,
    }
    provenance = _provenance(recipe, material, fitted, held_out)
    report = {"rows": held_out_rows(methods, held_out, pairs, recipe), "provenance": provenance}
    offset, vocabulary = material.vocabulary.gene_offset, material.vocabulary
    padding = ((offset, 0), (0, 0))
    table, seen = np.pad(vectors, padding), np.pad(counts, padding[0])
    embedding = GeneEmbedding(table, seen > 0, seen, provenance)
    save_gene_embedding(out, embedding, vocabulary, report, replace=replace)
    progress(1.0, 1.0, "Done")
    return out


def _material(recipe: GraphsageRecipe, home: Path) -> _Material:
    folder = common.corpus_folder(home, recipe.corpus)
    facts_file = common.facts_file(home, recipe.corpus)
    if not folder.is_dir() or not facts_file.is_file():
        raise SpatialFormerError(
            f"There is no corpus {recipe.corpus!r}.",
            where=str(folder.parent),
            fix="Build it with `python -m training.corpus`.",
        )
    corpus = validate(CorpusRecipe, files.read_json(facts_file)["corpus"], str(facts_file))
    store = SlideStore(home)
    slides = [store.open(slide_id) for slide_id in corpus.slides]
    splits = [split_by_recipe(slide.xy_um, corpus.split) for slide in slides]
    return _Material(slides, splits, Vocabulary.load(folder / "vocabulary.json"))


def gene_graph(material: _Material, recipe: GraphsageRecipe, code: int) -> GeneGraph:
    """Link the transcripts of the analysed cells of one split code, slide by slide.

    Genes that the vocabulary lacks are left out.
    """
    graphs, genes = [], []
    for slide, split in zip(material.slides, material.splits, strict=True):
        found = slide.transcripts_by_cell()
        ids = material.vocabulary.gene_ids(slide.genes) - material.vocabulary.gene_offset
        lengths = np.diff(found.indptr)
        wanted = np.asarray(slide.passes_qc) & (np.asarray(split) == code)
        wanted = _within_budget(slide, wanted, lengths, recipe)
        gene = ids[np.asarray(found.gene, np.int64)]
        row = np.flatnonzero(np.repeat(wanted, lengths) & (gene >= 0))
        owner = np.repeat(np.arange(len(lengths)), lengths)[row] if recipe.within_cells else None
        graph = transcript_graph(
            np.asarray(found.xyz_um)[row], radius_um=recipe.radius_um, dims=recipe.dims, cell=owner
        )
        graphs.append(graph)
        genes.append(gene[row][graph.order])
    joined = np.concatenate(genes).astype(np.int32)
    return GeneGraph(join(graphs), joined, len(material.vocabulary.genes))


def _within_budget(
    slide: Slide, wanted: BoolArray, lengths: LongArray, recipe: GraphsageRecipe
) -> BoolArray:
    """Leave out whole tiles of tissue, in seeded order, so that neighbourhoods stay whole."""
    tile = blocks(slide.xy_um, _TILE_UM)
    size = np.bincount(tile, weights=lengths * wanted)
    order = np.random.default_rng(recipe.network.seed).permutation(len(size))
    kept = np.zeros(len(size), np.bool_)
    kept[order] = np.cumsum(size[order]) <= recipe.max_transcripts
    return np.asarray(wanted & kept[tile])


def gene_pair_prior(
    fitted: GeneGraph, held_out: GeneGraph, pairs: TranscriptPairs, seed: int
) -> tuple[DoubleArray, DoubleArray]:
    """Return the share of neighbours among training pairs of the same two genes (one added)."""
    known = draw_pairs(fitted.graph, _PRIOR_PAIRS, seed=seed + 1)
    counts = np.ones((2, fitted.n_genes, fitted.n_genes))
    for side, other in enumerate((known.near, known.far)):
        one, two = fitted.gene[known.root], fitted.gene[other]
        np.add.at(counts[side], (one, two), 0.5)
        np.add.at(counts[side], (two, one), 0.5)
    share = counts[0] / counts.sum(axis=0)
    root = held_out.gene[pairs.root]
    return share[root, held_out.gene[pairs.near]], share[root, held_out.gene[pairs.far]]


def held_out_rows(
    methods: dict[str, tuple[DoubleArray, DoubleArray]],
    held_out: GeneGraph,
    pairs: TranscriptPairs,
    recipe: GraphsageRecipe,
) -> list[dict[str, Any]]:
    """Return one row per method and metric, with intervals over blocks of tissue."""
    graph = held_out.graph
    slide = np.searchsorted(graph.slide_start, pairs.root, side="right") - 1
    # Far beyond any slide, so that no block holds cells of two slides.
    place = graph.xyz_um[pairs.root, :2] + np.stack([slide * 1e7, slide * 0.0], axis=1)
    block = np.tile(blocks(place, _BLOCK_UM), 2)
    label = np.repeat([True, False], len(pairs.root))
    common_part = {
        "suite": "graphsage",
        "task": "neighbouring transcripts",
        "split": "validation blocks",
        "radius_um": recipe.radius_um,
        "negatives": "uniform",
        "seeds": 1,
        "n": len(label),
    }
    rows = []
    for method, scores in methods.items():
        scored = Scored(label, np.concatenate(scores), block)
        values, intervals = Metrics(scored).values(), block_interval(scored, recipe.network.seed)
        for metric in ("auroc", "auprc"):
            low, high = intervals[metric]
            found = {"value": values[metric], "low": low, "high": high}
            rows.append({**common_part, "method": method, "metric": metric, **found})
    return rows


def _provenance(
    recipe: GraphsageRecipe, material: _Material, fitted: GeneGraph, held_out: GeneGraph
) -> dict[str, Any]:
    sides = {"train": fitted.graph, "held_out": held_out.graph}
    return {
        "format_version": 1,
        "version": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "slides": [slide.meta.slide_id for slide in material.slides],
        "simulated": any(slide.meta.simulated for slide in material.slides),
        "vocabulary": material.vocabulary.fingerprint,
        "transcripts": {name: graph.n for name, graph in sides.items()},
        "edges": {name: len(graph.graph.indices) // 2 for name, graph in sides.items()},
    }


def _door(arguments: argparse.Namespace) -> Path:
    recipe = load_recipe(arguments.recipe, GraphsageRecipe, arguments.changes)
    return train(recipe, arguments.home or files.home(), replace=arguments.replace)


def main() -> int:
    """Train the gene embedding of the recipe named on the command line."""
    return common.run(_door, common.parser("Train a gene embedding.").parse_args())


if __name__ == "__main__":
    sys.exit(main())
