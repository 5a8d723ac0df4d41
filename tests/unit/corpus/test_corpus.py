"""Corpus on disk: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial import cKDTree

from spatialformer_core.arrays import GenePairs
from spatialformer_core.config import SampleMetadata
from spatialformer_core.cooccurrence import CooccurrenceSettings
from spatialformer_core.corpus import (
    Corpus,
    CorpusSettings,
    CorpusSlide,
    PairBatches,
    build_corpus,
)
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.vocabulary import Vocabulary, build_vocabulary, tokenise

GENES = ("A", "B", "C", "D", "E", "F")


def make_slide(name: str, seed: int, n: int = 400, *, with_pairs: bool = True) -> CorpusSlide:
    """Return a slide of 900 x 300 um: train left, gap, then validation and test."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.0, (n, len(GENES)))
    xy = rng.uniform(0, [900, 300], (n, 2)).astype(np.float32)
    x = xy[:, 0]
    split = np.select([x < 420, x < 480, x < 690], [0, -1, 1], 2).astype(np.int8)
    pairs = None
    if with_pairs:
        per_cell = rng.integers(0, 4, n)
        left = rng.integers(0, 5, per_cell.sum())
        right = rng.integers(left + 1, 6)
        keys = np.unique(np.repeat(np.arange(n), per_cell) * 36 + left * 6 + right)
        indptr = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(keys // 36, minlength=n), out=indptr[1:])
        pairs = GenePairs(indptr, (keys % 36 // 6).astype(np.int32), (keys % 6).astype(np.int32))
    sample = SampleMetadata(
        donor="d", block="b", condition="Healthy", tissue=name, species="Human", assay="Xenium"
    )
    passes = rng.random(n) < 0.9
    return CorpusSlide(name, sample, GENES, sp.csr_matrix(counts), xy, passes, split, pairs)


def make_vocabulary(slides: list[CorpusSlide], genes: tuple[str, ...] = GENES) -> Vocabulary:
    chosen = [GENES.index(gene) for gene in genes]
    panels = [(genes, slide.counts[:, chosen]) for slide in slides]
    return build_vocabulary(panels, [slide.sample for slide in slides])


@pytest.fixture
def slides() -> list[CorpusSlide]:
    return [make_slide("one", 1), make_slide("two", 2, n=300, with_pairs=False)]


@pytest.fixture
def corpus(slides: list[CorpusSlide], tmp_path: Path) -> Corpus:
    return Corpus.load(build_corpus(slides, make_vocabulary(slides), tmp_path / "corpus"))


def test_cells_are_those_that_were_tokenised(corpus: Corpus, slides: list[CorpusSlide]) -> None:
    assert corpus.n_cells == sum(int(slide.passes_qc.sum()) for slide in slides)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, corpus.n_cells, 50)
    got = corpus.cells(rows)
    v = corpus.vocabulary
    for i, row in enumerate(rows):
        number = int(corpus.slide_of(rows[i : i + 1])[0])
        slide, shard = slides[number], corpus.shards[number]
        source = shard.source_cells[row - corpus.offsets[number]]
        expected, _ = tokenise(
            slide.counts[[source]], v.gene_ids(GENES), v, v.meta_ids(slide.sample)
        )
        assert got.row(i).tolist() == expected.tokens.tolist()
        inside = slice(got.indptr[i], got.indptr[i + 1])
        assert got.counts[inside].tolist() == expected.counts.tolist()
        assert got.meta[i].tolist() == expected.meta[0].tolist()
        assert corpus.split[row] == slide.split[source]


def test_gene_pairs_come_back_as_positions(corpus: Corpus, slides: list[CorpusSlide]) -> None:
    slide, shard = slides[0], corpus.shards[0]
    assert slide.gene_pairs is not None
    rows = np.arange(shard.info.n_cells)
    tokens, pairs = corpus.cells(rows), corpus.cooccurrence(rows)
    ids = corpus.vocabulary.gene_ids(GENES)
    for row in rows:
        source = shard.source_cells[row]
        dense = slide.counts[[source]].toarray()[0]
        inside = slice(*slide.gene_pairs.indptr[source : source + 2])
        expected = {
            frozenset((int(ids[a]), int(ids[b])))
            for a, b in zip(
                slide.gene_pairs.left[inside], slide.gene_pairs.right[inside], strict=True
            )
            if dense[a] and dense[b]
        }
        at = slice(pairs.indptr[row], pairs.indptr[row + 1])
        genes = tokens.row(row)
        found = {
            frozenset((int(genes[a]), int(genes[b])))
            for a, b in zip(pairs.left[at], pairs.right[at], strict=True)
        }
        assert found == expected
        assert (pairs.left[at] < pairs.right[at]).all()
    assert corpus.has_cooccurrence[: corpus.offsets[1]].all()
    assert not corpus.has_cooccurrence[corpus.offsets[1] :].any()
    assert len(corpus.cooccurrence(np.arange(corpus.offsets[1], corpus.n_cells)).left) == 0


def test_truncated_and_unknown_genes_lose_their_pairs(tmp_path: Path) -> None:
    slide = make_slide("one", 3)
    vocabulary = make_vocabulary([slide], ("B", "C", "D", "E"))
    corpus = Corpus.load(
        build_corpus([slide], vocabulary, tmp_path / "c", settings=CorpusSettings(max_genes=2))
    )
    pairs = corpus.cooccurrence(np.arange(corpus.n_cells))
    assert len(pairs.left) > 0
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == {(0, 1)}
    info = corpus.shards[0].info
    assert info.unknown_genes == ("A", "F")
    qc = slide.counts[np.flatnonzero(slide.passes_qc)]
    assert info.unknown_counts == int(qc[:, [0, 5]].sum())
    assert corpus.cells(np.arange(corpus.n_cells)).lengths.max() == 2


def test_graph_is_the_one_scipy_finds(corpus: Corpus) -> None:
    for shard in corpus.shards:
        expected = cKDTree(np.asarray(shard.xy_um, float)).query_pairs(30.0)
        left, right = shard.graph.edges()
        assert set(zip(left.tolist(), right.tolist(), strict=True)) == expected
        assert shard.info.n_edges == len(expected)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_pairs_stay_in_their_split_and_slide(corpus: Corpus, split: str) -> None:
    code = {"train": 0, "validation": 1, "test": 2}[split]
    batches = PairBatches(corpus, split, 64, seed=3, hard_um=(60.0, 120.0))  # type: ignore[arg-type]
    for step in range(12):
        batch = batches.batch(step)
        for rows in (batch.left_cells, batch.right_cells):
            assert (corpus.split[rows] == code).all()
            assert (corpus.slide_of(rows) == batch.slide).all()
        distance = np.array(
            [
                np.linalg.norm(
                    np.subtract(*corpus.shards[s].xy_um[[a, b] - corpus.offsets[s]].astype(float))
                )
                for a, b, s in zip(batch.left_cells, batch.right_cells, batch.slide, strict=True)
            ]
        )
        near = batch.label == 1
        assert near.sum() == 32
        assert (distance[near] <= 30).all()
        assert (distance[~near] > 30).all()
        hard = distance[batch.kind == 2]
        assert len(hard) == 16
        assert ((hard >= 60) & (hard <= 120)).all()


def test_batches_depend_on_seed_and_step_only(corpus: Corpus) -> None:
    first = PairBatches(corpus, "train", 32, seed=1)
    straight = [first.batch(step) for step in range(6)]
    again = PairBatches(corpus, "train", 32, seed=1)
    resumed = again.batch(5)
    assert resumed.left_cells.tolist() == straight[5].left_cells.tolist()
    assert resumed.right_cells.tolist() == straight[5].right_cells.tolist()
    larger = PairBatches(corpus, "train", 96, seed=1).batch(1)
    assert (
        larger.left_cells.tolist()
        == np.concatenate([batch.left_cells for batch in straight[3:6]]).tolist()
    )
    other = PairBatches(corpus, "train", 32, seed=2).batch(5)
    assert other.left_cells.tolist() != resumed.left_cells.tolist()


def test_an_epoch_visits_every_anchor_once(corpus: Corpus) -> None:
    batches = PairBatches(corpus, "train", 4, seed=5)
    anchors = []
    for step in range(batches.n_anchors):
        batch = batches.batch(step)
        # The four pairs of a group share one cell, and no other: a negative is no neighbour.
        (anchor,) = set.intersection(
            *({int(a), int(b)} for a, b in zip(batch.left_cells, batch.right_cells, strict=True))
        )
        anchors.append(anchor)
    assert len(set(anchors)) == batches.n_anchors == batches.steps_per_epoch


def test_niche_targets_match_brute_force(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(corpus.n_cells, 3)).astype(np.float32)
    got = corpus.niche_targets(features)
    for number, shard in enumerate(corpus.shards):
        offset = corpus.offsets[number]
        xy = np.asarray(shard.xy_um, float)
        distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
        same = shard.split[:, None] == shard.split[None]
        np.fill_diagonal(same, val=False)
        for ring, (lo, hi) in enumerate(((-1.0, 30.0), (30.0, 80.0))):
            near = same & (distance > lo) & (distance <= hi)
            here = slice(offset, offset + len(xy))
            assert got.counts[here, ring].tolist() == near.sum(1).tolist()
            expected = near @ features[here].astype(float) / np.maximum(near.sum(1), 1)[:, None]
            np.testing.assert_allclose(got.means[here, ring], expected, atol=1e-6)


def test_the_folder_appears_whole_or_not_at_all(slides: list[CorpusSlide], tmp_path: Path) -> None:
    vocabulary = make_vocabulary(slides)
    with pytest.raises(SpatialFormerError, match="twice"):
        build_corpus([slides[0], slides[0]], vocabulary, tmp_path / "corpus")
    calls = iter([False, True])
    with pytest.raises(Cancelled):
        build_corpus(slides, vocabulary, tmp_path / "corpus", cancel=lambda: next(calls))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpatialFormerError, match="no finished corpus"):
        Corpus.load(tmp_path / "corpus")


def test_equal_input_gives_equal_bytes(slides: list[CorpusSlide], tmp_path: Path) -> None:
    vocabulary = make_vocabulary(slides)
    for name in ("a", "b"):
        build_corpus(iter(slides), vocabulary, tmp_path / name)
    manifests = [(tmp_path / name / "COMPLETE.json").read_bytes() for name in ("a", "b")]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("name", ["tokens", "indptr", "graph_indices", "split"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_damage_is_noticed(corpus: Corpus, name: str, damage: str) -> None:
    path = corpus.path / "slides" / "one" / f"{name}.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:150])
    else:
        np.save(path, np.zeros(7, np.float32))
    with pytest.raises(SpatialFormerError):
        Corpus.load(corpus.path)


def test_foreign_names_and_vocabularies_are_refused(corpus: Corpus) -> None:
    path = corpus.path / "corpus.json"
    content = json.loads(path.read_text())
    content["slides"][0]["slide_id"] = "../../etc"
    path.write_text(json.dumps(content))
    with pytest.raises(SpatialFormerError, match="name"):
        Corpus.load(corpus.path)
    content["slides"][0]["slide_id"] = "one"
    content["vocabulary"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(SpatialFormerError, match="another vocabulary"):
        Corpus.load(corpus.path)


def test_bad_slides_and_requests_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    slide = make_slide("one", 1, n=20)
    vocabulary = corpus.vocabulary
    wrong = CorpusSlide(
        "x", slide.sample, GENES, slide.counts, slide.xy_um, slide.passes_qc, slide.split + 5
    )
    with pytest.raises(SpatialFormerError, match="Split codes"):
        build_corpus([wrong], vocabulary, tmp_path / "x")
    nobody = CorpusSlide(
        "x", slide.sample, GENES, slide.counts, slide.xy_um, slide.passes_qc & False, slide.split
    )
    with pytest.raises(SpatialFormerError, match="No cell"):
        build_corpus([nobody], vocabulary, tmp_path / "x")
    with pytest.raises(SpatialFormerError, match="outside the corpus"):
        corpus.cells(np.array([corpus.n_cells]))
    with pytest.raises(SpatialFormerError, match="multiple of 4"):
        PairBatches(corpus, "train", 6)
    with pytest.raises(SpatialFormerError, match="No pairs"):
        PairBatches(corpus, "test", 4, hard_um=(5000.0, 6000.0))


def test_cooccurrence_of_different_settings_is_never_mixed(
    slides: list[CorpusSlide], corpus: Corpus, tmp_path: Path
) -> None:
    vocabulary = make_vocabulary(slides)
    flat = slides[0]
    deep = replace(flat, slide_id="deep", cooccurrence=CooccurrenceSettings(dims=3))
    with pytest.raises(SpatialFormerError, match=r"dims=3.*dims=2.*cannot be mixed") as error:
        build_corpus([flat, deep], vocabulary, tmp_path / "x")
    assert error.value.where == "deep"
    settings = CorpusSettings(cooccurrence=CooccurrenceSettings(dims=3))
    # A slide without transcripts has no co-occurrence that could differ.
    out = build_corpus([deep, slides[1]], vocabulary, tmp_path / "x", settings=settings)
    assert Corpus.load(out).manifest.settings.cooccurrence.dims == 3
    path = out / "corpus.json"
    content = json.loads(path.read_text())
    content["settings"]["cooccurrence"]["dims"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(SpatialFormerError, match="cannot be mixed"):
        Corpus.load(out)


def test_the_manifest_records_sample_simulation_and_hashes(
    slides: list[CorpusSlide], tmp_path: Path
) -> None:
    made = [slides[0], replace(slides[1], simulated=True)]
    corpus = Corpus.load(build_corpus(made, make_vocabulary(slides), tmp_path / "c"))
    first, second = corpus.manifest.slides
    assert (first.simulated, second.simulated, corpus.manifest.simulated) == (False, True, True)
    assert (first.sample.tissue, first.sample.donor, first.sample.condition) == (
        "one",
        "d",
        "Healthy",
    )
    assert first.cooccurrence == CooccurrenceSettings()
    assert second.cooccurrence is None
    # A shard of another corpus does not slip in unnoticed, even if it is whole.
    other = replace(slides[0], xy_um=slides[0].xy_um + 1)
    there = build_corpus([other, made[1]], make_vocabulary(slides), tmp_path / "d")
    shutil.rmtree(corpus.path / "slides" / "one")
    shutil.copytree(there / "slides" / "one", corpus.path / "slides" / "one")
    with pytest.raises(SpatialFormerError, match="not the one that its manifest describes"):
        Corpus.load(corpus.path)


def test_an_older_format_says_what_to_do(corpus: Corpus) -> None:
    path = corpus.path / "corpus.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 1}))
    with pytest.raises(SpatialFormerError, match=r"format 1; format 2 is expected.*Build it again"):
        Corpus.load(corpus.path)


def test_tokens_are_wide_enough_for_the_vocabulary(tmp_path: Path) -> None:
    slide = make_slide("one", 1, n=50)
    many = tuple(sorted({*GENES, *(f"X{i:05d}" for i in range(66_000))}))
    vocabulary = Vocabulary((), many, np.ones(len(many), np.float32))
    shard = Corpus.load(build_corpus([slide], vocabulary, tmp_path / "c")).shards[0]
    assert shard.tokens.dtype == np.uint32
    small = Corpus.load(build_corpus([slide], make_vocabulary([slide]), tmp_path / "d")).shards[0]
    assert small.tokens.dtype == np.uint16
