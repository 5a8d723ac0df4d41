"""Bytes that the tissue viewer draws: points, colour codes, outlines, molecules, image tiles.

Everything is read from a slide's memory-mapped index. All numbers are little-endian; the layouts
below are the contract with ``pages/ui/viewer/src/decode.js``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Nuclei
from spatialformer_core.service.outlines import outline_bytes
from spatialformer_core.service.palette import UNASSIGNED, group_colours
from spatialformer_core.slides import Polygons, Slide, SlideStore
from spatialformer_core.slides.meta import Bounds
from spatialformer_core.slides.placing import placed_images
from spatialformer_core.slides.tiles import image_tile_jpeg

MAX_GENES = 6
"""Genes whose molecules one request may ask for."""

MAX_MOLECULES = 500_000
"""Molecules in one answer; more of them on one screen would only cover each other."""

TOP_GENES = 6
_OPEN_SLIDES = 16
_STEPS = 65_535
_NO_CODE = 255


class TooMany(SpatialFormerError):
    """More was asked for than one answer may hold."""


class SlideView:
    """What the viewer asks of one slide.

    Parameters
    ----------
    slide
        An open slide of the store.
    """

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        self._group_codes: dict[str, bytes] = {}

    def info(self) -> dict[str, Any]:
        """Return what the viewer needs before any bytes: extent, tiles, layers that exist."""
        meta, grid = self.slide.meta, self.slide.grid
        return {
            "slide": meta.slide_id,
            "name": meta.name,
            "technology": meta.technology,
            "simulated": meta.simulated,
            "version": meta.version,
            "bounds_um": list(meta.bounds_um),
            "n_cells": meta.n_cells,
            "n_cells_kept": meta.n_cells_kept,
            "cell_radius_um": self._cell_radius_um,
            "tile_um": grid.tile_um,
            "tile_origin_um": [grid.x0, grid.y0],
            "tiles": [grid.nx, grid.ny],
            "has_polygons": meta.has_polygons,
            "has_nuclei": meta.has_nuclei,
            "has_transcripts": meta.has_transcripts,
            "density_bins_um": list(self.slide.density_bins_um),
            "groups": list(self.slide.group_keys),
            "images": [image.model_dump(mode="json") for image in placed_images(self.slide)],
        }

    def points(self) -> bytes:
        """Return all cells in slide order, quantised to 1/65,535 of the extent.

        Layout: ``u32 n``, ``u32 0``, ``f64 x0, y0, step_x, step_y`` (um), ``u16 x[n]``,
        ``u16 y[n]``, one bit per cell that passes QC (lowest bit first). At 12 mm the rounding is
        below 0.1 um; outlines and regions are not rounded.
        """
        return self._points

    def group_codes(self, key: str) -> bytes:
        """Return each cell's group.

        Layout: ``u32 bytes_of_json``, JSON (padded with spaces to a multiple of 4), then one code
        per cell, ``u8`` (255: none) or, with more than 255 groups, ``u16`` (65535: none).

        Raises
        ------
        SpatialFormerError
            If the slide has no such grouping.
        """
        if key not in self._group_codes:
            self._group_codes[key] = self._codes_of(key)
        return self._group_codes[key]

    def _codes_of(self, key: str) -> bytes:
        groups = self.slide.group(key)
        codes = np.asarray(groups.codes)
        n_groups = len(groups.categories)
        wide = n_groups > _NO_CODE
        kept = np.asarray(self.slide.passes_qc, np.bool_)
        header = {
            "kind": "group",
            "key": key,
            "categories": list(groups.categories),
            "colours": group_colours(n_groups),
            "unassigned": UNASSIGNED,
            "cells": _count(codes, n_groups),
            "kept": _count(codes[kept], n_groups),
            "n_unassigned": int((codes < 0).sum()),
            "wide": wide,
        }
        missing = 65_535 if wide else _NO_CODE
        out = np.where(codes < 0, missing, codes).astype("<u2" if wide else "u1")
        return with_header(header, out.tobytes())

    def gene_codes(self, gene: str) -> bytes:
        """Return each cell's transcripts of a gene as ``u8`` (same layout as `group_codes`).

        Counts up to 255 are exact; larger ones are scaled so that ``code * scale`` is the count
        within one step. ``high`` is the 99.5th percentile of the cells that have any: the
        brightest colour, so that one doublet does not dim the slide.

        Raises
        ------
        SpatialFormerError
            If the gene is not on the slide's panel.
        """
        counts = np.asarray(self.slide.gene_column(gene))
        largest = float(counts.max()) if len(counts) else 0.0
        scale = max(1.0, largest / _NO_CODE)
        present = counts[counts > 0]
        high = float(np.percentile(present, 99.5)) if len(present) else 1.0
        header = {
            "kind": "gene",
            "gene": gene,
            "unit": "transcripts per cell",
            "scale": scale,
            "high": max(1.0, high),
            "max": largest,
            "n_positive": len(present),
        }
        # A count of one must not round down to "none".
        codes = np.maximum(np.rint(counts / scale), counts > 0)
        return with_header(header, codes.astype("u1").tobytes())

    def polygon_tile(self, x: int, y: int) -> bytes | None:
        """Return the outlines of the cells whose centre lies in a tile; None outside the slide.

        Layout: ``u32 n``, ``u32 n_vertices``, ``u32 cell[n]``, ``u32 start[n + 1]``,
        ``f32 xy[n_vertices][2]`` in um from the corner of tile (0, 0). Cells without an outline
        are left out.
        """
        polygons = self._polygons
        if polygons is None or not self._has_tile(x, y):
            return None
        cells = np.asarray(self.slide.tile_cells(x, y))
        return outline_bytes(polygons, cells, cells, self._origin_um)

    def nuclei_tile(self, x: int, y: int) -> bytes | None:
        """Return the nuclei of the cells whose centre lies in a tile; None outside the slide.

        Layout as `polygon_tile`; ``cell`` names the cell of each nucleus, some more than once.
        """
        nuclei = self._nuclei
        if nuclei is None or not self._has_tile(x, y):
            return None
        cells = np.asarray(self.slide.tile_cells(x, y))
        # Nuclei ascend by cell, so each cell's are one run.
        first, last = (np.searchsorted(nuclei.cell, cells, side) for side in ("left", "right"))
        lengths = last - first
        rows = np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return outline_bytes(nuclei.outlines, rows, np.asarray(nuclei.cell)[rows], self._origin_um)

    def transcript_tile(self, x: int, y: int, genes: Sequence[str]) -> bytes | None:
        """Return the molecules of some genes in a tile; None outside the slide.

        Layout: ``u32 n``, ``f32 xy[n][2]`` in um from the corner of tile (0, 0), ``u8 gene[n]``
        (position in ``genes``).

        Raises
        ------
        SpatialFormerError
            If no gene or more than `MAX_GENES` are asked for, or one is not on the panel.
        """
        _check_genes(genes)
        if not self._has_tile(x, y):
            return None
        return self._molecule_bytes(*self.slide.tile_transcripts(x, y, genes))

    def molecules(self, genes: Sequence[str], window_um: Bounds | None = None) -> bytes:
        """Return the molecules of some genes in a window, or on the whole slide.

        Layout as `transcript_tile`; the genes follow each other.

        Raises
        ------
        SpatialFormerError
            If no gene or more than `MAX_GENES` are asked for, one is not on the panel, or the
            slide has to be rebuilt first.
        TooMany
            If more than `MAX_MOLECULES` lie there.
        """
        _check_genes(genes)
        found = self.slide.count_gene_transcripts(genes, window_um)
        if found > MAX_MOLECULES:
            raise TooMany(
                f"{found:,} transcripts lie in this view; {MAX_MOLECULES:,} are shown at once.",
                fix="Zoom in or choose fewer genes.",
            )
        return self._molecule_bytes(*self.slide.gene_transcripts(genes, window_um))

    def _molecule_bytes(self, xy_um: FloatArray, which: NDArray[Any]) -> bytes:
        count = np.array([len(which)], "<u4").tobytes()
        local = (xy_um - self._origin_um).astype("<f4").tobytes()
        return b"".join((count, local, which.astype("u1").tobytes()))

    def density(self, level: int, genes: Sequence[str] = ()) -> bytes:
        """Return molecules per bin: all of them, or those of some genes together.

        Layout: ``u32 columns, rows``, ``f64 bin_um``, ``u32 count[rows][columns]``; the first bin
        begins at the corner of tile (0, 0).

        Raises
        ------
        SpatialFormerError
            If there is no such level or gene, or the slide has to be rebuilt first.
        """
        if genes:
            _check_genes(genes)
            counts = self.slide.gene_density(genes, level)
        else:
            counts = self.slide.density("transcripts", level)
        return b"".join(
            (
                np.array(counts.shape[::-1], "<u4").tobytes(),
                np.array([self.slide.density_bins_um[level]], "<f8").tobytes(),
                counts.astype("<u4").tobytes(),
            )
        )

    def image_tile(self, name: str, channel: int, level: int, x: int, y: int) -> bytes:
        """Return one tile of an image as JPEG: colour for H&E, grey for a channel of a stain.

        Raises
        ------
        SpatialFormerError
            If there is no such image, channel, level or tile.
        """
        return image_tile_jpeg(self.slide, name, channel, z=level, x=x, y=y)

    def cell(self, row: int) -> dict[str, Any] | None:
        """Return what the tooltip says about one cell; None if there is no such row."""
        slide = self.slide
        if not 0 <= row < slide.meta.n_cells:
            return None
        counts = slide.counts[row : row + 1]
        top = np.argsort(-counts.data, kind="stable")[:TOP_GENES]
        groups = {key: slide.group(key) for key in slide.group_keys}
        area_um2 = float(slide.area_um2[row])
        return {
            "id": str(slide.cell_ids[row]),
            "xy_um": [round(float(value), 2) for value in slide.xy_um[row]],
            "transcripts": int(slide.n_transcripts[row]),
            "genes": int(slide.n_genes_per_cell[row]),
            "area_um2": round(area_um2, 1) if np.isfinite(area_um2) and area_um2 > 0 else None,
            "passes_qc": bool(slide.passes_qc[row]),
            "groups": {
                key: group.categories[group.codes[row]]
                for key, group in groups.items()
                if group.codes[row] >= 0
            },
            "top_genes": [[slide.genes[counts.indices[at]], int(counts.data[at])] for at in top],
        }

    @functools.cached_property
    def _points(self) -> bytes:
        return points_bytes(np.asarray(self.slide.xy_um, np.float64), self.slide.passes_qc)

    @functools.cached_property
    def _polygons(self) -> Polygons | None:
        return self.slide.polygons()

    @functools.cached_property
    def _nuclei(self) -> Nuclei | None:
        return self.slide.nuclei()

    @functools.cached_property
    def _origin_um(self) -> NDArray[np.float64]:
        return np.array([self.slide.grid.x0, self.slide.grid.y0])

    def _has_tile(self, x: int, y: int) -> bool:
        return 0 <= x < self.slide.grid.nx and 0 <= y < self.slide.grid.ny

    @functools.cached_property
    def _cell_radius_um(self) -> float:
        """Radius of the disc with the median cell's area; 4 um where no areas are known."""
        area_um2: FloatArray = np.asarray(self.slide.area_um2)
        area_um2 = area_um2[np.isfinite(area_um2) & (area_um2 > 0)]
        return float(np.sqrt(np.median(area_um2) / np.pi)) if len(area_um2) else 4.0


def _check_genes(genes: Sequence[str]) -> None:
    if not 0 < len(genes) <= MAX_GENES:
        raise SpatialFormerError(f"1 to {MAX_GENES} genes can be shown, not {len(genes)}.")


def _count(codes: NDArray[Any], n_groups: int) -> list[int]:
    return [int(count) for count in np.bincount(codes[codes >= 0], minlength=n_groups)]


def points_bytes(xy: DoubleArray, passes: BoolArray) -> bytes:
    """Return places, shape ``(n, 2)``, and which pass QC, laid out as `SlideView.points`."""
    low = xy.min(axis=0) if len(xy) else np.zeros(2)
    extent = np.ptp(xy, axis=0) if len(xy) else np.zeros(2)
    step = np.where(extent > 0, extent, 1.0) / _STEPS
    quantised = np.rint((xy - low) / step).astype("<u2")
    bits = np.packbits(np.asarray(passes, np.bool_), bitorder="little")
    return b"".join(
        (
            np.array([len(xy), 0], "<u4").tobytes(),
            np.concatenate([low, step]).astype("<f8").tobytes(),
            quantised[:, 0].tobytes(),
            quantised[:, 1].tobytes(),
            bits.tobytes(),
        )
    )


def with_header(header: dict[str, Any], body: bytes) -> bytes:
    """Return one code per cell behind the JSON that explains them (layout of `group_codes`)."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return np.array([len(text)], "<u4").tobytes() + text + body


def open_view(home: Path, slide_id: str) -> SlideView:
    """Return a slide as the viewer sees it; open slides are kept until they are written anew.

    Raises
    ------
    SpatialFormerError
        If there is no such slide.
    """
    try:
        written = (SlideStore(home).path(slide_id) / files.MANIFEST).stat()
    except OSError as error:
        message = f"There is no slide {slide_id!r}."
        raise SpatialFormerError(message, where="slide") from error
    return _open(home, slide_id, written.st_mtime_ns)


@functools.lru_cache(maxsize=_OPEN_SLIDES)
def _open(home: Path, slide_id: str, _written_ns: int) -> SlideView:
    return SlideView(SlideStore(home).open(slide_id))
