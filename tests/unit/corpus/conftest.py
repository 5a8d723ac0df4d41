"""A corpus of three slides with cells of pancreas-like lengths."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spatialformer_core.arrays import GenePairs
from spatialformer_core.config import SampleMetadata
from spatialformer_core.corpus import Corpus, CorpusSlide, build_corpus
from spatialformer_core.vocabulary import build_vocabulary

N_GENES = 120


def large_slide(name: str, seed: int, n: int, *, with_pairs: bool = True) -> CorpusSlide:
    """Return cells with 10 to 60 genes (median 24, as on the pancreas slide)."""
    rng = np.random.default_rng(seed)
    n_genes = np.clip(rng.lognormal(np.log(24), 0.4, n), 10, 60).astype(int)
    rows = np.repeat(np.arange(n), n_genes)
    columns = np.concatenate([rng.choice(N_GENES, k, replace=False) for k in n_genes])
    counts = sp.csr_matrix((rng.geometric(0.6, len(rows)), (rows, columns)), (n, N_GENES))
    xy = rng.uniform(0, np.sqrt(n) * 12, (n, 2)).astype(np.float32)
    pairs = None
    if with_pairs:
        # The first two genes of every third cell co-occur.
        first = np.concatenate([[0], np.cumsum(n_genes)[:-1]])[::3]
        both = np.sort(np.stack([columns[first], columns[first + 1]]), 0).astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(np.arange(n) % 3 == 0)])
        pairs = GenePairs(indptr.astype(np.int64), both[0], both[1])
    sample = SampleMetadata(
        donor=f"d-{name}",
        block="1",
        condition="Healthy" if seed % 2 else "Disease",
        tissue="Lung",
        species="Human",
        assay="Xenium",
    )
    split = np.where(xy[:, 0] < 0.8 * xy[:, 0].max(), 0, 2).astype(np.int8)
    genes = tuple(f"G{k:03d}" for k in range(N_GENES))
    everyone = np.ones(n, np.bool_)
    return CorpusSlide(
        name, sample, genes, counts, xy, everyone, split, pairs, simulated=name == "two"
    )


@pytest.fixture(scope="session")
def three_slides() -> list[CorpusSlide]:
    return [
        large_slide("one", 1, 2400),
        large_slide("two", 2, 900),
        large_slide("three", 3, 600, with_pairs=False),
    ]


@pytest.fixture(scope="session")
def large(three_slides, tmp_path_factory) -> Corpus:
    vocabulary = build_vocabulary(
        [(s.genes, s.counts) for s in three_slides], [s.sample for s in three_slides]
    )
    out = tmp_path_factory.mktemp("corpora") / "large"
    return Corpus.load(build_corpus(three_slides, vocabulary, out))
