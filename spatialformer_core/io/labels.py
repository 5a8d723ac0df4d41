"""Labels from CSV: ``cell_id`` and one or more columns of group names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited
from spatialformer_core.io.checks import lookup, to_names, without_missing
from spatialformer_core.io.hdf5 import MAX_CATEGORIES, MAX_TEXT
from spatialformer_core.io.records import GroupCodes, Groups, Names

_ID_COLUMNS = ("cell_id", "Barcode", "barcode", "cell")
_COLOURS = frozenset({"color", "colour"})
"""What Xenium Explorer may write beside the group: the colour that it is drawn in."""
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
        CSV, plain or gzipped, with a header: ``cell_id,group`` (the group becomes ``cell_type``)
        or any other names of columns, which are kept. ``Barcode,Cluster`` as the instrument writes
        it is read too; the ``color`` that Xenium Explorer writes beside a group is left out.

    Raises
    ------
    SpatialFormerError
        If there is no id column, no label, a cell twice, or none of the ids is a cell.
    """
    header = delimited.columns(path, folder)
    id_column = next((name for name in _ID_COLUMNS if name in header), None)
    if id_column is None or len(header) < 2 or len(header) > _MAX_COLUMNS:
        raise SpatialFormerError(
            f"Columns cell_id and group expected; found {', '.join(header[:10])[:200]}.",
            where=path.name,
            fix="Give the file a header line 'cell_id,group'.",
        )
    ids, columns = _read_columns(path, folder, header, id_column)
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
    groups = {
        _RENAMED.get(name, name): column.groups(place, len(cell_ids))
        for name, column in columns.items()
    }
    n_known = int(np.count_nonzero(known))
    return Labels(groups, len(ids) - n_known, len(cell_ids) - n_known)


class _Column:
    """Group names in the order of their first appearance, one code per row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._codes: dict[str, int] = {}
        self._parts: list[GroupCodes] = []

    def add(self, texts: Any) -> None:
        """Take an Arrow array of texts; null is an empty name."""
        encoded = texts.fill_null("").dictionary_encode()
        names = [str(name).strip() for name in encoded.dictionary.to_pylist()]
        for name in names:
            self._codes.setdefault(name, len(self._codes))
        if len(self._codes) > MAX_CATEGORIES or max(map(len, self._codes), default=0) > MAX_TEXT:
            raise SpatialFormerError(
                f"{len(self._codes):,} different labels; {MAX_CATEGORIES:,} of up to {MAX_TEXT} "
                "characters at most.",
                where=self._path.name,
            )
        codes = np.array([self._codes[name] for name in names], np.int16)
        self._parts.append(codes[encoded.indices.to_numpy()])

    def groups(self, place: LongArray, n_cells: int) -> Groups:
        """Return the groups of those cells that ``place`` finds, sorted by name."""
        known = place >= 0
        names = np.array(list(self._codes), np.str_)
        used, codes = np.unique(names[np.concatenate(self._parts)[known]], return_inverse=True)
        all_codes = np.full(n_cells, -1, np.int16)
        all_codes[place[known]] = codes
        return without_missing(Groups(tuple(str(name) for name in used), all_codes))


def _read_columns(
    path: Path, folder: Path, header: list[str], id_column: str
) -> tuple[Names, dict[str, _Column]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: _Column(path) for name in header if name != id_column}
    if "group" in columns:
        columns = {name: column for name, column in columns.items() if name not in _COLOURS}
    parts: list[Names] = []
    for batch in delimited.batches(path, folder, dict.fromkeys(header, pa.string()), {}):
        ids = pc.utf8_trim_whitespace(batch.column(id_column).fill_null(""))
        parts.append(to_names(ids.to_pylist(), path.name))
        for name, column in columns.items():
            column.add(batch.column(name))
    return np.concatenate(parts), columns
