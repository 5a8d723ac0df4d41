"""Many small logistic regressions at once, on grouped rows: what tells a cell's group."""

from __future__ import annotations

import numpy as np

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError

_STEPS = 30
_RIDGE = 1e-3
_LARGEST = 30.0
_DONE = 1e-7


def fit_grouped(design: DoubleArray, hits: DoubleArray, cells: DoubleArray) -> DoubleArray:
    """Fit a logistic regression per table and return its linear predictors.

    Newton's method with a tiny ridge, so that perfect separation stays finite.

    Parameters
    ----------
    design
        Features of each row, the same for all tables, shape ``(rows, features)``; put in the
        intercept yourself.
    hits, cells
        Cells of the first group, and cells at all, shape ``(tables, rows)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(tables, rows)``.

    Raises
    ------
    SpatialFormerError
        If the shapes disagree.
    """
    if hits.shape != cells.shape or design.shape[0] != hits.shape[1]:
        raise SpatialFormerError(
            f"Tables of shapes {hits.shape} and {cells.shape} do not fit a design of "
            f"{design.shape[0]} rows."
        )
    n_features = design.shape[1]
    weights = np.zeros((len(hits), n_features))
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    ridge = _RIDGE * np.eye(n_features)
    for _ in range(_STEPS):
        predictor = np.clip(weights @ design.T, -_LARGEST, _LARGEST)
        share = 1 / (1 + np.exp(-predictor))
        gradient = (hits - cells * share) @ design - _RIDGE * weights
        curve = (cells * share * (1 - share)) @ products
        curve = curve.reshape(-1, n_features, n_features) + ridge
        step = np.linalg.solve(curve, gradient[:, :, None])[:, :, 0]
        # A full Newton step may overshoot where the groups are nearly separated.
        weights += step / np.maximum(1.0, np.abs(step).max(1, keepdims=True) / 4.0)
        if np.abs(step).max(initial=0.0) < _DONE:
            break
    predictors: DoubleArray = np.clip(weights @ design.T, -_LARGEST, _LARGEST)
    return predictors


def deviance_explained(
    predictor: DoubleArray, hits: DoubleArray, cells: DoubleArray
) -> DoubleArray:
    """Return the share of the deviance that a predictor explains, shape ``(tables,)``.

    NaN where all cells are of one group. All arrays have shape ``(tables, rows)``.
    """
    log_one, log_other = -np.logaddexp(0, -predictor), -np.logaddexp(0, predictor)
    fitted = (hits * log_one + (cells - hits) * log_other).sum(1)
    n, k = cells.sum(1), hits.sum(1)
    mixed = (k > 0) & (k < n)
    share = np.where(mixed, k / np.maximum(n, 1), 0.5)
    null = k * np.log(share) + (n - k) * np.log1p(-share)
    explained: DoubleArray = np.where(mixed, 1 - fitted / np.where(mixed, null, -1.0), np.nan)
    return explained


def grouped_auroc(score: DoubleArray, hits: DoubleArray, cells: DoubleArray) -> DoubleArray:
    """Return how well a score ranks the first group's cells above the others', ``(tables,)``.

    Ties count half; NaN where all cells are of one group. All arrays ``(tables, rows)``.
    """
    out = np.full(len(score), np.nan)
    for table, values in enumerate(np.round(score, 9)):
        levels, at = np.unique(values, return_inverse=True)
        one = np.bincount(at, hits[table], len(levels))
        other = np.bincount(at, (cells - hits)[table], len(levels))
        pairs = one.sum() * other.sum()
        if pairs > 0:
            below: LongArray = np.cumsum(other) - other
            out[table] = (one * (below + other / 2)).sum() / pairs
    return out
