"""Outlines of cells and nuclei from Parquet tables with one row per vertex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.arrays import FloatArray, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.checks import check_xy
from spatialformer_core.io.records import Names, Nuclei, Polygons

_COLUMNS = ("cell_id", "vertex_x", "vertex_y")
_LABEL = "label_id"


def read_polygons(path: Path, cell_ids: Names) -> tuple[Polygons, int]:
    """Read outlines in the order of the cells.

    Returns
    -------
    polygons, n_unlisted
        The outlines, and how many vertices belong to cells that are not listed.

    Raises
    ------
    SpatialFormerError
        If the file is damaged, lacks a column, holds coordinates that are not finite, or fits
        none of the cells.
    """
    cell, xy, _ = _vertices(path, cell_ids)
    listed = cell >= 0
    n_unlisted = int(len(cell) - np.count_nonzero(listed))
    cell, xy = cell[listed], xy[listed]
    order = np.argsort(cell, kind="stable")
    indptr = np.zeros(len(cell_ids) + 1, np.int64)
    np.cumsum(np.bincount(cell, minlength=len(cell_ids)), out=indptr[1:])
    return Polygons(indptr, xy[order]), n_unlisted


def read_nuclei(path: Path, cell_ids: Names) -> tuple[Nuclei, int]:
    """Read outlines of nuclei; ``label_id``, where it is there, tells several of one cell apart.

    Returns
    -------
    nuclei, n_unlisted
        The outlines, and how many vertices belong to cells that are not listed.

    Raises
    ------
    SpatialFormerError
        As `read_polygons`.
    """
    cell, xy, label = _vertices(path, cell_ids)
    order = np.lexsort((label, cell))
    order = order[cell[order] >= 0]
    n_unlisted = len(cell) - len(order)
    cell, xy, label = cell[order], xy[order], label[order]
    begins = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(label, prepend=label[:1]))
    indptr = np.append(begins, len(cell)).astype(np.int64)
    return Nuclei(cell[begins], Polygons(indptr, xy)), n_unlisted


def _vertices(path: Path, cell_ids: Names) -> tuple[IntArray, FloatArray, LongArray]:
    """Return cell (-1 = not listed), place and label of each vertex."""
    import pyarrow as pa

    file = guard.open_parquet(path, path.parent, _COLUMNS)
    with file, guard.reading(path):
        has_label = _LABEL in file.schema_arrow.names
        table = file.read(columns=[*_COLUMNS, *([_LABEL] * has_label)])
        table = table.unify_dictionaries().combine_chunks()
        table.validate(full=True)
        xy = np.empty((table.num_rows, 2), np.float32)
        for axis, name in enumerate(_COLUMNS[1:]):
            xy[:, axis] = table.column(name).cast(pa.float64()).to_numpy()
        label = np.zeros(len(xy), np.int64)
        if has_label:
            label[:] = table.column(_LABEL).cast(pa.int64()).fill_null(0).to_numpy()
        cell = _cells(table.column("cell_id"), cell_ids)
    check_xy(xy, path.name)
    if not (cell >= 0).any():
        raise SpatialFormerError(
            "None of its cell ids is a cell of this slide.",
            where=path.name,
            fix="Check that the file belongs to this slide.",
        )
    return cell, xy, label


def _cells(column: Any, cell_ids: Names) -> IntArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    values = pa.array(cell_ids.tolist(), pa.string())
    parts = []
    for chunk in column.chunks:
        names = chunk.dictionary.cast(pa.string())
        index = pc.fill_null(pc.index_in(names, value_set=values), -1).to_numpy(
            zero_copy_only=False
        )
        codes = pc.fill_null(chunk.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
        parts.append(np.append(index, -1).astype(np.int32)[codes])
    cells: IntArray = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    return cells
