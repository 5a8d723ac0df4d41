"""Transcripts from Parquet, streamed by row group so that memory holds only numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import BoolArray, FloatArray, IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.checks import check_xy
from spatialformer_core.io.records import Names, Transcripts

_BATCH_ROWS = 1 << 20
_MAX_FEATURES = 65_535
_OUTSIDE = (None, "", "UNASSIGNED", "-1", "0", "NaN", "nan")
_REQUIRED = ("x_location", "y_location", "feature_name")


@dataclass
class _Names:
    """Feature names in the order of their first appearance."""

    codes: dict[str, int] = field(default_factory=dict)

    def of(self, names: list[str | None], path: Path) -> IntArray:
        if None in names:
            raise SpatialFormerError("A transcript has no feature_name.", where=path.name)
        for name in names:
            self.codes.setdefault(str(name), len(self.codes))
        if len(self.codes) > _MAX_FEATURES:
            raise SpatialFormerError(f"More than {_MAX_FEATURES:,} feature names.", where=path.name)
        return np.array([self.codes[str(name)] for name in names], np.int32)


def _dictionary(column: Any) -> tuple[IntArray, Any]:
    """Return ``(codes, values)`` of a column; null is code -1."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    codes = pc.fill_null(column.indices.cast(pa.int32()), -1)
    values = column.dictionary
    # Some instruments write ids as bytes, the first ones as whole numbers.
    return codes.to_numpy(zero_copy_only=False), values.cast(pa.string())


def _floats(column: Any, path: Path, name: str) -> NDArray[Any]:
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise SpatialFormerError(
            f"Column {name} holds {column.type}; numbers expected.", where=path.name
        )
    values: NDArray[Any] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _flags(column: Any, path: Path) -> BoolArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        raise SpatialFormerError(
            f"Column overlaps_nucleus holds {column.type}; 0 or 1 expected.", where=path.name
        )
    flags: BoolArray = pc.fill_null(column.cast(pa.int8()), 0).to_numpy(zero_copy_only=False) != 0
    return flags


class _Reader:
    """Fills preallocated arrays batch by batch."""

    def __init__(self, path: Path, file: Any, cell_ids: Names) -> None:
        import pyarrow as pa

        names = file.schema_arrow.names
        n = file.metadata.num_rows
        self.path = path
        self.axes = ("x_location", "y_location") + (
            ("z_location",) if "z_location" in names else ()
        )
        self.has_qv, self.has_cell = "qv" in names, "cell_id" in names
        self.has_nucleus = "overlaps_nucleus" in names
        self.columns = [*self.axes, "feature_name"]
        self.columns += ["cell_id"] * self.has_cell + ["qv"] * self.has_qv
        self.columns += ["overlaps_nucleus"] * self.has_nucleus
        self.xyz: FloatArray = np.empty((n, len(self.axes)), np.float32)
        self.feature: IntArray = np.empty(n, np.int32)
        self.cell: IntArray = np.full(n, -1, np.int32)
        self.qv: FloatArray | None = np.empty(n, np.float32) if self.has_qv else None
        self.nucleus: BoolArray | None = np.empty(n, np.bool_) if self.has_nucleus else None
        self.cells = pa.array(cell_ids.tolist(), pa.string())
        self.names = _Names()
        self.n_unlisted = 0
        self.done = 0

    def add(self, batch: Any) -> None:
        """Take one record batch."""
        batch.validate(full=True)
        start, stop = self.done, self.done + batch.num_rows
        for axis, name in enumerate(self.axes):
            self.xyz[start:stop, axis] = _floats(batch.column(name), self.path, name)
        check_xy(self.xyz[start:stop], self.path.name)
        codes, values = _dictionary(batch.column("feature_name"))
        if len(codes) and codes.min() < 0:
            raise SpatialFormerError("A transcript has no feature_name.", where=self.path.name)
        self.feature[start:stop] = self.names.of(values.to_pylist(), self.path)[codes]
        if self.has_cell:
            self.cell[start:stop] = self._cells(batch.column("cell_id"))
        if self.qv is not None:
            self.qv[start:stop] = _floats(batch.column("qv"), self.path, "qv")
        if self.nucleus is not None:
            self.nucleus[start:stop] = _flags(batch.column("overlaps_nucleus"), self.path)
        self.done = stop

    def _cells(self, column: Any) -> IntArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        codes, values = _dictionary(column)
        index = pc.fill_null(pc.index_in(values, value_set=self.cells), -1).to_numpy(
            zero_copy_only=False
        )
        outside = pc.is_in(values, value_set=pa.array(_OUTSIDE)).to_numpy(zero_copy_only=False)
        outside = np.append(outside, True)  # null, which has code -1
        index = np.append(index, -1).astype(np.int32)
        unlisted = (index < 0) & ~outside
        self.n_unlisted += int(np.count_nonzero(unlisted[codes]))
        cells: IntArray = index[codes]
        return cells


def read_transcripts(
    path: Path,
    cell_ids: Names,
    genes: tuple[str, ...],
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> Transcripts:
    """Read a transcript table with Xenium's column names.

    Parameters
    ----------
    path
        Parquet file with ``x_location y_location feature_name``; ``z_location``, ``qv``,
        ``overlaps_nucleus`` and ``cell_id`` are optional. A null or ``UNASSIGNED`` cell id
        means outside any cell.
    cell_ids
        The cells, shape ``(n,)``.
    genes
        The gene columns of the matrix.

    Raises
    ------
    SpatialFormerError
        If the file is damaged, lacks a column, or holds coordinates that are not finite.
    """
    file = guard.open_parquet(path, path.parent, _REQUIRED)
    with file, guard.reading(path):
        reader = _Reader(path, file, cell_ids)
        total = file.metadata.num_rows
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=reader.columns):
            progress_.check(cancel)
            reader.add(batch)
            progress(reader.done, total, "Reading transcripts")
    if reader.done != total or total == 0:
        raise SpatialFormerError(
            f"{reader.done:,} transcripts found, {total:,} declared.", where=path.name
        )
    names = tuple(reader.names.codes)
    column = {gene: position for position, gene in enumerate(genes)}
    return Transcripts(
        reader.xyz,
        reader.feature,
        reader.cell,
        reader.qv,
        names,
        np.array([column.get(name, -1) for name in names], np.int32),
        reader.n_unlisted,
        reader.nucleus,
    )
