"""A small tissue in which neighbours can be told by their genes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from spatialformer_core.arrays import GenePairs
from spatialformer_core.config import SampleMetadata
from spatialformer_core.corpus import Corpus, CorpusSlide, build_corpus
from spatialformer_core.trainer import TrainRecipe
from spatialformer_core.vocabulary import build_vocabulary

GENES = tuple(f"G{k:02d}" for k in range(16))
STRIPE_UM = 120.0


def sample(donor: str) -> SampleMetadata:
    return SampleMetadata(
        donor=donor,
        block="1",
        condition="Healthy",
        tissue="Lung",
        species="Human",
        assay="Xenium",
    )


def slide(name: str, seed: int, n: int = 700) -> CorpusSlide:
    """Return stripes of two cell types: genes 0-7 in the even stripes, 8-15 in the odd ones."""
    rng = np.random.default_rng(seed)
    xy = np.stack([rng.uniform(0, 800, n), rng.uniform(0, 400, n)], 1)
    stripe = (xy[:, 0] // STRIPE_UM).astype(int) % 2
    rate = np.where((np.arange(16) // 8)[None] == stripe[:, None], 3.0, 0.3)
    counts = rng.poisson(rate)
    counts[:, 0] += 1
    split = np.select([xy[:, 1] < 200, xy[:, 1] > 250], [0, 1], -1).astype(np.int8)
    # Genes 1 and 2 co-occur wherever both are there.
    both = (counts[:, 1] > 0) & (counts[:, 2] > 0)
    pairs = GenePairs(
        np.concatenate([[0], np.cumsum(both)]),
        np.full(both.sum(), 1, np.int32),
        np.full(both.sum(), 2, np.int32),
    )
    return CorpusSlide(
        name, sample(name), GENES, sp.csr_matrix(counts), xy, np.ones(n, bool), split, pairs
    )


@pytest.fixture(scope="session")
def tissue_slide():
    """Return the maker of a slide."""
    return slide


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """Two slides with train, validation and gap."""
    slides = [slide("one", 0), slide("two", 1, 400)]
    vocabulary = build_vocabulary(
        [(GENES, s.counts[s.split == 0]) for s in slides], [s.sample for s in slides]
    )
    return Corpus.load(build_corpus(slides, vocabulary, tmp_path_factory.mktemp("c") / "corpus"))


@pytest.fixture(scope="session")
def toy_recipe():
    """Return the maker of a recipe of a few steps on the small tissue."""

    def make(architecture: str = "two-tower", dropout: float = 0.0, **changes) -> TrainRecipe:
        model = {"architecture": architecture, "preset": "tiny", "changes": {"dropout": dropout}}
        values = {
            "name": "toy",
            "corpus": "toy",
            "model": model,
            "objectives": {"niche": {"components": 2}},
            "steps": 6,
            "seeds_per_step": 16,
            "evaluations": 1,
            "validation_queries": 30,
            "learning_rate": 0.01,
            "threads": 1,
            "tensorboard": False,
        }
        return TrainRecipe.model_validate({**values, **changes})

    return make


@pytest.fixture(autouse=True)
def _threads():
    """Recipes set torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
