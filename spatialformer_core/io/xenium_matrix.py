"""The cells x features matrix of a Xenium folder: HDF5, MatrixMarket text or Zarr."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import delimited, guard, xenium_zarr
from spatialformer_core.io.archive import open_archive
from spatialformer_core.io.checks import MAX_GENES, to_names
from spatialformer_core.io.hdf5 import MAX_TEXT, build_csr, read_texts
from spatialformer_core.io.records import Csr, Names
from spatialformer_core.io.zarr_zip import open_array

HDF5, MEX, ZARR = "cell_feature_matrix.h5", "cell_feature_matrix", "cell_feature_matrix.zarr.zip"
FORMS = (HDF5, MEX, ZARR)
"""The forms, the best first."""

GENE_KIND = "Gene Expression"
_BARCODES, _FEATURES, _MATRIX = "barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"
_ZARR_GENE, _ZARR_SUM = "gene", "aggregate_"
_MAX_CELLS = 1 << 25
_MAX_COMMENTS = 1_000
_MAX_FEATURES = 4 * MAX_GENES
_BYTES_PER_ENTRY = 6
"""The shortest line of a MatrixMarket file: three digits, two blanks and the line's end."""
_BANNER = re.compile(r"^%%MatrixMarket matrix coordinate (integer|real) general\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """What the instrument counted.

    Attributes
    ----------
    barcodes
        Cell ids, shape ``(n,)``.
    names, ids, is_gene
        Per feature: symbol, stable id, and whether it is a gene (else a control), shape ``(f,)``.
    counts
        Cells x features, int32.
    """

    barcodes: Names
    names: Names
    ids: Names
    is_gene: BoolArray
    counts: Csr


def find(folder: Path) -> Path | None:
    """Return the best form of the matrix that a folder holds, None if it holds none."""
    paths = [folder / name for name in FORMS]
    return next((path for path in paths if path.exists() or path.is_symlink()), None)


def read(path: Path) -> FeatureMatrix:
    """Read a matrix that `find` returned.

    Raises
    ------
    SpatialFormerError
        If it is damaged, refused, or its parts do not fit each other.
    """
    readers: dict[str, Callable[[Path], FeatureMatrix]] = {
        HDF5: _read_hdf5,
        MEX: _read_mex,
        ZARR: _read_zarr,
    }
    return readers[path.name](path)


def _read_hdf5(path: Path) -> FeatureMatrix:
    with guard.open_hdf5(path, path.parent) as file:
        if "matrix" not in file or "features" not in file["matrix"]:
            raise SpatialFormerError(
                "It has no 'matrix' group; a 10x feature matrix is expected.", where=path.name
            )
        matrix = file["matrix"]
        features = matrix["features"]
        barcodes = read_texts(matrix["barcodes"], path)
        names = read_texts(features["name"], path)
        kinds = read_texts(features["feature_type"], path)
        ids = read_texts(features["id"], path) if "id" in features else names
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
    if not len(kinds) == len(names) == len(ids):
        raise SpatialFormerError("Feature names and types differ in number.", where=path.name)
    counts = build_csr(parts, (len(barcodes), len(names)), path)
    return FeatureMatrix(barcodes, names, ids, kinds == GENE_KIND, counts)


def _read_mex(folder: Path) -> FeatureMatrix:
    barcodes = _read_barcodes(folder / _BARCODES)
    features = _read_features(folder / _FEATURES)
    ids, names, kinds = (np.array([row[i] for row in features], np.str_) for i in range(3))
    counts = _read_mtx(folder / _MATRIX, (len(barcodes), len(names)))
    return FeatureMatrix(barcodes, names, ids, kinds == GENE_KIND, counts)


def _read_barcodes(path: Path) -> Names:
    import pyarrow as pa

    parts: list[Names] = []
    with delimited.open_text(path, path.parent.parent) as stream:
        for batch in delimited.bare_rows(path, stream, [pa.string()], "\t"):
            parts.append(to_names([t or "" for t in batch.column(0).to_pylist()], path.name))
            if sum(map(len, parts)) > _MAX_CELLS:
                raise SpatialFormerError(f"More than {_MAX_CELLS:,} cells.", where=path.name)
    return np.concatenate(parts) if parts else np.zeros(0, np.str_)


def _read_features(path: Path) -> list[list[str]]:
    """Return id, name and type of each feature; some versions write more columns."""
    rows: list[list[str]] = []
    with delimited.open_text(path, path.parent.parent) as stream:
        while line := delimited.read_line(stream, path):
            fields = [field.strip().strip('"') for field in line.split("\t")]
            if len(fields) < 3 or max(map(len, fields)) > MAX_TEXT or len(rows) >= _MAX_FEATURES:
                raise SpatialFormerError(
                    f"Line {len(rows) + 1} has {len(fields)} fields; id, name and type of at most "
                    f"{MAX_TEXT} characters are expected, in at most {_MAX_FEATURES:,} lines.",
                    where=path.name,
                )
            rows.append(fields)
    return rows


def _read_mtx(path: Path, shape: tuple[int, int]) -> Csr:
    """Return counts from MatrixMarket text, which holds features x cells counted from 1."""
    with delimited.open_text(path, path.parent.parent) as stream:
        if not _BANNER.match(delimited.read_line(stream, path)):
            raise SpatialFormerError(
                "It does not begin with '%%MatrixMarket matrix coordinate integer general'.",
                where=path.name,
            )
        lines = (delimited.read_line(stream, path) for _ in range(_MAX_COMMENTS))
        line = next((text for text in lines if not text.startswith("%")), "%")
        sizes = [int(word) for word in line.split() if word.isdecimal() and len(word) < 16]
        if sizes[:2] != [shape[1], shape[0]] or len(sizes) != 3:
            raise SpatialFormerError(
                f"It declares {line[:60]!r}; {shape[1]:,} features and {shape[0]:,} cells are "
                "listed beside it.",
                where=path.name,
            )
        most = path.stat().st_size * delimited.MAX_EXPANSION // _BYTES_PER_ENTRY
        if sizes[2] > most:
            raise SpatialFormerError(f"It declares {sizes[2]:,} entries.", where=path.name)
        return _entries(path, stream, shape, sizes[2])


def _entries(path: Path, stream: Any, shape: tuple[int, int], declared: int) -> Csr:
    import pyarrow as pa
    from scipy import sparse

    columns: list[list[Any]] = [[], [], []]
    for batch in delimited.bare_rows(path, stream, [pa.int64()] * 3, " "):
        for position, kept in enumerate(columns):
            column = batch.column(position)
            if column.null_count:
                raise SpatialFormerError("An entry lacks a number.", where=path.name)
            kept.append(column.to_numpy())
    feature, cell, count = (
        np.concatenate(parts) if parts else np.zeros(0, np.int64) for parts in columns
    )
    fits = len(feature) == declared
    if fits and declared:
        fits = min(feature.min(), cell.min()) >= 1 and count.min() >= 0
        fits &= feature.max() <= shape[1] and cell.max() <= shape[0]
        fits &= count.max() <= np.iinfo(np.int32).max
    if not fits:
        raise SpatialFormerError(
            f"Its {len(feature):,} entries do not fit {shape[1]:,} features x {shape[0]:,} cells, "
            f"or it declares {declared:,}.",
            where=path.name,
            fix="Copy it again.",
        )
    matrix = sparse.coo_matrix((count.astype(np.int32), (cell - 1, feature - 1)), shape=shape)
    counts = matrix.tocsr()
    counts.eliminate_zeros()
    return counts


def _read_zarr(path: Path) -> FeatureMatrix:
    with open_archive(path, path.parent) as archive:
        base = "cell_features"
        attributes = archive.json(f"{base}/.zattrs")
        names, ids, kinds = (
            _names(attributes, key, path)
            for key in ("feature_keys", "feature_ids", "feature_types")
        )
        barcodes = xenium_zarr.read_cell_ids(archive, f"{base}/cell_id")
        data, indices, indptr = (
            open_array(archive, f"{base}/{part}", 1).read()
            for part in ("data", "indices", "indptr")
        )
    if not len(names) == len(ids) == len(kinds):
        raise SpatialFormerError("Feature names and types differ in number.", where=path.name)
    # Rows are features here; sums over genes that Explorer draws are no features of their own.
    parts = (data, indices.astype(np.int64), indptr.astype(np.int64))
    counts = build_csr(parts, (len(names), len(barcodes)), path)
    kept = ~np.char.startswith(kinds, _ZARR_SUM)
    is_gene = np.isin(kinds[kept], (_ZARR_GENE, GENE_KIND))
    return FeatureMatrix(barcodes, names[kept], ids[kept], is_gene, counts[kept].T.tocsr())


def _names(attributes: dict[str, Any], key: str, path: Path) -> Names:
    values = attributes.get(key)
    texts = [str(value) for value in values] if isinstance(values, list) else []
    if not 0 < len(texts) <= _MAX_FEATURES or max(map(len, texts)) > MAX_TEXT:
        raise SpatialFormerError(f"It holds no list {key!r}.", where=path.name)
    return np.array(texts, np.str_)
