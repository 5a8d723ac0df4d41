"""Many grouped logistic regressions at once, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.stats import deviance_explained, fit_grouped, grouped_auroc


def test_equals_scikit_learn_on_the_cells():
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(12), rng.normal(size=(12, 2))])
    cells = rng.integers(5, 40, (3, 12)).astype(float)
    share = 1 / (1 + np.exp(-design @ np.array([-0.5, 1.2, -0.8])))
    hits = rng.binomial(cells.astype(int), share).astype(float)
    predictor = fit_grouped(design, hits, cells)
    d2, auroc = (f(predictor, hits, cells) for f in (deviance_explained, grouped_auroc))
    for table in range(3):
        label = np.concatenate([np.ones(12), np.zeros(12)])
        weight = np.concatenate([hits[table], (cells - hits)[table]])
        both = np.tile(design[:, 1:], (2, 1))
        model = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000)
        p = model.fit(both, label, sample_weight=weight).predict_proba(both)[:, 1]
        null = np.full(24, np.average(label, weights=weight))
        loss = [log_loss(label, q, sample_weight=weight) for q in (p, null)]
        assert d2[table] == pytest.approx(1 - loss[0] / loss[1], abs=1e-5)
        assert auroc[table] == pytest.approx(roc_auc_score(label, p, sample_weight=weight))


def test_separated_groups_stay_finite_and_single_groups_are_not_known():
    design = np.column_stack([np.ones(2), [0.0, 1.0]])
    hits, cells = np.array([[0.0, 50.0], [10.0, 10.0]]), np.array([[50.0, 50.0], [10.0, 10.0]])
    predictor = fit_grouped(design, hits, cells)
    d2, auroc = (f(predictor, hits, cells) for f in (deviance_explained, grouped_auroc))
    assert d2[0] > 0.99
    assert auroc[0] == 1.0
    assert np.isnan([d2[1], auroc[1]]).all()
    with pytest.raises(SpatialFormerError, match="do not fit"):
        fit_grouped(design, np.ones((1, 3)), np.ones((1, 3)))
