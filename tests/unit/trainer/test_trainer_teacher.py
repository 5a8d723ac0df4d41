"""Learning from another scorer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit

from spatialformer_core.corpus import Corpus, build_corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference import make_scorer
from spatialformer_core.model import load_checkpoint
from spatialformer_core.trainer import (
    Background,
    Teacher,
    TeacherRecipe,
    TrainRecipe,
    checkpoint_teacher,
    fit,
)
from spatialformer_core.trainer.prepare import prepare
from spatialformer_core.trainer.sampling import tower_draw
from spatialformer_core.trainer.teacher import mean_teacher, taught_draw
from spatialformer_core.vocabulary import build_vocabulary
from training.teacher import plain_towers

SMALL = {"seeds_per_step": 8, "steps": 6, "evaluations": 2, "validation_queries": 60}


def recipe(architecture="two-tower", **changes):
    model = {"architecture": architecture, "preset": "tiny", "changes": {"dropout": 0.0}}
    values = {"name": "toy", "corpus": "toy", "model": model, "tensorboard": False, **SMALL}
    return TrainRecipe.model_validate(
        {**values, "objectives": {"niche": {"components": 2}}, **changes}
    )


@pytest.fixture(scope="module")
def towers(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "towers"
    return load_checkpoint(fit(recipe(), corpus, out, Background(simulated=False)))


@pytest.fixture(scope="module")
def one_slide(tissue_slide, tmp_path_factory):
    """A corpus of one slide, the counts of its validation cells as given or as they are."""

    def make(validation_count):
        only = tissue_slide("one", 0, 1500)
        counts = only.counts.toarray()
        if validation_count is not None:
            counts[only.split == 1] = validation_count
        only = replace(only, counts=sp.csr_matrix(counts))
        vocabulary = build_vocabulary([(only.genes, only.counts[only.split == 0])], [only.sample])
        out = tmp_path_factory.mktemp("one") / "corpus"
        return Corpus.load(build_corpus([only], vocabulary, out))

    return make


def test_labels_move_to_the_teacher_by_its_share_and_nothing_else_changes(corpus, towers):
    plain = tower_draw(corpus, recipe())
    teacher = checkpoint_teacher(towers, corpus)
    before, after = plain(3), taught_draw(plain, teacher, 0.7)(3)
    scorer = make_scorer(towers)
    encoded = scorer.encode(corpus.cells(before.rows))
    said = expit(scorer.score(encoded.take(before.left), encoded.take(before.right)))
    np.testing.assert_allclose(after.label, 0.3 * before.label + 0.7 * said, atol=2e-5)
    for name in ("rows", "left", "right", "weight"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_several_teachers_say_the_mean_of_their_logits():
    saying = [Teacher(lambda a, b, p=p: np.full(len(a), p), facts={"name": p}) for p in (0.9, 0.2)]
    both, rows = mean_teacher(saying), np.arange(3)
    # sqrt(9 * 1/4) = 1.5, the odds between 9 and 1/4.
    np.testing.assert_allclose(both.probability(rows, rows), 0.6)
    assert both.facts == {"mean_of": [{"name": 0.9}, {"name": 0.2}]}
    assert mean_teacher(saying[:1]) is saying[0]
    sure = mean_teacher([Teacher(lambda a, b: np.ones(len(a))), saying[1]])
    assert np.isfinite(sure.probability(rows, rows)).all()


def test_a_cross_encoder_is_drawn_to_its_teacher(corpus, tmp_path):
    seen = []

    def half(left, right):
        seen.append(corpus.split[np.concatenate([left, right])])
        return np.full(len(left), 0.5)

    taught = recipe("cross-encoder", teacher={"checkpoint": "any", "share": 1.0}, steps=40)
    taught = taught.model_copy(update={"learning_rate": 0.01})
    teacher = Teacher(half, facts={"name": "half"})
    background = Background(simulated=False, teacher=teacher)
    out = load_checkpoint(fit(taught, corpus, tmp_path / "taught", background))
    assert (np.concatenate(seen) == 0).all()
    cells = corpus.cells(corpus.rows("validation"))
    scorer = make_scorer(out)
    encoded = scorer.encode(cells)
    rows = np.arange(0, 100)
    logits = scorer.score(encoded.take(rows), encoded.take(rows + 1))
    # A teacher that always shrugs teaches to shrug, whatever the labels say.
    assert np.abs(expit(logits) - 0.5).max() < 0.12
    assert out.provenance["teacher"] == {"name": "half"}


def test_hints_become_targets_of_the_niche_head(corpus):
    hints = np.arange(corpus.n_cells * 3, dtype=np.float32).reshape(-1, 3)
    teacher = Teacher(lambda left, right: np.zeros(len(left)), hints)
    wanted = recipe(teacher={"hints": True})
    module, task = prepare(wanted, corpus, Background(simulated=False, teacher=teacher))
    without, bare = prepare(recipe(), corpus, Background(simulated=False))
    assert module.model.config.niche_targets == without.model.config.niche_targets + 3
    np.testing.assert_array_equal(task.niche.values[:, -3:], hints)
    np.testing.assert_array_equal(task.niche.values[:, :-3], bare.niche.values)
    assert (task.niche.known[:, -3:] == 1).all()


def test_who_cannot_teach_is_refused(corpus, towers, tmp_path):
    cross = fit(recipe("cross-encoder"), corpus, tmp_path / "x", Background(simulated=False))
    with pytest.raises(SpatialFormerError, match="cross-encoder"):
        checkpoint_teacher(load_checkpoint(cross), corpus)
    with pytest.raises(SpatialFormerError, match="teacher must be given"):
        prepare(recipe(teacher={}), corpus, Background(simulated=False))
    with pytest.raises(ValueError, match="hints need"):
        recipe("cross-encoder", teacher={"hints": True})
    with pytest.raises(SpatialFormerError, match="on one slide"):
        plain_towers(corpus, TeacherRecipe(), 0, lambda *_: None)


def test_plain_towers_learn_from_training_cells_alone(one_slide):
    recipe = TeacherRecipe(towers=2, pairs=40_000, hints=True)
    corpus, changed = one_slide(None), one_slide(7.0)
    teacher, same = (plain_towers(each, recipe, 0, lambda *_: None) for each in (corpus, changed))
    train = corpus.rows("train")
    left, right = np.random.default_rng(0).choice(train, (2, 400))
    said = teacher.probability(left, right)
    # The other corpus differs in its validation cells: what was learnt is the same.
    np.testing.assert_allclose(same.probability(left, right), said, atol=1e-6)
    rows = corpus.rows("validation")
    a, b = np.random.default_rng(1).choice(rows, (2, 400))
    xy = corpus.shards[0].xy_um
    near = np.abs(xy[a, 0] - xy[b, 0]) < 40
    unseen = teacher.probability(a, b)
    assert unseen[near].mean() > unseen[~near].mean() + 0.05
    assert teacher.hints.shape == (corpus.n_cells, 2 * 64)
    np.testing.assert_allclose(teacher.hints[train].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(teacher.hints[train].std(0), 1, atol=1e-3)
    assert teacher.facts == {"name": "tower_mlp", "towers": 2, "pairs_each": 40_000}
