"""Rows of a ``datasets`` table into a corpus; the rows are untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import GenePairs, IntArray, LongArray
from spatialformer_core.cell_graph import radius_graph
from spatialformer_core.config import SampleMetadata, validate
from spatialformer_core.corpus.build import describe, encode_names, split_counts
from spatialformer_core.corpus.interchange import SPLITS, WORDS
from spatialformer_core.corpus.manifest import NAME as MANIFEST
from spatialformer_core.corpus.manifest import SLIDES, VOCABULARY, CorpusSettings, Manifest
from spatialformer_core.corpus.shard import Shard, ShardInfo, smallest_unsigned, write_shard
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.vocabulary import META_FIELDS, Vocabulary

_NEEDED = ("Full_Tokens", "Rows", "Cols", "Cell_Ids", "Sample_Names", "centroid_x", "centroid_y")


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What rows of a foreign dataset do not say.

    Attributes
    ----------
    settings
        Radius, and how its co-occurrence was computed.
    donor_column, block_column
        Columns that name the replicate units; never guessed.
    split
        Code of every cell where the rows have no ``Split``.
    known
        What is known of a slide from the manifest beside the rows; taken over where it agrees
        with them.
    token_ids
        Our id of each token id in the rows, shape ``(n_tokens,)``; None if they are the same
        (`PublishedVocabulary.own_ids` for rows of the published dataset).
    """

    settings: CorpusSettings
    donor_column: str = "Donors"
    block_column: str = "Blocks"
    split: int = 0
    known: dict[str, ShardInfo] = field(default_factory=dict)
    token_ids: IntArray | None = None


def import_dataset(
    rows: Any,
    vocabulary: Vocabulary,
    out: Path,
    told: ImportSettings,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Make a corpus of dataset rows.

    Parameters
    ----------
    rows
        A ``datasets.Dataset`` (see `read_rows`).
    vocabulary
        What the tokens mean.
    out
        Folder that shall appear.
    told
        What the rows do not say.
    progress, cancel
        Called once per slide.

    Raises
    ------
    SpatialFormerError
        If a column is missing or of another type, a token is unknown, a row contradicts itself or
        its slide, or ``out`` exists.
    """
    table = rows.with_format("arrow")[:]
    _check_columns(table, told)
    names = np.asarray(table["Sample_Names"].to_pylist(), np.str_)
    order = list(dict.fromkeys(names.tolist()))
    with files.atomic_directory(out) as folder:
        for done, name in enumerate(order):
            check(cancel)
            progress(done, len(order), f"Import: {name}")
            files.check_name(name, "The slide")
            part = table.take(np.flatnonzero(names == name))
            with files.atomic_directory(folder / SLIDES / name) as place:
                write_shard(place, _shard(name, _Rows(part, told), vocabulary))
        vocabulary.save(folder / VOCABULARY)
        describe(folder, order, vocabulary, told.settings)
    return out


def told_by(folder: Path) -> ImportSettings | None:
    """Return what the manifest of a dataset folder of ours says, None for a foreign folder."""
    if not files.is_complete(folder):
        return None
    manifest = validate(Manifest, files.read_json(folder / MANIFEST), str(folder))
    return ImportSettings(manifest.settings, known={s.slide_id: s for s in manifest.slides})


def _check_columns(table: Any, told: ImportSettings) -> None:
    wanted = {*_NEEDED, *WORDS.values(), told.donor_column, told.block_column}
    missing = sorted(wanted - set(table.column_names))
    if missing:
        raise SpatialFormerError(
            f"The rows lack the columns {', '.join(missing)}.",
            fix="Donor and block may be named by --donor-column and --block-column.",
        )
    if not table.num_rows:
        raise SpatialFormerError("The dataset has no row.")
    # Arrow itself trusts offsets that a file claims.
    table.validate(full=True)


class _Rows:
    """Columns of one slide's rows as arrays, checked."""

    def __init__(self, table: Any, told: ImportSettings) -> None:
        self.table = table.combine_chunks()
        self.told = told
        self.n = table.num_rows

    def has(self, name: str) -> bool:
        """Tell whether there is a column."""
        return name in self.table.column_names

    @property
    def has_pairs(self) -> bool:
        """Whether co-occurrence is known."""
        return bool(self.table["Rows"].null_count < max(self.n, 1))

    def flat(self, name: str, kind: type[np.generic]) -> NDArray[Any]:
        """Return a column of plain values."""
        column = self.table[name].combine_chunks()
        if column.null_count:
            raise SpatialFormerError(f"Column {name} has missing values.")
        try:
            return np.asarray(column.to_numpy(zero_copy_only=False), kind)
        except (TypeError, ValueError) as error:
            raise SpatialFormerError(f"Column {name} has another type.") from error

    def lists(self, name: str) -> tuple[LongArray, LongArray]:
        """Return row pointers and values of a column of lists."""
        import pyarrow as pa

        column = self.table[name].combine_chunks()
        kinds = pa.types
        is_list = kinds.is_list(column.type) or kinds.is_large_list(column.type)
        if not is_list or not kinds.is_integer(column.type.value_type) or column.null_count:
            raise SpatialFormerError(f"Column {name} holds no lists of whole numbers.")
        values = column.flatten()
        if values.null_count:
            raise SpatialFormerError(f"Column {name} has missing values.")
        indptr = np.asarray(column.offsets, np.int64)
        return indptr - indptr[0], np.asarray(values, np.int64)

    def one(self, name: str) -> str:
        """Return the value that all rows share."""
        values = set(self.table[name].to_pylist())
        if len(values) != 1 or not isinstance(next(iter(values)), str):
            raise SpatialFormerError(f"Column {name} differs within a slide: {len(values)} values.")
        return str(values.pop())


def _shard(name: str, rows: _Rows, vocabulary: Vocabulary) -> Shard:
    try:
        return _checked_shard(name, rows, vocabulary)
    except SpatialFormerError as error:
        raise SpatialFormerError(error.message, name, error.fix) from error


def _checked_shard(name: str, rows: _Rows, vocabulary: Vocabulary) -> Shard:
    told = rows.told
    words: Mapping[str, str] = {key: rows.one(column) for key, column in WORDS.items()}
    units = {"donor": rows.one(told.donor_column), "block": rows.one(told.block_column)}
    sample = validate(SampleMetadata, {**words, **units}, name)
    meta = vocabulary.meta_ids(sample)
    indptr, tokens = _tokens(rows, vocabulary, meta)
    pairs = _pairs(rows, indptr)
    counts = np.zeros(len(tokens), np.int64)
    if rows.has("Counts"):
        pointers, counts = rows.lists("Counts")
        if not np.array_equal(pointers, indptr) or counts.min(initial=0) < 0:
            raise SpatialFormerError("Counts do not belong to the genes.")
    xy = np.stack([rows.flat(f"centroid_{axis}", np.float32) for axis in "xy"], 1)
    split = np.full(rows.n, told.split, np.int8)
    if rows.has("Split"):
        split = _codes(rows.flat("Split", np.str_))
    source = np.arange(rows.n, dtype=np.int32)
    if rows.has("Source_Index"):
        source = rows.flat("Source_Index", np.int32)
    graph = radius_graph(xy, told.settings.radius_um)
    longest = int(np.diff(indptr).max(initial=0))
    info = ShardInfo(
        slide_id=name,
        sample=sample,
        simulated=rows.has("Simulated") and bool(rows.flat("Simulated", np.bool_).any()),
        cooccurrence=told.settings.cooccurrence if rows.has_pairs else None,
        n_cells=rows.n,
        n_tokens=len(tokens),
        n_gene_pairs=len(pairs.left),
        n_edges=len(graph.indices) // 2,
        cells_without_gene_pairs=int((np.diff(pairs.indptr) == 0).sum()),
        unknown_genes=(),
        unknown_counts=0,
        total_counts=int(counts.sum()),
        empty_cells=int((np.diff(indptr) == 0).sum()),
        split_cells=split_counts(split),
    )
    known = told.known.get(name)
    return Shard(
        info=known if known is not None and _agree(known, info) else info,
        indptr=indptr,
        tokens=tokens.astype(smallest_unsigned(len(vocabulary))),
        counts=counts.astype(smallest_unsigned(int(counts.max(initial=0)))),
        meta=meta,
        pair_indptr=pairs.indptr,
        pair_left=pairs.left.astype(smallest_unsigned(longest)),
        pair_right=pairs.right.astype(smallest_unsigned(longest)),
        graph=graph,
        xy_um=xy,
        source_cells=source,
        cell_ids=encode_names(rows.flat("Cell_Ids", np.str_)),
        split=split,
    )


def _agree(known: ShardInfo, found: ShardInfo) -> bool:
    """Tell whether two records describe the same cells; QC tallies are in the known one only."""
    same = ("sample", "simulated", "cooccurrence", "n_cells", "n_tokens", "n_gene_pairs")
    fields = (*same, "n_edges", "split_cells")
    return all(getattr(known, name) == getattr(found, name) for name in fields)


def _codes(split: NDArray[np.str_]) -> NDArray[np.int8]:
    found, inverse = np.unique(split, return_inverse=True)
    strange = [word for word in found if word not in SPLITS]
    if strange:
        raise SpatialFormerError(f"Split {str(strange[0])[:40]!r} is none of {', '.join(SPLITS)}.")
    return np.array([SPLITS[word] for word in found], np.int8)[inverse]


def _tokens(rows: _Rows, vocabulary: Vocabulary, meta: IntArray) -> tuple[LongArray, LongArray]:
    """Return row pointers and ids of the genes, and check the four words before them."""
    indptr, ids = rows.lists("Full_Tokens")
    table = rows.told.token_ids
    limit = len(vocabulary) if table is None else len(table)
    if ids.size and not (ids.min() >= 0 and ids.max() < limit):
        raise SpatialFormerError(f"A token lies outside the vocabulary of {limit:,}.")
    ids = ids if table is None else table[ids].astype(np.int64)
    lengths = np.diff(indptr)
    if lengths.min(initial=4) < 4:
        raise SpatialFormerError("A cell has no tokens of condition, tissue, species and assay.")
    place = indptr[:-1, None] + np.arange(len(META_FIELDS))
    if (ids[place] != meta).any():
        raise SpatialFormerError("The first four tokens of a cell are not its sample words.")
    keep = np.ones(len(ids), np.bool_)
    keep[place] = False
    genes = ids[keep]
    if genes.size and genes.min() < vocabulary.gene_offset:
        raise SpatialFormerError("A token among the genes is no gene.")
    pointers = indptr - 4 * np.arange(len(indptr))
    cell = np.repeat(np.arange(rows.n), np.diff(pointers))
    if len(np.unique(cell * len(vocabulary) + genes)) != len(genes):
        raise SpatialFormerError("A cell names a gene more than once.")
    return pointers, genes


def _pairs(rows: _Rows, indptr: LongArray) -> GenePairs:
    """Return each co-occurring pair once, whichever way round the rows have it."""
    if not rows.has_pairs:
        nothing = np.zeros(0, np.int32)
        return GenePairs(np.zeros(rows.n + 1, np.int64), nothing, nothing)
    pointers, left = rows.lists("Rows")
    other, right = rows.lists("Cols")
    lengths = np.diff(indptr)
    cell = np.repeat(np.arange(rows.n), np.diff(pointers))
    if not np.array_equal(pointers, other):
        raise SpatialFormerError("Rows and Cols differ in length.")
    bad = (np.minimum(left, right) < 0) | (np.maximum(left, right) >= lengths[cell])
    if bad.any():
        raise SpatialFormerError("A co-occurring pair lies outside its cell's genes.")
    low, high = np.minimum(left, right), np.maximum(left, right)
    width = int(lengths.max(initial=0)) + 1
    keys = np.unique(((cell * width + low) * width + high)[low < high])
    rest, high = np.divmod(keys, width)
    cell, low = np.divmod(rest, width)
    out = np.zeros(rows.n + 1, np.int64)
    np.cumsum(np.bincount(cell, minlength=rows.n), out=out[1:])
    return GenePairs(out, low.astype(np.int32), high.astype(np.int32))
