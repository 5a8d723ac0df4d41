"""One ingested slide: its arrays, mapped into memory when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, FloatArray, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Csr, Groups, Nuclei, Polygons
from spatialformer_core.slides import index, molecules
from spatialformer_core.slides.meta import Bounds, ImageMeta, SlideMeta
from spatialformer_core.slides.roi import Roi, parse_rois, to_geojson

_NUMBERS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class CellTranscripts:
    """Analysed transcripts sorted by cell: assigned, of genes, of sufficient quality.

    Attributes
    ----------
    indptr
        Row pointers in slide order, shape ``(n_cells + 1,)``.
    xyz_um
        Shape ``(m, 2)`` or ``(m, 3)``.
    gene
        Gene columns, shape ``(m,)``.
    qv
        Quality, shape ``(m,)``, or None.
    overlaps_nucleus
        Whether the source places each transcript over a nucleus, shape ``(m,)``, or None.
    """

    indptr: LongArray
    xyz_um: FloatArray
    gene: NDArray[np.uint16]
    qv: FloatArray | None
    overlaps_nucleus: BoolArray | None = None


class Slide:
    """A slide of the store. Arrays are read-only maps of the serving index.

    Attributes
    ----------
    folder
        The slide's folder in the store.
    user_folder
        Where regions of interest lie, beside it.
    meta
        What is known of it.
    """

    def __init__(self, folder: Path, user_folder: Path, meta: SlideMeta) -> None:
        self.folder = folder
        self.user_folder = user_folder
        self.meta = meta
        self._index = folder / "index"

    @property
    def zarr_path(self) -> Path:
        """The slide as SpatialData zarr."""
        return self.folder / "slide.zarr"

    @cached_property
    def cell_ids(self) -> NDArray[np.str_]:
        """Names of the cells, shape ``(n,)``."""
        return index.load(self._index, "cell_ids")

    @cached_property
    def xy_um(self) -> FloatArray:
        """Centroids, shape ``(n, 2)``."""
        return index.load(self._index, "xy_um")

    @cached_property
    def area_um2(self) -> FloatArray:
        """Cell areas, NaN where the source has none, shape ``(n,)``."""
        return index.load(self._index, "area_um2")

    @cached_property
    def passes_qc(self) -> BoolArray:
        """Which cells are analysed, shape ``(n,)``."""
        return index.load(self._index, "passes_qc")

    @cached_property
    def n_transcripts(self) -> IntArray:
        """Gene counts of each cell in the matrix, shape ``(n,)``."""
        return index.load(self._index, "n_transcripts")

    @cached_property
    def n_genes_per_cell(self) -> IntArray:
        """Distinct genes of each cell, shape ``(n,)``."""
        return index.load(self._index, "n_genes")

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Gene symbols, one per column of ``counts``."""
        return tuple(files.read_json(self._index / "genes.json"))

    @cached_property
    def counts(self) -> Csr:
        """Raw counts, CSR of int32, cells x genes."""
        from scipy import sparse

        parts = [index.load(self._index, f"counts_{p}") for p in ("data", "indices", "indptr")]
        return sparse.csr_matrix(tuple(parts), shape=(self.meta.n_cells, len(self.genes)))

    @cached_property
    def _gene_position(self) -> dict[str, int]:
        return {gene: position for position, gene in enumerate(self.genes)}

    def gene_column(self, gene: str) -> FloatArray:
        """Return the counts of one gene in every cell, shape ``(n,)``.

        Raises
        ------
        SpatialFormerError
            If the slide's panel lacks the gene.
        """
        column = self._column(gene)
        prefix = index.GENES_PART
        start, stop = index.load(self._index, f"{prefix}_indptr")[column : column + 2]
        values = np.zeros(self.meta.n_cells, np.float32)
        rows = index.load(self._index, f"{prefix}_indices")[start:stop]
        values[rows] = index.load(self._index, f"{prefix}_data")[start:stop]
        return values

    def _column(self, gene: str) -> int:
        column = self._gene_position.get(gene)
        if column is None:
            raise SpatialFormerError(
                f"Gene {gene[:40]!r} is not in the panel of {len(self.genes):,} genes.",
                where=self.meta.slide_id,
            )
        return column

    @property
    def group_keys(self) -> tuple[str, ...]:
        """Names of the groupings."""
        return self.meta.group_keys

    def group(self, key: str) -> Groups:
        """Return one grouping.

        Raises
        ------
        SpatialFormerError
            If the slide has no such grouping.
        """
        stem = index.read_group_files(self._index).get(key)
        if stem is None:
            raise SpatialFormerError(
                f"There is no grouping {key[:40]!r}.",
                where=self.meta.slide_id,
                fix=f"Groupings: {', '.join(self.group_keys) or 'none'}.",
            )
        folder = self._index / "groups"
        categories = tuple(files.read_json(folder / f"{stem}.json")["categories"])
        return Groups(categories, index.load(folder, stem))

    def transcripts_by_cell(self) -> CellTranscripts:
        """Return the analysed transcripts, sorted by cell.

        Raises
        ------
        SpatialFormerError
            If the slide was made from cells alone.
        """
        if not self.meta.has_transcripts:
            raise SpatialFormerError(
                "The slide has no transcripts, so nothing is known of places within its cells.",
                where=self.meta.slide_id,
                fix="Ingest it again from a source that holds transcripts.",
            )
        names = ("tx_cell_indptr", "tx_xyz", "tx_gene")
        indptr, xyz_um, gene = (index.load(self._index, name) for name in names)
        qv = index.load(self._index, "tx_qv") if self.meta.has_qv else None
        over = index.load(self._index, "tx_nucleus") if self.meta.has_nucleus_flags else None
        return CellTranscripts(indptr, xyz_um, gene, qv, over)

    def polygons(self) -> Polygons | None:
        """Return the cell outlines, None where the source has none."""
        if not self.meta.has_polygons:
            return None
        indptr = index.load(self._index, "polygons_indptr")
        return Polygons(indptr, index.load(self._index, "polygons_xy"))

    def nuclei(self) -> Nuclei | None:
        """Return the outlines of the nuclei, None where the source has none."""
        if not self.meta.has_nuclei:
            return None
        cell, indptr, xy_um = (index.load(self._index, name) for name in index.NUCLEI)
        return Nuclei(cell, Polygons(indptr, xy_um))

    @cached_property
    def gene_ids(self) -> tuple[str, ...] | None:
        """Stable ids of the genes, empty where unknown; None where the source has none."""
        if not self.meta.has_gene_ids:
            return None
        return tuple(files.read_json(self._index / index.GENE_IDS))

    @cached_property
    def grid(self) -> index.TileGrid:
        """The grid of the tile-sorted arrays."""
        return index.read_grid(self._index)

    @cached_property
    def _tiles(self) -> dict[str, NDArray[Any]]:
        names = ("tx_indptr", "tx_xy", "tx_gene", "cells_indptr", "cells_indices")
        return {name: index.load(self._index, f"tiles_{name}") for name in names}

    def tile_transcripts(
        self, ix: int, iy: int, genes: Sequence[str] | None = None
    ) -> tuple[FloatArray, NDArray[Any]]:
        """Return the transcripts of one tile, in cells or not, one gene after the other.

        Parameters
        ----------
        ix, iy
            Which tile of `grid`.
        genes
            Gene symbols; None is the whole panel.

        Returns
        -------
        xy_um, gene
            Positions, shape ``(m, 2)``, and which of ``genes`` each is, shape ``(m,)``.

        Raises
        ------
        SpatialFormerError
            If there is no such tile, or the panel lacks a gene.
        """
        tiles = self._tiles
        number = self._tile_number(ix, iy)
        start, stop = tiles["tx_indptr"][number : number + 2].tolist()
        xy, gene = tiles["tx_xy"][start:stop], tiles["tx_gene"][start:stop]
        if genes is not None:
            # Sorted by gene within a tile. Sought in the array's own type: another copies the tile.
            columns = np.array([self._column(name) for name in genes], gene.dtype)
            first, last = gene.searchsorted(columns), gene.searchsorted(columns, "right")
            parts = [xy[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
            xy, gene = np.concatenate(parts), np.repeat(np.arange(len(genes)), last - first)
        corner = self.grid.corner(np.array([number]))[0]
        xy_um, gene = (corner + xy * self.grid.quantum_um).astype(np.float32), np.array(gene)
        index.release(tiles["tx_xy"], tiles["tx_gene"])
        return xy_um, gene

    def tile_cells(self, ix: int, iy: int) -> IntArray:
        """Return the cells whose centroid lies in one tile, ascending."""
        number = self._tile_number(ix, iy)
        start, stop = self._tiles["cells_indptr"][number : number + 2]
        cells: IntArray = self._tiles["cells_indices"][start:stop]
        return cells

    @cached_property
    def _by_gene(self) -> molecules.GeneReader:
        self._need_format_2()
        return molecules.GeneReader(self._index, self.grid)

    def gene_transcripts(
        self, genes: Sequence[str], window_um: Bounds | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Return the shown transcripts of some genes, in cells or not, without reading others.

        Parameters
        ----------
        genes
            Gene symbols.
        window_um
            ``(x0, y0, x1, y1)``; None is the whole slide.

        Returns
        -------
        xy_um, gene
            Positions, shape ``(m, 2)``, and which of ``genes`` each is, shape ``(m,)``, ascending.

        Raises
        ------
        SpatialFormerError
            If the panel lacks a gene, or the slide was written before there was this order.
        """
        return self._by_gene.positions([self._column(gene) for gene in genes], window_um)

    def count_gene_transcripts(self, genes: Sequence[str], window_um: Bounds | None = None) -> int:
        """Return how many `gene_transcripts` lie in the tiles that a window touches, unread."""
        return self._by_gene.count([self._column(gene) for gene in genes], window_um)

    @property
    def density_bins_um(self) -> tuple[float, ...]:
        """Width of a bin at each level of `density`; empty in a slide of format 1."""
        return molecules.bin_widths_um(self.grid) if self.meta.format_version > 1 else ()

    def density(self, of: molecules.Subject = "transcripts", level: int = 0) -> molecules.Counts:
        """Return how many transcripts or cells lie in each bin, shape ``(rows, columns)``.

        Bin ``(0, 0)`` begins at the corner of tile ``(0, 0)``; `density_bins_um` gives the width.
        """
        self._check_level(level)
        return index.load(self._index, f"density_{of}_{level}")

    def gene_density(self, genes: Sequence[str], level: int = 0) -> molecules.Counts:
        """Return how many transcripts of some genes together lie in each bin."""
        self._check_level(level)
        return self._by_gene.density([self._column(gene) for gene in genes], level)

    def _check_level(self, level: int) -> None:
        self._need_format_2()
        if not 0 <= level < len(self.density_bins_um):
            raise SpatialFormerError(
                f"There is no density level {level}.",
                where=self.meta.slide_id,
                fix=f"Levels: 0 to {len(self.density_bins_um) - 1}.",
            )

    def _need_format_2(self) -> None:
        if self.meta.format_version < 2:
            raise SpatialFormerError(
                "The slide was written before its index held an order by gene and densities.",
                where=self.meta.slide_id,
                fix=f"Run `spatialformer slides rebuild {self.meta.slide_id}`.",
            )

    def _tile_number(self, ix: int, iy: int) -> int:
        grid = self.grid
        if not (0 <= ix < grid.nx and 0 <= iy < grid.ny):
            raise SpatialFormerError(
                f"Tile ({ix}, {iy}) is outside {grid.nx} x {grid.ny}.", where=self.meta.slide_id
            )
        return iy * grid.nx + ix

    def image(self, name: str) -> ImageMeta:
        """Return what is known of one image.

        Raises
        ------
        SpatialFormerError
            If the slide has no such image.
        """
        for image in self.meta.images:
            if image.name == name:
                return image
        raise SpatialFormerError(f"There is no image {name[:40]!r}.", where=self.meta.slide_id)

    def image_path(self, name: str) -> Path:
        """Return the OME-TIFF pyramid of one image."""
        return self.folder / "image" / f"{self.image(name).name}.ome.tif"

    def rois(self) -> list[Roi]:
        """Return the saved regions of interest by name, ``region 2`` before ``region 10``."""
        paths = sorted((self.user_folder / "rois").glob("*.geojson"))
        found = [
            roi for path in paths for roi in parse_rois(files.read_json(path), self.meta.slide_id)
        ]
        return sorted(found, key=lambda roi: (_natural(roi.name), roi.roi_id))

    def save_roi(self, roi: Roi) -> None:
        """Save a region; one of the same id gives way.

        Raises
        ------
        SpatialFormerError
            If it is another slide's, invalid, or outside the slide.
        """
        record = to_geojson([roi])
        parse_rois(record, self.meta.slide_id, self.meta.bounds_um)
        files.write_json(self._roi_path(roi.roi_id), record)

    def delete_roi(self, roi_id: str) -> None:
        """Delete a saved region.

        Raises
        ------
        SpatialFormerError
            If there is none of this id.
        """
        path = self._roi_path(roi_id)
        if not path.is_file():
            raise SpatialFormerError(f"There is no region {roi_id[:40]!r}.", self.meta.slide_id)
        path.unlink()

    def _roi_path(self, roi_id: str) -> Path:
        return self.user_folder / "rois" / f"{files.check_name(roi_id, 'Region id')}.geojson"


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that reads numbers within a name as people do."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(name)]
