"""The published procedures, as references for speed; none of this is used elsewhere.

Written anew from the description of what the published package does, without its faults where
they would change the result (labels follow the transcripts, ties follow the vocabulary), so that
both sides can be checked to give the same answer before they are timed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

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
            fix="pip install 'spatialformer-studio[dev]'",
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


def collate(
    cells: list[tuple[list[int], list[tuple[int, int]]]], length: int = 500
) -> tuple[IntArray, FloatArray]:
    """Pad pairs to a fixed length with a dense co-occurrence matrix each.

    Parameters
    ----------
    cells
        Per pair its tokens and the co-occurring positions.

    Returns
    -------
    tuple
        Tokens ``(n, length)`` and matrices ``(n, length, length)``.
    """
    tokens = np.zeros((len(cells), length), np.int32)
    together = np.zeros((len(cells), length, length), np.float32)
    for row, (genes, positions) in enumerate(cells):
        kept = genes[:length]
        tokens[row, : len(kept)] = kept
        for i, j in positions:
            if i < length and j < length:
                together[row, i, j] = together[row, j, i] = 1.0
    return tokens, together
