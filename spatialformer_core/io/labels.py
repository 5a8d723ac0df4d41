"""Labels from CSV: ``cell_id`` and one or more columns of group names."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.checks import lookup, without_missing
from spatialformer_core.io.hdf5 import MAX_CATEGORIES, MAX_TEXT
from spatialformer_core.io.records import Groups, Names

MAX_BYTES = 1 << 29
_ID_COLUMNS = ("cell_id", "Barcode", "barcode", "cell")
_RENAMED = {"group": "cell_type", "Cluster": "cluster"}
_MAX_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Labels:
    """Groups from one file, and how many of its rows name no cell of the slide."""

    groups: dict[str, Groups]
    n_unknown: int
    n_unlabelled: int


def read_labels(path: Path, folder: Path, cell_ids: Names) -> Labels:
    """Read a labels CSV.

    Parameters
    ----------
    path
        CSV with a header: ``cell_id,group`` (the group becomes ``cell_type``) or any other names
        of columns, which are kept. ``Barcode,Cluster`` as the instrument writes it is read too.

    Raises
    ------
    SpatialFormerError
        If there is no id column, no label, a cell twice, or none of the ids is a cell.
    """
    guard.check_file(path, folder)
    if path.stat().st_size > MAX_BYTES:
        raise SpatialFormerError(f"Larger than {MAX_BYTES:,} bytes.", where=path.name)
    header, rows = _read_rows(path)
    id_column = next((header.index(name) for name in _ID_COLUMNS if name in header), None)
    if id_column is None or len(header) < 2 or len(header) > _MAX_COLUMNS:
        raise SpatialFormerError(
            f"Columns cell_id and group expected; found {', '.join(header[:10])}.",
            where=path.name,
            fix="Give the file a header line 'cell_id,group'.",
        )
    ids = np.array([row[id_column] for row in rows], np.str_)
    if len(np.unique(ids)) != len(ids):
        raise SpatialFormerError("A cell id occurs more than once.", where=path.name)
    place = lookup(cell_ids, ids) if len(ids) else np.zeros(0, np.int64)
    known = place >= 0
    if not known.any():
        raise SpatialFormerError(
            f"None of its {len(ids):,} cell ids is a cell of this slide.",
            where=path.name,
            fix="Check that the labels belong to this slide and that ids are written alike.",
        )
    groups = {}
    for column, name in enumerate(header):
        if column == id_column:
            continue
        values = np.array([row[column] for row in rows], np.str_)[known]
        groups[_RENAMED.get(name, name)] = _groups(values, place[known], len(cell_ids), path)
    n_known = int(np.count_nonzero(known))
    return Labels(groups, len(ids) - n_known, len(cell_ids) - n_known)


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            rows = [[value.strip() for value in row] for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpatialFormerError(f"The file is no CSV: {error}.", where=path.name) from error
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if uneven is not None:
        raise SpatialFormerError(
            f"Line {uneven + 2} has {len(rows[uneven])} values; {len(header)} expected.",
            where=path.name,
        )
    return header, rows


def _groups(values: Names, place: np.ndarray, n_cells: int, path: Path) -> Groups:
    names, codes = np.unique(values, return_inverse=True)
    if len(names) > MAX_CATEGORIES or np.char.str_len(names).max() > MAX_TEXT:
        raise SpatialFormerError(
            f"{len(names):,} different labels; {MAX_CATEGORIES:,} at most.", where=path.name
        )
    all_codes = np.full(n_cells, -1, np.int16)
    all_codes[place] = codes
    return without_missing(Groups(tuple(str(name) for name in names), all_codes))
