"""One door for every kind of source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spatialformer_core import progress as progress_
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import cosmx, h5ad, merscope, spatialdata_store, table_folder, xenium
from spatialformer_core.io.images import check_overlap
from spatialformer_core.io.labels import read_labels
from spatialformer_core.io.records import SourceData
from spatialformer_core.io.request import SourceRequest

MAX_UM_PER_PX = 1_000.0

_Reader = Callable[[SourceRequest, progress_.Progress, progress_.Cancel], SourceData]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of source.

    Attributes
    ----------
    kind
        Short name.
    holds
        What such a source consists of, for people.
    matches, read
        Tell it by its names; read it whole.
    has_unit
        Whether its coordinates are micrometres by definition.
    """

    kind: str
    holds: str
    matches: Callable[[Path], bool]
    read: _Reader
    has_unit: bool = False


FORMATS = (
    Format(
        "table", "a folder with cells.h5ad", table_folder.matches, table_folder.read, has_unit=True
    ),
    Format(
        "xenium",
        "Xenium output (experiment.xenium, cell_feature_matrix.h5)",
        xenium.matches,
        xenium.read,
        has_unit=True,
    ),
    Format("spatialdata", "a SpatialData .zarr", spatialdata_store.matches, spatialdata_store.read),
    Format("cosmx", "a CosMx export with *_tx_file.csv", cosmx.matches, cosmx.read),
    Format(
        "merscope",
        "a MERSCOPE export (cell_by_gene.csv, cell_metadata.csv)",
        merscope.matches,
        merscope.read,
        has_unit=True,
    ),
    Format("h5ad", "an .h5ad file", h5ad.matches, h5ad.read),
)
"""Every kind that is read; the first that matches wins."""


def format_of(path: Path) -> Format | None:
    """Guess the kind of a source from names alone; None if it is none that we know."""
    return next((entry for entry in FORMATS if entry.matches(path)), None)


def read_source(
    path: Path,
    *,
    he: Path | None = None,
    he_affine: Path | None = None,
    labels: Path | None = None,
    um_per_px: float | None = None,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a source into plain arrays.

    Parameters
    ----------
    path
        Any folder or file of `FORMATS`.
    he, he_affine, labels
        Files beside it that the user names.
    um_per_px
        Micrometres of one unit of its coordinates, where it keeps pixels.

    Raises
    ------
    SpatialFormerError
        If it is nothing that we know, or anything in it cannot be used.
    """
    if not path.exists():
        raise SpatialFormerError(
            "The source does not exist.", where=path.name, fix="Give an existing folder or file."
        )
    if (he is None) != (he_affine is None) and he is None:
        raise SpatialFormerError("An H&E alignment was given without its image.", where="he_affine")
    request = SourceRequest(path.resolve(), he, he_affine, labels, um_per_px)
    found = format_of(request.source)
    if found is None:
        raise SpatialFormerError(
            f"It is no source that can be read: {'; '.join(entry.holds for entry in FORMATS)}.",
            where=path.name,
            fix="Choose the folder that holds those files.",
        )
    _check_scale(request, found)
    data = found.read(request, progress, cancel)
    if he is not None:
        low, high = data.cells.xy_um.min(axis=0), data.cells.xy_um.max(axis=0)
        placed = next(image for image in data.images if he in image.paths)
        check_overlap(placed, (float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    return data if labels is None else _with_labels(data, labels)


def _check_scale(request: SourceRequest, found: Format) -> None:
    value = request.um_per_px
    if value is None:
        return
    if not 0 < value <= MAX_UM_PER_PX:
        raise SpatialFormerError(
            f"{value} um per pixel is no scale.",
            where="um_per_px",
            fix=f"Give a number above 0 and up to {MAX_UM_PER_PX:,.0f}.",
        )
    if found.has_unit:
        raise SpatialFormerError(
            "The coordinates of this kind of source are micrometres; they are not scaled.",
            where="um_per_px",
            fix="Leave the scale out.",
        )


def _with_labels(data: SourceData, path: Path) -> SourceData:
    found = read_labels(path, path.parent, data.cells.cell_ids)
    notes = {**data.notes, "labels_of_unknown_cells": found.n_unknown}
    cells = replace(data.cells, groups={**data.cells.groups, **found.groups})
    missing = data.missing
    if found.n_unknown:
        missing = (*missing, f"{path.name}: {found.n_unknown:,} labels name no cell of this slide.")
    return replace(data, cells=cells, notes=notes, missing=missing)
