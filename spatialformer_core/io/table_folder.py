"""Table folder: ``cells.h5ad``, ``transcripts.parquet``, outlines, and any ``*.ome.tif``."""

from __future__ import annotations

from pathlib import Path

from spatialformer_core import progress as progress_
from spatialformer_core.io import guard, images
from spatialformer_core.io.h5ad import NO_TRANSCRIPTS, read_cells
from spatialformer_core.io.polygons import read_polygons
from spatialformer_core.io.records import ImageSource, SourceData, Transcripts
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.io.transcripts import read_transcripts

CELLS, TRANSCRIPTS, OUTLINES = "cells.h5ad", "transcripts.parquet", "cell_boundaries.parquet"
TRUTH = "truth.json"


def matches(folder: Path) -> bool:
    """Tell whether a folder looks like a table folder."""
    return (folder / CELLS).exists()


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a table folder.

    ``cells.h5ad`` is the truth for expression; ``transcripts.parquet``, if there, for positions.

    Raises
    ------
    SpatialFormerError
        If a file is missing, damaged, refused by the guard, or does not fit the others.
    """
    folder = request.source
    cells = read_cells(folder / CELLS)
    progress_.check(cancel)
    missing: list[str] = []
    transcripts = Transcripts.none()
    if (folder / TRANSCRIPTS).exists():
        guard.check_file(folder / TRANSCRIPTS, folder)
        transcripts = read_transcripts(
            folder / TRANSCRIPTS,
            cells.cell_ids,
            cells.genes,
            progress_.staged(progress, 0.1, 0.8),
            cancel,
        )
        missing += _columns_missing(transcripts)
    else:
        missing.append(NO_TRANSCRIPTS)
    notes: dict[str, int] = {}
    polygons = None
    if (folder / OUTLINES).exists():
        guard.check_file(folder / OUTLINES, folder)
        polygons, notes["outline_vertices_of_unlisted_cells"] = read_polygons(
            folder / OUTLINES, cells.cell_ids
        )
    else:
        missing.append(f"{OUTLINES}: no cell outlines.")
    found = _images(request, missing)
    progress(1.0, 1.0, "Read the source")
    # The numbers were counted upstream, with or without a quality limit: nobody can say.
    return SourceData(
        "table folder",
        simulated=(folder / TRUTH).exists(),
        cells=cells,
        transcripts=transcripts,
        polygons=polygons,
        images=found,
        counts_min_qv=None,
        missing=tuple(missing),
        notes=notes,
    )


def _columns_missing(transcripts: Transcripts) -> list[str]:
    missing = []
    if transcripts.qv is None:
        missing.append("No qv column: every assigned transcript counts, low-quality calls too.")
    if transcripts.xyz_um.shape[1] == 2:
        missing.append("No z_location column: distances are in the plane.")
    return missing


def _images(request: SourceRequest, missing: list[str]) -> tuple[ImageSource, ...]:
    folder = request.source
    found: list[ImageSource] = []
    for path in sorted(folder.glob("*.ome.tif")):
        if request.he is not None and path.resolve() == request.he.resolve():
            continue
        guard.check_file(path, folder)
        size = images.pixel_size_um(path, folder)
        if size is None:
            missing.append(f"{path.name}: states no pixel size, so it cannot be placed; left out.")
            continue
        name = path.name.removesuffix(".ome.tif")
        kind = images.image_kind(path, folder)
        found.append(ImageSource(name, kind, (path,), images.scale(size)))
    if request.he is not None:
        found.append(images.placed_he(request.he, request.he_affine, found))
    if not found:
        missing.append("No image.")
    return tuple(found)
