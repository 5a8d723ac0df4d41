"""Building a corpus, slide by slide, into a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, CellTokens, GenePairs, IntArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import SampleMetadata, validate
from spatialformer_core.cooccurrence import CooccurrenceSettings
from spatialformer_core.corpus.manifest import (
    SLIDES,
    VOCABULARY,
    CorpusSettings,
    Manifest,
    check_alike,
)
from spatialformer_core.corpus.shard import (
    GAP,
    INFO,
    SPLIT_CODES,
    Shard,
    ShardInfo,
    smallest_unsigned,
    write_shard,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.vocabulary import GeneMapping, TokeniseReport, Vocabulary, tokenise


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
    cooccurrence
        How ``gene_pairs`` were found.
    cell_ids
        Names of the cells, shape ``(n_cells,)``; None numbers them.
    mapping
        How the panel's names became those of ``genes``; None where they were taken as they are.
    simulated
        Whether it is simulated tissue.
    """

    slide_id: str
    sample: SampleMetadata
    genes: tuple[str, ...]
    counts: Any
    xy_um: NDArray[np.floating]
    passes_qc: BoolArray
    split: NDArray[np.int8]
    gene_pairs: GenePairs | None = None
    cooccurrence: CooccurrenceSettings = field(default_factory=CooccurrenceSettings)
    cell_ids: NDArray[np.str_] | None = None
    mapping: GeneMapping | None = None
    simulated: bool = False


def build_corpus(
    slides: Iterable[CorpusSlide],
    vocabulary: Vocabulary,
    out: Path,
    *,
    settings: CorpusSettings | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Write the corpus of some slides, in this process and from the beginning.

    Parameters
    ----------
    slides
        May be a generator: one slide is held in memory at a time.
    vocabulary
        Fitted on the training cells.
    out
        Folder that shall appear.
    settings
        What is the same for every slide.
    progress, cancel
        Called once per slide.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    SpatialFormerError
        If ``out`` exists, slides repeat, arrays disagree, co-occurrence was computed in different
        ways, or no cell passes.
    """
    chosen = settings or CorpusSettings()
    names: list[str] = []
    with files.atomic_directory(out) as folder:
        for slide in slides:
            check(cancel)
            progress(len(names), len(names) + 1, f"Corpus: {slide.slide_id}")
            if slide.slide_id in names:
                raise SpatialFormerError(f"The slide {slide.slide_id!r} was given twice.")
            files.check_name(slide.slide_id, "The slide")
            with files.atomic_directory(folder / SLIDES / slide.slide_id) as part:
                write_slide(part, slide, vocabulary, chosen)
            names.append(slide.slide_id)
        vocabulary.save(folder / VOCABULARY)
        describe(folder, names, vocabulary, chosen)
    return out


def write_slide(
    folder: Path, slide: CorpusSlide, vocabulary: Vocabulary, settings: CorpusSettings
) -> None:
    """Write one slide's shard into an empty folder, the part of a build that can run anywhere.

    Raises
    ------
    SpatialFormerError
        If its arrays disagree or its co-occurrence was computed in another way.
    """
    _check_slide(slide)
    shard = _make_shard(slide, vocabulary, settings)
    check_alike((shard.info,), settings)
    write_shard(folder, shard)


def describe(
    folder: Path,
    slide_ids: Sequence[str],
    vocabulary: Vocabulary,
    settings: CorpusSettings,
) -> None:
    """Write the manifest over finished shards; the folder becomes a corpus when it is published.

    Raises
    ------
    SpatialFormerError
        If the slides do not belong together or hold no cell.
    """
    parts = [folder / SLIDES / slide_id for slide_id in slide_ids]
    infos = tuple(validate(ShardInfo, files.read_json(p / INFO), str(p / INFO)) for p in parts)
    check_alike(infos, settings)
    if not sum(info.n_cells for info in infos):
        raise SpatialFormerError("No cell of the given slides passes quality control.")
    Manifest(
        vocabulary=vocabulary.fingerprint,
        settings=settings,
        slides=infos,
        digests={p.name: files.sha256_file(p / files.MANIFEST) for p in parts},
    ).save(folder)


def publish(building: Path, out: Path) -> Path:
    """Give a described corpus its name; a corpus that was there gives way."""
    for path in building.iterdir():
        if path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
    files.publish(building, out)
    return out


def _check_slide(slide: CorpusSlide) -> None:
    n = slide.counts.shape[0]
    shapes = {
        "xy_um": (slide.xy_um.shape, (n, 2)),
        "passes_qc": (slide.passes_qc.shape, (n,)),
        "split": (slide.split.shape, (n,)),
        "genes": ((len(slide.genes),), (slide.counts.shape[1],)),
        "cell_ids": ((n,) if slide.cell_ids is None else slide.cell_ids.shape, (n,)),
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


def _make_shard(slide: CorpusSlide, vocabulary: Vocabulary, settings: CorpusSettings) -> Shard:
    cells = np.flatnonzero(slide.passes_qc)
    gene_ids = vocabulary.gene_ids(slide.genes)
    meta = vocabulary.meta_ids(slide.sample)
    matrix = slide.counts.tocsr()[cells]
    tokens, report = tokenise(matrix, gene_ids, vocabulary, meta, settings.max_genes)
    pairs = _pair_positions(slide.gene_pairs, cells, gene_ids, tokens)
    xy = np.ascontiguousarray(slide.xy_um[cells], np.float32)
    graph = radius_graph(xy, settings.radius_um)
    split = np.ascontiguousarray(slide.split[cells], np.int8)
    names = np.arange(len(slide.passes_qc)) if slide.cell_ids is None else slide.cell_ids
    longest = int(tokens.lengths.max(initial=0))
    return Shard(
        info=_info(slide, report, (tokens, pairs), split, len(graph.indices) // 2),
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
        cell_ids=encode_names(names[cells]),
        split=split,
    )


def encode_names(names: NDArray[Any]) -> NDArray[np.bytes_]:
    """Return names as fixed-width UTF-8 bytes, at least one byte wide."""
    encoded: NDArray[np.bytes_] = np.char.encode(np.asarray(names).astype(np.str_), "utf-8")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")


def split_counts(split: NDArray[np.int8]) -> dict[str, int]:
    """Return how many cells each split has."""
    words = {code: name for name, code in SPLIT_CODES.items()} | {GAP: "gap"}
    return dict(sorted(Counter(words[int(code)] for code in split).items()))


def _info(
    slide: CorpusSlide,
    report: TokeniseReport,
    content: tuple[CellTokens, GenePairs],
    split: NDArray[np.int8],
    n_edges: int,
) -> ShardInfo:
    mapping = slide.mapping
    tokens, pairs = content
    return ShardInfo(
        slide_id=slide.slide_id,
        sample=slide.sample,
        simulated=slide.simulated,
        cooccurrence=slide.cooccurrence if slide.gene_pairs is not None else None,
        n_cells=tokens.n_cells,
        n_tokens=len(tokens.tokens),
        n_gene_pairs=len(pairs.left),
        n_edges=n_edges,
        cells_without_gene_pairs=int((np.diff(pairs.indptr) == 0).sum()),
        unknown_genes=tuple(slide.genes[i] for i in report.unknown_columns),
        unknown_counts=report.unknown_counts,
        total_counts=report.total_counts,
        mapped_genes=mapping.tally() if mapping is not None else {},
        merged_genes=mapping.merged if mapping is not None else (),
        empty_cells=report.empty_cells,
        truncated_cells=report.truncated_cells,
        split_cells=split_counts(split),
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
