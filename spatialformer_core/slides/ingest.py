"""From a source folder to a slide of the store."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files, io
from spatialformer_core import progress as progress_
from spatialformer_core.arrays import BoolArray, FloatArray
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.checks import is_control
from spatialformer_core.io.pyramid import TILE_PX, write_pyramid
from spatialformer_core.io.records import Csr, Groups, ImageSource, Polygons, SourceData
from spatialformer_core.slides import index, thresholds
from spatialformer_core.slides.meta import Bounds, ChannelMeta, ImageMeta, IngestReport, SlideMeta
from spatialformer_core.slides.store import SlideStore, slug
from spatialformer_core.slides.zarr_store import write_zarr

_TYPE_KEY = re.compile(r"cell[_ ]?type|annotation|label", re.IGNORECASE)
_CLUSTER_KEY = re.compile(r"cluster|leiden|louvain", re.IGNORECASE)


class IngestOptions(TypedDict, total=False):
    """What may be given besides the source.

    ``he`` and ``he_affine`` are an H&E OME-TIFF with its 3x3 alignment CSV, ``labels`` a CSV
    ``cell_id,group``; ``um_per_px`` the micrometres of one unit of a source that keeps pixels;
    ``default_group`` is the grouping shown first; ``replace`` lets a slide of
    the same name give way (its regions of interest stay).
    """

    he: Path | None
    he_affine: Path | None
    labels: Path | None
    um_per_px: float | None
    default_group: str | None
    replace: bool


def ingest(
    source: Path,
    store: SlideStore,
    *,
    name: str,
    sample: SampleMetadata,
    qc: QcThresholds,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
    **options: Unpack[IngestOptions],
) -> IngestReport:
    """Read, check and store a slide. It appears whole, or the store stays as it was.

    Cells that fail QC stay in the slide, marked; they count for density and composition.

    Parameters
    ----------
    source
        Any folder or file that `io.read_source` knows.
    name
        Name of the slide; its id is derived from it.

    Raises
    ------
    SpatialFormerError
        If the name is taken, or anything in the source cannot be used.
    """
    slide_id = slug(name)
    replace = options.get("replace", False)
    if store.exists(slide_id) and not replace:
        raise SpatialFormerError(
            f"A slide {slide_id!r} exists already.",
            where="name",
            fix="Choose another name or remove that slide first.",
        )
    data = io.read_source(
        source,
        he=options.get("he"),
        he_affine=options.get("he_affine"),
        labels=options.get("labels"),
        um_per_px=options.get("um_per_px"),
        progress=progress_.staged(progress, 0.0, 0.4),
        cancel=cancel,
    )
    built = _Build(data, qc, default_group(data.cells.groups, options.get("default_group")))
    identity = {"slide_id": slide_id, "name": name, "sample": sample}
    identity["source"] = source.resolve().name
    progress_.check(cancel)
    with files.atomic_directory(store.path(slide_id), replace=replace) as folder:
        meta = _fill(folder, built, identity, progress_.staged(progress, 0.4, 1.0), cancel)
        progress_.check(cancel)
    progress(1.0, 1.0, "Done")
    return _report(meta, data.transcripts.n)


def _fill(
    folder: Path,
    built: _Build,
    identity: dict[str, Any],
    progress: progress_.Progress,
    cancel: progress_.Cancel,
) -> SlideMeta:
    """Write everything that a slide consists of into a folder that is not visible yet."""
    images = _write_images(
        folder / "image", built.data.images, progress_.staged(progress, 0.0, 0.35), cancel
    )
    progress(0.35, 1.0, "Writing the index")
    built.write_index(folder / "index")
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta = SlideMeta(images=images, created=created, **identity, **built.facts())
    progress_.check(cancel)
    progress(0.5, 1.0, "Writing the SpatialData store")
    write_zarr(folder / "slide.zarr", meta, built.arrays, built.data.transcripts)
    files.write_json(folder / "meta.json", meta.model_dump(mode="json"))
    return meta


def default_group(groups: dict[str, Groups], wanted: str | None) -> str | None:
    """Return the grouping to show first: the one asked for, else cell types, else clusters.

    Raises
    ------
    SpatialFormerError
        If the one asked for is not there.
    """
    if wanted is not None:
        if wanted in groups:
            return wanted
        raise SpatialFormerError(
            f"There is no grouping {wanted[:40]!r}.",
            where="default_group",
            fix=f"Groupings: {', '.join(sorted(groups)) or 'none'}.",
        )
    if "cell_type" in groups:
        return "cell_type"
    for pattern in (_TYPE_KEY, _CLUSTER_KEY):
        named = [key for key in sorted(groups) if pattern.search(key)]
        if named:
            return named[0]
    return min(groups, default=None)


class _Build:
    """The arrays of a slide, made from a source under the given thresholds."""

    def __init__(self, data: SourceData, qc: QcThresholds, group: str | None) -> None:
        self.data, self.qc, self.group = data, qc, group
        cells, found = data.cells, data.transcripts
        self.gene = found.gene_of_feature[found.feature]
        self.good = thresholds.passing_quality(found.qv, found.n, qc.min_qv)
        self.analysed = (self.gene >= 0) & self.good & (found.cell >= 0)
        self.counts, self.counts_from = self._counts()
        n_transcripts = np.asarray(self.counts.sum(axis=1)).ravel().astype(np.int32)
        n_genes = np.diff(self.counts.indptr).astype(np.int32)
        self.passes = thresholds.passing_cells(n_transcripts, n_genes, qc)
        per_cell = index.CellArrays(
            cells.cell_ids,
            cells.xy_um.astype(np.float32),
            _areas(cells.area_um2, data.polygons, len(cells.cell_ids)),
            n_transcripts,
            n_genes,
            self.passes,
        )
        self.arrays = index.SlideArrays(
            per_cell, self.counts, cells.genes, cells.groups, data.polygons
        )

    def _counts(self) -> tuple[Csr, str]:
        data = self.data
        if data.counts_min_qv is None or data.counts_min_qv == self.qc.min_qv:
            return data.cells.counts, "matrix"
        # The instrument's matrix holds its own quality limit; another one needs a new count.
        from scipy import sparse

        rows, columns = data.transcripts.cell[self.analysed], self.gene[self.analysed]
        ones = np.ones(len(rows), np.int32)
        counts = sparse.csr_matrix((ones, (rows, columns)), shape=data.cells.counts.shape)
        return counts, "transcripts"

    def write_index(self, folder: Path) -> None:
        """Write the serving index."""
        folder.mkdir()
        found, cells = self.data.transcripts, self.arrays.cells
        index.write_cells(folder, self.arrays)
        shown = np.flatnonzero((self.gene >= 0) & self.good)
        kept = index.IndexedTranscripts(
            found.xyz_um[shown],
            self.gene[shown].astype(np.uint16),
            found.cell[shown],
            None if found.qv is None else found.qv[shown],
        )
        grid = index.TileGrid.over(self.bounds_um)
        index.write_tiles(folder, grid, kept, cells.xy_um)
        index.write_transcripts(folder, kept, len(cells.cell_ids))

    @property
    def bounds_um(self) -> Bounds:
        """Bounds of cells, outlines and transcripts."""
        parts = [self.arrays.cells.xy_um, self.data.transcripts.xyz_um[:, :2]]
        if self.data.polygons is not None:
            parts.append(self.data.polygons.xy_um)
        parts = [part for part in parts if len(part)]
        low = np.min([part.min(axis=0) for part in parts], axis=0)
        high = np.max([part.max(axis=0) for part in parts], axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def dropped(self) -> dict[str, int]:
        """Count what is left out; each transcript under the first reason that holds."""
        found, listed = self.data.transcripts, set(self.data.cells.control_names)
        control = np.array([n in listed or is_control(n) for n in found.feature_names], np.bool_)
        no_gene = self.gene < 0
        is_ctrl = control[found.feature] & no_gene
        only = [n for i, n in enumerate(found.feature_names) if control[i] and n not in listed]
        n_outside = _count(~no_gene & self.good & (found.cell < 0))
        return self.data.notes | {
            "control_transcripts": _count(is_ctrl),
            "control_names_only_in_transcripts": len(only),
            "unknown_feature_transcripts": _count(no_gene & ~is_ctrl),
            "low_quality_transcripts": _count(~no_gene & ~self.good),
            "transcripts_outside_cells": n_outside,
            "transcripts_of_unlisted_cells": found.n_unlisted_cell,
            "control_counts_in_matrix": self.data.cells.n_control_counts,
            "cells_below_thresholds": _count(~self.passes),
        }

    def facts(self) -> dict[str, Any]:
        """Return the fields of the slide's meta record that follow from the arrays."""
        data, cells = self.data, self.arrays.cells
        per_cell = np.bincount(data.transcripts.cell[self.analysed], minlength=len(cells.cell_ids))
        matrix_totals = np.asarray(data.cells.counts.sum(axis=1)).ravel()
        return {
            "qc": self.qc,
            "default_group": self.group,
            "retention_per_type": _retention(data.cells.groups, self.group, self.passes),
            "technology": data.technology,
            "simulated": data.simulated,
            "bounds_um": self.bounds_um,
            "n_cells": len(cells.cell_ids),
            "n_cells_kept": _count(self.passes),
            "n_genes": len(data.cells.genes),
            "n_transcripts": _count(self.analysed),
            "dropped": self.dropped(),
            "missing": data.missing,
            "mismatch": (
                thresholds.mismatch(matrix_totals, per_cell) if data.transcripts.n else None
            ),
            "counts_from": self.counts_from,
            "group_keys": tuple(sorted(data.cells.groups)),
            "has_transcripts": data.transcripts.n > 0,
            "has_z": data.transcripts.xyz_um.shape[1] == 3,
            "has_qv": data.transcripts.qv is not None,
            "has_polygons": data.polygons is not None,
        }


def _count(mask: BoolArray) -> int:
    return int(np.count_nonzero(mask))


def _areas(stated: FloatArray | None, polygons: Polygons | None, n_cells: int) -> FloatArray:
    """Return stated areas, else those of the outlines (shoelace formula), else NaN."""
    if stated is not None:
        return stated
    areas = np.full(n_cells, np.nan, np.float32)
    if polygons is None:
        return areas
    row = np.repeat(np.arange(n_cells), np.diff(polygons.indptr))
    following = np.arange(1, len(row) + 1)
    last = polygons.indptr[1:][np.diff(polygons.indptr) > 0] - 1
    following[last] = polygons.indptr[:-1][np.diff(polygons.indptr) > 0]
    xy: NDArray[np.float64] = polygons.xy_um.astype(np.float64)
    # Around each cell's first vertex, so that large coordinates do not cost precision.
    xy = xy - xy[polygons.indptr[row]]
    after = xy[following]
    cross = xy[:, 0] * after[:, 1] - after[:, 0] * xy[:, 1]
    drawn = np.diff(polygons.indptr) >= 3
    areas[drawn] = np.abs(np.bincount(row, cross, minlength=n_cells))[drawn] / 2
    return areas


def _retention(
    groups: dict[str, Groups], key: str | None, passes: BoolArray
) -> dict[str, tuple[int, int]]:
    if key is None:
        return {}
    return thresholds.retention(groups[key].codes, groups[key].categories, passes)


def _write_images(
    folder: Path,
    sources: tuple[ImageSource, ...],
    progress: progress_.Progress,
    cancel: progress_.Cancel,
) -> tuple[ImageMeta, ...]:
    folder.mkdir()
    written: list[ImageMeta] = []
    for position, source in enumerate(sources):
        name = _image_name(source.name, {image.name for image in written})
        share = position / len(sources)
        inner = progress_.staged(progress, share, share + 1 / len(sources))
        info = write_pyramid(source, folder / f"{name}.ome.tif", inner, cancel)
        channels = tuple(
            ChannelMeta(name=channel, low=low, high=high)
            for channel, (low, high) in zip(info.channels, info.limits, strict=True)
        )
        rows = [tuple(float(v) for v in row) for row in source.um_from_px]
        pixel_um = float(np.sqrt(abs(np.linalg.det(source.um_from_px[:2, :2]))))
        written.append(
            ImageMeta.model_validate(
                {
                    "name": name,
                    "kind": source.kind,
                    "channels": channels,
                    "width": info.width,
                    "height": info.height,
                    "levels": info.levels,
                    "tile_px": TILE_PX,
                    "um_from_px": rows,
                    "pixel_size_um": pixel_um,
                }
            )
        )
    files.write_json(folder / "image.json", [image.model_dump(mode="json") for image in written])
    return tuple(written)


def _image_name(stem: str, taken: set[str]) -> str:
    """Return a file name for an image: letters, digits and ``-``, different from the others."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "image"
    numbered = (f"{plain}-{number}" for number in range(2, len(taken) + 3))
    return plain if plain not in taken else next(name for name in numbered if name not in taken)


def _report(meta: SlideMeta, transcripts_in: int) -> IngestReport:
    return IngestReport(
        slide_id=meta.slide_id,
        cells_in=meta.n_cells,
        cells_kept=meta.n_cells_kept,
        transcripts_in=transcripts_in,
        transcripts_kept=meta.n_transcripts,
        dropped=meta.dropped,
        retention_per_type=meta.retention_per_type,
        missing=meta.missing,
        mismatch=meta.mismatch,
    )
