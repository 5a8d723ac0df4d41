"""MERSCOPE export folders, as the instrument or Vizgen's post-processing writes them.

Micrometres throughout; only the mosaics are pixels, and a matrix beside them says how they lie.
Outlines are drawn in several focal planes: the plane in which most cells have one is taken, the
lowest of equals, and of a cell in several parts the largest.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray, IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited, gathered, guard, images
from spatialformer_core.io.checks import check_ids, check_panel, check_xy, is_control, lookup
from spatialformer_core.io.h5ad import NO_TRANSCRIPTS
from spatialformer_core.io.hdf5 import as_counts
from spatialformer_core.io.records import (
    CellTable,
    ImageSource,
    Names,
    Polygons,
    SourceData,
    Transcripts,
)
from spatialformer_core.io.request import SourceRequest

COUNTS, CELLS, OUTLINES = "cell_by_gene.csv", "cell_metadata.csv", "cell_boundaries.parquet"
TRANSCRIPTS = (
    "detected_transcripts.parquet",
    "detected_transcripts.csv",
    "detected_transcripts.csv.gz",
)
PICTURES, MATRIX = "images", "micron_to_mosaic_pixel_transform.csv"

_OLD_OUTLINES = "cell_boundaries"
_IDS = ("cell", "EntityID", "id", "#0")
_MOSAIC = re.compile(r"^mosaic_([\w|-]+)_z(\d+)\.tif$")
_MIDDLE_PLANE = 3
_MAX_MATRIX_BYTES = 65_536
_GEOMETRY = ("Geometry", "geometry")
_BATCH_ROWS = 1 << 20


def matches(path: Path) -> bool:
    """Tell whether a folder looks like a MERSCOPE export."""
    return (path / COUNTS).exists() or any((path / name).exists() for name in TRANSCRIPTS)


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a MERSCOPE folder.

    Needed are ``cell_by_gene.csv`` and ``cell_metadata.csv``; whatever else is absent is reported.

    Raises
    ------
    SpatialFormerError
        If a needed file is missing, or any file is damaged, refused or does not fit the others.
    """
    folder = request.source
    absent = [name for name in (COUNTS, CELLS) if not (folder / name).exists()]
    if absent:
        raise SpatialFormerError(
            f"The MERSCOPE folder lacks {', '.join(absent)}.",
            where=folder.name,
            fix="Copy the whole region folder.",
        )
    missing: list[str] = []
    notes: dict[str, int] = {}
    cells = read_cells(folder, notes, cancel)
    progress(0.2, 1.0, "Reading transcripts")
    transcripts = _transcripts(folder, cells, missing, cancel)
    polygons = _outlines(folder, cells.cell_ids, missing, notes)
    found = _images(request, missing)
    progress(1.0, 1.0, "Read the source")
    return SourceData(
        "MERSCOPE",
        simulated=False,
        cells=cells,
        transcripts=transcripts,
        polygons=polygons,
        images=found,
        counts_min_qv=None,
        missing=tuple(missing),
        notes=notes,
    )


def read_cells(folder: Path, notes: dict[str, int], cancel: progress_.Cancel) -> CellTable:
    """Read the cells that both the metadata and the matrix hold, in the metadata's order.

    Raises
    ------
    SpatialFormerError
        If values are no counts, ids repeat, or there is no gene or one twice.
    """
    ids, xy_um = _centres(folder, cancel)
    names, counted, counts = _matrix(folder, cancel)
    gene = np.array([not is_control(name) for name in names], np.bool_)
    check_panel(names, gene, COUNTS)
    row = lookup(counted, ids)
    both = row >= 0
    notes["cells_without_counts"] = int(np.count_nonzero(~both))
    notes["cells_without_metadata"] = len(counted) - int(np.count_nonzero(both))
    if not both.any():
        raise SpatialFormerError(
            "They name no cell in common.",
            where=f"{CELLS} and {COUNTS}",
            fix="Take both files from the same run.",
        )
    counts = counts[row[both]]
    return CellTable(
        ids[both],
        xy_um[both],
        None,
        counts[:, gene],
        tuple(n for n, keep in zip(names, gene, strict=True) if keep),
        tuple(n for n, keep in zip(names, gene, strict=True) if not keep),
        int(counts[:, ~gene].sum()),
    )


def _centres(folder: Path, cancel: progress_.Cancel) -> tuple[Names, DoubleArray]:
    import pyarrow as pa

    path = folder / CELLS
    key = _id_column(path, folder)
    wanted = {key: pa.string(), "center_x": pa.float64(), "center_y": pa.float64()}
    ids, xy = [], []
    for batch in delimited.batches(path, folder, wanted, {}, cancel):
        ids.append(gathered.texts(batch.column(key)))
        axes = [gathered.numbers(batch.column(name), CELLS) for name in ("center_x", "center_y")]
        xy.append(np.stack(axes, axis=1))
    names, centres = check_ids(np.concatenate(ids), CELLS), np.concatenate(xy)
    check_xy(centres, CELLS)
    return names, centres


def _matrix(folder: Path, cancel: progress_.Cancel) -> tuple[list[str], Names, Any]:
    """Return feature names, cell ids and counts, CSR of int32."""
    import pyarrow as pa
    from scipy import sparse

    path = folder / COUNTS
    key, columns = _id_column(path, folder), delimited.columns(path, folder)
    features = [name for name in columns if name != key]
    stated = [n.removesuffix(f"#{i}") for i, n in enumerate(columns) if n != key]
    wanted = {key: pa.string()} | dict.fromkeys(features, pa.float64())
    ids, parts = [], []
    for batch in delimited.batches(path, folder, wanted, {}, cancel):
        ids.append(gathered.texts(batch.column(key)))
        if features:
            values = [gathered.numbers(batch.column(name), COUNTS) for name in features]
            dense = np.stack(values, axis=1)
            counts = as_counts(dense.ravel(), path).reshape(dense.shape)
            parts.append(sparse.csr_matrix(counts))
    names = check_ids(np.concatenate(ids), COUNTS)
    matrix = sparse.vstack(parts, "csr") if parts else sparse.csr_matrix((len(names), 0))
    return stated, names, matrix


def _id_column(path: Path, folder: Path) -> str:
    names = delimited.columns(path, folder)
    if names[0] not in _IDS:
        raise SpatialFormerError(
            f"Its first column is {names[0][:40]!r}; the ids of cells (EntityID) are expected.",
            where=path.name,
        )
    return names[0]


def _transcripts(
    folder: Path, cells: CellTable, missing: list[str], cancel: progress_.Cancel
) -> Transcripts:
    path = next((folder / name for name in TRANSCRIPTS if (folder / name).exists()), None)
    if path is None:
        missing.append(NO_TRANSCRIPTS)
        return Transcripts.none()
    into = gathered.TranscriptGatherer(path.name)
    index = gathered.CellIndex(cells.cell_ids)
    place: list[IntArray] = []
    has_cell = False
    for batch in _transcript_batches(path, folder, cancel):
        axes = [gathered.numbers(batch.column(n), path.name) for n in ("global_x", "global_y")]
        into.add(np.stack(axes, axis=1), batch.column("gene"))
        has_cell = "cell_id" in batch.schema.names
        nowhere = np.full(batch.num_rows, -1, np.int32)
        place.append(index.of(batch.column("cell_id")) if has_cell else nowhere)
    if not has_cell:
        missing.append(f"{path.name}: names no cells, so all transcripts lie outside.")
    missing.append("No qv column: every assigned transcript counts.")
    missing.append("global_z numbers focal planes: distances are in the plane.")
    cell = np.concatenate(place) if place else np.zeros(0, np.int32)
    return into.finish(cell, cells.genes, index.n_unlisted)


def _transcript_batches(path: Path, folder: Path, cancel: progress_.Cancel) -> Any:
    import pyarrow as pa

    required = {"global_x": pa.float64(), "global_y": pa.float64(), "gene": pa.string()}
    if path.suffix != ".parquet":
        yield from delimited.batches(path, folder, required, {"cell_id": pa.string()}, cancel)
        return
    file = guard.open_parquet(path, folder, tuple(required))
    with file, guard.reading(path):
        optional = ["cell_id"] * ("cell_id" in file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[*required, *optional]):
            progress_.check(cancel)
            batch.validate(full=True)
            yield batch


def _outlines(
    folder: Path, ids: Names, missing: list[str], notes: dict[str, int]
) -> Polygons | None:
    path = folder / OUTLINES
    if not path.exists():
        old = (folder / _OLD_OUTLINES).is_dir()
        why = "outlines in HDF5 files of an early version are not read" if old else "not there"
        missing.append(f"{OUTLINES}: {why}; no cell outlines.")
        return None
    import shapely

    names, plane, blobs = _geometries(path, folder)
    try:
        geometries = shapely.from_wkb(blobs)
    except shapely.errors.ShapelyError as error:
        raise SpatialFormerError(
            f"An outline is damaged: {str(error)[:120]}.", where=OUTLINES, fix="Copy it again."
        ) from error
    cell = lookup(ids, names) if len(ids) else np.zeros(0, np.int64)
    drawn = (cell >= 0) & ~shapely.is_empty(geometries) & ~shapely.is_missing(geometries)
    if not drawn.any():
        raise SpatialFormerError(
            "None of its outlines is a cell of this slide.",
            where=OUTLINES,
            fix="Check that the file belongs to this slide.",
        )
    numbers, n_cells = np.unique(plane[drawn], return_counts=True)
    chosen = numbers[int(np.argmax(n_cells))]
    here = drawn & (plane == chosen)
    polygons, several = gathered.from_geometries(geometries[here], cell[here], len(ids))
    check_xy(polygons.xy_um, OUTLINES)
    notes["outlines_in_several_parts"] = several
    notes["outlines_of_unlisted_cells"] = int(np.count_nonzero((cell < 0) & (plane == chosen)))
    if len(numbers) > 1:
        missing.append(f"{OUTLINES}: plane {chosen} is drawn, one of {len(numbers)}.")
    return polygons


def _geometries(path: Path, folder: Path) -> tuple[Names, Any, Any]:
    """Return cell, plane and well-known binary of each outline."""
    file = guard.open_parquet(path, folder, ("EntityID",))
    with file, guard.reading(path):
        names = file.schema_arrow.names
        geometry = next((name for name in _GEOMETRY if name in names), _primary(file))
        if geometry not in names:
            raise SpatialFormerError(
                f"It has no column of outlines; found {', '.join(names)[:120]}.", where=path.name
            )
        optional = ["ZIndex"] * ("ZIndex" in names)
        table = file.read(columns=["EntityID", geometry, *optional]).unify_dictionaries()
        table = table.combine_chunks()
        table.validate(full=True)
        ids = gathered.texts(_whole(table.column("EntityID")))
        blobs = np.array(_whole(table.column(geometry)).to_pylist(), object)
        if any(blob is not None and not isinstance(blob, bytes) for blob in blobs[:1]):
            raise SpatialFormerError(f"Column {geometry} holds no outlines.", where=path.name)
        plane = np.zeros(len(ids))
        if optional:
            plane = gathered.numbers(_whole(table.column("ZIndex")), path.name)
    return ids, plane.astype(np.int64), blobs


def _whole(column: Any) -> Any:
    """Return a column of one chunk as an array; an empty one has none."""
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _primary(file: Any) -> str:
    stated = (file.schema_arrow.metadata or {}).get(b"geo", b"{}")
    try:
        values = json.loads(stated)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return ""
    return str(values.get("primary_column", "")) if isinstance(values, dict) else ""


def _images(request: SourceRequest, missing: list[str]) -> tuple[ImageSource, ...]:
    folder = request.source / PICTURES
    found: list[ImageSource] = []
    if folder.is_dir():
        found = _mosaics(request.source, folder, missing)
    if request.he is not None:
        found.append(images.placed_he(request.he, request.he_affine, found))
    if not found:
        missing.append("No image.")
    return tuple(found)


def _mosaics(source: Path, folder: Path, missing: list[str]) -> list[ImageSource]:
    """Return the stains of one focal plane: the middle one, else the lowest, as one image."""
    stains: dict[int, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := _MOSAIC.match(path.name):
            stains.setdefault(int(match[2]), {})[match[1]] = guard.check_file(path, source)
    if not stains:
        return []
    if not (folder / MATRIX).exists():
        missing.append(f"{PICTURES}/{MATRIX}: without it the mosaics cannot be placed; left out.")
        return []
    plane = _MIDDLE_PLANE if _MIDDLE_PLANE in stains else min(stains)
    if len(stains) > 1:
        missing.append(f"{PICTURES}: plane {plane} is shown, one of {len(stains)}.")
    um_from_px = np.linalg.inv(_pixel_from_um(folder / MATRIX, source))
    shown = stains[plane]
    return [
        ImageSource(
            "mosaic",
            "stain",
            tuple(shown.values()),
            um_from_px.astype(np.float64),
            None,
            tuple(shown),
        )
    ]


def _pixel_from_um(path: Path, source: Path) -> DoubleArray:
    guard.check_file(path, source)
    wanted = "Three lines of three numbers are expected, the last one 0 0 1."
    if path.stat().st_size > _MAX_MATRIX_BYTES:
        raise SpatialFormerError("The file is too large.", where=path.name, fix=wanted)
    try:
        lines = path.read_text("utf-8-sig").split("\n")
        rows = [
            [float(v) for v in re.split(r"[,\s]+", line.strip())] for line in lines if line.strip()
        ]
    except ValueError as error:
        raise SpatialFormerError(f"It holds no numbers: {error}.", path.name, wanted) from error
    if [len(row) for row in rows] != [3, 3, 3]:
        raise SpatialFormerError("It is no 3x3 matrix.", path.name, wanted)
    matrix: DoubleArray = np.array(rows, np.float64)
    sound = np.isfinite(matrix).all() and np.allclose(matrix[2], [0, 0, 1], atol=1e-9)
    if not sound or abs(np.linalg.det(matrix)) < 1e-9:
        raise SpatialFormerError("The matrix cannot be inverted.", path.name, wanted)
    return matrix
