"""Reading a corpus: cells of many slides under one row number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, CellTokens, FloatArray, GenePairs, Graph, LongArray
from spatialformer_core.cell_graph import niche_means, radius_graph
from spatialformer_core.corpus.gather import gather
from spatialformer_core.corpus.manifest import VOCABULARY, Manifest
from spatialformer_core.corpus.shard import SPLIT_CODES, Shard, Split, read_shard
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import Vocabulary

Rows = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class NicheTargets:
    """What surrounds each cell.

    Attributes
    ----------
    means
        Mean features of the neighbours in each ring, shape ``(n_cells, n_rings, k)``, float32.
    counts
        Neighbours in each ring, shape ``(n_cells, n_rings)``.
    """

    means: FloatArray
    counts: LongArray


class Corpus:
    """Cells of several slides; a *row* numbers the cells of all slides consecutively.

    Attributes
    ----------
    path
        Its folder.
    manifest
        What it says about itself.
    vocabulary
        The vocabulary that its tokens belong to.
    shards
        One per slide.
    offsets
        First row of each slide and the number of rows, shape ``(n_slides + 1,)``.
    """

    def __init__(self, path: Path, manifest: Manifest, vocabulary: Vocabulary) -> None:
        self.path = path
        self.manifest = manifest
        self.vocabulary = vocabulary
        self.shards: tuple[Shard, ...] = tuple(read_shard(path, i) for i in manifest.slides)
        self.offsets: LongArray = np.zeros(len(self.shards) + 1, np.int64)
        np.cumsum([shard.info.n_cells for shard in self.shards], out=self.offsets[1:])

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """Open a finished corpus.

        Raises
        ------
        SpatialFormerError
            If it is unfinished, damaged, or its vocabulary is another one.
        """
        manifest = Manifest.load(path)
        vocabulary = Vocabulary.load(path / VOCABULARY)
        if vocabulary.fingerprint != manifest.vocabulary:
            raise SpatialFormerError(
                "The corpus was made with another vocabulary than lies beside it.",
                where=str(path),
                fix="Build the corpus again.",
            )
        return cls(path, manifest, vocabulary)

    @property
    def n_cells(self) -> int:
        """Number of rows."""
        return int(self.offsets[-1])

    @property
    def radius_um(self) -> float:
        """Largest distance of neighbours."""
        return self.manifest.settings.radius_um

    @cached_property
    def split(self) -> NDArray[np.int8]:
        """Split code of every row: 0 train, 1 validation, 2 test, -1 gap."""
        return np.concatenate([shard.split for shard in self.shards])

    @cached_property
    def n_genes_of_cell(self) -> LongArray:
        """Number of gene tokens of every row."""
        return np.concatenate([np.diff(shard.indptr) for shard in self.shards])

    @cached_property
    def n_pairs_of_cell(self) -> LongArray:
        """Number of co-occurring gene pairs of every row."""
        return np.concatenate([np.diff(shard.pair_indptr) for shard in self.shards])

    @cached_property
    def has_cooccurrence(self) -> BoolArray:
        """Rows whose slide has transcript positions; the others are masked in that objective."""
        known = [shard.info.has_cooccurrence for shard in self.shards]
        return np.repeat(known, np.diff(self.offsets))

    def rows(self, split: Split) -> LongArray:
        """Return the rows of one split."""
        return np.flatnonzero(self.split == SPLIT_CODES[split])

    def slide_of(self, rows: Rows) -> LongArray:
        """Return the index of each row's slide.

        Raises
        ------
        SpatialFormerError
            If a row lies outside the corpus.
        """
        if len(rows) and (np.min(rows) < 0 or np.max(rows) >= self.n_cells):
            raise SpatialFormerError(f"A row lies outside the corpus of {self.n_cells:,} cells.")
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def cells(self, rows: Rows) -> CellTokens:
        """Return the tokens of some rows, in this order (repeats allowed)."""
        slide = self.slide_of(rows)
        pointers = [shard.indptr for shard in self.shards]
        local = rows - self.offsets[slide]
        indptr, tokens = gather(pointers, [s.tokens for s in self.shards], slide, local)
        _, counts = gather(pointers, [s.counts for s in self.shards], slide, local)
        meta = np.stack([shard.meta for shard in self.shards])[slide]
        return CellTokens(indptr, tokens, counts, meta)

    def cooccurrence(self, rows: Rows) -> GenePairs:
        """Return the co-occurring genes of some rows as positions within the row's tokens.

        Rows without pairs, and rows of slides without transcript positions (see
        `has_cooccurrence`), are empty.
        """
        slide = self.slide_of(rows)
        pointers = [shard.pair_indptr for shard in self.shards]
        local = rows - self.offsets[slide]
        indptr, left = gather(pointers, [s.pair_left for s in self.shards], slide, local)
        _, right = gather(pointers, [s.pair_right for s in self.shards], slide, local)
        return GenePairs(indptr, left, right)

    def niche_targets(
        self,
        features: FloatArray,
        rings_um: tuple[tuple[float, float], ...] = ((0.0, 30.0), (30.0, 80.0)),
    ) -> NicheTargets:
        """Average features over the cells around each cell, of the same slide and split only.

        Parameters
        ----------
        features
            One row per cell of the corpus, for example its PCA, shape ``(n_cells, k)``.
        rings_um
            Distances of each ring: beyond the first (0: all nearest), up to the second.
        """
        if features.ndim != 2 or len(features) != self.n_cells:
            raise SpatialFormerError(
                f"Features of shape {features.shape} were given for {self.n_cells:,} cells."
            )
        shape = (self.n_cells, len(rings_um), features.shape[1])
        means = np.zeros(shape, np.float32)
        counts = np.zeros(shape[:2], np.int64)
        for number, shard in enumerate(self.shards):
            here = slice(self.offsets[number], self.offsets[number + 1])
            for ring, (inner, outer) in enumerate(rings_um):
                whole = radius_graph(shard.xy_um, outer, inner_um=inner)
                graph = _within_split(whole, shard.split)
                means[here, ring], counts[here, ring] = niche_means(graph, features[here])
        return NicheTargets(means, counts)


def _within_split(graph: Graph, split: NDArray[np.int8]) -> Graph:
    row = np.repeat(np.arange(graph.n_nodes), graph.degree)
    keep = split[row] == split[graph.indices]
    indptr = np.zeros(graph.n_nodes + 1, np.int64)
    np.cumsum(np.bincount(row[keep], minlength=graph.n_nodes), out=indptr[1:])
    return Graph(indptr, graph.indices[keep])
