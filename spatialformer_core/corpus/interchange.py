"""A corpus as a Hugging Face ``datasets`` table, one row per cell, and back.

Column names are those of the published dataset where the meaning is the same; ours have no
counterpart there and may be missing on import (`COLUMNS` says which). Only Arrow is read: no
loading script, no pickle. The cell graph is not exported; it follows from the centroids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import GenePairs, IntArray, LongArray
from spatialformer_core.corpus.corpus import Corpus
from spatialformer_core.corpus.manifest import VOCABULARY
from spatialformer_core.corpus.shard import GAP, SPLIT_CODES
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent

ROWS = "rows"
"""Folder of the Arrow files, beside manifest and vocabulary."""

COLUMNS: dict[str, str] = {
    "Full_Tokens": "ids of condition, tissue, species, assay, then genes by rank",
    "Rows": "co-occurring genes as places among the genes, both directions; null = not known",
    "Cols": "the partners of Rows",
    "Shape": "number of genes, twice",
    "Cell_Ids": "name of the cell in its slide",
    "Sample_Names": "slide id; names the shard on import",
    "centroid_x": "micrometres",
    "centroid_y": "micrometres",
    "Tissues": "sample word",
    "Species": "sample word",
    "Assay": "sample word",
    "Conditions": "sample word",
    "Split": "train, validation, test or gap",
    "Counts": "ours, optional: raw counts of the genes",
    "Donors": "ours: replicate unit",
    "Blocks": "ours: replicate unit",
    "Source_Index": "ours, optional: index of the cell in its slide",
    "Simulated": "ours, optional: whether it is simulated tissue",
}
SPLITS: dict[str, int] = {**{str(k): code for k, code in SPLIT_CODES.items()}, "gap": GAP}
WORDS = {"condition": "Conditions", "tissue": "Tissues", "species": "Species", "assay": "Assay"}
"""Column of each sample word."""
_BATCH = 20_000


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise SpatialFormerError(
            "The Hugging Face package `datasets` is not installed.",
            fix="Install the extra: pip install -e '.[train]'.",
        ) from error
    datasets.disable_progress_bars()
    return datasets


def export_dataset(
    corpus: Corpus, out: Path, *, progress: Progress = silent, cancel: Cancel = never
) -> Path:
    """Write a corpus as a dataset folder; ``datasets.load_from_disk(out / "rows")`` reads it.

    Raises
    ------
    SpatialFormerError
        If ``out`` exists or the extra ``[train]`` is not installed.
    """
    library = _library()
    import pyarrow as pa

    schema = arrow_schema()
    with files.atomic_directory(out) as folder:
        tables = []
        for number in range(len(corpus.shards)):
            for start, table in _tables(corpus, number, schema):
                check(cancel)
                progress(int(corpus.offsets[number]) + start, corpus.n_cells, "Export")
                tables.append(table)
        rows = library.Dataset(pa.concat_tables(tables), fingerprint=corpus.vocabulary.fingerprint)
        rows.save_to_disk(str(folder / ROWS))
        corpus.vocabulary.save(folder / VOCABULARY)
        corpus.manifest.save(folder)
    return out


def arrow_schema() -> Any:
    """Return the types of the columns."""
    import pyarrow as pa

    numbers = pa.list_(pa.int32())
    types = dict.fromkeys(COLUMNS, pa.string())
    types |= dict.fromkeys(("Full_Tokens", "Rows", "Cols", "Shape", "Counts"), numbers)
    types |= {"centroid_x": pa.float32(), "centroid_y": pa.float32(), "Source_Index": pa.int32()}
    types |= {"Simulated": pa.bool_()}
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


def _tables(corpus: Corpus, number: int, schema: Any) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa

    shard = corpus.shards[number]
    first = int(corpus.offsets[number])
    words = {code: name for name, code in SPLITS.items()}
    sample, known = shard.info.sample, shard.info.has_cooccurrence
    for start in range(0, shard.info.n_cells, _BATCH):
        stop = min(start + _BATCH, shard.info.n_cells)
        at = np.arange(first + start, first + stop)
        cells, linked = corpus.cells(at), corpus.cooccurrence(at)
        full = np.insert(cells.tokens, np.repeat(cells.indptr[:-1], 4), cells.meta.ravel())
        rows, cols, pair_indptr = _both_ways(linked)
        n = stop - start
        columns = {
            "Full_Tokens": _lists(cells.indptr + 4 * np.arange(n + 1), full),
            "Rows": _lists(pair_indptr, rows) if known else [None] * n,
            "Cols": _lists(pair_indptr, cols) if known else [None] * n,
            "Shape": _lists(2 * np.arange(n + 1), np.repeat(cells.lengths, 2)),
            "Cell_Ids": [name.decode("utf-8") for name in shard.cell_ids[start:stop]],
            "Sample_Names": [shard.info.slide_id] * n,
            "centroid_x": shard.xy_um[start:stop, 0],
            "centroid_y": shard.xy_um[start:stop, 1],
            **{column: [getattr(sample, name)] * n for name, column in WORDS.items()},
            "Split": [words[int(code)] for code in shard.split[start:stop]],
            "Counts": _lists(cells.indptr, cells.counts),
            "Donors": [sample.donor] * n,
            "Blocks": [sample.block] * n,
            "Source_Index": shard.source_cells[start:stop],
            "Simulated": [shard.info.simulated] * n,
        }
        arrays = [pa.array(columns[name], schema.field(name).type) for name in COLUMNS]
        yield start, pa.Table.from_arrays(arrays, schema=schema)


def _lists(indptr: LongArray, values: NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(values, pa.int32()))


def _both_ways(pairs: GenePairs) -> tuple[IntArray, IntArray, LongArray]:
    """Return each pair in both directions, row by row, sorted."""
    cell = np.repeat(np.arange(pairs.n_cells), np.diff(pairs.indptr))
    cell = np.concatenate([cell, cell])
    rows = np.concatenate([pairs.left, pairs.right])
    cols = np.concatenate([pairs.right, pairs.left])
    order = np.lexsort((cols, rows, cell))
    return rows[order], cols[order], 2 * pairs.indptr


def read_rows(folder: Path) -> Any:
    """Open the rows of a dataset folder that `save_to_disk` wrote, ours or another.

    Raises
    ------
    SpatialFormerError
        If there are none, or the extra ``[train]`` is not installed.
    """
    library = _library()
    path = folder / ROWS if (folder / ROWS).is_dir() else folder
    unexpected = [p.name for p in path.rglob("*") if p.suffix not in {".arrow", ".json", ""}]
    if not list(path.glob("*.arrow")) or unexpected:
        raise SpatialFormerError(
            "The folder holds no Arrow rows, or other files beside them: "
            f"{', '.join(unexpected[:3]) or 'no .arrow file'}.",
            where=str(path),
            fix="Give a folder that `Dataset.save_to_disk` wrote.",
        )
    try:
        return library.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpatialFormerError(f"The rows cannot be read: {error}.", str(path)) from error
