"""The loader: sequences, buckets, exact resume, several processes."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialformer_core.cell_graph import BALANCED, POSITIVE
from spatialformer_core.corpus import (
    LoaderSettings,
    PairBatches,
    PairLoader,
    Place,
    pack_pairs,
)
from spatialformer_core.corpus.loader import deal
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import CLS, PAD, SEP

SMALL = LoaderSettings(batch_size=16, window=8, seed=3)


def key(batch) -> tuple:
    return tuple(map(tuple, (batch.pairs.left_cells, batch.pairs.right_cells, batch.tokens)))


def test_sequences_are_cls_meta_genes_sep_twice(large):
    pairs = PairBatches(large, "train", 64, seed=1).batch(0)
    packed = pack_pairs(large, pairs)
    rows = (pairs.left_cells, pairs.right_cells)
    left, right = (large.cells(r) for r in rows)
    for i in range(64):
        here = slice(packed.indptr[i], packed.indptr[i + 1])
        one = [CLS, *left.meta[i], *left.row(i), SEP]
        two = [*right.meta[i], *right.row(i), SEP]
        assert packed.tokens[here].tolist() == [*one, *two]
        assert packed.segments[here].tolist() == [1] * len(one) + [2] * len(two)
        counts = packed.counts[here]
        place = slice(left.indptr[i], left.indptr[i + 1])
        assert counts[5 : len(one) - 1].tolist() == left.counts[place].tolist()
        assert counts[[0, 1, 4, len(one) - 1, -1]].tolist() == [0] * 5
    dense = packed.dense()
    assert dense.tokens.shape == (64, packed.lengths.max())
    assert dense.mask.sum() == len(packed.tokens)
    assert dense.tokens[dense.mask].tolist() == packed.tokens.tolist()
    assert (dense.tokens[~dense.mask] == PAD).all()


def test_cooccurring_genes_point_into_the_sequence(large):
    pairs = PairBatches(large, "train", 256, seed=1).batch(0)
    packed = pack_pairs(large, pairs)
    linked = packed.gene_pairs
    seen = 0
    for i in range(256):
        start = packed.indptr[i]
        found = slice(linked.indptr[i], linked.indptr[i + 1])
        got = packed.tokens[start + np.stack([linked.left[found], linked.right[found]])]
        expected = []
        for row in (pairs.left_cells[i], pairs.right_cells[i]):
            cell, own = large.cells(np.array([row])), large.cooccurrence(np.array([row]))
            expected += [
                (cell.tokens[a], cell.tokens[b]) for a, b in zip(own.left, own.right, strict=True)
            ]
        assert list(zip(*got.tolist(), strict=True)) == expected
        seen += len(expected)
        assert packed.has_cooccurrence[i] == (pairs.slide[i] != 2)
    assert seen > 100


def test_a_window_holds_the_pairs_of_the_stream_and_batches_keep_the_kinds(large):
    loader = PairLoader(large, "train", SMALL)
    stream = PairBatches(large, "train", 16 * 8, seed=3).batch(1)
    batches = [loader.batch(step) for step in range(8, 16)]
    found = [
        list(zip(b.pairs.left_cells, b.pairs.right_cells, b.pairs.kind, strict=True))
        for b in batches
    ]
    expected = list(zip(stream.left_cells, stream.right_cells, stream.kind, strict=True))
    assert sorted(pair for batch in found for pair in batch) == sorted(expected)
    for batch in batches:
        assert np.bincount(batch.pairs.kind).tolist() == [8, 4, 4]
        assert (batch.pairs.label == (batch.pairs.kind == POSITIVE)).all()


def test_padding_waste_of_pancreas_like_pairs_is_at_most_five_percent(large):
    loader = PairLoader(large, "train", LoaderSettings(batch_size=64, seed=1))
    plain = PairLoader(large, "train", LoaderSettings(batch_size=64, seed=1, window=1))
    wastes = []
    for each in (loader, plain):
        lengths = [each.batch(step).lengths for step in range(128)]
        places = sum(len(own) * own.max() for own in lengths)
        wastes.append(1 - sum(own.sum() for own in lengths) / places)
    assert wastes[0] <= 0.05
    assert wastes[1] > 0.2


def test_batches_of_a_window_come_in_no_order_of_length(large):
    loader = PairLoader(large, "train", LoaderSettings(batch_size=16, window=32, seed=3))
    mean = [[loader.batch(32 * w + k).lengths.mean() for k in range(32)] for w in range(2)]
    orders = [np.argsort(row) for row in mean]
    assert orders[0].tolist() != orders[1].tolist()
    assert max(abs(np.corrcoef(np.arange(32), row)[0, 1]) for row in mean) < 0.6


@settings(max_examples=12, deadline=None)
@given(step=st.integers(0, 2000), world=st.integers(1, 3), by=st.sampled_from(["steps", "slides"]))
def test_resuming_anywhere_gives_the_same_stream(large, step, world, by):
    place = Place(rank=world - 1, world_size=world, by=by)
    straight = PairLoader(large, "train", SMALL, place)
    straight.step = step
    expected = [key(batch) for batch in islice(straight, 3)]
    state = PairLoader(large, "train", SMALL, place)
    state.step = step + 1
    saved = state.state_dict()
    assert saved == {"seed": 3, "step": step + 1}
    again = PairLoader(large, "train", SMALL, place).load_state_dict(saved)
    again.batch(0)
    assert [key(batch) for batch in islice(again, 2)] == expected[1:]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_one_stream_by_steps(large, world):
    alone = PairLoader(large, "train", SMALL)
    ranks = [
        PairLoader(large, "train", SMALL, Place(rank=r, world_size=world)) for r in range(world)
    ]
    for step in range(7):
        for rank, loader in enumerate(ranks):
            assert key(loader.batch(step)) == key(alone.batch(step * world + rank))
    steps = {loader.steps_per_epoch for loader in ranks}
    assert steps == {-(-alone._stream.n_anchors // (4 * world))}


def test_processes_with_slides_of_their_own(large):
    ranks = [
        PairLoader(large, "train", SMALL, Place(rank=r, world_size=2, by="slides"))
        for r in range(2)
    ]
    assert [loader.slides for loader in ranks] == [(0,), (1, 2)]
    assert len({loader.steps_per_epoch for loader in ranks}) == 1
    visited = []
    for loader in ranks:
        batches = [loader.batch(step) for step in range(loader.steps_per_epoch)]
        slides = np.concatenate([batch.pairs.slide for batch in batches])
        assert set(slides) == set(loader.slides)
        rows = [np.stack([b.pairs.left_cells, b.pairs.right_cells]).ravel() for b in batches]
        visited.append(set(np.concatenate(rows).tolist()))
    assert not visited[0] & visited[1]
    everything = PairBatches(large, "train", 4, seed=0)
    anchors = set()
    for number, sampler in zip(everything._slides, everything._samplers, strict=True):
        anchors |= set((sampler.anchors + large.offsets[number]).tolist())
    assert anchors <= visited[0] | visited[1]


def test_slides_are_dealt_evenly_and_to_everyone():
    assert deal([5, 9, 0, 4, 3, 2], 2) == [(1, 4), (0, 3, 5)]
    with pytest.raises(SpatialFormerError, match="2 slides cannot be dealt to 3"):
        deal([5, 0, 4], 3)


def test_bad_requests_are_refused(large):
    with pytest.raises(SpatialFormerError, match="Rank 2 does not exist"):
        PairLoader(large, "train", SMALL, Place(rank=2, world_size=2))
    with pytest.raises(SpatialFormerError, match="multiple of 4"):
        PairLoader(large, "train", LoaderSettings(batch_size=6))
    loader = PairLoader(large, "train", SMALL)
    with pytest.raises(SpatialFormerError, match="does not belong to seed 3"):
        loader.load_state_dict({"seed": 4, "step": 1})
    with pytest.raises(SpatialFormerError, match="Step -1"):
        loader.batch(-1)
    assert len(BALANCED) == 4
