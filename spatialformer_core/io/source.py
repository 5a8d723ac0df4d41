"""One door for every kind of source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spatialformer_core import progress as progress_
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import table_folder, xenium
from spatialformer_core.io.labels import read_labels
from spatialformer_core.io.records import SourceData
from spatialformer_core.io.request import SourceRequest


def read_source(
    path: Path,
    *,
    he: Path | None = None,
    he_affine: Path | None = None,
    labels: Path | None = None,
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> SourceData:
    """Read a source folder into plain arrays.

    Parameters
    ----------
    path
        A Xenium output folder or a table folder.
    he, he_affine, labels
        Files beside it that the user names.

    Raises
    ------
    SpatialFormerError
        If the folder is no bundle that we know, or anything in it cannot be used.
    """
    if not path.is_dir():
        raise SpatialFormerError(
            "The source folder does not exist.", where=path.name, fix="Give an existing folder."
        )
    if (he is None) != (he_affine is None) and he is None:
        raise SpatialFormerError("An H&E alignment was given without its image.", where="he_affine")
    request = SourceRequest(path.resolve(), he, he_affine, labels)
    reader = next((room for room in (table_folder, xenium) if room.matches(request.source)), None)
    if reader is None:
        raise SpatialFormerError(
            "The folder is no bundle: neither cells.h5ad (table folder) nor "
            "cell_feature_matrix.h5 and experiment.xenium (Xenium output) is in it.",
            where=path.name,
            fix="Choose the folder that holds those files.",
        )
    data = reader.read(request, progress, cancel)
    return data if labels is None else _with_labels(data, labels)


def _with_labels(data: SourceData, path: Path) -> SourceData:
    found = read_labels(path, path.parent, data.cells.cell_ids)
    notes = {**data.notes, "labels_of_unknown_cells": found.n_unknown}
    cells = replace(data.cells, groups={**data.cells.groups, **found.groups})
    missing = data.missing
    if found.n_unknown:
        missing = (*missing, f"{path.name}: {found.n_unknown:,} labels name no cell of this slide.")
    return replace(data, cells=cells, notes=notes, missing=missing)
