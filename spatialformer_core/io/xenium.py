"""Xenium output folders, complete as the instrument writes them or with parts missing."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray, FloatArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, images
from spatialformer_core.io.checks import check_ids, check_panel, check_xy, lookup
from spatialformer_core.io.hdf5 import build_csr, read_texts
from spatialformer_core.io.labels import read_labels
from spatialformer_core.io.polygons import read_polygons
from spatialformer_core.io.records import CellTable, Groups, ImageSource, Names, SourceData
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.io.transcripts import read_transcripts

EXPERIMENT, PANEL, TRUTH = "experiment.xenium", "gene_panel.json", "truth.json"
CELLS, MATRIX, TRANSCRIPTS = "cells.parquet", "cell_feature_matrix.h5", "transcripts.parquet"
OUTLINES = "cell_boundaries.parquet"
INSTRUMENT_MIN_QV = 20.0
"""The instrument counts transcripts of this quality and better into its matrix."""

_CLUSTERS = "analysis/clustering/gene_expression_graphclust/clusters.csv"
_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid")
_FOCUS = re.compile(r"^(morphology_focus_\d{4}|ch\d{4}_[A-Za-z0-9_.-]+)\.ome\.tif$")


def matches(folder: Path) -> bool:
    """Tell whether a folder looks like Xenium output."""
    return (folder / EXPERIMENT).exists() or (folder / MATRIX).exists()


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a Xenium output folder.

    Needed are ``cells.parquet``, ``cell_feature_matrix.h5`` and ``transcripts.parquet``; whatever
    else is absent is reported.

    Raises
    ------
    SpatialFormerError
        If a needed file is missing, or any file is damaged, refused or does not fit the others.
    """
    folder = request.source
    absent = [name for name in (CELLS, MATRIX, TRANSCRIPTS) if not (folder / name).exists()]
    if absent:
        raise SpatialFormerError(
            f"The Xenium folder lacks {', '.join(absent)}.",
            where=folder.name,
            fix="Copy the whole output folder.",
        )
    missing: list[str] = []
    notes: dict[str, int] = {}
    experiment = _experiment(folder, missing)
    cells = read_cells(folder)
    progress_.check(cancel)
    guard.check_file(folder / TRANSCRIPTS, folder)
    transcripts = read_transcripts(
        folder / TRANSCRIPTS,
        cells.cell_ids,
        cells.genes,
        progress_.staged(progress, 0.1, 0.8),
        cancel,
    )
    polygons = None
    if (folder / OUTLINES).exists():
        guard.check_file(folder / OUTLINES, folder)
        polygons, notes["outline_vertices_of_unlisted_cells"] = read_polygons(
            folder / OUTLINES, cells.cell_ids
        )
    else:
        missing.append(f"{OUTLINES}: no cell outlines.")
    cells = replace(cells, groups=_groups(folder, cells.cell_ids, missing))
    found = _images(request, experiment, missing)
    simulated = experiment.get("simulated") is True or (folder / TRUTH).exists()
    progress(1.0, 1.0, "Read the source")
    return SourceData(
        "Xenium",
        simulated,
        cells,
        transcripts,
        polygons,
        found,
        INSTRUMENT_MIN_QV if transcripts.qv is not None else None,
        tuple(missing),
        notes,
    )


def _experiment(folder: Path, missing: list[str]) -> dict[str, Any]:
    if not (folder / PANEL).exists():
        missing.append(f"{PANEL}: genes are taken from {MATRIX}.")
    if not (folder / EXPERIMENT).exists():
        missing.append(f"{EXPERIMENT}: pixel size and software version are not known.")
        return {}
    guard.check_file(folder / EXPERIMENT, folder)
    try:
        values = files.read_json(folder / EXPERIMENT, max_bytes=1 << 20)
    except SpatialFormerError as error:
        # Pages show the message: it names the file, not where it lies on the server.
        raise SpatialFormerError(error.message, EXPERIMENT, "Copy it again.") from error
    if not isinstance(values, dict):
        raise SpatialFormerError(f"{EXPERIMENT} holds no object.", where=folder.name)
    return values


def read_cells(folder: Path) -> CellTable:
    """Read cells and the instrument's matrix.

    Raises
    ------
    SpatialFormerError
        If cells and matrix do not name the same cells, or there are no genes.
    """
    ids, xy, area = _centroids(folder)
    path = folder / MATRIX
    with guard.open_hdf5(path, folder) as file:
        if "matrix" not in file or "features" not in file["matrix"]:
            raise SpatialFormerError(
                "It has no 'matrix' group; a 10x feature matrix is expected.", where=MATRIX
            )
        matrix = file["matrix"]
        barcodes = read_texts(matrix["barcodes"], path)
        names = read_texts(matrix["features"]["name"], path)
        kinds = read_texts(matrix["features"]["feature_type"], path)
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
    if len(kinds) != len(names):
        raise SpatialFormerError("Feature names and types differ in number.", where=MATRIX)
    counts = build_csr(parts, (len(barcodes), len(names)), path)
    check_ids(barcodes, MATRIX)
    row = lookup(barcodes, ids)
    if (row < 0).any():
        raise SpatialFormerError(
            f"{int(np.count_nonzero(row < 0)):,} of {len(ids):,} cells are not in the matrix.",
            where=f"{CELLS} and {MATRIX}",
            fix="Take both files from the same run.",
        )
    gene = kinds == "Gene Expression"
    check_panel(names.tolist(), gene, MATRIX)
    counts = counts[row]
    return CellTable(
        ids,
        xy,
        area,
        counts[:, gene],
        tuple(names[gene].tolist()),
        tuple(names[~gene].tolist()),
        int(counts[:, ~gene].sum()),
    )


def _centroids(folder: Path) -> tuple[Names, DoubleArray, FloatArray | None]:
    import pyarrow as pa

    path = folder / CELLS
    file = guard.open_parquet(path, folder, _CELL_COLUMNS)
    with file, guard.reading(path):
        wanted = [*_CELL_COLUMNS, *(["cell_area"] * ("cell_area" in file.schema_arrow.names))]
        table = file.read(columns=wanted)
        table.validate(full=True)
        texts = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in table.column("cell_id").to_pylist()
        ]
        numbers = [table.column(n).cast(pa.float64()).to_numpy() for n in wanted[1:]]
    ids = check_ids(np.array(texts, np.str_), CELLS)
    xy = np.stack(numbers[:2], axis=1)
    check_xy(xy, CELLS)
    return ids, xy, numbers[2].astype(np.float32) if len(numbers) > 2 else None


def _groups(folder: Path, cell_ids: Names, missing: list[str]) -> dict[str, Groups]:
    groups: dict[str, Groups] = {}
    for name in ("labels.csv", _CLUSTERS):
        path = folder / name
        if not path.exists():
            continue
        labels = read_labels(path, folder, cell_ids)
        groups.update(labels.groups)
        if labels.n_unknown:
            missing.append(f"{name}: {labels.n_unknown:,} labels name no cell of this slide.")
    if not groups:
        missing.append("No labels and no clusters.")
    return groups


def _pixel_size(experiment: dict[str, Any]) -> float | None:
    value = experiment.get("pixel_size")
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value < 1e3:
        raise SpatialFormerError(f"pixel_size is {str(value)[:40]!r}.", where=EXPERIMENT)
    return float(value)


def _morphology(folder: Path) -> tuple[Path, ...]:
    several = folder / "morphology_focus"
    if several.is_dir():
        paths = sorted(p for p in several.iterdir() if _FOCUS.match(p.name))
        if paths:
            return tuple(paths)
    for name in ("morphology_focus.ome.tif", "morphology_mip.ome.tif", "morphology.ome.tif"):
        if (folder / name).exists():
            return (folder / name,)
    return ()


def _images(
    request: SourceRequest, experiment: dict[str, Any], missing: list[str]
) -> tuple[ImageSource, ...]:
    folder = request.source
    found: list[ImageSource] = []
    pixel_um = _pixel_size(experiment)
    morphology = _morphology(folder)
    for path in morphology:
        guard.check_file(path, folder)
    if not morphology:
        missing.append("No morphology image.")
    elif (size := pixel_um or images.pixel_size_um(morphology[0], folder)) is None:
        missing.append(f"{morphology[0].name}: its pixel size is not known; left out.")
    else:
        pixel_um = size
        found.append(ImageSource("morphology", "stain", morphology, images.scale(size)))
    he, affine = request.he, request.he_affine
    if he is None:
        he = next(iter(sorted(folder.glob("*he_image.ome.tif"))), None)
        if he is not None:
            guard.check_file(he, folder)
    if he is None:
        missing.append("No H&E image.")
        return tuple(found)
    beside = he.with_name(he.name.removesuffix(".ome.tif") + "alignment.csv")
    affine = affine or (beside if beside.exists() else None)
    if affine is None or pixel_um is None:
        lacking = "its alignment CSV" if affine is None else "the morphology's pixel size"
        if request.he is not None:
            raise SpatialFormerError(f"The H&E image cannot be placed without {lacking}.", he.name)
        missing.append(f"{he.name}: cannot be placed without {lacking}; left out.")
        return tuple(found)
    found.append(images.he_source(he, affine, pixel_um))
    return tuple(found)
