"""Table folder: ``cells.h5ad``, ``transcripts.parquet``, outlines, and any ``*.ome.tif``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, images
from spatialformer_core.io.checks import check_ids, check_panel, check_xy, is_control
from spatialformer_core.io.checks import without_missing as _without_missing
from spatialformer_core.io.hdf5 import index_name, read_groups, read_matrix, read_texts
from spatialformer_core.io.polygons import read_polygons
from spatialformer_core.io.records import CellTable, Groups, ImageSource, SourceData
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.io.transcripts import read_transcripts

CELLS, TRANSCRIPTS, OUTLINES = "cells.h5ad", "transcripts.parquet", "cell_boundaries.parquet"
TRUTH = "truth.json"
_AREA_COLUMNS = ("cell_area", "area_um2", "cell_area_um2")


def matches(folder: Path) -> bool:
    """Tell whether a folder looks like a table folder."""
    return (folder / CELLS).exists()


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a table folder.

    ``cells.h5ad`` is the truth for expression; ``transcripts.parquet`` for positions.

    Raises
    ------
    SpatialFormerError
        If a file is missing, damaged, refused by the guard, or does not fit the others.
    """
    folder = request.source
    cells = read_cells(folder / CELLS)
    progress_.check(cancel)
    if not (folder / TRANSCRIPTS).exists():
        raise SpatialFormerError(f"{TRANSCRIPTS} is not in the folder.", where=folder.name)
    guard.check_file(folder / TRANSCRIPTS, folder)
    transcripts = read_transcripts(
        folder / TRANSCRIPTS,
        cells.cell_ids,
        cells.genes,
        progress_.staged(progress, 0.1, 0.8),
        cancel,
    )
    missing: list[str] = []
    notes: dict[str, int] = {}
    polygons = None
    if (folder / OUTLINES).exists():
        guard.check_file(folder / OUTLINES, folder)
        polygons, notes["outline_vertices_of_unlisted_cells"] = read_polygons(
            folder / OUTLINES, cells.cell_ids
        )
    else:
        missing.append(f"{OUTLINES}: no cell outlines.")
    if transcripts.qv is None:
        missing.append("No qv column: every assigned transcript counts, low-quality calls too.")
    if transcripts.xyz_um.shape[1] == 2:
        missing.append("No z_location column: distances are in the plane.")
    found = _images(request, missing)
    progress(1.0, 1.0, "Read the source")
    # The numbers were counted upstream, with or without a quality limit: nobody can say.
    return SourceData(
        "table folder",
        simulated=(folder / TRUTH).exists(),
        cells=cells,
        transcripts=transcripts,
        polygons=polygons,
        images=found,
        counts_min_qv=None,
        missing=tuple(missing),
        notes=notes,
    )


def read_cells(path: Path) -> CellTable:
    """Read cells, raw counts, centroids and groups from an AnnData file.

    Raises
    ------
    SpatialFormerError
        If it has no coordinates, no raw counts, no genes, or repeats ids.
    """
    guard.check_file(path, path.parent)
    with guard.open_hdf5(path, path.parent) as file:
        absent = [name for name in ("X", "obs", "var") if name not in file]
        if absent:
            raise SpatialFormerError(
                f"It has no {', '.join(absent)}; an AnnData file is expected.", where=path.name
            )
        obs, var = file["obs"], file["var"]
        ids = check_ids(read_texts(_column(obs, index_name(obs), path), path), path.name)
        names = read_texts(_column(var, index_name(var), path), path)
        matrix = read_matrix(file["X"], path)
        if matrix.shape != (len(ids), len(names)):
            raise SpatialFormerError(
                f"X has shape {matrix.shape}; {len(ids):,} cells x {len(names):,} features "
                "are named.",
                where=path.name,
            )
        xy = _coordinates(file, len(ids), path)
        area = _area(obs, len(ids), path)
        groups = _groups(obs, len(ids), path)
        gene = _gene_mask(var, names, path)
    check_panel(names.tolist(), gene, path.name)
    return CellTable(
        ids,
        xy,
        area,
        matrix[:, gene],
        tuple(names[gene].tolist()),
        tuple(names[~gene].tolist()),
        int(matrix[:, ~gene].sum()),
        groups,
    )


def _column(frame: Any, name: str, path: Path) -> Any:
    if not isinstance(frame, h5py.Group) or not isinstance(frame.get(name), h5py.Dataset):
        raise SpatialFormerError(
            f"{frame.name!r} has no column {name!r}; an AnnData file is expected.", where=path.name
        )
    return frame[name]


def _numbers(column: Any, n_cells: int, path: Path) -> DoubleArray:
    if not isinstance(column, h5py.Dataset) or column.dtype.kind not in "fiu":
        raise SpatialFormerError(f"{column.name!r} should hold numbers.", where=path.name)
    if column.shape[0] != n_cells:
        raise SpatialFormerError(
            f"{column.name!r} has {column.shape[0]:,} rows; {n_cells:,} cells expected.",
            where=path.name,
        )
    values: DoubleArray = column[:].astype(np.float64)
    return values


def _coordinates(file: Any, n_cells: int, path: Path) -> DoubleArray:
    obs = file["obs"]
    if "obsm" in file and "spatial" in file["obsm"]:
        xy = _numbers(file["obsm"]["spatial"], n_cells, path)
        if xy.ndim != 2 or xy.shape[1] < 2:
            raise SpatialFormerError("obsm['spatial'] has no two columns.", where=path.name)
        xy = np.ascontiguousarray(xy[:, :2])
    elif "x_centroid" in obs and "y_centroid" in obs:
        columns = [_numbers(obs[name], n_cells, path) for name in ("x_centroid", "y_centroid")]
        xy = np.stack(columns, axis=1)
    else:
        raise SpatialFormerError(
            "The cells have no coordinates.",
            where=path.name,
            fix="Store micrometres in obsm['spatial'] or in obs x_centroid and y_centroid.",
        )
    check_xy(xy, path.name)
    return xy


def _area(obs: Any, n_cells: int, path: Path) -> FloatArray | None:
    name = next((name for name in _AREA_COLUMNS if name in obs), None)
    return None if name is None else _numbers(obs[name], n_cells, path).astype(np.float32)


def _groups(obs: Any, n_cells: int, path: Path) -> dict[str, Groups]:
    groups = {}
    for name in obs:
        if name == index_name(obs):
            continue
        found = read_groups(obs[name], n_cells, path)
        if found is not None and found.categories:
            groups[name] = _without_missing(found)
    return groups


def _gene_mask(var: Any, names: np.ndarray, path: Path) -> BoolArray:
    if "is_gene" in var:
        column = var["is_gene"]
        if column.dtype.kind == "b" and column.shape == names.shape:
            mask: BoolArray = column[:]
            return mask
        raise SpatialFormerError("var['is_gene'] should be true or false.", where=path.name)
    return np.array([not is_control(name) for name in names], np.bool_)


def _images(request: SourceRequest, missing: list[str]) -> tuple[ImageSource, ...]:
    folder = request.source
    found: list[ImageSource] = []
    for path in sorted(folder.glob("*.ome.tif")):
        if request.he is not None and path.resolve() == request.he.resolve():
            continue
        guard.check_file(path, folder)
        size = images.pixel_size_um(path, folder)
        if size is None:
            missing.append(f"{path.name}: states no pixel size, so it cannot be placed; left out.")
            continue
        name = path.name.removesuffix(".ome.tif")
        kind = images.image_kind(path, folder)
        found.append(ImageSource(name, kind, (path,), images.scale(size)))
    if request.he is not None:
        found.append(images.placed_he(request.he, request.he_affine, found))
    if not found:
        missing.append("No image.")
    return tuple(found)
