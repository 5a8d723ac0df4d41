"""Columns and matrices from AnnData's HDF5 layout, read with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.records import Csr, Groups, Names

MAX_TEXT = 512
MAX_TEXT_BYTES = 1 << 30
"""Of one column of texts, all as wide as the longest."""
MAX_CATEGORIES = 1_000
_TEXT_BATCH = 4_096


def read_texts(dataset: Any, path: Path) -> Names:
    """Return a 1-D text dataset as a numpy array of strings.

    Raises
    ------
    SpatialFormerError
        If it is no text, an entry is longer than ``MAX_TEXT`` characters, or one long entry would
        make the column too large.
    """
    if dataset.dtype.kind not in "OSU":
        raise SpatialFormerError(f"{dataset.name!r} should hold text.", where=path.name)
    parts: list[NDArray[Any]] = []
    longest = 0
    # In batches: one heap entry may be referred to by every row, and expand to far more.
    for start in range(0, len(dataset), _TEXT_BATCH):
        rows = dataset[start : start + _TEXT_BATCH]
        texts = [r.decode("utf-8", "replace") if isinstance(r, bytes) else str(r) for r in rows]
        if max((len(t) for t in texts), default=0) > MAX_TEXT:
            raise SpatialFormerError(
                f"{dataset.name!r} holds a text of more than {MAX_TEXT} characters.",
                where=path.name,
            )
        parts.append(np.array(texts, dtype=np.str_))
        longest = max(longest, parts[-1].dtype.itemsize)
        # One long text would give every row its width: a small file, gigabytes of blanks.
        if longest * len(dataset) > MAX_TEXT_BYTES:
            raise SpatialFormerError(
                f"{dataset.name!r} has {len(dataset):,} texts, the longest of {longest // 4} "
                "characters; that is more than names need.",
                where=path.name,
            )
    return np.concatenate(parts) if parts else np.zeros(0, np.str_)


def index_name(frame: Any) -> str:
    """Return the name of the index column of a stored data frame."""
    name = frame.attrs.get("_index", "_index")
    return name.decode() if isinstance(name, bytes) else str(name)


def read_groups(column: Any, n_cells: int, path: Path) -> Groups | None:
    """Return a categorical, text or boolean column as groups; None for any other column.

    Raises
    ------
    SpatialFormerError
        If its length or its codes do not fit.
    """
    if isinstance(column, h5py.Group):
        if not {"categories", "codes"} <= set(column):
            return None
        return _categorical(column, n_cells, path)
    if column.shape != (n_cells,):
        raise SpatialFormerError(
            f"{column.name!r} has shape {column.shape}; {n_cells:,} cells expected.",
            where=path.name,
        )
    if column.dtype.kind not in "OSUb":
        return None
    values = column[:].astype(str) if column.dtype.kind == "b" else read_texts(column, path)
    names, codes = np.unique(values, return_inverse=True)
    if len(names) > MAX_CATEGORIES:
        return None
    return Groups(tuple(str(name) for name in names), codes.astype(np.int16))


def _categorical(column: Any, n_cells: int, path: Path) -> Groups | None:
    stored, codes = column["categories"], column["codes"][:]
    if len(stored) > MAX_CATEGORIES:
        return None
    if stored.dtype.kind in "OSU":
        names = [str(name) for name in read_texts(stored, path)]
    else:
        names = [str(value) for value in stored[:]]
    fits = codes.shape == (n_cells,) and codes.dtype.kind in "iu"
    if not fits or (n_cells and (codes.min() < -1 or codes.max() >= len(names))):
        raise SpatialFormerError(
            f"The codes of {column.name!r} do not fit its categories or the cells.",
            where=path.name,
        )
    return Groups(tuple(names), codes.astype(np.int16))


class NotCountsError(SpatialFormerError):
    """A matrix is sound but holds something else than raw counts."""


def build_csr(
    parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], shape: tuple[int, int], path: Path
) -> Csr:
    """Return counts as a CSR matrix of int32 after checking every index.

    Parameters
    ----------
    parts
        ``(data, indices, indptr)`` as stored.

    Raises
    ------
    SpatialFormerError
        If the pointers or indices do not fit the shape, or values are no counts.
    """
    from scipy import sparse

    data, indices, indptr = parts
    fits = (
        all(part.ndim == 1 for part in parts)
        and all(part.dtype.kind in "iu" for part in (indices, indptr))
        and len(indptr) == shape[0] + 1
        and indptr[0] == 0
        and indptr[-1] == len(data) == len(indices)
        and bool(np.all(np.diff(indptr) >= 0))
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < shape[1]))
    )
    if not fits:
        raise SpatialFormerError(
            f"The matrix does not fit its declared shape {shape[0]:,} x {shape[1]:,}.",
            where=path.name,
            fix="Write the file again.",
        )
    matrix = sparse.csr_matrix((as_counts(data, path), indices, indptr), shape=shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def as_counts(values: NDArray[Any], path: Path) -> NDArray[np.int32]:
    """Return values as int32 counts.

    Raises
    ------
    SpatialFormerError
        If a value is negative, not finite, not whole or beyond int32.
    """
    if values.dtype.kind not in "fiub":
        raise SpatialFormerError(
            f"The matrix holds {values.dtype}; numbers are expected.", where=path.name
        )
    top = np.iinfo(np.int32).max
    good = np.isfinite(values).all() and (len(values) == 0 or 0 <= values.min() <= values.max())
    if not good or (len(values) and values.max() > top):
        raise NotCountsError(
            "The matrix holds values that are negative or not finite; raw counts are expected.",
            where=path.name,
        )
    counts: NDArray[np.int32] = values.astype(np.int32)
    if not np.array_equal(counts, values):
        raise NotCountsError(
            "The matrix holds fractions; raw counts are expected.",
            where=path.name,
            fix="Store the raw counts in X, not normalised expression.",
        )
    return counts


def read_matrix(node: Any, path: Path) -> Csr:
    """Read AnnData's X (CSR, CSC or dense) as counts, cells x features.

    Raises
    ------
    SpatialFormerError
        See `build_csr`.
    """
    from scipy import sparse

    if isinstance(node, h5py.Dataset):
        if node.ndim != 2:
            raise SpatialFormerError("X is no matrix.", where=path.name)
        dense = node[:]
        return sparse.csr_matrix(as_counts(dense.ravel(), path).reshape(dense.shape))
    kind = node.attrs.get("encoding-type", "")
    if kind not in ("csr_matrix", "csc_matrix") or "shape" not in node.attrs:
        raise SpatialFormerError(f"X is stored as {kind!r}; a matrix is expected.", where=path.name)
    stated = np.asarray(node.attrs["shape"])
    if stated.shape != (2,) or stated.dtype.kind not in "iu":
        raise SpatialFormerError(f"X states shape {str(stated)[:40]}.", where=path.name)
    n_rows, n_columns = (int(v) for v in stated)
    parts = (node["data"][:], node["indices"][:], node["indptr"][:])
    if kind == "csr_matrix":
        return build_csr(parts, (n_rows, n_columns), path)
    return build_csr(parts, (n_columns, n_rows), path).T.tocsr()
