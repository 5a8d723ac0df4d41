"""A finished embedding for a page: the map as the viewer draws it, and what was selected on it.

Bytes are laid out as `service.view` says. Colours are those of the slide, for the cells on the map.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobQueue
from spatialformer_core.service import view_colours
from spatialformer_core.service.embed import FACTS, GROUP, NICHES, TABLE
from spatialformer_core.service.embed_map import CLUSTER, NICHE, UMAP
from spatialformer_core.service.palette import REST, UNASSIGNED
from spatialformer_core.service.picture import Places
from spatialformer_core.service.view import SlideView, points_bytes, with_header

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import Slide

MAP_EXTENT = 2_000.0
"""Longer side of the map in the units of the viewer, which are micrometres elsewhere."""

_CELL_RADIUS = MAP_EXTENT / 900
_KEPT_MAPS = 8
_PER = 10_000.0
_MIN_COUNTS = 20
_PSEUDO = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddingMapView:
    """A finished embedding of a slide's cells, without its vectors.

    Attributes
    ----------
    job_id
        The job that made it.
    table
        ``cell_id passes_qc umap_1 umap_2 cluster niche`` (those that there are), one row per cell.
    rows
        Rows of the slide of the cells on the map, shape ``(m,)``.
    xy
        Their places, the longer side `MAP_EXTENT`, y downwards, shape ``(m, 2)``.
    info
        See ``embedding.json``.
    niches
        ``niche type share times_average n_cells``; None where none were asked for.
    """

    job_id: str
    table: pd.DataFrame
    rows: LongArray
    xy: DoubleArray
    info: dict[str, Any]
    niches: pd.DataFrame | None

    @property
    def labels(self) -> tuple[str, ...]:
        """Groupings that the embedding made: clusters, and niches where there are some."""
        return tuple(name for name in (CLUSTER, NICHE) if name in self.table)


def open_map(slide: Slide, job_id: str, owner: str | None) -> EmbeddingMapView:
    """Return the map of a finished embedding of a slide; open ones are kept.

    Raises
    ------
    SpatialFormerError
        If there is no such job of this owner, it is not done, of another slide, or has no map.
    """
    queue = JobQueue(files.home())
    job = queue.get(job_id, owner)
    if job.kind != "embed" or job.params.get("slide_id") != slide.meta.slide_id:
        raise SpatialFormerError(f"Job {job_id[:40]} is no embedding of this slide.")
    return _open(queue.result(job_id, owner), job_id, slide.folder, slide.meta.created)


@functools.lru_cache(maxsize=_KEPT_MAPS)
def _open(folder: Path, job_id: str, slide_folder: Path, _created: str) -> EmbeddingMapView:
    import pandas as pd
    import pyarrow.parquet as pq

    from spatialformer_core.slides import SlideStore

    slide = SlideStore(slide_folder.parents[1]).open(slide_folder.name)
    known = pq.read_schema(folder / TABLE).names
    wanted = ["cell_id", "passes_qc", *UMAP, CLUSTER, NICHE]
    if UMAP[0] not in known:
        raise SpatialFormerError(
            "This embedding has no map of its cells.",
            fix="Start it again from this page, which asks for a map.",
        )
    columns = [name for name in wanted if name in known]
    table = pq.read_table(folder / TABLE, columns=columns).to_pandas()
    rows = pd.Index(slide.cell_ids).get_indexer(table["cell_id"])
    place = table[list(UMAP)].to_numpy(np.float64)
    on_map = np.isfinite(place).all(1) & (rows >= 0)
    if not on_map.any():
        raise SpatialFormerError(
            "No cell of this embedding's map is a cell of the slide as it is now.",
            where=slide.meta.name,
            fix="The slide was read again since, or too few cells pass quality control. Start it "
            "again.",
        )
    niches = pd.read_parquet(folder / NICHES) if (folder / NICHES).is_file() else None
    info = files.read_json(folder / FACTS)
    return EmbeddingMapView(job_id, table, rows[on_map], _scaled(place[on_map]), info, niches)


def _scaled(place: DoubleArray) -> DoubleArray:
    low, extent = place.min(0), float(np.ptp(place, axis=0).max())
    scaled: DoubleArray = (place - low) * (MAP_EXTENT / max(extent, 1e-9))
    # The viewer's y points down, a plot's points up.
    scaled[:, 1] = scaled[:, 1].max() - scaled[:, 1]
    return scaled


def map_info(found: EmbeddingMapView, slide: Slide) -> dict[str, Any]:
    """Return what the viewer needs before any bytes, as `SlideView.info` does for a slide."""
    n_cells = len(found.rows)
    return SlideView(slide).info() | {
        "is_map": True,
        "name": f"{slide.meta.name}, embedding",
        "version": f"{slide.meta.created}-{found.job_id}",
        "bounds_um": [0.0, 0.0, *found.xy.max(0).tolist()],
        "n_cells": n_cells,
        "n_cells_kept": n_cells,
        "cell_radius_um": _CELL_RADIUS,
        "has_polygons": False,
        "has_nuclei": False,
        "has_transcripts": False,
        "density_bins_um": [],
        "images": [],
    }


def map_places(found: EmbeddingMapView) -> Places:
    """Return where the cells on the map are drawn by the server, see `picture.cell_picture`."""
    # Twice the viewer's: a picture is scaled down by the browser, and pales.
    return Places(found.rows, found.xy, 2 * _CELL_RADIUS)


def map_points(found: EmbeddingMapView) -> bytes:
    """Return the places of the cells on the map, laid out as `SlideView.points`."""
    return points_bytes(found.xy, np.ones(len(found.rows), np.bool_))


def colour_codes(slide: Slide, kind: str, name: str, owner: str | None) -> bytes:
    """Return what every cell of a slide is coloured by: ``group gene value result plain``.

    Raises
    ------
    SpatialFormerError
        If the slide has no such grouping, gene, value or result.
    """
    if kind == "group":
        return SlideView(slide).group_codes(name)
    if kind == "gene":
        return SlideView(slide).gene_codes(name)
    if kind == "value":
        return view_colours.value_codes(slide, name)
    if kind == "result":
        job_id, _, column = name.partition("/")
        return view_colours.result_codes(slide, job_id, column, owner)
    if kind == "plain":
        header: dict[str, Any] = {"kind": "group", "key": "cells", "categories": ["selected"]}
        header |= {"colours": ["#0072B2"], "unassigned": UNASSIGNED, "wide": False}
        return with_header(header, bytes(slide.meta.n_cells))
    raise SpatialFormerError(f"Cells cannot be coloured by {kind[:40]!r}.")


def recoded(
    body: bytes, passes: BoolArray, rows: LongArray | None = None, picked: BoolArray | None = None
) -> bytes:
    """Return codes of some cells only, with those that are not picked faint.

    Parameters
    ----------
    body
        Codes of all cells of a slide with their header.
    passes
        Which cells pass quality control, shape ``(n,)``.
    rows
        Cells to keep, in this order; None keeps all.
    picked
        Cells that keep their colour, shape ``(n,)``; None: all do.
    """
    length = int(np.frombuffer(body, "<u4", 1)[0])
    header: dict[str, Any] = json.loads(body[4 : 4 + length])
    wide, is_group = bool(header.get("wide")), header["kind"] == "group"
    codes = np.frombuffer(body, "<u2" if wide else "u1", offset=4 + length).astype(np.int64)
    missing = 65_535 if wide else 255
    if picked is not None:
        other = 0 if header["kind"] == "gene" else missing
        if is_group:
            other = len(header["categories"])
            header["categories"] = [*header["categories"], REST]
            header["colours"] = [*header["colours"], UNASSIGNED]
            header["faint"] = [*header.get("faint", ()), other]
            wide = wide or other >= missing
            codes = np.where(codes == missing, 65_535 if wide else missing, codes)
            missing = 65_535 if wide else missing
        codes = np.where(picked, codes, other)
    kept = np.asarray(passes, np.bool_)
    if rows is not None:
        codes, kept = codes[rows], kept[rows]
    if is_group:
        header |= _counted(codes, kept, missing, len(header["categories"]))
    elif header["kind"] == "gene":
        header["n_positive"] = int((codes > 0).sum())
    else:
        header["n_known"] = int((codes != missing).sum())
    header["wide"] = wide
    return with_header(header, codes.astype("<u2" if wide else "u1").tobytes())


def _counted(
    codes: NDArray[np.int64], kept: BoolArray, missing: int, n_groups: int
) -> dict[str, Any]:
    known = codes != missing
    return {
        "cells": np.bincount(codes[known], minlength=n_groups).tolist(),
        "kept": np.bincount(codes[known & kept], minlength=n_groups).tolist(),
        "n_unassigned": int((~known).sum()),
    }


def label_codes(found: EmbeddingMapView, slide: Slide, name: str) -> tuple[list[str], LongArray]:
    """Return a grouping of the slide or of the embedding: names, and a code per cell (-1: none).

    Parameters
    ----------
    name
        ``cluster``, ``niche``, or ``group:KEY``.

    Raises
    ------
    SpatialFormerError
        If there is none of that name.
    """
    import pandas as pd

    if name.startswith(GROUP):
        groups = slide.group(name.removeprefix(GROUP))
        return list(groups.categories), np.asarray(groups.codes, np.int64)
    if name not in found.labels:
        raise SpatialFormerError(f"The embedding has no {name[:40]!r}.")
    labels = found.table[name]
    rows = pd.Index(slide.cell_ids).get_indexer(found.table["cell_id"])
    codes = np.full(slide.meta.n_cells, -1, np.int64)
    codes[rows[rows >= 0]] = labels.cat.codes.to_numpy()[rows >= 0]
    return [str(category) for category in labels.cat.categories], codes


def picked_on_map(found: EmbeddingMapView, slide: Slide, polygon: Any) -> BoolArray:
    """Tell which cells of a slide lie in a polygon drawn on the map, shape ``(n,)``."""
    from spatialformer_core.slides import select_cells

    picked = np.zeros(slide.meta.n_cells, np.bool_)
    picked[found.rows[select_cells(found.xy, polygon)]] = True
    return picked


def picked_on_tissue(slide: Slide, polygon: Any) -> BoolArray:
    """Tell which cells of a slide lie in a polygon in um, shape ``(n,)``."""
    from spatialformer_core.slides import select_cells

    return select_cells(slide.xy_um, polygon)


def selection_genes(slide: Slide, picked: BoolArray) -> pd.DataFrame:
    """Return which genes the picked cells have more of than the other cells that pass QC.

    Returns
    -------
    pandas.DataFrame
        ``gene per_10k per_10k_rest log2_ratio detected detected_rest``: counts per 10,000 counts of
        all picked (other) cells together, their ratio with one count added to both, and the share
        of cells that have any; genes with fewer than 20 counts are left out.
    """
    import pandas as pd

    kept = np.asarray(slide.passes_qc, np.bool_)
    sides = [np.flatnonzero(picked & kept), np.flatnonzero(~picked & kept)]
    sums = np.array([np.asarray(slide.counts[rows].sum(0)).ravel() for rows in sides], np.float64)
    seen = [np.asarray((slide.counts[rows] > 0).sum(0)).ravel() for rows in sides]
    share = [part / max(1, len(rows)) for part, rows in zip(seen, sides, strict=True)]
    per_10k = _PER * sums / np.maximum(sums.sum(1, keepdims=True), 1)
    table = pd.DataFrame(
        {
            "gene": slide.genes,
            "per_10k": per_10k[0],
            "per_10k_rest": per_10k[1],
            "log2_ratio": np.log2((per_10k[0] + _PSEUDO) / (per_10k[1] + _PSEUDO)),
            "detected": share[0],
            "detected_rest": share[1],
        }
    )
    table = table[sums.sum(0) >= _MIN_COUNTS]
    return table.sort_values("log2_ratio", ascending=False, ignore_index=True)
