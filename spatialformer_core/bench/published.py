"""The published procedures, as references for speed; none of this is used elsewhere.

Written anew from the description of what the published package does, without its faults where
they would change the result (labels follow the transcripts, ties follow the vocabulary), so that
both sides can be checked to give the same answer before they are timed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.arrays import DoubleArray, FloatArray, IntArray, LongArray
from spatialformer_core.errors import SpatialFormerError

PYTHON_LOUVAIN = "cKDTree + networkx + python-louvain, per cell"


def require_louvain() -> Any:
    """Return python-louvain.

    Raises
    ------
    SpatialFormerError
        If it is not installed.
    """
    try:
        import community
    except ImportError as error:
        raise SpatialFormerError(
            "The reference python-louvain is not installed.",
            where="bench",
            fix="pip install -e '.[dev]'",
        ) from error
    return community


def transcript_graph_of_cell(xyz_um: FloatArray, radius_um: float) -> Any:
    """Return the networkx graph of transcripts at most ``radius_um`` apart."""
    import networkx as nx
    from scipy.spatial import cKDTree

    graph = nx.Graph()
    graph.add_nodes_from(range(len(xyz_um)))
    graph.add_edges_from(cKDTree(xyz_um).query_pairs(radius_um, output_type="ndarray").tolist())
    return graph


def louvain_labels(graph: Any, seed: int | None = 0) -> IntArray:
    """Return the community of each node as python-louvain finds it, shape ``(n,)``."""
    found = require_louvain().best_partition(graph, random_state=seed)
    return np.array([found[node] for node in range(graph.number_of_nodes())], np.int32)


def modularity(graph: Any, labels: IntArray) -> float:
    """Return the modularity of a partition as python-louvain computes it."""
    value = require_louvain().modularity({i: int(one) for i, one in enumerate(labels)}, graph)
    return float(value)


def pairs_of_cell(gene: IntArray, labels: IntArray, min_copies: int = 3) -> set[tuple[int, int]]:
    """Return the gene pairs with enough copies in one community."""
    found: set[tuple[int, int]] = set()
    for one in np.unique(labels):
        copies = Counter(gene[labels == one].tolist())
        enough = sorted(name for name, n in copies.items() if n >= min_copies)
        found.update((a, b) for i, a in enumerate(enough) for b in enough[i + 1 :])
    return found


def transcript_edges(xyz_um: FloatArray, radius_um: float) -> set[tuple[int, int]]:
    """Return the edges of the transcript graph, smaller index first."""
    import networkx as nx
    from scipy.spatial import KDTree

    tree = KDTree(xyz_um)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(xyz_um)))
    for i, place in enumerate(xyz_um):
        for j in tree.query_ball_point(place, radius_um):
            if i < j:
                graph.add_edge(i, j)
    return {(min(a, b), max(a, b)) for a, b in graph.edges}


def tokenise_cell(
    dense: DoubleArray, medians: dict[str, float], ids: dict[str, int], genes: NDArray[np.str_]
) -> list[int]:
    """Rank one cell's genes: a dense row, and the medians collected anew for every cell."""
    scale = np.array([medians.get(gene, 1.0) for gene in genes])
    ranked = np.argsort(-(dense / scale), kind="stable")
    absent = np.flatnonzero(dense == 0)
    ranked = ranked[~np.isin(ranked, absent)]
    return [ids[gene] for gene in genes[ranked] if gene in ids]


def neighbours_by_tree(xy_um: DoubleArray, radius_um: float) -> tuple[LongArray, IntArray]:
    """Return the CSR graph that ``scipy.spatial.cKDTree`` gives."""
    import scipy.sparse as sp
    from scipy.spatial import cKDTree

    edges = cKDTree(xy_um).query_pairs(radius_um, output_type="ndarray")
    both = np.concatenate([edges, edges[:, ::-1]])
    n = len(xy_um)
    graph = sp.csr_matrix((np.ones(len(both), np.bool_), (both[:, 0], both[:, 1])), shape=(n, n))
    graph.sort_indices()
    return graph.indptr.astype(np.int64), graph.indices.astype(np.int32)


def pairs_of_anchor(
    neighbours: IntArray, anchor: int, n_cells: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Return all neighbours of one cell and as many others, drawn from a dense row of the slide."""
    row = np.zeros(n_cells, np.int8)
    row[neighbours] = 1
    row[anchor] = 1
    others = [int(cell) for cell in np.flatnonzero(row == 0)]
    chosen = rng.choice(len(others), len(neighbours), replace=False)
    near = [(anchor, int(cell), 1) for cell in neighbours]
    return near + [(anchor, others[int(i)], 0) for i in chosen]


class StoredCell(NamedTuple):
    """One cell as the published table holds it: tokens, and a matrix over them as COO lists."""

    tokens: list[int]
    rows: list[int]
    columns: list[int]
    shape: tuple[int, ...]


def collate(
    pairs: list[tuple[StoredCell, StoredCell]], labels: list[int], length: int = 500
) -> tuple[Any, ...]:
    """Pad pairs to a fixed length, each with a dense co-occurrence matrix.

    Returns
    -------
    tuple of torch.Tensor
        Tokens, token types and mask ``(n, length)``, matrices ``(n, length, length)``, labels.
    """
    import torch

    items = [_padded(left, right, length) for left, right in pairs]
    return (*(torch.stack(parts) for parts in zip(*items, strict=True)), torch.tensor(labels))


def _padded(left: StoredCell, right: StoredCell, length: int) -> tuple[Any, ...]:
    import torch

    tokens = (left.tokens + right.tokens)[:length]
    n_left, padding = min(len(left.tokens), length), [0] * (length - len(tokens))
    kinds = [1] * n_left + [2] * (len(tokens) - n_left)
    together = np.zeros((length, length), np.float32)
    for cell, shift in ((left, 0), (right, n_left)):
        own = _dense(cell)[: length - shift, : length - shift]
        together[shift : shift + len(own), shift : shift + len(own)] = own
    return (
        torch.tensor(tokens + padding),
        torch.tensor(kinds + padding),
        torch.tensor([True] * len(tokens) + [False] * len(padding)),
        torch.from_numpy(together),
    )


def _dense(cell: StoredCell) -> FloatArray:
    from scipy.sparse import coo_matrix

    ones = np.ones(len(cell.rows), np.float32)
    matrix = coo_matrix((ones, (cell.rows, cell.columns)), shape=cell.shape)
    return np.asarray(matrix.toarray(), np.float32)
