"""Transcripts in the serving index: by cell, by place, by gene, and as densities.

``tx_*``           analysed transcripts (of genes, of sufficient quality, in a cell) by cell.
``tiles_tx_*``     shown transcripts (in a cell or not) by tile, within a tile by gene; positions
                   as 16-bit steps within their tile: 4 nm at 250 um.
``gene_runs_*``    the order by gene: within a tile the transcripts of a gene are one run, and the
                   runs of each gene are listed by tile. A gene is read without the others, and
                   the order costs 12 bytes per run instead of 4 per transcript.
``density_*``      transcripts and cells per square bin. A tile holds whole bins of level 0; each
                   further level has bins twice as wide.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, FloatArray, IntArray, LongArray
from spatialformer_core.io.records import Transcripts
from spatialformer_core.slides.index import QUANTA, TileGrid, load, release, save
from spatialformer_core.slides.meta import Bounds

Steps = NDArray[np.uint16]
Counts = NDArray[np.uint32]
Subject = Literal["transcripts", "cells"]

_CHUNK = 1 << 20
_BINS_PER_TILE = (25, 5, 1)
_MAX_BINS = 1 << 24
_SMALLEST_LEVEL = 32


@dataclass(frozen=True, slots=True)
class Kept:
    """The transcripts of a source with the gene of those that are shown.

    Attributes
    ----------
    source
        All transcripts.
    gene
        Gene column; ``-1`` for controls, unknown features and low quality, shape ``(m,)``.
    """

    source: Transcripts
    gene: IntArray

    @staticmethod
    def of(source: Transcripts, good: BoolArray) -> Kept:
        """Keep transcripts of genes that pass ``good``, shape ``(m,)``."""
        gene = source.gene_of_feature.astype(np.int32)[source.feature]
        gene[~good] = -1
        return Kept(source, gene)

    def cell_keys(self) -> IntArray:
        """Return the cell of each analysed transcript, -1 for the others, shape ``(m,)``."""
        keys = self.source.cell.astype(np.int32)
        keys[self.gene < 0] = -1
        return keys


@contextlib.contextmanager
def _array_file(folder: Path, name: str, dtype: Any, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """Open an array file that is written piece by piece."""
    with files.atomic_write(folder / f"{name}.npy") as stream:
        np.lib.format.write_array_header_1_0(
            stream,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": shape,
            },
        )
        yield stream


def _pieces(n: int) -> Iterator[slice]:
    for start in range(0, n, _CHUNK):
        yield slice(start, min(start + _CHUNK, n))


def write_by_cell(folder: Path, kept: Kept, n_cells: int) -> None:
    """Write the analysed transcripts, sorted by cell."""
    from spatialformer_core.slides import kernels

    source = kept.source
    indptr, order = kernels.order_by(kept.cell_keys(), n_cells)
    save(folder, "tx_cell_indptr", indptr)
    columns: list[tuple[str, NDArray[Any], type]] = [
        ("tx_xyz", source.xyz_um, np.float32),
        ("tx_gene", kept.gene, np.uint16),
    ]
    if source.qv is not None:
        columns.append(("tx_qv", source.qv, np.float32))
    if source.overlaps_nucleus is not None:
        columns.append(("tx_nucleus", source.overlaps_nucleus, np.bool_))
    for name, values, dtype in columns:
        with _array_file(folder, name, dtype, (len(order), *values.shape[1:])) as stream:
            for piece in _pieces(len(order)):
                stream.write(values[order[piece]].astype(dtype, copy=False).tobytes())


def write_by_tile(folder: Path, grid: TileGrid, kept: Kept, n_genes: int) -> None:
    """Write the shown transcripts sorted by tile and gene, the runs of each gene, the density."""
    from spatialformer_core.slides import kernels

    xyz, n_tiles = kept.source.xyz_um, grid.nx * grid.ny
    tile = np.empty(len(xyz), np.int32)
    for piece in _pieces(len(xyz)):
        tile[piece] = grid.number(xyz[piece])
    _, order = kernels.order_by(kept.gene, n_genes)
    indptr, order = kernels.reorder_by(order, tile, n_tiles)
    save(folder, "tiles_tx_indptr", indptr)
    runs, density = _Runs(), _Density(grid)
    with (
        _array_file(folder, "tiles_tx_xy", np.uint16, (len(order), 2)) as positions,
        _array_file(folder, "tiles_tx_gene", np.uint16, (len(order),)) as genes,
    ):
        for piece in _pieces(len(order)):
            rows = order[piece]
            tiles, gene = tile[rows].astype(np.int64), kept.gene[rows].astype(np.uint16)
            steps = to_steps(grid, tiles, xyz[rows, :2])
            positions.write(steps.tobytes())
            genes.write(gene.tobytes())
            runs.add(tiles, gene)
            density.add(tiles, steps)
    runs.save(folder, n_genes)
    density.save(folder, "transcripts")


def to_steps(grid: TileGrid, tiles: LongArray, xy_um: FloatArray) -> Steps:
    """Return positions as steps within their tiles, shape ``(m, 2)``."""
    offset = xy_um - grid.corner(tiles)
    return np.clip(np.rint(offset / grid.quantum_um), 0, QUANTA).astype(np.uint16)


def from_steps(grid: TileGrid, tiles: LongArray, steps: Steps) -> FloatArray:
    """Return the positions of steps in um, shape ``(m, 2)``."""
    return (grid.corner(tiles) + steps * grid.quantum_um).astype(np.float32)


class _Runs:
    """Runs of one gene in one tile, found while the sorted transcripts pass by."""

    def __init__(self) -> None:
        self.n = 0
        self.last = (-1, -1)
        self.starts: list[LongArray] = []
        self.tiles: list[LongArray] = []
        self.genes: list[NDArray[np.uint16]] = []

    def add(self, tiles: LongArray, gene: NDArray[np.uint16]) -> None:
        begins = np.empty(len(tiles), np.bool_)
        begins[0] = (int(tiles[0]), int(gene[0])) != self.last
        begins[1:] = (tiles[1:] != tiles[:-1]) | (gene[1:] != gene[:-1])
        at = np.flatnonzero(begins)
        self.starts.append(at + self.n)
        self.tiles.append(tiles[at])
        self.genes.append(gene[at])
        self.last = int(tiles[-1]), int(gene[-1])
        self.n += len(tiles)

    def save(self, folder: Path, n_genes: int) -> None:
        nothing = np.zeros(0, np.int64)
        start = np.concatenate([nothing, *self.starts])
        gene = np.concatenate([nothing.astype(np.uint16), *self.genes])
        length = np.diff(np.append(start, self.n))
        order = np.argsort(gene, kind="stable")
        indptr = np.zeros(n_genes + 1, np.int64)
        np.cumsum(np.bincount(gene, minlength=n_genes), out=indptr[1:])
        save(folder, "gene_runs_indptr", indptr)
        tile = np.concatenate([nothing, *self.tiles])
        for name, values in (("tile", tile), ("start", start), ("length", length)):
            save(folder, f"gene_runs_{name}", values[order].astype(np.uint32))


class _Density:
    """Counts per bin of level 0, tile by tile."""

    def __init__(self, grid: TileGrid) -> None:
        self.grid = grid
        self.side = bins_per_tile(grid)
        self.counts: Counts = np.zeros(grid.nx * grid.ny * self.side**2, np.uint32)

    def add(self, tiles: LongArray, steps: Steps) -> None:
        """Count positions whose tiles ascend."""
        # Whole numbers, so that a bin never depends on how a position is rounded to um.
        column, row = (steps.astype(np.int64) * self.side >> 16).T
        first = int(tiles[0]) * self.side**2
        found = np.bincount((tiles * self.side + row) * self.side + column - first)
        self.counts[first : first + len(found)] += found.astype(np.uint32)

    def picture(self) -> Counts:
        """Return the counts as rows and columns of the slide."""
        grid, side = self.grid, self.side
        blocks = self.counts.reshape(grid.ny, grid.nx, side, side).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(blocks.reshape(grid.ny * side, grid.nx * side))

    def save(self, folder: Path, subject: Subject) -> None:
        for level, counts in enumerate(pyramid(self.picture())):
            save(folder, f"density_{subject}_{level}", counts)


def bins_per_tile(grid: TileGrid) -> int:
    """Return the bins of level 0 along a tile: 25 (10 um), fewer on enormous slides."""
    n_tiles = grid.nx * grid.ny
    return next((k for k in _BINS_PER_TILE if n_tiles * k * k <= _MAX_BINS), _BINS_PER_TILE[-1])


def pyramid(counts: Counts) -> list[Counts]:
    """Return counts in bins of 1, 2, 4, ... times the width, down to a small picture."""
    levels = [counts]
    while max(levels[-1].shape) > _SMALLEST_LEVEL:
        rows, columns = levels[-1].shape
        even = np.pad(levels[-1], ((0, rows % 2), (0, columns % 2)))
        blocks = even.reshape((rows + 1) // 2, 2, (columns + 1) // 2, 2)
        levels.append(blocks.sum(axis=(1, 3), dtype=np.uint32))
    return levels


def bin_widths_um(grid: TileGrid) -> tuple[float, ...]:
    """Return the width of a bin at each level of the densities."""
    side = bins_per_tile(grid)
    longest, widths = max(grid.nx, grid.ny) * side, [grid.tile_um / side]
    while longest > _SMALLEST_LEVEL:
        longest = (longest + 1) // 2
        widths.append(2 * widths[-1])
    return tuple(widths)


def write_cell_tiles(folder: Path, grid: TileGrid, xy_um: FloatArray) -> None:
    """Write the cells sorted by tile, and their density."""
    tile = grid.number(xy_um)
    order = np.argsort(tile, kind="stable")
    indptr = np.zeros(grid.nx * grid.ny + 1, np.int64)
    np.cumsum(np.bincount(tile, minlength=grid.nx * grid.ny), out=indptr[1:])
    save(folder, "tiles_cells_indptr", indptr)
    save(folder, "tiles_cells_indices", order.astype(np.int32))
    density = _Density(grid)
    if len(order):
        density.add(tile[order], to_steps(grid, tile[order], xy_um[order]))
    density.save(folder, "cells")


class GeneReader:
    """Reads the transcripts of some genes through their runs.

    Parameters
    ----------
    folder
        The serving index.
    grid
        Its tiles.
    """

    def __init__(self, folder: Path, grid: TileGrid) -> None:
        self.grid = grid
        names = ("gene_runs_indptr", "gene_runs_tile", "gene_runs_start", "gene_runs_length")
        self.indptr, self.tile, self.start, self.length = (load(folder, name) for name in names)
        self.xy = load(folder, "tiles_tx_xy")

    def _runs(self, gene: int, window_um: Bounds | None) -> tuple[LongArray, LongArray, LongArray]:
        """Return tile, start and length of the runs of one gene, each of shape ``(k,)``."""
        runs = slice(*self.indptr[gene : gene + 2])
        tile = self.tile[runs].astype(np.int64)
        start, length = self.start[runs].astype(np.int64), self.length[runs].astype(np.int64)
        if window_um is not None:
            touched = self._touched(tile, window_um)
            tile, start, length = tile[touched], start[touched], length[touched]
        return tile, start, length

    def count(self, genes: Sequence[int], window_um: Bounds | None = None) -> int:
        """Return the transcripts of some genes in the tiles that a window touches."""
        return sum(int(self._runs(gene, window_um)[2].sum()) for gene in genes)

    def read(self, gene: int, window_um: Bounds | None = None) -> tuple[LongArray, Steps]:
        """Return ``(tile (m,), steps (m, 2))`` of one gene in the tiles that a window touches."""
        tile, start, length = self._runs(gene, window_um)
        first = np.cumsum(length) - length
        rows = np.repeat(start - first, length) + np.arange(length.sum())
        steps = self.xy[rows]
        release(self.xy)
        return np.repeat(tile, length), steps

    def _touched(self, tile: LongArray, window_um: Bounds) -> BoolArray:
        corners = np.array(window_um, np.float64).reshape(2, 2)
        row, column = np.divmod(self.grid.number(corners), self.grid.nx)
        iy, ix = np.divmod(tile, self.grid.nx)
        inside: BoolArray = (iy >= row[0]) & (iy <= row[1]) & (ix >= column[0]) & (ix <= column[1])
        return inside

    def positions(
        self, genes: Sequence[int], window_um: Bounds | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Return ``(xy_um (m, 2), position in genes (m,))``, genes in order, within the window."""
        parts, which = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int32)]
        for position, gene in enumerate(genes):
            xy_um = from_steps(self.grid, *self.read(gene, window_um))
            if window_um is not None:
                x0, y0, x1, y1 = window_um
                inside = (xy_um >= (x0, y0)).all(axis=1) & (xy_um <= (x1, y1)).all(axis=1)
                xy_um = xy_um[inside]
            parts.append(xy_um)
            which.append(np.full(len(xy_um), position, np.int32))
        return np.concatenate(parts), np.concatenate(which)

    def density(self, genes: Sequence[int], level: int) -> Counts:
        """Return the transcripts of some genes together per bin of a level."""
        counts = _Density(self.grid)
        for gene in genes:
            tiles, steps = self.read(gene)
            if len(tiles):
                counts.add(tiles, steps)
        return pyramid(counts.picture())[level]
