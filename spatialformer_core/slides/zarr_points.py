"""Transcripts as a SpatialData points element, written and read row group by row group.

SpatialData writes the element's metadata from a frame of one row; the Parquet files beside it are
ours. A frame of all rows would cost several times the memory of the transcripts, and Arrow would
write the names of the cells out in full, one per transcript.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, FloatArray, IntArray
from spatialformer_core.io.records import Names, Transcripts
from spatialformer_core.keys import Elements, Obs

OUTSIDE = "UNASSIGNED"
FEATURE, QUALITY, OVER_NUCLEUS = "feature_name", "qv", "overlaps_nucleus"
_ROWS_PER_GROUP = 1 << 21
_GROUPS_PER_FILE = 4


def points_folder(zarr: Path) -> Path:
    """Return where the Parquet files of the transcripts lie."""
    return zarr / "points" / Elements.TRANSCRIPTS / "points.parquet"


def first_rows(transcripts: Transcripts, cell_ids: Names) -> Any:
    """Return a points element of one row: what SpatialData writes the metadata from."""
    from spatialdata.models import PointsModel

    writer = _Batches(transcripts, cell_ids)
    return PointsModel.parse(
        writer.batch(slice(0, 1)).to_pandas(),
        coordinates={axis: axis for axis in writer.axes},
        feature_key=FEATURE,
        instance_key=Obs.CELL_ID,
        npartitions=1,
    )


def write_rows(zarr: Path, transcripts: Transcripts, cell_ids: Names) -> None:
    """Put all transcripts, in file order, in the place of the first one."""
    import pyarrow.parquet as pq

    folder = points_folder(zarr)
    shutil.rmtree(folder)
    folder.mkdir()
    writer = _Batches(transcripts, cell_ids)
    rows = _ROWS_PER_GROUP * _GROUPS_PER_FILE
    for number, start in enumerate(range(0, transcripts.n, rows)):
        with (
            files.atomic_write(folder / f"part.{number}.parquet") as stream,
            pq.ParquetWriter(
                stream,
                writer.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[FEATURE, Obs.CELL_ID],
                # The names of all cells fit in it, so that rows stay codes.
                dictionary_pagesize_limit=1 << 30,
            ) as part,
        ):
            for first in range(start, min(start + rows, transcripts.n), _ROWS_PER_GROUP):
                batch = writer.batch(slice(first, min(first + _ROWS_PER_GROUP, transcripts.n)))
                part.write_batch(batch, row_group_size=_ROWS_PER_GROUP)


class _Batches:
    """Cuts transcripts into Arrow batches."""

    def __init__(self, transcripts: Transcripts, cell_ids: Names) -> None:
        import pyarrow as pa

        self.transcripts = transcripts
        self.axes = "xyz"[: transcripts.xyz_um.shape[1]]
        self.features = pa.array(list(transcripts.feature_names), pa.string())
        self.cells = pa.array([*cell_ids.tolist(), OUTSIDE], pa.string())
        self.schema = self.batch(slice(0, 1)).schema

    def batch(self, rows: slice) -> Any:
        """Return some rows as a record batch."""
        import pyarrow as pa

        found = self.transcripts
        cell = found.cell[rows].astype(np.int32)
        cell[cell < 0] = len(self.cells) - 1
        codes = {
            FEATURE: (found.feature[rows].astype(np.int32), self.features),
            Obs.CELL_ID: (cell, self.cells),
        }
        columns: dict[str, Any] = {
            axis: np.ascontiguousarray(found.xyz_um[rows, i]) for i, axis in enumerate(self.axes)
        }
        columns |= {name: pa.DictionaryArray.from_arrays(*pair) for name, pair in codes.items()}
        if found.qv is not None:
            columns[QUALITY] = found.qv[rows]
        if found.overlaps_nucleus is not None:
            columns[OVER_NUCLEUS] = found.overlaps_nucleus[rows]
        return pa.RecordBatch.from_pydict(columns)


def read_rows(zarr: Path, cell_ids: Names, genes: tuple[str, ...]) -> Transcripts:
    """Read the transcripts back, as they were when the slide was written."""
    import pyarrow.parquet as pq

    folder = points_folder(zarr)
    if not folder.is_dir():
        return Transcripts.none()
    paths = sorted(folder.glob("part.*.parquet"), key=lambda path: int(path.name.split(".")[1]))
    total = sum(pq.read_metadata(path).num_rows for path in paths)
    reader: _Rows | None = None
    for batch in _batches(paths):
        if reader is None:
            reader = _Rows(total, batch.schema.names, cell_ids)
        reader.add(batch)
    return Transcripts.none() if reader is None else reader.transcripts(genes)


def _batches(paths: list[Path]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path, read_dictionary=[FEATURE, Obs.CELL_ID]) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group).to_batches()


class _Rows:
    """Fills arrays from batches."""

    def __init__(self, n: int, names: list[str], cell_ids: Names) -> None:
        self.axes = [axis for axis in "xyz" if axis in names]
        self.xyz: FloatArray = np.empty((n, len(self.axes)), np.float32)
        self.feature: IntArray = np.empty(n, np.int32)
        self.cell: IntArray = np.empty(n, np.int32)
        self.qv: FloatArray | None = np.empty(n, np.float32) if QUALITY in names else None
        self.over: BoolArray | None = np.empty(n, np.bool_) if OVER_NUCLEUS in names else None
        self.features: dict[str, int] = {}
        self.cells = {name: i for i, name in enumerate(cell_ids.tolist())} | {OUTSIDE: -1}
        self.done = 0

    def add(self, batch: Any) -> None:
        rows = slice(self.done, self.done + batch.num_rows)
        for i, axis in enumerate(self.axes):
            self.xyz[rows, i] = batch.column(axis).to_numpy()
        names = batch.column(FEATURE).dictionary.to_pylist()
        codes = [self.features.setdefault(name, len(self.features)) for name in names]
        self.feature[rows] = np.array(codes, np.int32)[_codes(batch.column(FEATURE))]
        names = batch.column(Obs.CELL_ID).dictionary.to_pylist()
        cells = np.array([self.cells[name] for name in names], np.int32)
        self.cell[rows] = cells[_codes(batch.column(Obs.CELL_ID))]
        if self.qv is not None:
            self.qv[rows] = batch.column(QUALITY).to_numpy()
        if self.over is not None:
            self.over[rows] = batch.column(OVER_NUCLEUS).to_numpy(zero_copy_only=False)
        self.done = rows.stop

    def transcripts(self, genes: tuple[str, ...]) -> Transcripts:
        column = {gene: position for position, gene in enumerate(genes)}
        names = tuple(self.features)
        gene = np.array([column.get(name, -1) for name in names], np.int32)
        return Transcripts(
            self.xyz, self.feature, self.cell, self.qv, names, gene, overlaps_nucleus=self.over
        )


def _codes(column: Any) -> IntArray:
    codes: IntArray = column.indices.to_numpy()
    return codes
