"""The trivial answers that every model must be shown beside, fitted on training tissue only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, LongArray

BASELINES = ("always_positive", "type_pair_prior", "pca_cosine", "pca_logistic", "pca_boosting")
TOWER_MLP = "tower_mlp"
"""Trained on pairs of its own, once for all kinds of negatives (`evaluation.tower_mlp`)."""

N_COMPONENTS = 50
_SCALE = 10_000.0
_PRIOR_STRENGTH = 2.0


class Baseline(Protocol):
    """Learns from labelled pairs, then gives each pair a probability of being neighbours."""

    def fit(self, left: LongArray, right: LongArray, label: BoolArray) -> None:
        """Learn from pairs of training cells."""

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return a probability per pair, shape ``(n,)``."""


def log_normalised(counts: Any) -> FloatArray:
    """Return ``log(1 + counts scaled to 10,000 per cell)``, dense, shape ``(n, genes)``."""
    matrix = np.asarray(counts.toarray(), np.float32)
    total = np.maximum(matrix.sum(axis=1, keepdims=True), 1.0)
    values: FloatArray = np.log1p(matrix / total * np.float32(_SCALE))
    return values


def principal_components(counts: Any, train: BoolArray, seed: int) -> FloatArray:
    """Return the leading principal components of all cells, fitted on training cells.

    Parameters
    ----------
    counts
        Raw counts, scipy CSR ``(n, genes)``.
    train
        Cells that may be learnt from, shape ``(n,)``.
    """
    from sklearn.decomposition import PCA

    values = log_normalised(counts)
    n_components = min(N_COMPONENTS, values.shape[1], int(train.sum()))
    pca = PCA(n_components, svd_solver="covariance_eigh", random_state=seed).fit(values[train])
    return np.asarray(pca.transform(values), np.float32)


def pair_features(components: FloatArray, left: LongArray, right: LongArray) -> FloatArray:
    """Return ``|a - b|, a * b, a + b``: the same for both orders, shape ``(n, 3 k)``."""
    a, b = components[left], components[right]
    return np.concatenate([np.abs(a - b), a * b, a + b], axis=1)


@dataclass(slots=True)
class AlwaysPositive:
    """Calls every pair neighbours."""

    def fit(self, left: LongArray, right: LongArray, label: BoolArray) -> None:
        """Learn nothing."""

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return 1 for every pair."""
        return np.ones(len(left))


@dataclass(slots=True)
class TypePairPrior:
    """How often pairs of these two types were neighbours in training.

    Attributes
    ----------
    types
        Type code of every cell, -1 for none, shape ``(n,)``.
    """

    types: NDArray[np.integer]
    _share: DoubleArray | None = None

    def fit(self, left: LongArray, right: LongArray, label: BoolArray) -> None:
        """Count, shrunk towards the overall share where a type pair is rare."""
        n_types = int(self.types.max()) + 2
        total, positive = np.zeros((n_types, n_types)), np.zeros((n_types, n_types))
        # Code -1 lands in the last row: a type of its own.
        np.add.at(total, (self.types[left], self.types[right]), 1.0)
        np.add.at(positive, (self.types[left], self.types[right]), label.astype(float))
        total, positive = total + total.T, positive + positive.T
        prior = float(label.mean()) * _PRIOR_STRENGTH
        self._share = (positive + prior) / (total + _PRIOR_STRENGTH)

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return the share of neighbours among training pairs of these types."""
        share = _fitted(self._share)
        values: DoubleArray = share[self.types[left], self.types[right]]
        return values


@dataclass(slots=True)
class PcaCosine:
    """Cosine of the two cells' principal components, made a probability by one logistic curve."""

    components: FloatArray
    _model: Any = None

    def _cosine(self, left: LongArray, right: LongArray) -> FloatArray:
        a, b = self.components[left], self.components[right]
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine: FloatArray = (np.sum(a * b, axis=1) / np.maximum(norms, 1e-12))[:, None]
        return cosine

    def fit(self, left: LongArray, right: LongArray, label: BoolArray) -> None:
        """Fit the curve; the ranking is that of the cosine."""
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression().fit(self._cosine(left, right), label)

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return the probability."""
        return _positive(_fitted(self._model), self._cosine(left, right))


@dataclass(slots=True)
class PcaClassifier:
    """A classifier on symmetric features of the principal components."""

    components: FloatArray
    make: Callable[[], Any]
    _model: Any = None

    def fit(self, left: LongArray, right: LongArray, label: BoolArray) -> None:
        """Fit the classifier."""
        self._model = self.make().fit(pair_features(self.components, left, right), label)

    def predict(self, left: LongArray, right: LongArray) -> DoubleArray:
        """Return the probability."""
        return _positive(_fitted(self._model), pair_features(self.components, left, right))


def make_baselines(
    components: FloatArray, types: NDArray[np.integer] | None, seed: int
) -> dict[str, Baseline]:
    """Return unfitted baselines by name; the prior only where cells have types.

    Parameters
    ----------
    components
        From `principal_components`, shape ``(n, k)``.
    types
        Type codes, shape ``(n,)``, or None.
    """
    found: dict[str, Baseline] = {"always_positive": AlwaysPositive()}
    if types is not None:
        found["type_pair_prior"] = TypePairPrior(np.asarray(types, np.int64))
    found["pca_cosine"] = PcaCosine(components)
    found["pca_logistic"] = PcaClassifier(components, _logistic)
    found["pca_boosting"] = PcaClassifier(components, lambda: _boosting(seed))
    return found


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=300, random_state=seed)


def _positive(model: Any, features: FloatArray) -> DoubleArray:
    return np.asarray(model.predict_proba(features)[:, 1], np.float64)


def _fitted(model: Any) -> Any:
    if model is None:
        message = "fit the baseline before predicting"
        raise RuntimeError(message)
    return model
