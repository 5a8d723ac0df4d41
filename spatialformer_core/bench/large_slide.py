"""A slide of any size in a store, to time the app on: one simulated tissue, repeated as tiles.

A million simulated cells would take an hour; ten thousand that lie a hundred times side by side
cost the app exactly as much to serve and look like tissue.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files, io
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.io.records import (
    CellTable,
    Groups,
    ImageSource,
    Nuclei,
    Polygons,
    SourceData,
    Transcripts,
)
from spatialformer_core.slides import SlideMeta, SlideStore
from spatialformer_core.slides.build import SlideBuild
from spatialformer_core.slides.ingest import write_image, write_image_list

_TISSUE_CELLS = 10_000
_HE_PIXEL_UM, _STAIN_PIXEL_UM = 0.8, 1.7
_SAMPLE = {
    "donor": "bench",
    "block": "bench",
    "condition": "simulated",
    "tissue": "Lung",
    "species": "Human",
    "assay": "Xenium",
}


def large_slide(home: Path, slide_id: str, n_cells: int, n_transcripts: int, seed: int = 0) -> None:
    """Write a slide into a store unless it is there already; memory stays below 6 GB at 100 M.

    Parameters
    ----------
    home
        The folder of ``$SPATIALFORMER_HOME``; the simulated tissue is kept beside it, too.
    slide_id
        Its id and name.
    n_cells, n_transcripts
        About how many; both are rounded to whole tiles.
    """
    store = SlideStore(home)
    if store.exists(slide_id):
        return
    n_side = max(1, round(math.sqrt(n_cells / _TISSUE_CELLS)))
    per_tile = max(200, round(n_cells / n_side**2))
    tissue = _tissue(home / "bench" / f"tissue-{per_tile}-{seed}", per_tile, seed)
    tiles = _Tiles(tissue, n_side, n_transcripts // n_side**2, seed)
    built = SlideBuild(tiles.data(), QcThresholds(), "cell_type")
    with files.atomic_directory(store.path(slide_id)) as folder:
        (folder / "image").mkdir()
        images: list[Any] = []
        for source in tiles.images():
            taken = {image.name for image in images}
            images.append(write_image(folder / "image", source, taken))
        write_image_list(folder / "image", images)
        built.write_index(folder / "index")
        meta = SlideMeta(
            slide_id=slide_id,
            name=slide_id,
            sample=SampleMetadata(**_SAMPLE),
            source="bench",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            images=tuple(images),
            **built.facts(),
        )
        files.write_json(folder / "meta.json", meta.model_dump(mode="json"))


def _tissue(folder: Path, n_cells: int, seed: int) -> SourceData:
    from spatialformer_core.simulate import SimulationSettings, simulate

    if not files.is_complete(folder):
        simulate(folder, SimulationSettings(cells=n_cells, seed=seed, pixel_size_um=1.7))
    return io.read_source(folder)


@dataclass
class _Tiles:
    """One tissue, repeated in ``n_side`` rows of ``n_side``."""

    tissue: SourceData
    n_side: int
    transcripts_per_tile: int
    seed: int

    def __post_init__(self) -> None:
        xy = self.tissue.transcripts.xyz_um[:, :2]
        self.low = xy.min(axis=0).astype(np.float64)
        # Tiles touch without overlap, and a whole number of pixels of either image fits in.
        side = float((xy.max(axis=0) - self.low).max())
        self.side_um = math.ceil(side / (_HE_PIXEL_UM * 17)) * _HE_PIXEL_UM * 17

    @property
    def n(self) -> int:
        return self.n_side**2

    def moved(self, xy: NDArray[Any], dtype: Any) -> NDArray[Any]:
        """Return positions of all tiles, one tile after another, shape ``(n * m, 2)``."""
        out = np.empty((self.n, len(xy), 2), dtype)
        local = xy[:, :2] - self.low
        for tile in range(self.n):
            row, column = divmod(tile, self.n_side)
            out[tile] = local + np.array([column, row]) * self.side_um
        return out.reshape(-1, 2)

    def data(self) -> SourceData:
        """Return the repeated tissue as a reader would hand it over."""
        tissue = self.tissue
        outlines = tissue.polygons
        return SourceData(
            tissue.technology,
            simulated=True,
            cells=self._cells(tissue.cells),
            transcripts=self._transcripts(tissue.transcripts),
            polygons=None if outlines is None else self._outlines(outlines),
            images=(),
            counts_min_qv=None,
            nuclei=self._nuclei(tissue.nuclei),
        )

    def _cells(self, cells: CellTable) -> CellTable:
        from scipy import sparse

        n = len(cells.cell_ids)
        names = [f"{tile:03d}-{name}" for tile in range(self.n) for name in cells.cell_ids.tolist()]
        counts = sparse.csr_matrix(
            (
                np.tile(cells.counts.data, self.n),
                np.tile(cells.counts.indices, self.n),
                self._pointers(cells.counts.indptr),
            ),
            shape=(n * self.n, cells.counts.shape[1]),
        )
        groups = {
            key: Groups(group.categories, np.tile(group.codes, self.n))
            for key, group in cells.groups.items()
        }
        area = None if cells.area_um2 is None else np.tile(cells.area_um2, self.n)
        return CellTable(
            np.array(names, np.str_),
            self.moved(cells.xy_um, np.float64),
            area,
            counts,
            cells.genes,
            cells.control_names,
            n_control_counts=0,
            groups=groups,
            gene_ids=cells.gene_ids,
        )

    def _transcripts(self, found: Transcripts) -> Transcripts:
        good = found.gene_of_feature[found.feature] >= 0
        if found.qv is not None:
            good &= found.qv >= QcThresholds().min_qv
        rng = np.random.default_rng(self.seed)
        # With repeats where the tissue has too few: what counts is how many are served.
        rows = rng.choice(np.flatnonzero(good), self.transcripts_per_tile, replace=True)
        n_cells = len(self.tissue.cells.cell_ids)
        cell = np.tile(found.cell[rows].astype(np.int32), (self.n, 1))
        cell += np.arange(self.n, dtype=np.int32)[:, None] * n_cells * (cell >= 0)
        return Transcripts(
            self.moved(found.xyz_um[rows], np.float32),
            np.tile(found.feature[rows], self.n),
            cell.reshape(-1),
            None,
            found.feature_names,
            found.gene_of_feature,
        )

    def _nuclei(self, nuclei: Nuclei | None) -> Nuclei | None:
        if nuclei is None:
            return None
        n_cells = len(self.tissue.cells.cell_ids)
        cell = nuclei.cell + np.arange(self.n, dtype=np.int32)[:, None] * n_cells
        return Nuclei(cell.reshape(-1).astype(np.int32), self._outlines(nuclei.outlines))

    def _outlines(self, outlines: Polygons) -> Polygons:
        return Polygons(self._pointers(outlines.indptr), self.moved(outlines.xy_um, np.float32))

    def _pointers(self, indptr: NDArray[Any]) -> NDArray[np.int64]:
        steps = np.tile(np.diff(indptr), self.n)
        return np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])

    def images(self) -> list[ImageSource]:
        """Return the images of the tissue, straightened and repeated."""
        wanted = {"he": _HE_PIXEL_UM, "stain": _STAIN_PIXEL_UM}
        found = []
        for source in self.tissue.images:
            pixel_um = wanted[source.kind]
            tile = self._straight(source, pixel_um)
            matrix = np.diag([pixel_um, pixel_um, 1.0])
            repeated = _Repeated(tile, self.n_side)
            found.append(
                ImageSource(
                    source.name, source.kind, (), matrix, pixels=repeated, channels=source.channels
                )
            )
        return found

    def _straight(self, source: ImageSource, pixel_um: float) -> NDArray[Any]:
        """Return one tile's pixels, shape ``(channels, side, side)``, nearest neighbours."""
        import tifffile

        pixels = tifffile.imread(source.paths[0], is_ome=False)
        pixels = pixels.reshape(*pixels.shape[-3:]) if pixels.ndim > 3 else pixels
        pixels = (
            np.moveaxis(pixels, -1, 0)
            if pixels.shape[-1] == 3
            else pixels.reshape(-1, *pixels.shape[-2:])
        )
        n = round(self.side_um / pixel_um)
        x, y = (self.low[axis] + (np.arange(n) + 0.5) * pixel_um for axis in (0, 1))
        place = np.stack([*np.meshgrid(x, y), np.ones((n, n))])
        column, row, _ = np.tensordot(np.linalg.inv(source.um_from_px), place, 1)
        height, width = pixels.shape[1:]
        row, column = np.rint(row).astype(np.int64), np.rint(column).astype(np.int64)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        blank = 245 if source.kind == "he" else 0
        picked = pixels[:, np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return np.where(inside, picked, np.array(blank, pixels.dtype))


@dataclass(frozen=True)
class _Repeated:
    """Pixels of a tile, repeated when they are asked for: the whole would not fit into memory."""

    tile: NDArray[Any]
    n_side: int

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.tile.shape
        return channels, height * self.n_side, width * self.n_side

    @property
    def dtype(self) -> Any:
        return self.tile.dtype

    def __getitem__(self, at: tuple[int, slice]) -> NDArray[Any]:
        channel, rows = at
        chosen = np.arange(self.shape[1])[rows] % self.tile.shape[1]
        return np.tile(self.tile[channel, chosen], (1, self.n_side))
