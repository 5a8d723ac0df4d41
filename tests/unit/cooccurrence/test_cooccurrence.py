"""Co-occurrence: hand-worked cells, oracles, invariance, Louvain's quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialformer_core.arrays import GenePairs
from spatialformer_core.cooccurrence import (
    CooccurrenceSettings,
    Molecules,
    communities,
    cooccurring_pairs,
    find_cooccurrence,
    link_kernels,
    order_kernels,
    runs,
)
from spatialformer_core.errors import SpatialFormerError

A, B, C, D = range(4)


@dataclass
class Cells:
    xyz: NDArray[np.float32]
    gene: NDArray[np.int32]
    indptr: NDArray[np.int64]

    @property
    def molecules(self) -> Molecules:
        return Molecules(self.xyz, self.gene, self.indptr, 12)

    @property
    def cells(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.indptr[:-1], self.indptr[1:], strict=True)]


def random_cells(n_cells: int, mean: float, seed: int = 0, n_genes: int = 12) -> Cells:
    """Return cells of 18 x 12 x 6 um whose transcripts lie in a few clouds."""
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(mean, n_cells)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    parts = []
    for size in sizes:
        centres = rng.uniform([0, 0, 0], [18, 12, 6], (4, 3))
        parts.append(centres[rng.integers(0, 4, size)] + rng.normal(0, 1.8, (size, 3)))
    xyz = np.concatenate([np.zeros((0, 3)), *parts]).astype(np.float32)
    return Cells(xyz, rng.integers(0, n_genes, len(xyz)).astype(np.int32), indptr)


def pair_sets(pairs: GenePairs) -> list[set[tuple[int, int]]]:
    return [
        set(zip(pairs.left[a:b].tolist(), pairs.right[a:b].tolist(), strict=True))
        for a, b in zip(pairs.indptr[:-1], pairs.indptr[1:], strict=True)
    ]


def patch(centre: tuple[float, float], genes: list[int]) -> tuple[list[list[float]], list[int]]:
    """Return transcripts 0.5 um apart in a row."""
    return [[centre[0] + 0.5 * i, centre[1], 0.0] for i in range(len(genes))], genes


def test_planted_patches_come_out_with_the_right_genes() -> None:
    # The published package sorts the labels but not the places and reports A-B and C-D here.
    left, left_genes = patch((0, 0), [A, C, A, C, A, C])
    right, right_genes = patch((20, 0), [B, D, B, D, B, D])
    xyz, gene = np.array(left + right, np.float32), np.array(left_genes + right_genes, np.int32)
    pairs = cooccurring_pairs(xyz, gene, np.array([0, 12]), n_genes=4)
    assert pair_sets(pairs) == [{(A, C), (B, D)}]


@pytest.mark.parametrize(
    ("genes", "expected"),
    [
        ([A, A, A, B, B, B], {(A, B)}),
        ([A, A, A, B, B], set()),  # two copies are not enough
        ([A] * 6, set()),  # a gene does not pair with itself
        ([A, A, A, B, B, B, C, C, C], {(A, B), (A, C), (B, C)}),
        ([], set()),
    ],
)
def test_three_copies_of_each_in_one_community(
    genes: list[int], expected: set[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 1, (len(genes), 2)).astype(np.float32)
    pairs = cooccurring_pairs(xyz, np.array(genes, np.int32), np.array([0, len(genes)]), n_genes=4)
    assert pair_sets(pairs) == [expected]


def test_copies_must_share_the_community() -> None:
    left, left_genes = patch((0, 0), [A, A, A, B, B])
    right, right_genes = patch((30, 0), [B, C, C, C])
    xyz, gene = np.array(left + right, np.float32), np.array(left_genes + right_genes, np.int32)
    assert pair_sets(cooccurring_pairs(xyz, gene, np.array([0, 9]), n_genes=4)) == [set()]
    looser = cooccurring_pairs(xyz, gene, np.array([0, 9]), n_genes=4, min_copies=1)
    assert pair_sets(looser) == [{(A, B), (B, C)}]


def test_depth_separates_only_in_three_dimensions() -> None:
    below, genes = patch((0, 0), [A, A, A])
    above = [[x, y, 9.0] for x, y, _ in below]
    xyz = np.array(below + above, np.float32)
    gene = np.array([*genes, B, B, B], np.int32)
    ends = np.array([0, 6])
    assert pair_sets(cooccurring_pairs(xyz, gene, ends, n_genes=2)) == [{(A, B)}]
    assert pair_sets(cooccurring_pairs(xyz, gene, ends, n_genes=2, dims=3)) == [set()]


@pytest.mark.parametrize("radius", [5.0, 0.8])
def test_links_are_those_within_the_radius(radius: float) -> None:
    # At 0.8 um so few are linked that they are kept as lists, not as bits.
    cells = random_cells(8, 60)
    run = order_kernels.Run(cells.xyz.astype(np.float64), cells.gene, cells.indptr)
    wanted = np.arange(8) != 3
    links = link_kernels.link(run, radius, wanted)
    n_dense = 0
    for cell, at in enumerate(cells.cells):
        words = links.bits[links.first_word[cell] : links.first_word[cell + 1]]
        n = at.stop - at.start
        found = {(i, int(j)) for i in range(n) for j in row_of(links, at.start + i)}
        if len(words):
            n_dense += 1
            bits = np.unpackbits(words.view(np.uint8).reshape(n, -1), axis=1, bitorder="little")
            found = set(zip(*(part.tolist() for part in np.nonzero(bits)), strict=True))
        expected = cKDTree(run.position[at]).query_pairs(radius) if wanted[cell] else set()
        assert found == expected | {(b, a) for a, b in expected}
    assert n_dense == (7 if radius == 5.0 else 0)


def row_of(links: link_kernels.Links, i: int) -> NDArray[np.int32]:
    return links.indices[links.indptr[i] : links.indptr[i + 1]]


def test_pairs_match_brute_force() -> None:
    cells = random_cells(40, 70)
    labels = communities(cells.molecules)[0]
    pairs = pair_sets(cooccurring_pairs(cells.xyz, cells.gene, cells.indptr, n_genes=12))
    for at, found in zip(cells.cells, pairs, strict=True):
        table = np.zeros((labels[at].max(initial=0) + 1, 12), int)
        np.add.at(table, (labels[at], cells.gene[at]), 1)
        enough = (table >= 3).astype(int)
        together = enough.T @ enough
        expected = {(a, b) for a in range(12) for b in range(a + 1, 12) if together[a, b]}
        assert found == expected


def moved(xyz: NDArray[np.float32], angle: float) -> NDArray[np.float32]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    out = xyz.astype(np.float64)
    out[:, :2] = out[:, :2] @ turn.T * [1, -1]
    return (out + np.array([40.0, -25.0, 3.0])).astype(np.float32)


def safe_cells() -> Cells:
    """Return cells in which no distance is so near 5 um that rounding could decide."""
    cells = random_cells(60, 50, seed=4)
    keep = []
    for number, at in enumerate(cells.cells):
        points = cells.xyz[at].astype(float)
        for dims in (2, 3):
            part = points[:, :dims]
            distance = np.linalg.norm(part[:, None] - part[None], axis=2)
            if (np.abs(distance - 5) < 1e-4).any():
                break
        else:
            keep.append(number)
    chosen = [cells.cells[number] for number in keep]
    sizes = [at.stop - at.start for at in chosen]
    return Cells(
        np.concatenate([cells.xyz[at] for at in chosen]),
        np.concatenate([cells.gene[at] for at in chosen]),
        np.concatenate([[0], np.cumsum(sizes)]),
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_moving_turning_and_mirroring_change_nothing(dims: int) -> None:
    cells = safe_cells()
    assert len(cells.cells) > 20
    find = {"n_genes": 12, "dims": dims}
    expected = cooccurring_pairs(cells.xyz, cells.gene, cells.indptr, **find)  # type: ignore[arg-type]
    assert len(expected.left) > 50
    for angle in (0.0, 0.7, 2.0):
        got = cooccurring_pairs(moved(cells.xyz, angle), cells.gene, cells.indptr, **find)  # type: ignore[arg-type]
        assert pair_sets(got) == pair_sets(expected)


def test_order_of_transcripts_cells_and_genes_changes_nothing() -> None:
    cells = random_cells(50, 60, seed=2)
    # A lattice makes many distances equal: ties must be broken by place, not by order.
    cells.xyz = np.round(cells.xyz / 2) * 2
    expected = pair_sets(cooccurring_pairs(cells.xyz, cells.gene, cells.indptr, n_genes=12))
    rng = np.random.default_rng(0)
    shuffled = np.concatenate(
        [at.start + rng.permutation(at.stop - at.start) for at in cells.cells]
    )
    got = cooccurring_pairs(cells.xyz[shuffled], cells.gene[shuffled], cells.indptr, n_genes=12)
    assert pair_sets(got) == expected
    order = rng.permutation(50)
    rows = np.concatenate([np.arange(50 * 999)[cells.cells[c]] for c in order])
    indptr = np.concatenate([[0], np.cumsum(np.diff(cells.indptr)[order])])
    got = cooccurring_pairs(cells.xyz[rows], cells.gene[rows], indptr, n_genes=12)
    assert pair_sets(got) == [expected[c] for c in order]


def test_threads_and_runs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = random_cells(80, 40, seed=3)
    results = []
    for threads, size in ((1, 100_000), (4, 100), (3, 777)):
        monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", threads)
        monkeypatch.setattr("spatialformer_core.cooccurrence.runs._RUN_TRANSCRIPTS", size)
        found = find_cooccurrence(cells.molecules, CooccurrenceSettings(n_seeds=3))
        labels = communities(cells.molecules)
        parts = (found.pairs.indptr, found.pairs.left, found.pairs.right, found.share, labels)
        results.append([part.tobytes() for part in parts])
    assert results[0] == results[1] == results[2]


def test_chosen_cells_are_found_as_if_alone() -> None:
    cells = random_cells(30, 50, seed=5)
    whole = pair_sets(find_cooccurrence(cells.molecules).pairs)
    chosen = np.array([17, 3, 4, 29])
    some = Molecules(cells.xyz, cells.gene, cells.indptr, 12, cells=chosen)
    assert pair_sets(find_cooccurrence(some).pairs) == [whole[cell] for cell in chosen]
    labels = communities(some)[0]
    for cell, at in enumerate(cells.cells):
        assert (labels[at] >= 0).all() == (cell in chosen)


def test_modularity_is_on_par_with_python_louvain() -> None:
    import community
    import networkx as nx

    cells = random_cells(60, 90, seed=7)
    labels = communities(cells.molecules)[0]
    ours, theirs = [], []
    for at in cells.cells:
        n = at.stop - at.start
        graph = nx.Graph()
        graph.add_nodes_from(range(n))
        graph.add_edges_from(cKDTree(cells.xyz[at, :2].astype(float)).query_pairs(5.0))
        reference = community.best_partition(graph, random_state=1)
        theirs.append(community.modularity(reference, graph))
        ours.append(community.modularity(dict(enumerate(labels[at].tolist())), graph))
    assert np.mean(ours) > 0.2
    assert np.mean(ours) >= np.mean(theirs) - 0.003


def test_two_cliques_joined_by_one_edge_are_two_communities() -> None:
    # 0-1-2 and 3-4-5 are triangles; 2-3 is 4.9 um long.
    xy = np.array([[0, 0], [1, 0], [2, 0.5], [6.9, 0.5], [8, 0], [9, 0]], np.float32)
    labels = communities(Molecules(xy, np.arange(6), np.array([0, 6]), 6))[0]
    assert labels[0] == labels[1] == labels[2] != labels[3]
    assert labels[3] == labels[4] == labels[5]


def test_cells_without_links_and_without_transcripts() -> None:
    xy = np.array([[0, 0], [10, 0], [20, 0]], np.float32)
    labels = communities(Molecules(xy, np.zeros(3, np.int32), np.array([0, 0, 3, 3]), 1))[0]
    assert sorted(labels.tolist()) == [0, 1, 2]
    empty = cooccurring_pairs(
        np.zeros((0, 2), np.float32), np.zeros(0, np.int32), np.array([0, 0]), n_genes=3
    )
    assert empty.indptr.tolist() == [0, 0]


def test_a_read_only_map_of_small_integers_is_taken_as_it_is() -> None:
    cells = random_cells(10, 40)
    expected = cooccurring_pairs(cells.xyz, cells.gene, cells.indptr, n_genes=12)
    gene = cells.gene.astype(np.uint16)
    for array in (cells.xyz, gene, cells.indptr):
        array.setflags(write=False)
    assert pair_sets(cooccurring_pairs(cells.xyz, gene, cells.indptr, n_genes=12)) == pair_sets(
        expected
    )


def test_bad_input_is_refused() -> None:
    xyz, gene, ends = np.zeros((3, 2), np.float32), np.zeros(3, np.int32), np.array([0, 3])
    with pytest.raises(SpatialFormerError, match="needs the z position"):
        cooccurring_pairs(xyz, gene, ends, n_genes=1, dims=3)
    with pytest.raises(SpatialFormerError, match="not finite"):
        cooccurring_pairs(xyz * np.float32(np.nan), gene, ends, n_genes=1)
    with pytest.raises(SpatialFormerError, match="outside the panel"):
        cooccurring_pairs(xyz, gene + 1, ends, n_genes=1)
    with pytest.raises(SpatialFormerError, match="row pointers"):
        cooccurring_pairs(xyz, gene, np.array([0, 2]), n_genes=1)
    with pytest.raises(SpatialFormerError, match="shape"):
        cooccurring_pairs(xyz[:2], gene, ends, n_genes=1)
    with pytest.raises(SpatialFormerError, match="radius"):
        cooccurring_pairs(xyz, gene, ends, n_genes=1, radius_um=0.0)
    with pytest.raises(SpatialFormerError, match="min_copies"):
        cooccurring_pairs(xyz, gene, ends, n_genes=1, min_copies=0)
    with pytest.raises(SpatialFormerError, match="compartments"):
        Molecules(xyz, gene, ends, 1, compartment=np.zeros(2, np.uint8))
    with pytest.raises(SpatialFormerError, match="chosen"):
        Molecules(xyz, gene, ends, 1, cells=np.array([1]))


def test_a_cell_of_a_whole_slide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_MAX_CELL", 40)
    with pytest.raises(SpatialFormerError, match="Cell 1 has 41 transcripts"):
        cooccurring_pairs(np.zeros((50, 2)), np.zeros(50, int), np.array([0, 9, 50]), n_genes=1)
