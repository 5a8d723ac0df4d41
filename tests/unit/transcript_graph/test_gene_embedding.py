"""The gene embedding: planted truth, determinism, the folder and its loader."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.transcript_graph import (
    GeneEmbedding,
    draw_pairs,
    load_gene_embedding,
    save_gene_embedding,
    transcript_graph,
)
from spatialformer_core.transcript_graph.embedding import TENSORS
from spatialformer_core.transcript_graph.fit import (
    GeneGraph,
    SageRecipe,
    gene_vectors,
    new_network,
    score_pairs,
    train_network,
)
from spatialformer_core.vocabulary import Vocabulary

N_GENES, SPOT_PAIRS = 16, 4
RECIPE = SageRecipe(
    width=16, hidden=24, size=16, steps=160, batch=128, learning_rate=0.01, fan_out=(5, 5)
)


def planted(seed: int) -> GeneGraph:
    """Genes 0-7 sit in spots, two by two; genes 8-15 are as frequent and lie anywhere."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 120, (SPOT_PAIRS, 60, 2))
    place = [
        spots[pair, rng.integers(0, 60, 360)] + rng.normal(0, 0.8, (360, 2))
        for pair in range(SPOT_PAIRS)
        for _ in range(2)
    ]
    place += [rng.uniform(0, 120, (360, 2)) for _ in range(N_GENES - 2 * SPOT_PAIRS)]
    gene = np.repeat(np.arange(N_GENES), 360).astype(np.int32)
    shuffled = rng.permutation(len(gene))
    graph = transcript_graph(np.concatenate(place)[shuffled], dims=2)
    return GeneGraph(graph, gene[shuffled][graph.order], N_GENES)


@pytest.fixture(scope="module")
def trained():
    data = planted(0)
    return data, train_network(data, RECIPE)


def cosine(vectors):
    centred = vectors - vectors.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return unit @ unit.T


def test_genes_that_sit_together_are_alike_and_decoys_are_not(trained):
    data, network = trained
    vectors, counts = gene_vectors(network, data, RECIPE)
    np.testing.assert_array_equal(counts, 360)
    likeness = cosine(vectors)
    together = np.array([likeness[2 * k, 2 * k + 1] for k in range(SPOT_PAIRS)])
    # Equally frequent: two genes of different spots, and a gene in spots with one spread out.
    decoys = np.concatenate(
        [
            [likeness[i, j] for i in range(8) for j in range(i + 1, 8) if i // 2 != j // 2],
            likeness[:8, 8:].ravel(),
        ]
    )
    assert together.min() > decoys.max()
    assert together.mean() > decoys.mean() + 0.5


def test_tissue_that_was_not_seen_is_told_apart_better_than_before_training(trained):
    _, network = trained
    held_out = planted(1)
    pairs = draw_pairs(held_out.graph, 2000, seed=5)
    trained_scores = score_pairs(network, held_out, RECIPE, pairs)
    first_scores = score_pairs(new_network(RECIPE, N_GENES), held_out, RECIPE, pairs)
    found, before = (
        float((near[:, None] > far[None]).mean()) for near, far in (trained_scores, first_scores)
    )
    assert found > 0.85
    assert found > before + 0.1


def test_equal_recipes_give_equal_vectors_and_other_seeds_others():
    data = planted(0)
    short = RECIPE.model_copy(update={"steps": 3, "transcripts_per_gene": 20})
    one, counts = gene_vectors(train_network(data, short), data, short)
    again, _ = gene_vectors(train_network(data, short), data, short)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(counts, 20)
    other = short.model_copy(update={"seed": 1})
    assert not np.allclose(one, gene_vectors(train_network(data, other), data, other)[0])


def test_cancel_and_a_rate_that_is_too_high():
    data = planted(0)
    with pytest.raises(Cancelled):
        train_network(data, RECIPE, cancel=lambda: True)
    wild = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(SpatialFormerError, match="loss is"):
        train_network(data, wild)


# ------------------------------------------------------------------------------- the folder


def vocabulary(genes, words=("tissue:lung",)):
    return Vocabulary(tuple(words), tuple(sorted(genes)), np.ones(len(genes), np.float32))


@pytest.fixture
def saved(tmp_path):
    """Genes a-d; nothing was learnt about d."""
    own = vocabulary("abcd")
    table = np.zeros((len(own), 3), np.float32)
    table[own.gene_offset :] = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    counts = np.zeros(len(own), np.int64)
    counts[own.gene_offset :] = (5, 6, 7, 0)
    embedding = GeneEmbedding(table, counts > 0, counts, {"simulated": True})
    folder = tmp_path / "embedding"
    save_gene_embedding(folder, embedding, own, {"rows": []})
    return folder, embedding, own


def test_what_was_saved_is_loaded(saved):
    folder, embedding, own = saved
    loaded = load_gene_embedding(folder, own)
    np.testing.assert_array_equal(loaded.table, embedding.table)
    np.testing.assert_array_equal(loaded.learnt, embedding.learnt)
    np.testing.assert_array_equal(loaded.transcripts, embedding.transcripts)
    assert loaded.provenance["simulated"] is True


def test_rows_follow_the_names_of_the_genes(saved):
    folder, _, _ = saved
    other = vocabulary("bcxyz", words=("tissue:lung", "tissue:skin"))
    loaded = load_gene_embedding(folder, other)
    assert loaded.table.shape == (len(other), 3)
    np.testing.assert_array_equal(loaded.table[other.gene_ids("bc")], np.eye(3)[1:])
    np.testing.assert_array_equal(np.flatnonzero(loaded.learnt), other.gene_ids("bc"))
    assert not loaded.table[other.gene_ids("xyz")].any()


def test_damaged_folders_are_refused(saved):
    folder, embedding, own = saved
    with pytest.raises(SpatialFormerError, match="knows none"):
        load_gene_embedding(folder, vocabulary("xyz"))
    with pytest.raises(SpatialFormerError, match="no finished"):
        load_gene_embedding(folder.with_name("nowhere"), own)
    vocabulary("abce").save(folder / "vocabulary.json")
    with pytest.raises(SpatialFormerError, match="does not belong"):
        load_gene_embedding(folder, own)
    own.save(folder / "vocabulary.json")
    (folder / TENSORS).write_bytes(b"\xff" * 100)
    with pytest.raises(SpatialFormerError, match="cannot be read"):
        load_gene_embedding(folder, own)
    broken = dataclasses.replace(embedding, table=embedding.table * np.nan)
    with pytest.raises(SpatialFormerError, match="not finite"):
        save_gene_embedding(folder, broken, own, {}, replace=True)
    assert files.is_complete(folder)
