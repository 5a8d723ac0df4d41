"""Xenium output folders, complete as the instrument writes them or with parts missing.

Versions 1 to 4 differ in the names of images, the spelling of cell ids and the forms of tables;
what is there decides, not the version that the folder states.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray, FloatArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard, xenium_images, xenium_matrix, xenium_tables, xenium_zarr
from spatialformer_core.io.checks import check_ids, check_panel, check_xy, lookup, to_names
from spatialformer_core.io.labels import read_labels
from spatialformer_core.io.polygons import read_nuclei, read_polygons
from spatialformer_core.io.records import CellTable, Groups, Names, Nuclei, Polygons, SourceData
from spatialformer_core.io.request import SourceRequest
from spatialformer_core.io.transcripts import read_transcripts

EXPERIMENT, PANEL, TRUTH = "experiment.xenium", "gene_panel.json", "truth.json"
INSTRUMENT_MIN_QV = 20.0
"""The instrument counts transcripts of this quality and better into its matrix."""

_CLUSTERS = "analysis/clustering/gene_expression_graphclust/clusters.csv"
_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid")
_MAX_PANEL_BYTES = 1 << 26


def matches(folder: Path) -> bool:
    """Tell whether a folder looks like Xenium output."""
    return (folder / EXPERIMENT).exists() or xenium_matrix.find(folder) is not None


def read(
    request: SourceRequest,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a Xenium output folder.

    Needed are the cells, the matrix and the transcripts, each in any of its forms
    (`xenium_tables.FORMS`, `xenium_matrix.FORMS`); whatever else is absent is reported.

    Raises
    ------
    SpatialFormerError
        If a needed file is missing, or any file is damaged, refused or does not fit the others.
    """
    folder = request.source
    _check_needed(folder)
    missing: list[str] = []
    notes: dict[str, int] = {}
    experiment = _experiment(folder, missing)
    pixel_um = _pixel_size(experiment)
    with tempfile.TemporaryDirectory(prefix="spatialformer-") as scratch:
        tables = _Tables(folder, Path(scratch), pixel_um, cancel)
        cells = read_cells(folder, tables, missing)
        progress_.check(cancel)
        rows = tables.get("transcripts")
        transcripts = read_transcripts(
            rows, cells.cell_ids, cells.genes, progress_.staged(progress, 0.1, 0.8), cancel
        )
        polygons, nuclei = _outlines(tables, cells.cell_ids, missing, notes)
    if rows.name == xenium_zarr.TRANSCRIPTS:
        missing.append(f"{rows.name}: names no cells; they were looked up in the masks.")
    cells = replace(cells, groups=_groups(folder, cells.cell_ids, missing))
    found = xenium_images.find(request, pixel_um, missing)
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
        nuclei,
    )


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables of a folder as Parquet."""

    folder: Path
    scratch: Path
    pixel_um: float | None
    cancel: progress_.Cancel

    def get(self, table: str) -> Path:
        """Return a table that is there."""
        path = xenium_tables.find(self.folder, table)
        if path is None:
            raise SpatialFormerError(f"There is no table of {table}.", where=self.folder.name)
        return xenium_tables.as_parquet(path, table, self.scratch, self.pixel_um, self.cancel)

    def has(self, table: str) -> bool:
        """Tell whether a table is there; the cells' archive holds polygons from version 2 on."""
        path = xenium_tables.find(self.folder, table)
        if path is not None and path.name == xenium_zarr.CELLS:
            return xenium_zarr.has_polygons(self.folder)
        return path is not None


def _check_needed(folder: Path) -> None:
    absent = [
        xenium_tables.forms_of(table)
        for table in ("cells", "transcripts")
        if xenium_tables.find(folder, table) is None
    ]
    if xenium_matrix.find(folder) is None:
        first, *others = xenium_matrix.FORMS
        absent.append(f"{first} (or {', '.join(others)})")
    if absent:
        raise SpatialFormerError(
            f"The Xenium folder lacks {', '.join(absent)}.",
            where=folder.name,
            fix="Copy the whole output folder.",
        )


def _json(path: Path, max_bytes: int) -> dict[str, Any]:
    guard.check_file(path, path.parent)
    try:
        values = files.read_json(path, max_bytes=max_bytes)
    except SpatialFormerError as error:
        # Pages show the message: it names the file, not where it lies on the server.
        raise SpatialFormerError(error.message, path.name, "Copy it again.") from error
    if not isinstance(values, dict):
        raise SpatialFormerError(f"{path.name} holds no object.", where=path.parent.name)
    return values


def _experiment(folder: Path, missing: list[str]) -> dict[str, Any]:
    if not (folder / EXPERIMENT).exists():
        missing.append(f"{EXPERIMENT}: pixel size and software version are not known.")
        return {}
    return _json(folder / EXPERIMENT, 1 << 20)


def _pixel_size(experiment: dict[str, Any]) -> float | None:
    value = experiment.get("pixel_size")
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value < 1e3:
        raise SpatialFormerError(f"pixel_size is {str(value)[:40]!r}.", where=EXPERIMENT)
    return float(value)


def read_cells(folder: Path, tables: _Tables, missing: list[str]) -> CellTable:
    """Read cells and the instrument's matrix.

    Raises
    ------
    SpatialFormerError
        If cells and matrix do not name the same cells, or there are no genes.
    """
    path = tables.get("cells")
    ids, xy, area = _centroids(path)
    where = xenium_matrix.find(folder) or folder
    matrix = xenium_matrix.read(where)
    check_ids(matrix.barcodes, where.name)
    row = lookup(matrix.barcodes, ids)
    if (row < 0).any():
        raise SpatialFormerError(
            f"{int(np.count_nonzero(row < 0)):,} of {len(ids):,} cells are not in the matrix.",
            where=f"{path.name} and {where.name}",
            fix="Take both files from the same run.",
        )
    gene = matrix.is_gene
    check_panel(matrix.names.tolist(), gene, where.name)
    counts = matrix.counts[row]
    names = tuple(matrix.names[gene].tolist())
    return CellTable(
        ids,
        xy,
        area,
        counts[:, gene],
        names,
        tuple(matrix.names[~gene].tolist()),
        int(counts[:, ~gene].sum()),
        gene_ids=_gene_ids(folder, names, tuple(matrix.ids[gene].tolist()), missing),
    )


def _gene_ids(
    folder: Path, names: tuple[str, ...], ids: tuple[str, ...], missing: list[str]
) -> tuple[str, ...] | None:
    """Return the id of each gene: the matrix's, else the panel's; None if neither has one."""
    known: dict[str, str] = {}
    if (folder / PANEL).exists():
        known = _panel_ids(_json(folder / PANEL, _MAX_PANEL_BYTES))
    else:
        missing.append(f"{PANEL}: genes are taken from the matrix.")
    # Where there was no id, writers repeat the name.
    found = tuple(
        known.get(name, "") if gene_id == name else gene_id
        for name, gene_id in zip(names, ids, strict=True)
    )
    return found if any(found) else None


def _panel_ids(panel: dict[str, Any]) -> dict[str, str]:
    """Return the ids that a gene panel gives to its genes; what has another shape has none."""
    payload = panel.get("payload")
    targets = payload.get("targets") if isinstance(payload, dict) else None
    known: dict[str, str] = {}
    for target in targets if isinstance(targets, list) else ():
        kind = target.get("type") if isinstance(target, dict) else None
        data = kind.get("data") if isinstance(kind, dict) else None
        if isinstance(data, dict) and isinstance(data.get("id"), str):
            known[str(data.get("name"))] = data["id"][:64]
    return known


def _centroids(path: Path) -> tuple[Names, DoubleArray, FloatArray | None]:
    import pyarrow as pa

    file = guard.open_parquet(path, path.parent, _CELL_COLUMNS)
    with file, guard.reading(path):
        wanted = [*_CELL_COLUMNS, *(["cell_area"] * ("cell_area" in file.schema_arrow.names))]
        table = file.read(columns=wanted)
        table.validate(full=True)
        texts = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
            for value in table.column("cell_id").to_pylist()
        ]
        numbers = [table.column(n).cast(pa.float64()).to_numpy() for n in wanted[1:]]
    ids = check_ids(to_names(texts, path.name), path.name)
    xy = np.stack(numbers[:2], axis=1)
    check_xy(xy, path.name)
    return ids, xy, numbers[2].astype(np.float32) if len(numbers) > 2 else None


def _outlines(
    tables: _Tables, cell_ids: Names, missing: list[str], notes: dict[str, int]
) -> tuple[Polygons | None, Nuclei | None]:
    cells, nuclei = None, None
    if tables.has("cell_boundaries"):
        cells, notes["outline_vertices_of_unlisted_cells"] = read_polygons(
            tables.get("cell_boundaries"), cell_ids
        )
    else:
        missing.append("cell_boundaries.parquet: no cell outlines.")
    if tables.has("nucleus_boundaries"):
        nuclei, notes["nucleus_vertices_of_unlisted_cells"] = read_nuclei(
            tables.get("nucleus_boundaries"), cell_ids
        )
    else:
        missing.append("nucleus_boundaries.parquet: no outlines of nuclei.")
    return cells, nuclei


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
