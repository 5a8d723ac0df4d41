"""The points of a SpatialData store: transcripts, read batch by batch from their Parquet files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import BoolArray, IntArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import gathered, guard
from spatialformer_core.io.h5ad import NO_TRANSCRIPTS
from spatialformer_core.io.records import Names, Transcripts
from spatialformer_core.io.spatialdata_store_parts import Chosen, apply, to_um
from spatialformer_core.io.spatialdata_store_table import Table

_BATCH_ROWS = 1 << 20
_FEATURES = ("feature_name", "gene", "target")
_NUMBERS = re.compile(r"(\d+)")


def read_points(
    root: Path,
    store: Any,
    chosen: Chosen,
    cells: tuple[Names, Table | None],
    control: tuple[progress_.Progress, progress_.Cancel],
) -> Transcripts:
    """Read the chosen points; none where the store has none.

    Parameters
    ----------
    cells
        Their names, shape ``(n,)``, and the table that was read.
    control
        Progress and cancel.

    Raises
    ------
    SpatialFormerError
        If a file is damaged, names no genes, or holds coordinates that are not finite.
    """
    if chosen.points is None:
        chosen.said.append(NO_TRANSCRIPTS)
        return Transcripts.none()
    return _Points(root, store, chosen, cells).read(*control)


class _Points:
    """Reads the points from their Parquet files, batch by batch."""

    def __init__(
        self, root: Path, store: Any, chosen: Chosen, cells: tuple[Names, Table | None]
    ) -> None:
        ids, self.table = cells
        self.root, self.chosen = root, chosen
        self.where = f"points/{chosen.points}"
        self.index = gathered.CellIndex(ids)
        self.points = store.points[chosen.points]
        self.matrix = to_um(self.points, chosen, self.where)
        self.into = gathered.TranscriptGatherer(self.where)
        self.cells: list[IntArray] = []

    def read(self, progress: progress_.Progress, cancel: progress_.Cancel) -> Transcripts:
        """Return all transcripts."""
        folder = self.root / "points" / str(self.chosen.points) / "points.parquet"
        parts = sorted(folder.iterdir(), key=_natural) if folder.is_dir() else [folder]
        for number, part in enumerate(parts):
            progress(number, len(parts), "Reading transcripts")
            self._part(part, cancel)
        cell = np.concatenate(self.cells) if self.cells else np.zeros(0, np.int32)
        stated = self.table is not None and self.table.counts is not None
        genes = self.table.genes if self.table and stated else self.into.genes()
        return self.into.finish(cell, genes, self.index.n_unlisted)

    def _part(self, path: Path, cancel: progress_.Cancel) -> None:
        file = guard.open_parquet(path, self.root, ("x", "y"))
        with file, guard.reading(path):
            names = file.schema_arrow.names
            feature, cell = self._keys(names)
            axes = [axis for axis in "xyz" if axis in names]
            extra = [name for name in ("qv", "overlaps_nucleus") if name in names]
            self._say_columns(axes, cell, extra)
            columns = dict.fromkeys([*axes, feature, *extra, *([cell] if cell else [])])
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                progress_.check(cancel)
                batch.validate(full=True)
                values = [gathered.numbers(batch.column(axis), self.where) for axis in axes]
                xyz = np.stack(values, axis=1)
                xyz[:, :2] = apply(self.matrix, xyz[:, :2])
                quality = (
                    gathered.numbers(batch.column("qv"), self.where) if "qv" in extra else None
                )
                nucleus = _flags(batch, self.where) if "overlaps_nucleus" in extra else None
                self.into.add(xyz, batch.column(feature), quality, nucleus)
                nowhere = np.full(batch.num_rows, -1, np.int32)
                self.cells.append(self.index.of(batch.column(cell)) if cell else nowhere)

    def _keys(self, names: list[str]) -> tuple[str, str | None]:
        """Return the columns that name gene and cell."""
        stated = self.points.attrs.get("spatialdata_attrs", {})
        feature = _first(names, (stated.get("feature_key"), *_FEATURES))
        if feature is None:
            raise SpatialFormerError(
                f"The points name no genes; their columns are {', '.join(names)[:120]}.",
                where=self.where,
                fix="Give the points a feature_key with spatialdata and write the store again.",
            )
        key = None if self.table is None else self.table.instance_key
        return feature, _first(names, (stated.get("instance_key"), "cell_id", key))

    def _say_columns(self, axes: list[str], cell: str | None, extra: list[str]) -> None:
        said = self.chosen.said
        sentences = [
            ("qv" not in extra, "No qv column: every assigned transcript counts."),
            ("z" not in axes, "No z column: distances are in the plane."),
            (cell is None, "The points name no cells: all transcripts lie outside."),
        ]
        said += [text for holds, text in sentences if holds and text not in said]


def _first(names: list[str], wanted: tuple[str | None, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _flags(batch: Any, where: str) -> BoolArray:
    import pyarrow as pa

    column = batch.column("overlaps_nucleus")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    flags: BoolArray = gathered.numbers(column, where) > 0
    return flags


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = _NUMBERS.split(path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
