"""The serving index: memory-mappable arrays that are written once and only read afterwards."""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, FloatArray, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Csr, Groups, Nuclei, Polygons
from spatialformer_core.slides.meta import Bounds

TILE_UM = 250.0
_MAX_TILES = 1 << 20
QUANTA = 65_535
CELLS_PART, GENES_PART = "counts", "counts_csc"
NUCLEI = ("nuclei_cell", "nuclei_indptr", "nuclei_xy")
GENE_IDS = "gene_ids.json"


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Square tiles over a slide, row by row: tile ``(ix, iy)`` has number ``iy * nx + ix``.

    Attributes
    ----------
    quantum_um
        Step of the positions inside a tile, which are stored as 16-bit integers.
    """

    tile_um: float
    x0: float
    y0: float
    nx: int
    ny: int

    @property
    def quantum_um(self) -> float:
        """Step of the stored positions within a tile."""
        return self.tile_um / QUANTA

    def number(self, xy_um: NDArray[Any]) -> LongArray:
        """Return the tile of each position, shape ``(m,)``."""
        column = np.floor((xy_um[:, 0] - self.x0) / self.tile_um).astype(np.int64)
        row = np.floor((xy_um[:, 1] - self.y0) / self.tile_um).astype(np.int64)
        return np.clip(row, 0, self.ny - 1) * self.nx + np.clip(column, 0, self.nx - 1)

    def corner(self, tiles: LongArray) -> NDArray[np.float64]:
        """Return the lower corner of each tile in um, shape ``(m, 2)``."""
        row, column = np.divmod(tiles, self.nx)
        corner: NDArray[np.float64] = np.stack([column, row], axis=1) * self.tile_um
        corner += (self.x0, self.y0)
        return corner

    @staticmethod
    def over(bounds_um: Bounds) -> TileGrid:
        """Return a grid that covers the bounds with at most a million tiles."""
        x0, y0, x1, y1 = bounds_um
        tile_um = TILE_UM
        while True:
            nx, ny = (int((b - a) // tile_um) + 1 for a, b in ((x0, x1), (y0, y1)))
            if nx * ny <= _MAX_TILES:
                return TileGrid(tile_um, x0, y0, nx, ny)
            tile_um *= 2


@dataclass(frozen=True, slots=True)
class CellArrays:
    """Per-cell arrays of the index, all of length ``n``."""

    cell_ids: NDArray[np.str_]
    xy_um: FloatArray
    area_um2: FloatArray
    n_transcripts: IntArray
    n_genes: IntArray
    passes_qc: BoolArray


@dataclass(frozen=True, slots=True)
class SlideArrays:
    """All that a slide holds besides its transcripts."""

    cells: CellArrays
    counts: Csr
    genes: tuple[str, ...]
    groups: dict[str, Groups]
    polygons: Polygons | None
    nuclei: Nuclei | None = None
    gene_ids: tuple[str, ...] | None = None


def save(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write one array of the index."""
    np.save(folder / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)


def load(folder: Path, name: str) -> NDArray[Any]:
    """Map one array of the index into memory, read-only.

    Raises
    ------
    SpatialFormerError
        If its file is gone or damaged.
    """
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, EOFError, ValueError) as error:
        raise SpatialFormerError(
            "A file of the slide is missing or damaged.",
            where=path.name,
            fix="Whoever runs the app: `spatialformer slides verify` says what is damaged and how "
            "it is mended.",
        ) from error
    return array


def release(*arrays: NDArray[Any]) -> None:
    """Give back the pages of mapped arrays that were touched.

    The system keeps the file in its own memory as long as nobody else wants it; what a server read
    of a large array here and there would else count as its own until it ends.
    """
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def write_cells(folder: Path, slide: SlideArrays) -> None:
    """Write per-cell arrays, counts by cell and by gene, groupings and outlines."""
    cells, counts = slide.cells, slide.counts
    save(folder, "cell_ids", cells.cell_ids)
    save(folder, "xy_um", cells.xy_um)
    save(folder, "area_um2", cells.area_um2)
    save(folder, "n_transcripts", cells.n_transcripts)
    save(folder, "n_genes", cells.n_genes)
    save(folder, "passes_qc", cells.passes_qc)
    for prefix, matrix in ((CELLS_PART, counts), (GENES_PART, counts.tocsc())):
        save(folder, f"{prefix}_indptr", matrix.indptr.astype(np.int64))
        save(folder, f"{prefix}_indices", matrix.indices.astype(np.int32))
        save(folder, f"{prefix}_data", matrix.data.astype(np.int32))
    files.write_json(folder / "genes.json", list(slide.genes))
    if slide.gene_ids is not None:
        files.write_json(folder / GENE_IDS, list(slide.gene_ids))
    write_groups(folder, slide.groups)
    if slide.polygons is not None:
        save(folder, "polygons_indptr", slide.polygons.indptr)
        save(folder, "polygons_xy", slide.polygons.xy_um)
    if slide.nuclei is not None:
        outlines = slide.nuclei.outlines
        arrays: tuple[NDArray[Any], ...] = (slide.nuclei.cell, outlines.indptr, outlines.xy_um)
        for name, values in zip(NUCLEI, arrays, strict=True):
            save(folder, name, values)


def write_groups(folder: Path, groups: dict[str, Groups]) -> None:
    """Write all groupings of a slide into an index that has none yet."""
    # A key may hold anything, so a file is called after it only as far as that is safe.
    target = folder / "groups"
    target.mkdir()
    names: dict[str, str] = {}
    for number, (key, value) in enumerate(sorted(groups.items())):
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in key)[:48]
        stem = safe if safe and safe not in names.values() else f"group_{number}"
        names[key] = stem
        files.write_json(target / f"{stem}.json", {"key": key, "categories": value.categories})
        save(target, stem, value.codes)
    files.write_json(target / "_keys.json", names)


def read_group_files(folder: Path) -> dict[str, str]:
    """Return the file stem of each grouping."""
    names: dict[str, str] = files.read_json(folder / "groups" / "_keys.json")
    return names


def write_grid(folder: Path, grid: TileGrid) -> None:
    """Write the grid of the tile-sorted arrays."""
    record = {"tile_um": grid.tile_um, "x0": grid.x0, "y0": grid.y0, "nx": grid.nx, "ny": grid.ny}
    files.write_json(folder / "tiles.json", record | {"quantum_um": grid.quantum_um})


def read_grid(folder: Path) -> TileGrid:
    """Return the grid of a written index."""
    values = json.loads((folder / "tiles.json").read_text("utf-8"))
    values.pop("quantum_um")
    return TileGrid(**values)
