"""CosMx export folders: a transcript file, and whatever of the other flat files is there.

Cells are ``(fov, cell_ID)``; ``cell_ID`` 0 lies outside any cell. All coordinates are pixels in the
files, so one pixel's size is read from them (where they state a length in both units) or asked for.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import gathered, images
from spatialformer_core.io.checks import check_ids, check_xy, is_control
from spatialformer_core.io.cosmx_files import (
    Files,
    Matrix,
    Metadata,
    Positions,
    names_of,
    places,
    read_matrix,
    read_metadata,
    read_outlines,
    read_positions,
    read_transcripts,
)
from spatialformer_core.io.records import CellTable, ImageSource, Polygons, SourceData, Transcripts
from spatialformer_core.io.request import SourceRequest

_AGREE = 0.01
_USUAL = "0.12028 on current instruments, 0.18 on early ones"
_PICTURES = ("CellComposite", "CellLabels", "CellOverlay", "CompartmentLabels")


def matches(path: Path) -> bool:
    """Tell whether a folder looks like a CosMx export."""
    return path.is_dir() and Files.has_transcripts(path)


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a CosMx folder.

    Needed is ``*_tx_file.csv[.gz]``; without ``*_exprMat_file`` cells x genes are counted from it,
    without ``*_metadata_file`` a cell's centre is the mean of its transcripts, and
    ``*_fov_positions_file`` is needed only where positions are local to a field of view.

    Raises
    ------
    SpatialFormerError
        If a file is damaged, does not fit the others, or nobody says how large a pixel is.
    """
    files = Files.of(request.source)
    positions, metadata = read_positions(files), read_metadata(files)
    scale = um_per_px(request.um_per_px, positions, metadata, request.source.name)
    matrix = read_matrix(files, cancel)
    progress(0.2, 1.0, "Reading transcripts")
    rows = read_transcripts(files, positions, scale, cancel)
    keys, notes = _cell_keys(matrix, metadata, rows.key)
    where = (files.metadata or files.matrix or files.transcripts).name
    ids = check_ids(names_of(keys), where)
    place, unlisted = places(keys, rows.key)
    genes = rows.into.genes() if matrix is None else matrix.genes
    transcripts = rows.into.finish(place.astype(np.int32), genes, unlisted)
    polygons = read_outlines(files, positions, scale, keys)
    if metadata is None:
        xy_um = _centres(len(keys), transcripts, polygons)
    else:
        centres = metadata.centres.on_slide(positions, scale, where) * scale
        xy_um = centres[places(metadata.key, keys)[0]]
    check_xy(xy_um, where)
    cells = CellTable(
        ids,
        xy_um,
        _areas(metadata, keys, scale),
        *_counts(matrix, keys, transcripts, genes),
    )
    progress(1.0, 1.0, "Read the source")
    return SourceData(
        "CosMx",
        simulated=False,
        cells=cells,
        transcripts=transcripts,
        polygons=polygons,
        images=_images(request),
        counts_min_qv=None,
        missing=_missing(files, request),
        notes=notes,
    )


def um_per_px(
    given: float | None, positions: Positions | None, metadata: Metadata | None, where: str
) -> float:
    """Return micrometres per pixel.

    Two statements of the files count: positions of the fields of view in pixels and in
    millimetres, and areas of cells in pixels and in square micrometres.

    Raises
    ------
    SpatialFormerError
        If neither the user nor a file says it, or they contradict each other.
    """
    found = (given, _from_positions(positions), _from_areas(metadata))
    stated = [value for value in found if value is not None]
    if not stated:
        raise SpatialFormerError(
            "CosMx files keep pixels, and none of them says how large one is.",
            where=where,
            fix=f"Give micrometres per pixel (--um-per-px): {_USUAL}.",
        )
    if max(stated) > min(stated) * (1 + _AGREE):
        texts = " and ".join(f"{value:.5g}" for value in stated)
        raise SpatialFormerError(
            f"The size of a pixel is said to be {texts} um.",
            where=where,
            fix=f"Leave --um-per-px out, or remove the file that is wrong. Usual is {_USUAL}.",
        )
    return stated[0]


def _from_positions(positions: Positions | None) -> float | None:
    """Return the ratio of distances between fields of view, None where it cannot be known."""
    if positions is None or positions.xy_px is None or positions.xy_um is None:
        return None
    extents = [float(np.hypot(*np.ptp(xy, axis=0))) for xy in (positions.xy_um, positions.xy_px)]
    return extents[0] / extents[1] if min(extents) > 0 else None


def _from_areas(metadata: Metadata | None) -> float | None:
    if metadata is None or metadata.area_px2 is None or metadata.area_um2 is None:
        return None
    known = (metadata.area_px2 > 0) & (metadata.area_um2 > 0)
    ratio = metadata.area_um2[known] / metadata.area_px2[known]
    return math.sqrt(float(np.median(ratio))) if len(ratio) else None


def _cell_keys(
    matrix: Matrix | None, metadata: Metadata | None, seen: LongArray
) -> tuple[LongArray, dict[str, int]]:
    """Return the cells of matrix and metadata, else of the one there is, else of transcripts."""
    if metadata is None:
        return (np.unique(seen[seen >= 0]) if matrix is None else matrix.key), {}
    if matrix is None:
        return metadata.key, {}
    both = np.isin(metadata.key, matrix.key)
    return metadata.key[both], {
        "cells_without_counts": int(np.count_nonzero(~both)),
        "cells_without_metadata": int(np.count_nonzero(~np.isin(matrix.key, metadata.key))),
    }


def _centres(n_cells: int, transcripts: Transcripts, polygons: Polygons | None) -> DoubleArray:
    """Return the mean of each outline, else of the transcripts, NaN without either."""
    inside = transcripts.cell >= 0
    centres = np.full((n_cells, 2), np.nan)
    sources = [(transcripts.cell[inside], transcripts.xyz_um[inside])]
    if polygons is not None:
        row = np.repeat(np.arange(n_cells, dtype=np.int32), np.diff(polygons.indptr))
        sources.append((row, polygons.xy_um))
    for cell, xy_um in sources:
        n = np.bincount(cell, minlength=n_cells)
        known = n > 0
        for axis in range(2):
            total = np.bincount(cell, xy_um[:, axis], minlength=n_cells)
            centres[known, axis] = total[known] / n[known]
    return centres


def _areas(metadata: Metadata | None, keys: LongArray, scale: float) -> np.ndarray | None:
    if metadata is None or (metadata.area_um2 is None and metadata.area_px2 is None):
        return None
    area = metadata.area_um2
    if area is None and metadata.area_px2 is not None:
        area = metadata.area_px2 * scale**2
    return np.asarray(area, np.float32)[places(metadata.key, keys)[0]]


def _counts(
    matrix: Matrix | None, keys: LongArray, transcripts: Transcripts, genes: tuple[str, ...]
) -> tuple[object, tuple[str, ...], tuple[str, ...], int]:
    """Return counts, genes, controls and how many counts controls have."""
    if matrix is None:
        counts = gathered.count(transcripts, len(keys), len(genes), None)
        return counts, genes, tuple(n for n in transcripts.feature_names if is_control(n)), 0
    counts = matrix.counts[places(matrix.key, keys)[0]]
    return counts, genes, matrix.control_names, matrix.n_control_counts


def _missing(files: Files, request: SourceRequest) -> tuple[str, ...]:
    said = [
        (files.matrix, "No exprMat file: cells x genes are counted from the transcripts."),
        (files.metadata, "No metadata file: centres are those of outlines or transcripts."),
        (files.polygons, "No polygons file: no cell outlines."),
    ]
    pictures = [name for name in _PICTURES if (files.folder / name).is_dir()]
    found = [sentence for path, sentence in said if path is None]
    found.append("No qv column: every assigned transcript counts.")
    found.append("z numbers focal planes and is no distance: distances are in the plane.")
    if pictures:
        found.append(f"{', '.join(pictures)}: pictures of single fields of view are not read.")
    if request.he is None:
        found.append("No image.")
    return tuple(found)


def _images(request: SourceRequest) -> tuple[ImageSource, ...]:
    if request.he is None:
        return ()
    return (images.placed_he(request.he, request.he_affine, []),)
