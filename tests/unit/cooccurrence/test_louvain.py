"""Searches for communities: bits against lists, seeds against each other, invariances."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialformer_core.cooccurrence import (
    CooccurrenceSettings,
    Molecules,
    communities,
    dense_kernels,
    find_cooccurrence,
    kernels,
    link_kernels,
    order_kernels,
)

N_GENES = 9


def clouds(seed: int, n: int = 60, n_cells: int = 4, spread_um: float = 1.7) -> Molecules:
    """Return cells whose transcripts lie in three clouds each."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, [16, 12, 6], (n_cells, 3, 3))
    which = rng.integers(0, 3, (n_cells, n))
    xyz = centres[np.arange(n_cells)[:, None], which] + rng.normal(0, spread_um, (n_cells, n, 3))
    # Genes follow the clouds, so that there are pairs to be found.
    gene = (3 * which + rng.integers(0, 4, (n_cells, n))) % N_GENES
    return Molecules(xyz.reshape(-1, 3), gene.ravel(), np.arange(0, n_cells * n + 1, n), N_GENES)


def pair_sets(found: object) -> list[dict[tuple[int, int], float]]:
    pairs, share = found.pairs, found.share.tolist()  # type: ignore[attr-defined]
    keys = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    ends = pairs.indptr.tolist()
    return [dict(zip(keys[a:b], share[a:b], strict=True)) for a, b in pairwise(ends)]


@pytest.mark.parametrize(("radius", "n"), [(5.0, 60), (5.0, 3), (3.0, 130), (2.0, 200), (9.0, 90)])
def test_bits_and_lists_take_the_same_decisions(radius: float, n: int) -> None:
    cells = clouds(1, n, 30)
    # Half of the places lie on a lattice, where gains tie.
    place = np.where(np.arange(len(cells.gene))[:, None] % 2, np.round(cells.xyz_um), cells.xyz_um)
    run = order_kernels.Run(place, cells.gene.astype(np.int32), cells.indptr)
    order = order_kernels.canonical_order(run)
    run = order_kernels.Run(place[order], run.gene[order], run.indptr)
    wanted = np.ones(30, np.bool_)
    links = link_kernels.link(run, radius, wanted)
    assert (np.diff(links.first_word) > 0).all() or n == 3
    visits = order_kernels.visit_orders(run, (3, 5))
    merged = dense_kernels.merge_dense(links, run, visits)
    found = kernels.find_communities(links, merged, run, visits, wanted)
    indptr, indices = [0], []
    for cell in range(30):
        words = links.bits[links.first_word[cell] : links.first_word[cell + 1]]
        # Three transcripts apart have no links in either form.
        flat = words if len(words) else np.zeros(n, np.uint64)
        bits = np.unpackbits(flat.view(np.uint8).reshape(n, -1), axis=1, bitorder="little")
        indices += [np.flatnonzero(row) for row in bits]
        indptr += (indptr[-1] + np.cumsum(bits.sum(1, dtype=int))).tolist()
    no_words = np.zeros(31, np.int64)
    lists = link_kernels.Links(
        links.bits, no_words, np.array(indptr), np.concatenate(indices).astype(np.int32)
    )
    nothing = dense_kernels.merge_dense(lists, run, visits)
    again = kernels.find_communities(lists, nothing, run, visits, wanted)
    assert found.tolist() == again.tolist()


def test_shares_count_the_searches() -> None:
    cells, how = clouds(2, 80, 20, 3.5), CooccurrenceSettings(n_seeds=7, seed=3)
    labels = communities(cells, how)
    found = find_cooccurrence(cells, how)
    assert found.settings == how
    shares = pair_sets(found)
    together, either = [], []
    for cell in range(20):
        at = slice(cells.indptr[cell], cells.indptr[cell + 1])
        sets = [oracle(label[at], cells.gene[at]) for label in labels]
        every = set().union(*sets)
        assert shares[cell] == {
            pair: pytest.approx(sum(pair in one for one in sets) / 7) for pair in every
        }
        together.append(sum(len(a & b) for a, b in combinations(sets, 2)))
        either.append(sum(len(a | b) for a, b in combinations(sets, 2)))
    assert len({tuple(label.tolist()) for label in labels}) > 1
    ratio = np.mean([a / b for a, b in zip(together, either, strict=True) if b])
    assert found.agreement == pytest.approx(ratio)
    majority = [{pair for pair, share in one.items() if share > 0.5} for one in shares]
    ends = found.labels.indptr
    assert np.diff(ends).tolist() == [len(one) for one in majority]
    assert 0 < ends[-1] < found.pairs.indptr[-1]


def oracle(label: np.ndarray, gene: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs with three copies of each in one community, by counting."""
    found = set()
    for community in set(label.tolist()):
        copies = np.bincount(gene[label == community], minlength=N_GENES)
        found |= set(combinations(np.flatnonzero(copies >= 3).tolist(), 2))
    return found


def test_one_search_has_no_share_and_no_seed() -> None:
    cells = clouds(4)
    one = find_cooccurrence(cells)
    assert (one.share == 1).all()
    assert np.isnan(one.agreement)
    other = find_cooccurrence(cells, CooccurrenceSettings(seed=9))
    assert pair_sets(one) == pair_sets(other)


def test_a_consensus_agrees_better_than_a_search() -> None:
    cells = clouds(6, 90, 60, 3.5)

    def jaccard(n_seeds: int) -> float:
        two = [
            find_cooccurrence(cells, CooccurrenceSettings(n_seeds=n_seeds, seed=seed)).labels
            for seed in (1, 2)
        ]
        sets = [
            {
                (cell, a, b)
                for cell in range(60)
                for a, b in zip(
                    one.left[one.indptr[cell] : one.indptr[cell + 1]],
                    one.right[one.indptr[cell] : one.indptr[cell + 1]],
                    strict=True,
                )
            }
            for one in two
        ]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    single = find_cooccurrence(cells, CooccurrenceSettings(n_seeds=2)).agreement
    assert jaccard(15) > max(single + 0.02, jaccard(3))


def safe(cells: Molecules, dims: int) -> bool:
    """Tell whether rounding can decide neither a link nor the order from the centre."""
    for a, b in zip(cells.indptr[:-1], cells.indptr[1:], strict=True):
        part = cells.xyz_um[a:b, :dims]
        apart = np.linalg.norm(part[:, None] - part[None], axis=2)
        centre = np.sort(np.linalg.norm(part - part.mean(0), axis=1))
        if (np.abs(apart - 5) < 1e-7).any() or (np.diff(centre) < 1e-7).any():
            return False
    return True


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    angle=st.floats(0, 6.3),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    dims=st.sampled_from([2, 3]),
    n_seeds=st.sampled_from([1, 3]),
)
def test_names_order_and_place_change_nothing(
    seed: int, angle: float, shift: tuple[float, float], dims: int, n_seeds: int
) -> None:
    cells, how = clouds(seed), CooccurrenceSettings(dims=dims, n_seeds=n_seeds)
    if not safe(cells, dims):
        return
    expected = pair_sets(find_cooccurrence(cells, how))
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(4), rng.permutation(N_GENES)
    rows = np.concatenate([60 * cell + rng.permutation(60) for cell in order])
    cos, sin = np.cos(angle), np.sin(angle)
    xyz = cells.xyz_um[rows].copy()
    xyz[:, :2] = xyz[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + shift
    moved = Molecules(xyz, names[cells.gene[rows]], cells.indptr, N_GENES)
    found = pair_sets(find_cooccurrence(moved, how))
    for cell, source in enumerate(order):
        renamed = {
            (int(min(names[a], names[b])), int(max(names[a], names[b]))): share
            for (a, b), share in expected[source].items()
        }
        assert found[cell] == renamed


def test_planted_neighbourhoods_come_out_exactly() -> None:
    # Three patches out of reach of each other, each with its own three genes.
    rng = np.random.default_rng(0)
    n_cells, xyz, gene = 50, [], []
    for _ in range(n_cells):
        turn = rng.uniform(0, 2 * np.pi)
        for patch in range(3):
            angle = turn + patch * 2 * np.pi / 3
            centre = 9 * np.array([np.cos(angle), np.sin(angle)])
            xyz.append(centre + rng.uniform(-1.5, 1.5, (9, 2)))
            gene.append(rng.permutation(np.repeat(np.arange(3), 3)) + 3 * patch)
    cells = Molecules(
        np.concatenate(xyz), np.concatenate(gene), np.arange(0, 27 * n_cells + 1, 27), N_GENES
    )
    planted = {(3 * p + a, 3 * p + b) for p in range(3) for a, b in ((0, 1), (0, 2), (1, 2))}
    for n_seeds in (1, 5):
        found = find_cooccurrence(cells, CooccurrenceSettings(n_seeds=n_seeds))
        assert pair_sets(found) == [dict.fromkeys(planted, 1.0)] * n_cells
