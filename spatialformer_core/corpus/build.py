"""Building a corpus, slide by slide, into a folder that appears whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, CellTokens, GenePairs, IntArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import SampleMetadata
from spatialformer_core.corpus.manifest import VOCABULARY, Manifest
from spatialformer_core.corpus.shard import (
    GAP,
    SPLIT_CODES,
    Shard,
    ShardInfo,
    smallest_unsigned,
    write_shard,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.vocabulary import Vocabulary, tokenise


@dataclass(frozen=True, slots=True)
class CorpusSlide:
    """A slide as plain arrays; all ``n_cells`` cells, in the slide's order.

    Attributes
    ----------
    slide_id
        Names the shard.
    sample
        Gives the meta tokens.
    genes
        Gene of each column.
    counts
        Raw counts, scipy sparse ``(n_cells, n_genes)``.
    xy_um
        Cell centres, shape ``(n_cells, 2)``.
    passes_qc
        Cells that enter the corpus, shape ``(n_cells,)``.
    split
        0 train, 1 validation, 2 test, -1 gap, shape ``(n_cells,)``.
    gene_pairs
        Co-occurring gene columns of each cell, or None where the slide has no transcripts.
    """

    slide_id: str
    sample: SampleMetadata
    genes: tuple[str, ...]
    counts: Any
    xy_um: NDArray[np.floating]
    passes_qc: BoolArray
    split: NDArray[np.int8]
    gene_pairs: GenePairs | None = None


def build_corpus(
    slides: Iterable[CorpusSlide],
    vocabulary: Vocabulary,
    out: Path,
    *,
    radius_um: float = 30.0,
    max_genes: int | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Write the corpus of some slides.

    Parameters
    ----------
    slides
        May be a generator: one slide is held in memory at a time.
    vocabulary
        Fitted on the training cells.
    out
        Folder that shall appear.
    radius_um
        Largest distance of neighbours.
    max_genes
        Keep the highest-ranked genes of each cell only.
    progress, cancel
        Called once per slide.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    SpatialFormerError
        If ``out`` exists, slides repeat, arrays disagree, or no cell passes.
    """
    shards: list[ShardInfo] = []
    with files.atomic_directory(out) as folder:
        for slide in slides:
            check(cancel)
            progress(len(shards), len(shards) + 1, f"Corpus: {slide.slide_id}")
            _check_slide(slide, {info.slide_id for info in shards})
            shard = _make_shard(slide, vocabulary, radius_um, max_genes)
            write_shard(folder / "slides" / slide.slide_id, shard)
            shards.append(shard.info)
        if not sum(info.n_cells for info in shards):
            raise SpatialFormerError("No cell of the given slides passes quality control.")
        vocabulary.save(folder / VOCABULARY)
        manifest = Manifest(
            vocabulary=vocabulary.fingerprint,
            radius_um=radius_um,
            max_genes=max_genes,
            slides=tuple(shards),
        )
        manifest.save(folder)
    return out


def _check_slide(slide: CorpusSlide, seen: set[str]) -> None:
    files.check_name(slide.slide_id, "The slide")
    if slide.slide_id in seen:
        raise SpatialFormerError(f"The slide {slide.slide_id!r} was given twice.")
    n = slide.counts.shape[0]
    shapes = {
        "xy_um": (slide.xy_um.shape, (n, 2)),
        "passes_qc": (slide.passes_qc.shape, (n,)),
        "split": (slide.split.shape, (n,)),
        "genes": ((len(slide.genes),), (slide.counts.shape[1],)),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise SpatialFormerError(
                f"{name} has shape {found}, {expected} was expected.", where=slide.slide_id
            )
    if slide.gene_pairs is not None and slide.gene_pairs.n_cells != n:
        raise SpatialFormerError(
            f"Gene pairs of {slide.gene_pairs.n_cells:,} cells were given for {n:,} cells.",
            where=slide.slide_id,
        )
    if not np.isin(slide.split, [GAP, *SPLIT_CODES.values()]).all():
        raise SpatialFormerError(
            "Split codes are 0 train, 1 validation, 2 test and -1 gap.", where=slide.slide_id
        )


def _make_shard(
    slide: CorpusSlide, vocabulary: Vocabulary, radius_um: float, max_genes: int | None
) -> Shard:
    cells = np.flatnonzero(slide.passes_qc)
    gene_ids = vocabulary.gene_ids(slide.genes)
    meta = vocabulary.meta_ids(slide.sample)
    tokens, report = tokenise(slide.counts.tocsr()[cells], gene_ids, vocabulary, meta, max_genes)
    pairs = _pair_positions(slide.gene_pairs, cells, gene_ids, tokens)
    xy = np.ascontiguousarray(slide.xy_um[cells], np.float32)
    graph = radius_graph(xy, radius_um)
    split = np.ascontiguousarray(slide.split[cells], np.int8)
    names = {code: name for name, code in SPLIT_CODES.items()} | {GAP: "gap"}
    per_split = Counter(names[int(code)] for code in split)
    info = ShardInfo(
        slide_id=slide.slide_id,
        sample=slide.sample,
        n_cells=len(cells),
        n_tokens=len(tokens.tokens),
        n_gene_pairs=len(pairs.left),
        n_edges=len(graph.indices) // 2,
        cells_without_gene_pairs=int((np.diff(pairs.indptr) == 0).sum()),
        has_cooccurrence=slide.gene_pairs is not None,
        unknown_genes=tuple(slide.genes[i] for i in report.unknown_columns),
        unknown_counts=report.unknown_counts,
        total_counts=report.total_counts,
        split_cells=dict(sorted(per_split.items())),
    )
    longest = int(tokens.lengths.max(initial=0))
    return Shard(
        info=info,
        indptr=tokens.indptr,
        tokens=tokens.tokens.astype(smallest_unsigned(len(vocabulary))),
        counts=tokens.counts.astype(smallest_unsigned(int(tokens.counts.max(initial=0)))),
        meta=meta,
        pair_indptr=pairs.indptr,
        pair_left=pairs.left.astype(smallest_unsigned(longest)),
        pair_right=pairs.right.astype(smallest_unsigned(longest)),
        graph=graph,
        xy_um=xy,
        source_cells=cells.astype(np.int32),
        split=split,
    )


def _pair_positions(
    pairs: GenePairs | None, cells: LongArray, gene_ids: IntArray, tokens: CellTokens
) -> GenePairs:
    """Return the co-occurring genes of the chosen cells as positions in their tokens.

    A pair is left out where a gene of it has no token: unknown, cut off by ``max_genes``, or
    without a count in the expression matrix (which may come from another call of transcripts).
    """
    indptr = np.zeros(len(cells) + 1, np.int64)
    if pairs is None:
        return GenePairs(indptr, np.zeros(0, np.int32), np.zeros(0, np.int32))
    lengths = np.diff(pairs.indptr)[cells]
    row = np.repeat(np.arange(len(cells)), lengths)
    first = np.cumsum(lengths) - lengths
    source = np.arange(len(row)) + np.repeat(pairs.indptr[:-1][cells] - first, lengths)
    # Looking up (cell, token) in a sorted list of all keys avoids a table of cells x genes.
    width = int(max(gene_ids.max(initial=0), tokens.tokens.max(initial=0))) + 1
    cell_of = np.repeat(np.arange(len(cells)), tokens.lengths)
    keys = cell_of * width + tokens.tokens
    order = np.argsort(keys)
    keys = keys[order]
    places = []
    known = np.ones(len(row), np.bool_)
    for column in (pairs.left[source], pairs.right[source]):
        ids = gene_ids[column]
        wanted = row * width + ids
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        known &= (ids >= 0) & (keys[at] == wanted) if len(keys) else False
        places.append((order[at] if len(keys) else at) - tokens.indptr[row])
    left = np.minimum(*places)[known].astype(np.int32)
    right = np.maximum(*places)[known].astype(np.int32)
    row = row[known]
    np.cumsum(np.bincount(row, minlength=len(cells)), out=indptr[1:])
    by_cell = np.lexsort((right, left, row))
    return GenePairs(indptr, left[by_cell], right[by_cell])
