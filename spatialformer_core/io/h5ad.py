"""AnnData files: a slide of cells alone, and the cells of a table folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
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
from spatialformer_core.io.hdf5 import (
    NotCountsError,
    index_name,
    read_groups,
    read_matrix,
    read_texts,
)
from spatialformer_core.io.records import (
    CellTable,
    Csr,
    Expression,
    Groups,
    ImageSource,
    Overview,
    SourceData,
    Transcripts,
)
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.keys import Var

SUFFIX = ".h5ad"
AREA_COLUMNS = ("cell_area", "area_um2", "cell_area_um2")
NO_TRANSCRIPTS = (
    "No transcripts: gene pairs within cells and molecules in the picture are not available."
)
COUNTS_FIX = (
    "Store the raw counts in X, in layers['counts'] or in raw: cells are checked by their counts, "
    "which normalised expression no longer holds."
)


def matches(path: Path) -> bool:
    """Tell whether a path looks like an AnnData file."""
    return path.suffix == SUFFIX and path.is_file()


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read an AnnData file with coordinates as a slide without transcripts.

    ``obsm["spatial"]`` (or obs ``x_centroid y_centroid``) is in micrometres unless the request
    says what one unit is.

    Raises
    ------
    SpatialFormerError
        If it is damaged, refused by the guard, or lacks coordinates, genes or raw counts.
    """
    progress_.check(cancel)
    cells = read_cells(request.source, request.um_per_px or 1.0)
    missing = [NO_TRANSCRIPTS, "No cell outlines."]
    if request.um_per_px is None:
        missing.append("The file states no unit: its coordinates are taken as micrometres.")
    found: tuple[ImageSource, ...] = ()
    if request.he is not None:
        found = (images.placed_he(request.he, request.he_affine, []),)
    else:
        missing.append("No image.")
    progress(1.0, 1.0, "Read the source")
    return SourceData(
        "AnnData",
        simulated=False,
        cells=cells,
        transcripts=Transcripts.none(),
        polygons=None,
        images=found,
        counts_min_qv=None,
        missing=tuple(missing),
    )


def read_cells(path: Path, um_per_unit: float = 1.0) -> CellTable:
    """Read cells, raw counts, centroids and groups from an AnnData file.

    Parameters
    ----------
    um_per_unit
        Micrometres of one unit of its coordinates. Stated areas are micrometres already.

    Raises
    ------
    SpatialFormerError
        If it has no coordinates, no raw counts, no genes, or repeats ids.
    """
    with _opened(path) as file:
        found, gene, controls = _expression(file, path)
        n_cells = len(found.cell_ids)
        xy = _coordinates(file, n_cells, um_per_unit, path)
        area = _area(file["obs"], n_cells, path)
    return CellTable(
        found.cell_ids,
        xy,
        area,
        found.counts[:, gene],
        found.genes,
        controls,
        int(found.counts[:, ~gene].sum()),
        found.groups,
    )


def read_expression(path: Path) -> Expression:
    """Read raw counts and groups from an AnnData file, with centroids where it has some.

    Raises
    ------
    SpatialFormerError
        If it has no raw counts, no genes, repeats ids, or its coordinates are not finite.
    """
    with _opened(path) as file:
        found, gene, _ = _expression(file, path)
        xy = _coordinates(file, len(found.cell_ids), 1.0, path) if _is_placed(file) else None
    ids = None if found.gene_ids is None else tuple(np.array(found.gene_ids)[gene].tolist())
    return replace(found, counts=found.counts[:, gene], gene_ids=ids, xy_um=xy)


def read_overview(path: Path) -> Overview:
    """Read what an AnnData file holds without its matrix: how many cells, which groupings.

    Raises
    ------
    SpatialFormerError
        If it is no AnnData file, is refused by the guard, or repeats ids.
    """
    with _opened(path) as file:
        obs = file["obs"]
        n_cells = len(check_ids(read_texts(_column(obs, index_name(obs), path), path), path.name))
        groups = {name: found.categories for name, found in _groups(obs, n_cells, path).items()}
        return Overview(n_cells, groups, _is_placed(file))


def _is_placed(file: Any) -> bool:
    return "spatial" in file.get("obsm", ()) or {"x_centroid", "y_centroid"} <= set(file["obs"])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    guard.check_file(path, path.parent)
    with guard.open_hdf5(path, path.parent) as file:
        absent = [name for name in ("X", "obs", "var") if name not in file]
        if absent:
            raise SpatialFormerError(
                f"It has no {', '.join(absent)}; an AnnData file is expected.", where=path.name
            )
        yield file


def _expression(file: Any, path: Path) -> tuple[Expression, BoolArray, tuple[str, ...]]:
    """Return all columns of the counts with the names of the genes, which are genes, controls."""
    obs = file["obs"]
    ids = check_ids(read_texts(_column(obs, index_name(obs), path), path), path.name)
    matrix, var = _raw_counts(file, path)
    names = read_texts(_column(var, index_name(var), path), path)
    if matrix.shape != (len(ids), len(names)):
        raise SpatialFormerError(
            f"X has shape {matrix.shape}; {len(ids):,} cells x {len(names):,} features are named.",
            where=path.name,
        )
    gene = _gene_mask(var, names, path)
    check_panel(names.tolist(), gene, path.name)
    groups = _groups(obs, len(ids), path)
    stable = _gene_ids(var, names, path)
    found = Expression(ids, matrix, tuple(names[gene].tolist()), stable, groups, None)
    return found, gene, tuple(names[~gene].tolist())


def _gene_ids(var: Any, names: np.ndarray, path: Path) -> tuple[str, ...] | None:
    column = var.get(Var.GENE_IDS)
    if not isinstance(column, h5py.Dataset) or column.dtype.kind not in "OSU":
        return None
    ids = read_texts(column, path)
    return tuple(ids.tolist()) if ids.shape == names.shape else None


def _raw_counts(file: Any, path: Path) -> tuple[Csr, Any]:
    """Return the first of X, layers['counts'] and raw that holds whole numbers, with its var."""
    places = [("X", "var"), ("layers/counts", "var"), ("raw/X", "raw/var")]
    refusal: NotCountsError | None = None
    for matrix, var in places:
        if matrix not in file or var not in file:
            continue
        try:
            return read_matrix(file[matrix], path), file[var]
        except NotCountsError as error:
            refusal = refusal or error
    if refusal is None:
        raise SpatialFormerError("It names no features.", where=path.name)
    raise NotCountsError(refusal.message, where=path.name, fix=COUNTS_FIX)


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


def _coordinates(file: Any, n_cells: int, um_per_unit: float, path: Path) -> DoubleArray:
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
    xy = xy * um_per_unit
    check_xy(xy, path.name)
    return xy


def _area(obs: Any, n_cells: int, path: Path) -> FloatArray | None:
    name = next((name for name in AREA_COLUMNS if name in obs), None)
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
