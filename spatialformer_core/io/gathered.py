"""Transcripts and outlines that arrive in batches, from tables of any column names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.checks import check_panel, check_xy, is_control
from spatialformer_core.io.records import Csr, Names, Polygons, Transcripts

MAX_FEATURES = 65_535
_OUTSIDE = frozenset({None, "", "UNASSIGNED", "-1", "0", "NaN", "nan", "None"})


def numbers(column: Any, where: str) -> DoubleArray:
    """Return an Arrow column of numbers; null becomes NaN.

    Raises
    ------
    SpatialFormerError
        If it holds anything else.
    """
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise SpatialFormerError(
            f"Numbers are expected and a column holds {column.type}.", where=where
        )
    values: DoubleArray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def coded(column: Any) -> tuple[IntArray, list[str | None]]:
    """Return codes and distinct texts of an Arrow array; null is code -1."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    codes = pc.fill_null(column.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
    return codes, column.dictionary.cast(pa.string()).to_pylist()


def texts(column: Any) -> Names:
    """Return an Arrow column as an array of strings; null becomes the empty string."""
    codes, values = coded(column)
    return np.array([*(value or "" for value in values), ""], np.str_)[codes]


class CellIndex:
    """Finds cells by the names that another table gives them.

    Attributes
    ----------
    n_unlisted
        Rows so far that name a cell which is not there.
    """

    def __init__(self, cell_ids: Names) -> None:
        self._place = {str(name): position for position, name in enumerate(cell_ids)}
        self.n_unlisted = 0

    def of(self, column: Any) -> IntArray:
        """Return the cell of each row, ``-1`` = none or not listed, shape ``(m,)``."""
        codes, names = coded(column)
        place = np.array([*(self._place.get(str(name), -1) for name in names), -1], np.int32)
        unlisted = np.array([*(name not in _OUTSIDE for name in names), False], np.bool_)
        self.n_unlisted += int(np.count_nonzero((unlisted & (place < 0))[codes]))
        cells: IntArray = place[codes]
        return cells


class TranscriptGatherer:
    """Collects batches of transcripts.

    Parameters
    ----------
    where
        The file, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._xyz: list[FloatArray] = []
        self._feature: list[IntArray] = []
        self._qv: list[FloatArray] = []
        self._nucleus: list[BoolArray] = []
        self._names: dict[str, int] = {}

    def add(
        self,
        xyz_um: NDArray[Any],
        feature: Any,
        qv: NDArray[Any] | None = None,
        nucleus: BoolArray | None = None,
    ) -> None:
        """Take one batch.

        Parameters
        ----------
        xyz_um
            Shape ``(m, 2)`` or ``(m, 3)``, the same in every batch.
        feature
            Arrow array of names.

        Raises
        ------
        SpatialFormerError
            If a coordinate is not finite, a name is missing, or there are too many names.
        """
        check_xy(xyz_um, self._where)
        codes, names = coded(feature)
        if len(codes) and (codes.min() < 0 or None in names or "" in names):
            raise SpatialFormerError("A transcript names no gene.", where=self._where)
        own = [self._names.setdefault(str(name), len(self._names)) for name in names]
        if len(self._names) > MAX_FEATURES:
            raise SpatialFormerError(f"More than {MAX_FEATURES:,} feature names.", self._where)
        self._xyz.append(xyz_um.astype(np.float32))
        self._feature.append(np.array([*own, -1], np.int32)[codes])
        if qv is not None:
            self._qv.append(qv.astype(np.float32))
        if nucleus is not None:
            self._nucleus.append(nucleus)

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in the order of their first appearance."""
        return tuple(self._names)

    def genes(self) -> tuple[str, ...]:
        """Return the names that are no controls, sorted.

        Raises
        ------
        SpatialFormerError
            If there is none.
        """
        names = sorted(self._names)
        gene = np.array([not is_control(name) for name in names], np.bool_)
        check_panel(names, gene, self._where)
        return tuple(name for name, keep in zip(names, gene, strict=True) if keep)

    def finish(self, cell: IntArray, genes: Sequence[str], n_unlisted: int = 0) -> Transcripts:
        """Return all transcripts.

        Raises
        ------
        SpatialFormerError
            If there is none.
        """
        if not len(cell):
            raise SpatialFormerError(
                "It holds no transcript.", where=self._where, fix="Copy the file again."
            )
        column = {gene: position for position, gene in enumerate(genes)}
        return Transcripts(
            np.concatenate(self._xyz),
            np.concatenate(self._feature),
            cell,
            np.concatenate(self._qv) if self._qv else None,
            self.names,
            np.array([column.get(name, -1) for name in self.names], np.int32),
            n_unlisted,
            np.concatenate(self._nucleus) if self._nucleus else None,
        )


def count(transcripts: Transcripts, n_cells: int, n_genes: int, min_qv: float | None) -> Csr:
    """Count the transcripts of each gene in each cell, CSR of int32, cells x genes."""
    from scipy import sparse

    gene = transcripts.gene_of_feature[transcripts.feature]
    kept = (gene >= 0) & (transcripts.cell >= 0)
    if min_qv is not None and transcripts.qv is not None:
        kept &= transcripts.qv >= min_qv
    ones = np.ones(int(np.count_nonzero(kept)), np.int32)
    shape = (n_cells, n_genes)
    return sparse.csr_matrix((ones, (transcripts.cell[kept], gene[kept])), shape=shape)


def outlines(cell: NDArray[np.integer], xy_um: NDArray[Any], n_rows: int) -> Polygons:
    """Return vertices as outlines in slide order; a row keeps the order of its vertices.

    Parameters
    ----------
    cell
        Row of each vertex, ``-1`` is left out, shape ``(n_vertices,)``.
    """
    listed = cell >= 0
    cell, xy_um = cell[listed], xy_um[listed]
    order = np.argsort(cell, kind="stable")
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(cell, minlength=n_rows), out=indptr[1:])
    return Polygons(indptr, xy_um[order].astype(np.float32))


def from_geometries(
    geometries: NDArray[Any], cell: NDArray[np.integer], n_rows: int
) -> tuple[Polygons, int]:
    """Return shapely polygons as outlines, and how many cells had several parts.

    Of a polygon in several parts the largest is the cell; holes are not kept.

    Parameters
    ----------
    geometries
        Polygons or multi-polygons, shape ``(n,)``; anything else is left out.
    cell
        Row of each, ``-1`` is left out, shape ``(n,)``.
    """
    import shapely

    listed = np.flatnonzero(cell >= 0)
    parts, owner = shapely.get_parts(geometries[listed], return_index=True)
    drawn = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    parts, row = parts[drawn], cell[listed][owner[drawn]]
    order = np.lexsort((shapely.area(parts), row))
    last = np.append(row[order][1:] != row[order][:-1], True) if len(order) else order.astype(bool)
    chosen = order[last]
    rings, ring = shapely.get_coordinates(
        shapely.get_exterior_ring(parts[chosen]), return_index=True
    )
    return outlines(row[chosen][ring], rings, n_rows), len(order) - len(chosen)
