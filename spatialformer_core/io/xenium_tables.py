"""Tables of a Xenium folder in whatever form they are there, handed on as Parquet.

CSV and Zarr forms are streamed into a scratch Parquet file of the same name, so that one reader
checks them all and an error names the file that the user knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spatialformer_core import files
from spatialformer_core import progress as progress_
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited, guard, xenium_zarr

FORMS = {
    "cells": ("cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip"),
    "transcripts": (
        "transcripts.parquet",
        "transcripts.csv.gz",
        "transcripts.csv",
        "transcripts.zarr.zip",
    ),
    "cell_boundaries": (
        "cell_boundaries.parquet",
        "cell_boundaries.csv.gz",
        "cell_boundaries.csv",
        "cells.zarr.zip",
    ),
    "nucleus_boundaries": (
        "nucleus_boundaries.parquet",
        "nucleus_boundaries.csv.gz",
        "nucleus_boundaries.csv",
        "cells.zarr.zip",
    ),
}
"""Forms of each table, the best first: Zarr comes last because its transcripts name no cell."""

Rows = Iterator[Any]


def forms_of(table: str) -> str:
    """Return the forms of a table as words: the first, and the others in parentheses."""
    first, *others = FORMS[table]
    return f"{first} (or {', '.join(others)})"


def find(folder: Path, table: str) -> Path | None:
    """Return the best form of a table that a folder holds, None if it holds none."""
    paths = [folder / name for name in FORMS[table]]
    return next((path for path in paths if path.exists() or path.is_symlink()), None)


def as_parquet(
    path: Path,
    table: str,
    scratch: Path,
    pixel_um: float | None = None,
    cancel: progress_.Cancel = progress_.never,
) -> Path:
    """Return a Parquet file with the rows of a table.

    Parameters
    ----------
    path
        What `find` returned.
    table
        Which table it is.
    scratch
        A folder for the Parquet file of another form; it must live as long as the file is read.
    pixel_um
        Size of a morphology pixel; transcripts in Zarr form need it.

    Raises
    ------
    SpatialFormerError
        If the file is damaged or refused, or lacks something that its form needs.
    """
    folder = path.parent
    if path.suffix == ".parquet":
        guard.check_file(path, folder)
        return path
    if path.suffix == ".zip":
        rows = _zarr_rows(folder, table, pixel_um, cancel)
    else:
        required, optional = _columns(table)
        rows = delimited.batches(path, folder, required, optional, cancel)
    target = scratch / table / path.name
    _write(target, rows, path)
    return target


def _columns(table: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return Arrow types of the required and the optional columns of a table."""
    import pyarrow as pa

    real, text, small = pa.float32(), pa.string(), pa.int32()
    if table == "cells":
        place = dict.fromkeys(("x_centroid", "y_centroid"), pa.float64())
        return {"cell_id": text, **place}, {"cell_area": pa.float64()}
    if table == "transcripts":
        required = {"x_location": real, "y_location": real, "feature_name": text}
        others = {"z_location": real, "qv": real, "cell_id": text, "overlaps_nucleus": small}
        return required, others
    return {"cell_id": text, "vertex_x": pa.float64(), "vertex_y": pa.float64()}, {
        "label_id": pa.int64()
    }


def _zarr_rows(folder: Path, table: str, pixel_um: float | None, cancel: progress_.Cancel) -> Rows:
    readers: dict[str, Callable[[], Rows]] = {
        "cells": lambda: xenium_zarr.cells(folder),
        "transcripts": lambda: xenium_zarr.transcripts(folder, pixel_um, cancel),
        "cell_boundaries": lambda: xenium_zarr.outlines(folder, xenium_zarr.CELL),
        "nucleus_boundaries": lambda: xenium_zarr.outlines(folder, xenium_zarr.NUCLEUS),
    }
    return readers[table]()


def _write(target: Path, rows: Rows, source: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(rows, None)
    if first is None:
        raise SpatialFormerError("The table holds no rows.", where=source.name)
    with files.atomic_write(target) as stream, pq.ParquetWriter(stream, first.schema) as writer:
        n_rows = 0
        for batch in itertools.chain([first], rows):
            n_rows += batch.num_rows
            if n_rows > guard.MAX_PARQUET_ROWS:
                raise SpatialFormerError(f"More than {n_rows:,} rows.", where=source.name)
            writer.write_table(pa.Table.from_batches([batch]))
