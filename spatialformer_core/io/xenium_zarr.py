"""The Zarr files of a Xenium folder: cells with their masks and polygons, transcripts, matrix.

Layouts as the instrument's documentation describes them ("Overview of Xenium Zarr Output Files").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import BoolArray, IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.archive import Archive, open_archive
from spatialformer_core.io.checks import check_xy
from spatialformer_core.io.records import Names
from spatialformer_core.io.zarr_zip import ZippedArray, open_array

CELLS, TRANSCRIPTS = "cells.zarr.zip", "transcripts.zarr.zip"
NUCLEUS, CELL = 0, 1
"""Numbers of the masks and polygon sets."""

MAX_FEATURE_NAMES = 65_536
_MAX_TILE_ROWS = 1 << 26
_MAX_WINDOW_PIXELS = 1 << 28
_POLYGON_ROWS = 1 << 16
_HEX_TO_ID = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_INSTEAD = "Copy transcripts.parquet or transcripts.csv.gz too."


def cell_names(numbers: NDArray[Any]) -> Names:
    """Return cell ids as the tables spell them.

    Parameters
    ----------
    numbers
        Prefix and suffix, shape ``(n, 2)``, or from the first instruments whole numbers ``(n,)``.
        A prefix is written as eight hexadecimal digits with ``0``-``f`` replaced by ``a``-``p``.
    """
    if numbers.ndim == 1:
        return numbers.astype(np.str_)
    texts = [
        f"{int(prefix):08x}".translate(_HEX_TO_ID) + f"-{int(suffix)}" for prefix, suffix in numbers
    ]
    return np.array(texts, np.str_)


def read_cell_ids(archive: Archive, name: str) -> Names:
    """Return the cell ids that an archive stores under a name.

    Raises
    ------
    SpatialFormerError
        If they are no whole numbers with one or two columns.
    """
    dimensions = len(archive.json(f"{name}/.zarray").get("shape", ()))
    stored = open_array(archive, name, 1 if dimensions == 1 else 2)
    if stored.dtype.kind not in "ui" or stored.shape[1:] not in ((), (2,)):
        raise SpatialFormerError(
            f"Array {name!r} of shape {stored.shape} holds no cell ids.", archive.path.name
        )
    return cell_names(stored.read())


def cells(folder: Path) -> Iterator[Any]:
    """Yield the cells as one record batch with the columns of ``cells.parquet``.

    Raises
    ------
    SpatialFormerError
        If the file is refused, or lacks a column.
    """
    import pyarrow as pa

    with open_archive(folder / CELLS, folder) as archive:
        ids = read_cell_ids(archive, "cell_id")
        stated = archive.json("cell_summary/.zattrs").get("column_names")
        names: list[Any] = stated if isinstance(stated, list) else []
        summary = open_array(archive, "cell_summary", 2)
        wanted = {
            "cell_centroid_x": "x_centroid",
            "cell_centroid_y": "y_centroid",
            "cell_area": "cell_area",
        }
        if summary.shape != (len(ids), len(names)) or not set(wanted) <= set(map(str, names)):
            raise SpatialFormerError(
                f"cell_summary has shape {summary.shape} for {len(ids):,} cells and columns "
                f"{str(names)[:120]}.",
                where=CELLS,
            )
        values = summary.read()
    columns = {to: values[:, names.index(name)] for name, to in wanted.items()}
    yield pa.RecordBatch.from_pydict({"cell_id": ids.tolist(), **columns})


def has_polygons(folder: Path) -> bool:
    """Tell whether the cells' archive holds polygons in the layout of version 2 and later.

    Raises
    ------
    SpatialFormerError
        If the archive is refused.
    """
    with open_archive(folder / CELLS, folder) as archive:
        return f"polygon_sets/{CELL}/vertices/.zarray" in archive.sizes


def outlines(folder: Path, which: int) -> Iterator[Any]:
    """Yield outlines as record batches with the columns of ``cell_boundaries.parquet``.

    Parameters
    ----------
    which
        ``NUCLEUS`` or ``CELL``.

    Raises
    ------
    SpatialFormerError
        If the file is refused, or its arrays do not fit each other.
    """
    import pyarrow as pa

    with open_archive(folder / CELLS, folder) as archive:
        ids = read_cell_ids(archive, "cell_id")
        base = f"polygon_sets/{which}"
        owner = _owners(archive, which, len(ids))
        count = open_array(archive, f"{base}/num_vertices", 1).read().astype(np.int64)
        vertices = open_array(archive, f"{base}/vertices", 2)
        n, width = vertices.shape
        if (
            len(count) != n
            or len(owner) != n
            or (n and (count.min() < 0 or 2 * count.max() > width))
        ):
            raise SpatialFormerError(f"The arrays of {base} do not fit each other.", where=CELLS)
        for start in range(0, n, _POLYGON_ROWS):
            stop = min(start + _POLYGON_ROWS, n)
            xy = vertices.region((start, stop), (0, width)).reshape(stop - start, -1, 2)
            drawn = np.arange(xy.shape[1]) < count[start:stop, None]
            row = np.repeat(np.arange(start, stop), count[start:stop])
            yield pa.RecordBatch.from_pydict(
                {
                    "cell_id": ids[owner[row]].tolist(),
                    "vertex_x": xy[drawn][:, 0].astype(np.float64),
                    "vertex_y": xy[drawn][:, 1].astype(np.float64),
                    "label_id": row + 1,
                }
            )


def _owners(archive: Archive, which: int, n_cells: int) -> NDArray[np.int64]:
    """Return the cell of each polygon of a set; polygon i has the mask value i + 1."""
    name = f"polygon_sets/{which}/cell_index"
    owner = open_array(archive, name, 1).read().astype(np.int64)
    if len(owner) and (owner.min() < 0 or owner.max() >= n_cells):
        raise SpatialFormerError(f"{name} names a cell beyond {n_cells:,}.", where=CELLS)
    return owner


@dataclass(frozen=True, slots=True)
class _Masks:
    """The segmentation that the instrument used to give transcripts to cells.

    Attributes
    ----------
    names
        Arrow array of the cell ids, ``UNASSIGNED`` last.
    """

    nucleus: ZippedArray
    cell: ZippedArray
    owner: NDArray[np.int64]
    names: Any
    pixel_um: float

    def at(self, xy_um: NDArray[Any]) -> tuple[IntArray, BoolArray]:
        """Return the cell (-1 = none) under each point, and whether a nucleus is there."""
        pixel = np.floor(xy_um / self.pixel_um).astype(np.int64)
        height, width = self.cell.shape
        inside = ((pixel >= 0) & (pixel < [width, height])).all(axis=1)
        cell = np.full(len(xy_um), -1, np.int32)
        nucleus = np.zeros(len(xy_um), np.bool_)
        if not inside.any():
            return cell, nucleus
        low, high = pixel[inside].min(axis=0), pixel[inside].max(axis=0) + 1
        if int(np.prod(high - low)) > _MAX_WINDOW_PIXELS:
            raise SpatialFormerError("One tile covers too much of the slide.", where=TRANSCRIPTS)
        spans = (int(low[1]), int(high[1])), (int(low[0]), int(high[0]))
        column, row = (pixel[inside] - low).T
        value = self.cell.region(*spans)[row, column].astype(np.int64)
        if value.max() > len(self.owner):
            raise SpatialFormerError("A mask value names no polygon.", where=CELLS)
        cell[inside] = np.where(value > 0, self.owner[value - 1], -1) if len(self.owner) else -1
        nucleus[inside] = self.nucleus.region(*spans)[row, column] > 0
        return cell, nucleus


def _masks(archive: Archive, pixel_um: float | None) -> _Masks:
    import pyarrow as pa

    sets = f"polygon_sets/{CELL}/cell_index/.zarray", f"masks/{CELL}/.zarray"
    if pixel_um is None or not all(name in archive.sizes for name in sets):
        lacking = "the pixel size" if pixel_um is None else "masks of version 2 or later"
        raise SpatialFormerError(
            f"{TRANSCRIPTS} names no cells; they are looked up in the masks of {CELLS}, and "
            f"{lacking} cannot be found.",
            where=CELLS,
            fix=_INSTEAD,
        )
    nucleus, cell = (open_array(archive, f"masks/{which}", 2) for which in (NUCLEUS, CELL))
    if nucleus.shape != cell.shape or {nucleus.dtype.kind, cell.dtype.kind} - {"u", "i"}:
        raise SpatialFormerError("The masks differ in size or hold fractions.", where=CELLS)
    ids = read_cell_ids(archive, "cell_id").tolist()
    names = pa.array([*ids, "UNASSIGNED"])
    return _Masks(nucleus, cell, _owners(archive, CELL, len(ids)), names, pixel_um)


def transcripts(
    folder: Path, pixel_um: float | None, cancel: progress_.Cancel = progress_.never
) -> Iterator[Any]:
    """Yield transcripts, tile by tile, with the columns of ``transcripts.parquet``.

    Only valid transcripts of the finest level are taken. The file names no cells: they come from
    the segmentation masks, which is how the instrument assigned them.

    Parameters
    ----------
    pixel_um
        Size of a mask's pixel, which is a morphology pixel.

    Raises
    ------
    SpatialFormerError
        If the file is refused, a tile's arrays do not fit each other, or there are no masks.
    """
    import pyarrow as pa

    with ExitStack() as stack:
        if not (folder / CELLS).exists():
            raise SpatialFormerError(
                f"{TRANSCRIPTS} names no cells; {CELLS} with its masks is needed beside it.",
                where=TRANSCRIPTS,
                fix=_INSTEAD,
            )
        masks = _masks(stack.enter_context(open_archive(folder / CELLS, folder)), pixel_um)
        archive = stack.enter_context(open_archive(folder / TRANSCRIPTS, folder))
        features = archive.json(".zattrs").get("gene_names")
        if not isinstance(features, list) or not 0 < len(features) <= MAX_FEATURE_NAMES:
            raise SpatialFormerError("It holds no list 'gene_names'.", where=TRANSCRIPTS)
        parts = [name.split("/") for name in archive.sizes if name.startswith("grids/0/")]
        tiles = sorted({part[2] for part in parts if len(part) > 3})
        if not tiles:
            raise SpatialFormerError("It holds no tile below grids/0.", where=TRANSCRIPTS)
        named = pa.array([str(name) for name in features])
        for tile in tiles:
            progress_.check(cancel)
            yield _tile(archive, f"grids/0/{tile}", named, masks)


def _tile(archive: Archive, base: str, features: Any, masks: _Masks) -> Any:
    import pyarrow as pa

    location = open_array(archive, f"{base}/location", 2)
    n = location.shape[0]
    if location.shape[1] != 3 or n > _MAX_TILE_ROWS:
        raise SpatialFormerError(f"{base}/location has shape {location.shape}.", where=TRANSCRIPTS)
    xyz = location.read().astype(np.float32)
    gene, quality, valid = (
        _column(archive, f"{base}/{name}", n)
        for name in ("gene_identity", "quality_score", "valid")
    )
    keep = valid > 0
    xyz, gene, quality = xyz[keep], gene[keep].astype(np.int64), quality[keep]
    if len(gene) and not (gene.min() >= 0 and gene.max() < len(features)):
        raise SpatialFormerError(f"{base} names a gene beyond gene_names.", where=TRANSCRIPTS)
    # Before the masks are looked at: a place that is not finite has no pixel.
    check_xy(xyz, TRANSCRIPTS)
    cell, nucleus = masks.at(xyz[:, :2].astype(np.float64))
    place = np.where(cell < 0, len(masks.names) - 1, cell)
    return pa.RecordBatch.from_pydict(
        {
            "cell_id": masks.names.take(pa.array(place)),
            "overlaps_nucleus": nucleus.astype(np.int32),
            "feature_name": features.take(pa.array(gene)),
            "x_location": xyz[:, 0],
            "y_location": xyz[:, 1],
            "z_location": xyz[:, 2],
            "qv": quality.astype(np.float32),
        }
    )


def _column(archive: Archive, name: str, n: int) -> NDArray[Any]:
    """Return a value per transcript; the file stores it with or without a second dimension."""
    dimensions = len(archive.json(f"{name}/.zarray").get("shape", ()))
    stored = open_array(archive, name, 1 if dimensions == 1 else 2)
    if stored.shape[0] != n or (len(stored.shape) == 2 and stored.shape[1] < 1):
        raise SpatialFormerError(
            f"{name} has shape {stored.shape}; {n:,} rows are expected.", where=TRANSCRIPTS
        )
    values = stored.read()
    return values if values.ndim == 1 else values[:, 0]
