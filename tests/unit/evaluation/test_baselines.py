import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.evaluation.baselines import (
    BASELINES,
    TypePairPrior,
    log_normalised,
    make_baselines,
    pair_features,
    principal_components,
)


def test_prior_counts_unordered_type_pairs_with_shrinkage():
    types = np.array([0, 0, 1, 1, -1])
    prior = TypePairPrior(types)
    left, right = np.array([0, 2, 0, 1]), np.array([2, 0, 1, 3])
    label = np.array([True, True, False, False])
    prior.fit(left, right, label)
    # Pairs 0-1: three, two positive; the overall share 0.5 counts as two pairs more.
    assert prior.predict(np.array([0]), np.array([2]))[0] == pytest.approx((2 + 1) / (3 + 2))
    both = prior.predict(np.array([0, 3]), np.array([3, 0]))
    assert both[0] == both[1]
    # A pair of types that training never showed gets the overall share.
    assert prior.predict(np.array([4]), np.array([4]))[0] == pytest.approx(0.5)


def test_log_normalised_scales_each_cell_to_ten_thousand():
    counts = sparse.csr_matrix(np.array([[1, 1, 0], [10, 30, 0], [0, 0, 0]]))
    values = log_normalised(counts)
    np.testing.assert_allclose(values[0, :2], np.log1p(5000.0), rtol=1e-6)
    np.testing.assert_allclose(np.expm1(values[1]).sum(), 10_000.0, rtol=1e-5)
    assert not values[2].any()


def test_features_are_the_same_for_both_orders():
    components = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    one = pair_features(components, np.array([0, 1]), np.array([2, 3]))
    np.testing.assert_array_equal(
        one, pair_features(components, np.array([2, 3]), np.array([0, 1]))
    )
    assert one.shape == (2, 9)


def test_components_are_fitted_on_training_cells_only():
    rng = np.random.default_rng(1)
    counts = rng.poisson(2.0, (60, 12))
    train = np.arange(60) < 40
    before = principal_components(sparse.csr_matrix(counts), train, 0)
    changed = counts.copy()
    changed[45:, 3] += 500
    after = principal_components(sparse.csr_matrix(changed), train, 0)
    np.testing.assert_allclose(before[:45], after[:45], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "always_positive"])
def test_each_baseline_learns_a_clear_rule_and_ignores_the_order_of_a_pair(name):
    rng = np.random.default_rng(2)
    # Two kinds of cells; pairs of one kind are neighbours.
    kind = rng.integers(0, 2, 300)
    components = rng.normal(0, 0.3, (300, 4)).astype(np.float32)
    components[:, 0] += np.where(kind == 1, 2.0, -2.0)
    left, right = rng.integers(0, 300, (2, 2000))
    label = kind[left] == kind[right]
    model = make_baselines(components, kind, 0)[name]
    model.fit(left[:1500], right[:1500], label[:1500])
    predicted = model.predict(left[1500:], right[1500:])
    assert np.mean((predicted >= 0.5) == label[1500:]) > 0.95
    np.testing.assert_allclose(predicted, model.predict(right[1500:], left[1500:]), rtol=1e-6)
    assert ((predicted >= 0) & (predicted <= 1)).all()


def test_without_types_there_is_no_prior():
    assert "type_pair_prior" not in make_baselines(np.zeros((3, 2), np.float32), None, 0)


def test_predicting_before_fitting_is_a_fault():
    with pytest.raises(RuntimeError, match="fit"):
        make_baselines(np.zeros((3, 2), np.float32), None, 0)["pca_cosine"].predict(
            np.array([0]), np.array([1])
        )
