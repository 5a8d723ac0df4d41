"""The flat files of a CosMx export, as numbers in pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import progress as progress_
from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited, gathered
from spatialformer_core.io.checks import check_panel, check_xy, is_control
from spatialformer_core.io.hdf5 import as_counts
from spatialformer_core.io.records import Csr, Names, Polygons

_PATTERNS = {
    "transcripts": re.compile(r"tx_file\.csv(\.gz)?$", re.IGNORECASE),
    "matrix": re.compile(r"exprMat_file\.csv(\.gz)?$", re.IGNORECASE),
    "metadata": re.compile(r"metadata_file\.csv(\.gz)?$", re.IGNORECASE),
    "positions": re.compile(r"fov_positions_file\.csv(\.gz)?$", re.IGNORECASE),
    "polygons": re.compile(r"polygons\.csv(\.gz)?$", re.IGNORECASE),
}
_FOV, _CELL = ("fov", "FOV"), ("cell_ID", "cellID", "CellId")
_GLOBAL = (("x_global_px", "y_global_px"), ("CenterX_global_px", "CenterY_global_px"))
_LOCAL = (("x_local_px", "y_local_px"), ("CenterX_local_px", "CenterY_local_px"))
_MM = (("x_global_mm", "y_global_mm"), ("X_mm", "Y_mm"), ("x_mm", "y_mm"))
_NO_GENES = frozenset({*_FOV, *_CELL, "cell", "cell_id", "slide_ID_numeric", "Run_Tissue_name"})
_CELL_BITS = 32
_MAX_NUMBER = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Files:
    """Which file is what; None where there is none."""

    folder: Path
    transcripts: Path
    matrix: Path | None
    metadata: Path | None
    positions: Path | None
    polygons: Path | None

    @staticmethod
    def has_transcripts(folder: Path) -> bool:
        """Tell whether a folder holds a transcript file."""
        return any(_PATTERNS["transcripts"].search(path.name) for path in folder.iterdir())

    @staticmethod
    def of(folder: Path) -> Files:
        """Find the files of a folder.

        Raises
        ------
        SpatialFormerError
            If there are two of a kind.
        """
        names = sorted(folder.iterdir())
        found: dict[str, Path | None] = {}
        for kind, pattern in _PATTERNS.items():
            paths = [path for path in names if pattern.search(path.name)]
            if len(paths) > 1:
                raise SpatialFormerError(
                    f"{paths[0].name} and {paths[1].name} are of the same kind.",
                    where=folder.name,
                    fix="Keep the files of one slide in a folder.",
                )
            found[kind] = paths[0] if paths else None
        transcripts = found.pop("transcripts")
        if transcripts is None:
            raise SpatialFormerError("It holds no *_tx_file.csv.", where=folder.name)
        return Files(folder, transcripts, **found)


@dataclass(frozen=True, slots=True)
class Positions:
    """Origins of the fields of view, in pixels, in micrometres, or both; shapes ``(n, 2)``."""

    fov: LongArray
    xy_px: DoubleArray | None
    xy_um: DoubleArray | None

    def origin_px(self, um_per_px: float) -> DoubleArray:
        """Return the origin of each field of view in pixels, shape ``(n, 2)``."""
        if self.xy_px is not None:
            return self.xy_px
        return np.full((len(self.fov), 2), np.nan) if self.xy_um is None else self.xy_um / um_per_px


@dataclass(frozen=True, slots=True)
class Placed:
    """Positions in pixels, shape ``(m, 2)``: of the slide, or of the field of view if ``local``."""

    fov: LongArray
    xy_px: DoubleArray
    local: bool

    def on_slide(self, positions: Positions | None, um_per_px: float, where: str) -> DoubleArray:
        """Return the positions on the slide in pixels, shape ``(m, 2)``.

        Raises
        ------
        SpatialFormerError
            If they are local and nobody says where their field of view lies.
        """
        if not self.local:
            return self.xy_px
        known = np.zeros(0, np.int64) if positions is None else positions.fov
        place, _ = places(known, self.fov)
        if (place < 0).any():
            raise SpatialFormerError(
                f"Nothing says where field of view {int(self.fov[place < 0][0])} lies.",
                where=where,
                fix="Add the fov_positions file of the same run.",
            )
        origin = positions.origin_px(um_per_px) if positions else np.zeros((0, 2))
        return self.xy_px + origin[place]


@dataclass(frozen=True, slots=True)
class Metadata:
    """Cells with centre and area."""

    key: LongArray
    centres: Placed
    area_px2: DoubleArray | None
    area_um2: DoubleArray | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Raw counts, cells x genes."""

    key: LongArray
    counts: Csr
    genes: tuple[str, ...]
    control_names: tuple[str, ...]
    n_control_counts: int


def places(known: LongArray, wanted: LongArray) -> tuple[LongArray, int]:
    """Return where each wanted key is among the known ones, and how many cells are not there.

    Parameters
    ----------
    known, wanted
        Unique keys and any keys; ``-1`` = no cell and its place is ``-1``.
    """
    if not len(known):
        return np.full(len(wanted), -1, np.int64), int(np.count_nonzero(wanted >= 0))
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    place = np.where(known[at] == wanted, at, -1).astype(np.int64)
    return place, int(np.count_nonzero((wanted >= 0) & (place < 0)))


def names_of(key: LongArray) -> Names:
    """Return the cell ids: ``FOV_CELL``."""
    pairs = zip(key >> _CELL_BITS, key & _MAX_NUMBER, strict=True)
    return np.array([f"{fov}_{cell}" for fov, cell in pairs], np.str_)


def keys(fov: LongArray, cell: LongArray) -> LongArray:
    """Return one number per cell of the slide; ``-1`` for cell 0, which is outside any."""
    return np.where(cell > 0, fov << _CELL_BITS | cell, -1)


def read_positions(files: Files) -> Positions | None:
    """Read where the fields of view lie; None without that file."""
    path = files.positions
    if path is None:
        return None
    csv = _Csv.of(path, files.folder)
    names = csv.names
    px, mm = _pair(names, _GLOBAL), _pair(names, _MM)
    if px is None and mm is None:
        raise SpatialFormerError(
            f"It has neither x_global_px, y_global_px nor X_mm, Y_mm but {', '.join(names)[:120]}.",
            where=path.name,
        )
    table = csv.read([*(px or ()), *(mm or ())], cells=False)
    xy_px = None if px is None else np.stack([table[name] for name in px], axis=1)
    xy_um = None if mm is None else np.stack([table[name] for name in mm], axis=1) * 1e3
    for xy in (xy_px, xy_um):
        if xy is not None:
            check_xy(xy / 1e3, path.name)
    fov = table["fov"]
    if len(np.unique(fov)) != len(fov):
        raise SpatialFormerError("A field of view occurs more than once.", where=path.name)
    return Positions(fov, xy_px, xy_um)


def read_metadata(files: Files) -> Metadata | None:
    """Read centres and areas of the cells; None without that file."""
    path = files.metadata
    if path is None:
        return None
    csv = _Csv.of(path, files.folder)
    wanted = [name for name in ("Area", "Area.um2") if name in csv.names]
    centre, local = _coordinates(csv)
    table = csv.read([*centre, *wanted])
    key = keys(table["fov"], table["cell"])
    listed = key >= 0
    xy_px = np.stack([table[name] for name in centre], axis=1)[listed]
    area = table["Area"][listed] if "Area" in wanted else None
    area_um2 = table["Area.um2"][listed] if "Area.um2" in wanted else None
    return Metadata(key[listed], Placed(table["fov"][listed], xy_px, local), area, area_um2)


def read_matrix(files: Files, cancel: progress_.Cancel) -> Matrix | None:
    """Read the counts; None without that file.

    Raises
    ------
    SpatialFormerError
        If values are no counts, or there is no gene or one twice.
    """
    from scipy import sparse

    path = files.matrix
    if path is None:
        return None
    csv = _Csv.of(path, files.folder)
    features = [name for name in csv.names if name not in _NO_GENES and name != "#0"]
    listed = set(features)
    stated = [n.removesuffix(f"#{i}") for i, n in enumerate(csv.names) if n in listed]
    gene = np.array([not is_control(name) for name in stated], np.bool_)
    check_panel(stated, gene, path.name)
    parts, found = [], []
    for batch in csv.batches(features, None, cancel):
        values = np.stack([batch[name] for name in features], axis=1)
        dense = as_counts(values.ravel(), path).reshape(values.shape)
        key = keys(batch["fov"], batch["cell"])
        parts.append(sparse.csr_matrix(dense[key >= 0]))
        found.append(key[key >= 0])
    counts = sparse.vstack(parts, "csr") if parts else sparse.csr_matrix((0, len(features)))
    control = tuple(name for name, keep in zip(stated, gene, strict=True) if not keep)
    genes = tuple(name for name, keep in zip(stated, gene, strict=True) if keep)
    n_control = int(counts[:, ~gene].sum())
    key = np.concatenate(found) if found else np.zeros(0, np.int64)
    return Matrix(key, counts[:, gene], genes, control, n_control)


def read_outlines(
    files: Files, positions: Positions | None, um_per_px: float, cells: LongArray
) -> Polygons | None:
    """Read outlines in um in the order of the cells; None without that file."""
    path = files.polygons
    if path is None:
        return None
    csv = _Csv.of(path, files.folder)
    columns, local = _coordinates(csv)
    table = csv.read([*columns])
    place, _ = places(cells, keys(table["fov"], table["cell"]))
    if not (place >= 0).any():
        raise SpatialFormerError(
            "None of its outlines is a cell of this slide.",
            where=path.name,
            fix="Check that the file belongs to this slide.",
        )
    xy_px = np.stack([table[name] for name in columns], axis=1)
    placed = Placed(table["fov"], xy_px, local).on_slide(positions, um_per_px, path.name)
    check_xy(placed * um_per_px, path.name)
    return gathered.outlines(place, placed * um_per_px, len(cells))


@dataclass(frozen=True, slots=True)
class Rows:
    """Transcripts and the key of the cell of each, ``-1`` = outside."""

    into: gathered.TranscriptGatherer
    key: LongArray


def read_transcripts(
    files: Files,
    positions: Positions | None,
    um_per_px: float,
    cancel: progress_.Cancel,
) -> Rows:
    """Read the transcripts in um.

    Raises
    ------
    SpatialFormerError
        If a column is missing, a value is no number, or a coordinate is not finite.
    """
    path = files.transcripts
    csv = _Csv.of(path, files.folder)
    columns, local = _coordinates(csv)
    into = gathered.TranscriptGatherer(path.name)
    found = []
    for batch in csv.batches([*columns], "target", cancel):
        xy_px = np.stack([batch[name] for name in columns], axis=1)
        placed = Placed(batch["fov"], xy_px, local).on_slide(positions, um_per_px, path.name)
        into.add(placed * um_per_px, batch["target"])
        found.append(keys(batch["fov"], batch["cell"]))
    return Rows(into, np.concatenate(found) if found else np.zeros(0, np.int64))


def _pair(names: list[str], wanted: Any) -> tuple[str, str] | None:
    return next((pair for pair in wanted if all(name in names for name in pair)), None)


def _coordinates(csv: _Csv) -> tuple[tuple[str, str], bool]:
    """Return the columns of the positions, and whether these are local to a field of view."""
    on_slide, local = _pair(csv.names, _GLOBAL), _pair(csv.names, _LOCAL)
    if on_slide is None and local is None:
        raise SpatialFormerError(
            f"It has no columns of positions in pixels: {', '.join(csv.names)[:160]}.",
            where=csv.path.name,
            fix="Export it again with x_global_px and y_global_px.",
        )
    return (on_slide, False) if on_slide is not None else (local or ("", ""), True)


@dataclass(frozen=True, slots=True)
class _Csv:
    """A flat file with its column names."""

    path: Path
    folder: Path
    names: list[str]

    @staticmethod
    def of(path: Path, folder: Path) -> _Csv:
        return _Csv(path, folder, delimited.columns(path, folder))

    def read(self, columns: list[str], *, cells: bool = True) -> dict[str, Any]:
        """Return the whole table, column by column: ``fov``, ``cell`` and those asked for."""
        parts = list(self.batches(columns, cells=cells))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def batches(
        self,
        columns: list[str],
        text: str | None = None,
        cancel: progress_.Cancel = progress_.never,
        *,
        cells: bool = True,
    ) -> Iterator[dict[str, Any]]:
        """Yield batches of numbers, with ``text`` as an Arrow column."""
        import pyarrow as pa

        fov, cell = (next((n for n in two if n in self.names), two[0]) for two in (_FOV, _CELL))
        own = {"fov": fov, "cell": cell} if cells else {"fov": fov}
        required: dict[str, Any] = dict.fromkeys(own.values(), pa.int64())
        required |= dict.fromkeys(columns, pa.float64())
        if text is not None:
            required[text] = pa.string()
        for batch in delimited.batches(self.path, self.folder, required, {}, cancel):
            values: dict[str, Any] = {
                short: _whole(batch.column(name), self.path) for short, name in own.items()
            }
            for name in columns:
                values[name] = gathered.numbers(batch.column(name), self.path.name)
            if text is not None:
                values[text] = batch.column(text)
            yield values


def _whole(column: Any, path: Path) -> LongArray:
    """Return numbers of cells and fields of view; none is 0."""
    import pyarrow.compute as pc

    values: LongArray = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    if len(values) and (values.min() < 0 or values.max() > _MAX_NUMBER):
        raise SpatialFormerError("A number of a cell or field of view is impossible.", path.name)
    return values
