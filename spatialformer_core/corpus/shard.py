"""One slide of a corpus on disk: memory-mapped arrays whose sizes the manifest states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import FloatArray, Graph, IntArray, LongArray
from spatialformer_core.config import FrozenModel, SampleMetadata
from spatialformer_core.cooccurrence import CooccurrenceSettings
from spatialformer_core.errors import SpatialFormerError

Split = Literal["train", "validation", "test"]
SPLIT_CODES: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
GAP = -1
"""Code of cells between blocks; they are in the corpus and are never drawn."""


INFO = "info.json"
"""Beside a shard's arrays: its `ShardInfo`."""


class ShardInfo(FrozenModel):
    """What the manifest says about one slide.

    Attributes
    ----------
    simulated
        Whether the slide is simulated tissue.
    cooccurrence
        How its co-occurring genes were found, None where it has no transcripts.
    unknown_genes, unknown_counts
        Genes of the panel that the vocabulary lacks, and their counts.
    mapped_genes
        How many genes were recognised, by how (see `vocabulary.GeneMapping`).
    merged_genes
        Genes that several columns of the panel stand for; their counts were summed.
    empty_cells, truncated_cells
        Cells without a known gene, and cells that lost their lowest-ranked genes.
    """

    slide_id: str = Field(min_length=1, max_length=64)
    sample: SampleMetadata
    simulated: bool = False
    cooccurrence: CooccurrenceSettings | None = None
    n_cells: int = Field(ge=0)
    n_tokens: int = Field(ge=0)
    n_gene_pairs: int = Field(ge=0)
    n_edges: int = Field(ge=0)
    cells_without_gene_pairs: int = Field(ge=0)
    unknown_genes: tuple[str, ...]
    unknown_counts: int = Field(ge=0)
    total_counts: int = Field(ge=0)
    mapped_genes: dict[str, int] = Field(default_factory=dict)
    merged_genes: tuple[str, ...] = ()
    empty_cells: int = Field(default=0, ge=0)
    truncated_cells: int = Field(default=0, ge=0)
    split_cells: dict[str, int]

    @property
    def has_cooccurrence(self) -> bool:
        """Whether its slide has transcript positions."""
        return self.cooccurrence is not None


@dataclass(frozen=True, slots=True)
class Shard:
    """The QC cells of one slide.

    Attributes
    ----------
    info
        The slide's entry in the manifest.
    indptr, tokens, counts
        Ranked genes of each cell, see `CellTokens`.
    meta
        Token ids of condition, tissue, species, assay, shape ``(4,)``.
    pair_indptr, pair_left, pair_right
        Co-occurring genes of each cell as positions in its tokens, ``left < right``.
    graph
        Neighbours at the corpus radius.
    xy_um
        Cell centres, shape ``(n_cells, 2)``.
    source_cells
        Index of each cell in the slide, shape ``(n_cells,)``.
    cell_ids
        Its name there, UTF-8 bytes, shape ``(n_cells,)``.
    split
        0 train, 1 validation, 2 test, -1 gap, shape ``(n_cells,)``.
    """

    info: ShardInfo
    indptr: LongArray
    tokens: NDArray[np.unsignedinteger]
    counts: NDArray[np.unsignedinteger]
    meta: IntArray
    pair_indptr: LongArray
    pair_left: NDArray[np.unsignedinteger]
    pair_right: NDArray[np.unsignedinteger]
    graph: Graph
    xy_um: FloatArray
    source_cells: IntArray
    cell_ids: NDArray[np.bytes_]
    split: NDArray[np.int8]


_FILES = (
    "indptr",
    "tokens",
    "counts",
    "meta",
    "pair_indptr",
    "pair_left",
    "pair_right",
    "graph_indptr",
    "graph_indices",
    "xy_um",
    "source_cells",
    "cell_ids",
    "split",
)


def write_shard(folder: Path, shard: Shard) -> None:
    """Write a shard into an empty folder that is part of something unfinished."""
    for name in _FILES:
        np.save(folder / f"{name}.npy", _array(shard, name), allow_pickle=False)
    files.write_json(folder / INFO, shard.info.model_dump(mode="json"))


def _array(shard: Shard, name: str) -> NDArray[Any]:
    if name.startswith("graph_"):
        value = getattr(shard.graph, name.removeprefix("graph_"))
    else:
        value = getattr(shard, name)
    return np.asarray(value)


def read_shard(root: Path, info: ShardInfo) -> Shard:
    """Map a shard's arrays into memory and compare them with the manifest.

    Raises
    ------
    SpatialFormerError
        If a file is missing, damaged or of another size or type than the manifest says.
    """
    folder = files.resolve_under(root, Path("slides") / info.slide_id)
    arrays = {name: _mapped(folder / f"{name}.npy") for name in _FILES}
    n = info.n_cells
    expected = {
        "indptr": ((n + 1,), "i"),
        "tokens": ((info.n_tokens,), "u"),
        "counts": ((info.n_tokens,), "u"),
        "meta": ((4,), "i"),
        "pair_indptr": ((n + 1,), "i"),
        "pair_left": ((info.n_gene_pairs,), "u"),
        "pair_right": ((info.n_gene_pairs,), "u"),
        "graph_indptr": ((n + 1,), "i"),
        "graph_indices": ((2 * info.n_edges,), "i"),
        "xy_um": ((n, 2), "f"),
        "source_cells": ((n,), "i"),
        "cell_ids": ((n,), "S"),
        "split": ((n,), "i"),
    }
    for name, (shape, kind) in expected.items():
        found = arrays[name]
        if found.shape != shape or found.dtype.kind != kind:
            raise SpatialFormerError(
                f"{name}.npy holds {found.dtype}{found.shape}, the manifest says {shape}.",
                where=str(folder),
                fix="Build the corpus again.",
            )
    for pointer, total in (
        ("indptr", info.n_tokens),
        ("pair_indptr", info.n_gene_pairs),
        ("graph_indptr", 2 * info.n_edges),
    ):
        rows = arrays[pointer]
        if rows[0] != 0 or rows[-1] != total or (np.diff(rows) < 0).any():
            raise SpatialFormerError(
                f"{pointer}.npy does not count its entries.",
                where=str(folder),
                fix="Build the corpus again.",
            )
    graph = Graph(arrays.pop("graph_indptr"), arrays.pop("graph_indices"))
    return Shard(info=info, graph=graph, **arrays)


def _mapped(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise SpatialFormerError("A file of the corpus is missing.", where=str(path))
    try:
        # Copy-on-write: nothing reaches the disk, and compiled kernels take the array as it is.
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise SpatialFormerError(
            f"A file of the corpus is damaged: {error}.",
            where=str(path),
            fix="Build the corpus again.",
        ) from error


def smallest_unsigned(largest: int) -> type[np.unsignedinteger]:
    """Return uint16 where it can hold ``largest``, else uint32."""
    return np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
