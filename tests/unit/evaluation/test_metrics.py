import numpy as np
import pytest
from sklearn import metrics as oracle

from spatialformer_core.evaluation.metrics import Metrics, Scored, block_interval, blocks


def scored(seed=0, n=400, ties=False):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.4
    score = np.clip(0.25 * label + rng.random(n) * 0.75, 0, 1)
    return Scored(label, np.round(score, 1) if ties else score, rng.integers(0, 20, n))


@pytest.mark.parametrize("ties", [False, True])
def test_every_metric_agrees_with_scikit_learn(ties):
    s = scored(ties=ties)
    values, predicted = Metrics(s).values(), s.probability >= 0.5
    assert values["auroc"] == pytest.approx(oracle.roc_auc_score(s.label, s.probability))
    assert values["auprc"] == pytest.approx(oracle.average_precision_score(s.label, s.probability))
    assert values["f1"] == pytest.approx(oracle.f1_score(s.label, predicted))
    assert values["recall"] == pytest.approx(oracle.recall_score(s.label, predicted))
    assert values["specificity"] == pytest.approx(oracle.recall_score(~s.label, ~predicted))
    assert values["mcc"] == pytest.approx(oracle.matthews_corrcoef(s.label, predicted))
    assert values["balanced_accuracy"] == pytest.approx(
        oracle.balanced_accuracy_score(s.label, predicted)
    )


def test_weights_of_blocks_mean_repeating_their_pairs():
    s = scored()
    times = np.random.default_rng(1).integers(0, 3, 20)
    rows = np.concatenate([np.repeat(k, times[b]) for k, b in enumerate(s.block)])
    repeated = Scored(s.label[rows], s.probability[rows], s.block[rows])
    weighted = Metrics(s).values(times.astype(float))
    for name, value in Metrics(repeated).values().items():
        assert weighted[name] == pytest.approx(value), name


def test_ece_worked_by_hand():
    # Bin 0.2-0.3: mean 0.25, half positive -> gap 0.25. Bin 0.9-1: mean 0.95, all positive -> 0.05.
    s = Scored(
        np.array([True, False, True, True]),
        np.array([0.25, 0.25, 0.95, 0.95]),
        np.zeros(4, np.int64),
    )
    assert Metrics(s).values()["ece"] == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_one_class_only_is_undefined_not_an_error():
    s = Scored(np.ones(5, bool), np.linspace(0, 1, 5), np.zeros(5, np.int64))
    values = Metrics(s).values()
    assert np.isnan(values["auroc"])
    assert np.isnan(values["specificity"])
    assert values["mcc"] == 0.0


def test_intervals_widen_when_blocks_agree_within_themselves():
    rng = np.random.default_rng(2)
    n_blocks, size = 20, 40
    block = np.repeat(np.arange(n_blocks), size)
    label = rng.random(len(block)) < 0.5
    shift = rng.normal(0, 1.0, n_blocks)
    # In some blocks the score follows the label, in others it contradicts it.
    score = 1 / (1 + np.exp(-(shift[block] * (2 * label - 1) + rng.normal(0, 1, len(block)))))
    own = block_interval(Scored(label, score, block), 0)["auroc"]
    shuffled = block_interval(Scored(label, score, rng.permutation(block)), 0)["auroc"]
    assert own[1] - own[0] > 2 * (shuffled[1] - shuffled[0])
    assert own[0] <= Metrics(Scored(label, score, block)).values()["auroc"] <= own[1]


def test_blocks_are_squares_numbered_from_zero():
    xy = np.array([[0.0, 0.0], [199.0, 10.0], [201.0, 10.0], [10.0, 450.0]])
    codes = blocks(xy, 200.0)
    assert codes[0] == codes[1]
    assert sorted(np.unique(codes)) == [0, 1, 2]
