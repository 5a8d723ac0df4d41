"""SpatialData stores, zarr version 2 and 3: walked by the guard, then opened by the library."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import gathered, guard
from spatialformer_core.io import images as images_
from spatialformer_core.io.checks import check_ids, check_xy, is_control, lookup
from spatialformer_core.io.records import (
    CellTable,
    ImageSource,
    Names,
    Nuclei,
    Polygons,
    SourceData,
    Transcripts,
)
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.io.spatialdata_store_guard import check_store
from spatialformer_core.io.spatialdata_store_parts import Chosen, apply, choose, images, to_um
from spatialformer_core.io.spatialdata_store_points import read_points
from spatialformer_core.io.spatialdata_store_table import Table, read_table

COUNTED_MIN_QV = 20.0
"""Quality from which transcripts are counted where the table lost its genes, as Xenium does."""
MAX_CELL_UM2 = 10_000.0
"""A median cell of more is 100 um wide: its unit is no micrometre."""

SAME_PLACE_UM = 10.0
"""Stated centres further than a cell from where the cells are drawn are in another unit."""

_HEADERS = (".zgroup", "zarr.json")
_KINDS = ("images", "labels", "points", "shapes", "tables", "table")


def matches(path: Path) -> bool:
    """Tell whether a folder looks like a SpatialData store."""
    return (
        path.is_dir()
        and any((path / name).is_file() for name in _HEADERS)
        and any((path / name).is_dir() for name in _KINDS)
    )


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a SpatialData store.

    Which of its elements are read is the rule of `spatialdata_store_parts`. A table without gene
    names, or none at all, is counted anew from the points: calls of quality 20 and better.

    Raises
    ------
    SpatialFormerError
        If the guard refuses anything in it, spatialdata cannot open it, or it holds no cells or
        no counts.
    """
    root = request.source
    check_store(root)
    progress_.check(cancel)
    progress(0.05, 1.0, "Opening the store")
    with _opening(root):
        store = _open(root)
        chosen = choose(store, request.um_per_px, root.name)
        table = read_table(store, chosen, root.name)
        ids = _cell_ids(store, chosen, table, root)
        polygons, several = _outlines(store, chosen, chosen.cells, ids, root)
        control = (progress_.staged(progress, 0.1, 0.9), cancel)
        found = read_points(root, store, chosen, (ids, table), control)
        _check_unit(polygons, request.um_per_px, root)
        drawn = _drawn_centres(store, chosen, ids, root)
        centres = _centres(drawn, table, found, request.um_per_px)
        check_xy(centres, root.name)
        cells, min_qv = _cells(table, ids, centres, found, chosen)
        if request.um_per_px is not None:
            cells = replace(cells, area_um2=None)
        pictures = _images(request, store, chosen)
        nuclei = _nuclei(store, chosen, ids, root)
    progress(1.0, 1.0, "Read the source")
    ours = store.attrs.get("spatialformer") if store.attrs else None
    return SourceData(
        "SpatialData",
        simulated=isinstance(ours, dict) and ours.get("simulated") is True,
        cells=cells,
        transcripts=found,
        polygons=polygons,
        images=pictures,
        counts_min_qv=min_qv,
        missing=tuple(chosen.said),
        notes={"outlines_in_several_parts": several},
        nuclei=nuclei,
    )


@contextlib.contextmanager
def _opening(root: Path) -> Iterator[None]:
    """Turn what the libraries raise on damaged stores into one sentence."""
    import pyarrow as pa
    import shapely

    faults = (*guard.TIFF_FAULTS, pa.ArrowException, shapely.errors.ShapelyError, AssertionError)
    try:
        with warnings.catch_warnings():
            # Old formats and deprecations between the libraries are no concern of whoever ingests.
            warnings.simplefilter("ignore")
            yield
    except faults as error:
        said = " ".join(str(error).replace(str(root.parent), "").split())
        raise SpatialFormerError(
            f"The SpatialData store cannot be read: {type(error).__name__} {said[:160]}.",
            where=root.name,
            fix="Check that spatialdata.read_zarr opens it, or copy it again.",
        ) from error


def _open(root: Path) -> Any:
    import spatialdata

    kinds = tuple(k for k in ("images", "points", "shapes", "tables") if (root / k).is_dir())
    return spatialdata.read_zarr(root, selection=kinds)


def _cell_ids(store: Any, chosen: Chosen, table: Table | None, root: Path) -> Names:
    if table is not None:
        return check_ids(table.ids, root.name)
    name = chosen.cells or chosen.circles
    if name is None:
        raise SpatialFormerError(
            "It has neither a table nor shapes, so there are no cells.",
            where=root.name,
            fix="Give a store with a table of cells or with their outlines.",
        )
    chosen.said.append(f"No table: the cells are those of {name}.")
    return check_ids(_index(store.shapes[name]), f"{root.name}/shapes/{name}")


def _index(shapes: Any) -> Names:
    return np.array([str(value) for value in shapes.index], np.str_)


def _outlines(
    store: Any, chosen: Chosen, name: str | None, ids: Names, root: Path
) -> tuple[Polygons | None, int]:
    if name is None:
        chosen.said.append("No cell outlines.")
        return None, 0
    where = f"{root.name}/shapes/{name}"
    shapes = store.shapes[name]
    cell = lookup(ids, check_ids(_index(shapes), where))
    if not (cell >= 0).any():
        chosen.said.append(f"{name}: none of its outlines is a cell of the table.")
        return None, 0
    found, several = gathered.from_geometries(shapes.geometry.to_numpy(), cell, len(ids))
    xy_um = apply(to_um(shapes, chosen, where), found.xy_um).astype(np.float32)
    check_xy(xy_um, where)
    return Polygons(found.indptr, xy_um), several


def _nuclei(store: Any, chosen: Chosen, ids: Names, root: Path) -> Nuclei | None:
    if chosen.nuclei is None:
        return None
    where = f"{root.name}/shapes/{chosen.nuclei}"
    shapes = store.shapes[chosen.nuclei]
    # The index of Xenium's nuclei is the cell; elsewhere a column says it.
    names = _index(shapes)
    if "cell_id" in shapes.columns:
        names = np.array([str(value) for value in shapes["cell_id"]], np.str_)
    cell = lookup(ids, names)
    order = np.argsort(cell, kind="stable")
    order = order[cell[order] >= 0]
    if not len(order):
        chosen.said.append(f"{chosen.nuclei}: names no cell of the table; left out.")
        return None
    rows = np.arange(len(order))
    found, _ = gathered.from_geometries(shapes.geometry.to_numpy()[order], rows, len(order))
    xy_um = apply(to_um(shapes, chosen, where), found.xy_um).astype(np.float32)
    check_xy(xy_um, where)
    return Nuclei(cell[order].astype(np.int32), Polygons(found.indptr, xy_um))


def _drawn_centres(store: Any, chosen: Chosen, ids: Names, root: Path) -> DoubleArray:
    """Return the centres of circles, else of outlines, NaN without either, shape ``(n, 2)``."""
    centres = np.full((len(ids), 2), np.nan)
    for name in (chosen.cells, chosen.circles):
        if name is None:
            continue
        shapes = store.shapes[name]
        cell = lookup(ids, _index(shapes))
        points = shapes.geometry.centroid
        xy = np.stack([points.x.to_numpy(), points.y.to_numpy()], axis=1)
        moved = apply(to_um(shapes, chosen, f"{root.name}/shapes/{name}"), xy)
        centres[cell[cell >= 0]] = moved[cell >= 0]
    return centres


def _centres(
    drawn: DoubleArray, table: Table | None, found: Transcripts, um_per_px: float | None
) -> DoubleArray:
    """Return the stated centres if they lie where the cells are drawn, else those drawn.

    A cell that is neither gets the mean of its transcripts.
    """
    known = np.isfinite(drawn).all(axis=1)
    stated = None if table is None else table.xy
    if stated is not None:
        if not known.any():
            return stated * (um_per_px or 1.0)
        for scale in (1.0, um_per_px or 1.0):
            offset = np.hypot(*(stated * scale - drawn)[known].T)
            if np.median(offset) < SAME_PLACE_UM:
                return stated * scale
    inside = found.cell >= 0
    n_inside = np.bincount(found.cell[inside], minlength=len(drawn))
    placed = ~known & (n_inside > 0)
    for axis in range(2):
        total = np.bincount(found.cell[inside], found.xyz_um[inside, axis], minlength=len(drawn))
        drawn[placed, axis] = total[placed] / n_inside[placed]
    return drawn


def _cells(
    table: Table | None, ids: Names, xy_um: DoubleArray, found: Transcripts, chosen: Chosen
) -> tuple[CellTable, float | None]:
    """Return the cells with their counts, and the quality from which these were counted."""
    area = None if table is None else table.area_um2
    groups = {} if table is None else table.groups
    if table is not None and table.counts is not None:
        counts = table.counts
        own = (table.genes, table.control_names, table.n_control_counts)
        # The table does not say how it was counted, but it can be counted again.
        again = gathered.count(found, len(ids), len(table.genes), COUNTED_MIN_QV)
        same = found.qv is not None and (again != counts).nnz == 0
        ids_of_genes = table.gene_ids
        cells = CellTable(ids, xy_um, area, counts, *own, groups, ids_of_genes)
        return cells, COUNTED_MIN_QV if same else None
    if found.n == 0:
        raise SpatialFormerError(
            "No table names genes, and there are no points to count them from.",
            where=chosen.table or "tables",
            fix="Store the gene names in the table's var index.",
        )
    genes = tuple(
        name
        for name, _ in sorted(
            zip(found.feature_names, found.gene_of_feature, strict=True), key=lambda pair: pair[1]
        )
        if not is_control(name)
    )
    limit = COUNTED_MIN_QV if found.qv is not None else None
    how = f"quality {COUNTED_MIN_QV:g} and better" if limit else "of any quality"
    chosen.said.append(f"No table that names genes: counted from the transcripts, {how}.")
    counts = gathered.count(found, len(ids), len(genes), limit)
    controls = tuple(name for name in found.feature_names if is_control(name))
    return CellTable(ids, xy_um, area, counts, genes, controls, 0, groups), limit


def _check_unit(polygons: Polygons | None, um_per_px: float | None, root: Path) -> None:
    """Refuse cells as large as tissue: their coordinates are pixels that nobody named."""
    if polygons is None or um_per_px is not None:
        return
    lengths = np.diff(polygons.indptr)
    starts = polygons.indptr[:-1][lengths > 0]
    size = np.maximum.reduceat(polygons.xy_um, starts) - np.minimum.reduceat(polygons.xy_um, starts)
    median = float(np.median(size.prod(axis=1))) if len(starts) else 0.0
    if median > MAX_CELL_UM2:
        raise SpatialFormerError(
            f"Half of its cells cover more than {median:,.0f} square units; "
            "the coordinates are no micrometres.",
            where=root.name,
            fix="Say how many micrometres one unit is (--um-per-px).",
        )


def _images(request: SourceRequest, store: Any, chosen: Chosen) -> tuple[ImageSource, ...]:
    found = images(store, chosen, request.source.name)
    if request.he is not None:
        found = [image for image in found if image.kind != "he"]
        found.append(images_.placed_he(request.he, request.he_affine, found))
    if not found:
        chosen.said.append("No image.")
    elif all(image.kind != "he" for image in found):
        chosen.said.append("No H&E image.")
    return tuple(found)
