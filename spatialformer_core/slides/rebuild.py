"""The serving index written anew from a slide's SpatialData store."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core import progress as progress_
from spatialformer_core.arrays import IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import CellTable, Csr, Groups, Nuclei, Polygons, SourceData
from spatialformer_core.keys import Elements, Obs, Obsm, Var
from spatialformer_core.slides import zarr_points
from spatialformer_core.slides.build import SlideBuild
from spatialformer_core.slides.index import GENE_IDS, NUCLEI
from spatialformer_core.slides.meta import FORMAT_VERSION, SlideMeta
from spatialformer_core.slides.slide import Slide
from spatialformer_core.slides.store import SlideStore
from spatialformer_core.slides.zarr_store import group_column

_INDEX = "index/"
_KEPT = ("slide.zarr", "image")
_NAMES = {
    "has_z": "Depths of transcripts",
    "has_qv": "Qualities of transcripts",
    "has_nucleus_flags": "Which transcripts lie over a nucleus",
    "has_polygons": "Outlines of cells",
    "has_nuclei": "Outlines of nuclei",
    "has_gene_ids": "Stable ids of genes",
}
"""What the optional parts of `SlideBuild.layers` are called."""


def is_rebuildable(found: files.Differences) -> bool:
    """Tell whether only the serving index differs from the manifest."""
    return all(name.startswith(_INDEX) for name in (*found.missing, *found.changed))


def rebuild(
    store: SlideStore,
    slide_id: str,
    *,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SlideMeta:
    """Write the serving index of a slide anew, in the present format.

    Table, outlines, transcripts and images stay; the slide changes in one step, or not at all. What
    only the old index holds (early slides keep nuclei and gene ids there) is taken from it; what
    cannot be had from either, the slide's ``missing`` names.

    Raises
    ------
    SpatialFormerError
        If there is no such slide, more than its index is damaged, or the disk is full.
    """
    folder = store.path(slide_id)
    found = store.differences(slide_id)
    if not is_rebuildable(found):
        outside = [n for n in (*found.missing, *found.changed) if not n.startswith(_INDEX)]
        raise SpatialFormerError(
            f"Not only the index is damaged: {', '.join(outside[:3])}.",
            where=slide_id,
            fix="Remove the slide and ingest its source again.",
        )
    slide = store.open(slide_id)
    meta = slide.meta
    extra = {folder / name for name in found.extra}
    progress(0.1, 1.0, "Reading the SpatialData store")
    data = _with_index_only(_read_back(folder / "slide.zarr", meta), slide, found)
    built = SlideBuild(data, meta.qc, meta.default_group)
    progress_.check(cancel)
    progress(0.5, 1.0, "Writing the index")
    needed = built.needed_bytes()
    with files.atomic_directory(folder, replace=True, needed_bytes=needed) as new:
        for part in _KEPT:
            shutil.copytree(
                folder / part, new / part, copy_function=link_or_copy, ignore=without_files(extra)
            )
        built.write_index(new / "index")
        layers = built.layers()
        missing = (*meta.missing, *_lost(meta, layers))
        update = {"format_version": FORMAT_VERSION, "missing": missing}
        meta = meta.model_copy(update=update | layers)
        files.write_json(new / "meta.json", meta.model_dump(mode="json"))
        progress_.check(cancel)
    progress(1.0, 1.0, "Done")
    return meta


def without_files(extra: set[Path]) -> Callable[[str, list[str]], list[str]]:
    """Return what leaves files out of a copy that the manifest does not know."""
    return lambda folder, names: [name for name in names if Path(folder) / name in extra]


def link_or_copy(source: str, target: str) -> str:
    """Give a file a second name instead of copying gigabytes, where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _read_back(zarr: Path, meta: SlideMeta) -> SourceData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        data = spatialdata.read_zarr(zarr, selection=("tables", "shapes"))
    cells = _cells(data.tables[Elements.TABLE], meta)
    row = {name: i for i, name in enumerate(cells.cell_ids.tolist())}
    polygons = nuclei = None
    if meta.has_polygons:
        frame = data.shapes[Elements.CELL_BOUNDARIES]
        polygons = _polygons(frame, _rows(frame.index, row), len(row))
    if Elements.NUCLEUS_BOUNDARIES in data.shapes:
        frame = data.shapes[Elements.NUCLEUS_BOUNDARIES]
        outlines = _polygons(frame, np.arange(len(frame), dtype=np.int32), len(frame))
        nuclei = Nuclei(_rows(frame[Obs.CELL_ID], row), outlines)
    return SourceData(
        meta.technology,
        meta.simulated,
        cells,
        zarr_points.read_rows(zarr, cells.cell_ids, cells.genes),
        polygons,
        images=(),
        # The table holds what was counted then, whatever the quality limit was.
        counts_min_qv=None,
        nuclei=nuclei,
    )


def _with_index_only(data: SourceData, slide: Slide, found: files.Differences) -> SourceData:
    """Add nuclei and gene ids of the old index, as far as they are whole, where others are not."""
    damaged = {name.removeprefix(_INDEX) for name in (*found.missing, *found.changed)}
    if data.nuclei is None and damaged.isdisjoint(f"{name}.npy" for name in NUCLEI):
        data = replace(data, nuclei=slide.nuclei())
    if data.cells.gene_ids is None and GENE_IDS not in damaged:
        data = replace(data, cells=replace(data.cells, gene_ids=slide.gene_ids))
    return data


def _lost(before: SlideMeta, layers: dict[str, bool]) -> tuple[str, ...]:
    """Return a sentence for each optional part of a slide that it had before alone."""
    gone = [name for name, is_there in layers.items() if getattr(before, name) and not is_there]
    return tuple(f"{_NAMES[name]}: lost when the index was written anew." for name in gone)


def _rows(names: Any, row: dict[str, int]) -> IntArray:
    return np.array([row[str(name)] for name in names], np.int32)


def _cells(table: Any, meta: SlideMeta) -> CellTable:
    obs, var = table.obs, table.var
    groups = {key: _group(obs, key) for key in meta.group_keys}
    counts: Csr = table.X
    return CellTable(
        np.array(obs[Obs.CELL_ID].tolist(), np.str_),
        np.asarray(table.obsm[Obsm.SPATIAL], np.float64),
        obs[Obs.AREA_UM2].to_numpy(np.float32),
        counts,
        tuple(str(name) for name in var.index),
        control_names=(),
        n_control_counts=0,
        groups=groups,
        gene_ids=tuple(var[Var.GENE_IDS].astype(str)) if Var.GENE_IDS in var else None,
    )


def _group(obs: Any, key: str) -> Groups:
    column = group_column(key)
    if column not in obs:
        raise SpatialFormerError(
            f"Grouping {key[:40]!r} is not in the SpatialData store.",
            fix="Remove the slide and ingest its source again.",
        )
    codes = obs[column].cat
    return Groups(tuple(str(c) for c in codes.categories), codes.codes.to_numpy(np.int16))


def _polygons(frame: Any, rows: IntArray, n: int) -> Polygons:
    import shapely

    xy, ring = shapely.get_coordinates(frame.geometry.to_numpy(), return_index=True)
    lengths = np.zeros(n, np.int64)
    lengths[rows] = np.bincount(ring, minlength=len(frame))
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    order = np.argsort(rows[ring], kind="stable")
    return Polygons(indptr, xy[order].astype(np.float32))
