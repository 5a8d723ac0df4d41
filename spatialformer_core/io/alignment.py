"""Where an H&E image lies: the 3x3 matrix or the keypoints that Xenium Explorer writes."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard

KEYPOINT_COLUMNS = ("fixedX", "fixedY", "alignmentX", "alignmentY")
MIN_KEYPOINTS = 3

_MAX_BYTES = 65_536
_FLATNESS = 1e-6
_MATRIX_WANTED = "Three lines of three numbers are expected, the last one 0,0,1."
_KEYPOINTS_WANTED = "Give at least three keypoints that do not lie on one line."


@dataclass(frozen=True, slots=True)
class Alignment:
    """From H&E pixels to morphology pixels.

    Attributes
    ----------
    matrix
        Homogeneous 3x3 matrix.
    rms_px
        Root mean square distance of the keypoints from their fit, in morphology pixels; None for
        a matrix, and for three keypoints, which any affine matrix fits exactly.
    """

    matrix: DoubleArray
    rms_px: float | None = None


def read_alignment(path: Path, folder: Path) -> Alignment:
    """Read an alignment, told by its header: keypoints have one, a matrix has none.

    Raises
    ------
    SpatialFormerError
        See `read_affine` and `read_keypoints`.
    """
    rows = _rows(path, folder, _MATRIX_WANTED)
    if rows and set(KEYPOINT_COLUMNS) & set(rows[0]):
        return _fit(rows, path)
    return Alignment(_matrix(rows, path))


def parse_alignment(text: str, name: str) -> Alignment:
    """Read an alignment from text, as `read_alignment` does from a file.

    Raises
    ------
    SpatialFormerError
        As `read_alignment`; ``name`` says where.
    """
    if len(text) > _MAX_BYTES:
        raise SpatialFormerError("The alignment is too large.", where=name, fix=_MATRIX_WANTED)
    rows = [[value.strip() for value in row] for row in csv.reader(text.splitlines()) if row]
    if rows and set(KEYPOINT_COLUMNS) & set(rows[0]):
        return _fit(rows, Path(name))
    return Alignment(_matrix(rows, Path(name)))


def fit_keypoints(points: DoubleArray, name: str) -> Alignment:
    """Fit the affine matrix to pairs of points by least squares.

    Parameters
    ----------
    points
        ``(fixed x, fixed y, moving x, moving y)``, shape ``(n, 4)``; the matrix leads from moving
        to fixed, and the distance of the fit is in units of fixed.
    name
        What is placed, for the message.

    Raises
    ------
    SpatialFormerError
        If a number is not finite, or there are not three points off one line on both sides.
    """
    fixed, moving = points[:, :2], points[:, 2:]
    if not np.isfinite(points).all() or _is_flat(fixed) or _is_flat(moving):
        raise SpatialFormerError(
            f"{len(points)} keypoints do not place the image.", name, _KEYPOINTS_WANTED
        )
    # Around the middle, in units of the spread: pixel coordinates of a whole slide are large.
    centre, spread = moving.mean(axis=0), float(moving.std())
    design = np.column_stack([(moving - centre) / spread, np.ones(len(points))])
    solved = np.linalg.lstsq(design, fixed, rcond=None)[0]
    matrix = np.eye(3)
    matrix[:2, :2] = solved[:2].T / spread
    matrix[:2, 2] = solved[2] - matrix[:2, :2] @ centre
    residual = design @ solved - fixed
    rms = float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))
    return Alignment(matrix, rms if len(points) > MIN_KEYPOINTS else None)


def read_affine(path: Path, folder: Path) -> DoubleArray:
    """Read the 3x3 alignment that Xenium Explorer writes (H&E pixel to morphology pixel).

    Raises
    ------
    SpatialFormerError
        If it is no 3x3 matrix of finite numbers, its last row is not ``0,0,1``, or it is
        singular.
    """
    return _matrix(_rows(path, folder, _MATRIX_WANTED), path)


def read_keypoints(path: Path, folder: Path) -> Alignment:
    """Fit the affine matrix to keypoints by least squares.

    ``fixedX fixedY`` are morphology pixels, ``alignmentX alignmentY`` pixels of the H&E image.

    Raises
    ------
    SpatialFormerError
        If a column is missing, a value is no finite number, or there are not three keypoints off
        one line in both images.
    """
    return _fit(_rows(path, folder, _KEYPOINTS_WANTED), path)


def _rows(path: Path, folder: Path, wanted: str) -> list[list[str]]:
    guard.check_file(path, folder)
    if path.stat().st_size > _MAX_BYTES:
        raise SpatialFormerError("The alignment file is too large.", where=path.name, fix=wanted)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [[value.strip() for value in row] for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpatialFormerError(
            f"The alignment is no CSV text: {error}.", path.name, wanted
        ) from error


def _numbers(rows: list[list[str]], path: Path, wanted: str) -> list[list[float]]:
    try:
        return [[float(value) for value in row] for row in rows]
    except ValueError as error:
        raise SpatialFormerError(
            f"The alignment holds something else than numbers: {error}.", path.name, wanted
        ) from error


def _matrix(rows: list[list[str]], path: Path) -> DoubleArray:
    values = _numbers(rows, path, _MATRIX_WANTED)
    if [len(row) for row in values] != [3, 3, 3]:
        raise SpatialFormerError("The alignment is no 3x3 matrix.", path.name, _MATRIX_WANTED)
    matrix = np.array(values, np.float64)
    last_row_ok = np.allclose(matrix[2], [0, 0, 1], atol=1e-9)
    determinant = float(np.linalg.det(matrix)) if np.isfinite(matrix).all() else math.nan
    if not last_row_ok or not math.isfinite(determinant) or abs(determinant) < 1e-9:
        raise SpatialFormerError("The alignment cannot be inverted.", path.name, _MATRIX_WANTED)
    return matrix


def _fit(rows: list[list[str]], path: Path) -> Alignment:
    header, *body = rows or [[]]
    absent = [name for name in KEYPOINT_COLUMNS if name not in header]
    if absent or any(len(row) != len(header) for row in body):
        raise SpatialFormerError(
            f"Columns {', '.join(KEYPOINT_COLUMNS)} are expected in every line; found "
            f"{', '.join(header)[:120]!r}.",
            where=path.name,
            fix=_KEYPOINTS_WANTED,
        )
    picked = [[row[header.index(name)] for name in KEYPOINT_COLUMNS] for row in body]
    points = np.array(_numbers(picked, path, _KEYPOINTS_WANTED), np.float64).reshape(-1, 4)
    return fit_keypoints(points, path.name)


def _is_flat(points: DoubleArray) -> bool:
    """Tell whether points lie on one line, or are too few."""
    if len(points) < MIN_KEYPOINTS or not np.isfinite(points).all():
        return True
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= _FLATNESS * spread[0])
