"""The arrays of a slide, made from what a reader hands over."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, FloatArray
from spatialformer_core.config import QcThresholds
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.checks import is_control
from spatialformer_core.io.records import Csr, Groups, Polygons, SourceData
from spatialformer_core.slides import index, molecules, thresholds
from spatialformer_core.slides.meta import Bounds

_TYPE_KEY = re.compile(r"cell[_ ]?type|annotation|label", re.IGNORECASE)
_CLUSTER_KEY = re.compile(r"cluster|leiden|louvain", re.IGNORECASE)
_COUNT_ROWS = 1 << 22


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


class SlideBuild:
    """The arrays of a slide, made from a source under the given thresholds.

    Transcripts stay as the reader left them; only lists of row numbers are added to them.

    Parameters
    ----------
    data
        What a reader handed over.
    qc
        Thresholds of cells and transcripts.
    group
        The grouping shown first.
    """

    def __init__(self, data: SourceData, qc: QcThresholds, group: str | None) -> None:
        from spatialformer_core.slides import kernels

        self.data, self.qc, self.group = data, qc, group
        cells, found = data.cells, data.transcripts
        good = thresholds.passing_quality(found.qv, found.n, qc.min_qv)
        self.kept = molecules.Kept.of(found, good)
        self._tally = kernels.tally(found.feature, found.cell, good, len(found.feature_names))
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
            per_cell,
            self.counts,
            cells.genes,
            cells.groups,
            data.polygons,
            data.nuclei,
            cells.gene_ids,
        )

    def _counts(self) -> tuple[Csr, str]:
        data = self.data
        if data.counts_min_qv is None or data.counts_min_qv == self.qc.min_qv:
            return data.cells.counts, "matrix"
        # The instrument's matrix holds its own quality limit; another one needs a new count.
        from scipy import sparse

        keys, gene = self.kept.cell_keys(), self.kept.gene
        counts = sparse.csr_matrix(data.cells.counts.shape, dtype=np.int32)
        for start in range(0, len(keys), _COUNT_ROWS):
            rows, columns = (a[start : start + _COUNT_ROWS] for a in (keys, gene))
            rows, columns = rows[rows >= 0], columns[rows >= 0]
            ones = np.ones(len(rows), np.int32)
            counts += sparse.csr_matrix((ones, (rows, columns)), shape=counts.shape)
        return counts, "transcripts"

    def write_index(self, folder: Path) -> None:
        """Write the serving index."""
        folder.mkdir()
        cells = self.arrays.cells
        index.write_cells(folder, self.arrays)
        grid = index.TileGrid.over(self.bounds_um)
        index.write_grid(folder, grid)
        molecules.write_cell_tiles(folder, grid, cells.xy_um)
        molecules.write_by_tile(folder, grid, self.kept, len(self.arrays.genes))
        molecules.write_by_cell(folder, self.kept, len(cells.cell_ids))

    def needed_bytes(self) -> int:
        """Return about how large the slide becomes on disk, images included."""
        found, data = self.data.transcripts, self.data
        columns = [found.xyz_um, found.qv, found.overlaps_nucleus]
        row = sum(c.nbytes // max(found.n, 1) for c in columns if c is not None)
        # By cell, by tile and in SpatialData, where names of cells cost the most.
        total = found.n * (row + 2 + 6 + row + 12)
        total += self.counts.nnz * 24 + len(data.cells.cell_ids) * 200
        for outlines in (data.polygons, data.nuclei.outlines if data.nuclei else None):
            total += 0 if outlines is None else 4 * outlines.xy_um.nbytes
        total += sum(p.stat().st_size for image in data.images for p in image.paths)
        return int(total)

    @cached_property
    def bounds_um(self) -> Bounds:
        """Bounds of cells, outlines and transcripts."""
        parts = [self.arrays.cells.xy_um, self.data.transcripts.xyz_um[:, :2]]
        if self.data.polygons is not None:
            parts.append(self.data.polygons.xy_um)
        parts = [part for part in parts if len(part)]
        low = np.min([part.min(axis=0) for part in parts], axis=0)
        high = np.max([part.max(axis=0) for part in parts], axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @cached_property
    def n_analysed(self) -> int:
        """Transcripts of genes, of sufficient quality, in cells."""
        is_gene = self.data.transcripts.gene_of_feature >= 0
        return int(self._tally[is_gene, 1, 1].sum())

    def dropped(self) -> dict[str, int]:
        """Count what is left out; each transcript under the first reason that holds."""
        found, listed = self.data.transcripts, set(self.data.cells.control_names)
        names = found.feature_names
        control = np.array([n in listed or is_control(n) for n in names], np.bool_)
        is_gene = found.gene_of_feature >= 0
        only = [n for i, n in enumerate(names) if control[i] and n not in listed]
        return self.data.notes | {
            "control_transcripts": int(self._tally[control & ~is_gene].sum()),
            "control_names_only_in_transcripts": len(only),
            "unknown_feature_transcripts": int(self._tally[~control & ~is_gene].sum()),
            "low_quality_transcripts": int(self._tally[is_gene, 0].sum()),
            "transcripts_outside_cells": int(self._tally[is_gene, 1, 0].sum()),
            "transcripts_of_unlisted_cells": found.n_unlisted_cell,
            "control_counts_in_matrix": self.data.cells.n_control_counts,
            "cells_below_thresholds": _count(~self.passes),
        }

    def _mismatch(self) -> dict[str, float] | None:
        from spatialformer_core.slides import kernels

        data, n_cells = self.data, len(self.arrays.cells.cell_ids)
        if not data.transcripts.n:
            return None
        matrix = np.asarray(data.cells.counts.sum(axis=1)).ravel()
        return thresholds.mismatch(matrix, kernels.count_by(self.kept.cell_keys(), n_cells))

    def facts(self) -> dict[str, Any]:
        """Return the fields of the slide's meta record that follow from the arrays."""
        data, cells = self.data, self.arrays.cells
        return {
            "qc": self.qc,
            "default_group": self.group,
            "retention_per_type": retention_per_type(data.cells.groups, self.group, self.passes),
            "technology": data.technology,
            "simulated": data.simulated,
            "bounds_um": self.bounds_um,
            "n_cells": len(cells.cell_ids),
            "n_cells_kept": _count(self.passes),
            "n_genes": len(data.cells.genes),
            "n_transcripts": self.n_analysed,
            "dropped": self.dropped(),
            "missing": data.missing,
            "mismatch": self._mismatch(),
            "counts_from": self.counts_from,
            "group_keys": tuple(sorted(data.cells.groups)),
            "has_transcripts": data.transcripts.n > 0,
            **self.layers(),
        }

    def layers(self) -> dict[str, bool]:
        """Tell which optional arrays the index holds."""
        data = self.data
        return {
            "has_z": data.transcripts.xyz_um.shape[1] == 3,
            "has_qv": data.transcripts.qv is not None,
            "has_nucleus_flags": data.transcripts.overlaps_nucleus is not None,
            "has_polygons": data.polygons is not None,
            "has_nuclei": data.nuclei is not None,
            "has_gene_ids": data.cells.gene_ids is not None,
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


def retention_per_type(
    groups: dict[str, Groups], key: str | None, passes: BoolArray
) -> dict[str, tuple[int, int]]:
    """Return cells in and cells that pass QC per category of a grouping; empty without one."""
    if key is None:
        return {}
    return thresholds.retention(groups[key].codes, groups[key].categories, passes)
