"""Kernels on plain arrays against scipy, python-louvain and the published procedures."""

from __future__ import annotations

import numpy as np

from spatialformer_core.bench import inputs, peer, published
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.timing import best_of, best_wall, compare, measured
from spatialformer_core.errors import SpatialFormerError

LOUVAIN_LIMIT = 200.0
TOKENISE_LIMITS = {343: 30.0, 5_000: 340.0}
WHOLE_SLIDE_CELLS = 700_000


def cooccurrence(options: BenchOptions) -> list[Row]:
    """Time co-occurrence per cell, and compare the quality of the partitions."""
    from spatialformer_core.cooccurrence import communities, find_cooccurrence

    tissue = inputs.molecules(options.scaled(2_000), seed=options.seed)
    chosen = np.random.default_rng(options.seed).choice(
        len(tissue.indptr) - 1, options.scaled(150), replace=False
    )
    cells = [inputs.cell_of(tissue, int(cell)) for cell in chosen]

    def reference() -> None:
        for xyz, gene in cells:
            graph = published.transcript_graph_of_cell(xyz[:, :2], 5.0)
            published.pairs_of_cell(gene, published.louvain_labels(graph))

    def ours() -> None:
        find_cooccurrence(tissue)

    mine, theirs = compare(ours, reference, rounds=options.rounds)
    per_cell = (mine / (len(tissue.indptr) - 1), theirs / len(cells))
    (labels,) = communities(tissue)
    quality = []
    for cell in chosen:
        at = slice(tissue.indptr[cell], tissue.indptr[cell + 1])
        graph = published.transcript_graph_of_cell(tissue.xyz_um[at, :2], 5.0)
        other = published.modularity(graph, published.louvain_labels(graph))
        quality.append((published.modularity(graph, labels[at]), other))
    own, other = np.mean(quality, axis=0)
    return [
        against(
            "data",
            "cooccurrence",
            per_cell,
            reference_is=published.PYTHON_LOUVAIN,
            limit=LOUVAIN_LIMIT,
            unit="CPU-s per cell",
        ),
        bounded(
            "data",
            "cooccurrence_modularity_difference",
            float(own - other),
            "ours - python-louvain",
            at_least=-0.002,
        ),
    ]


def cooccurrence_whole(options: BenchOptions) -> list[Row]:
    """Run the production entry over 40 M transcripts."""
    from spatialformer_core.cooccurrence import find_cooccurrence

    tissue = inputs.molecules(options.scaled(333_000), seed=options.seed)
    warm = inputs.molecules(200, seed=options.seed)
    find_cooccurrence(warm)
    held = tissue.xyz_um.nbytes + tissue.gene.nbytes + tissue.indptr.nbytes
    with measured() as used:
        find_cooccurrence(tissue)
    return [
        bounded("data", "cooccurrence_40m_wall", used.wall_s, "s", at_most=120.0),
        bounded("data", "cooccurrence_40m_cpu", used.cpu_s, "CPU-s"),
        bounded(
            "data",
            "cooccurrence_40m_memory",
            (used.peak_bytes + held) / 1e9,
            "GB with its input",
            at_most=2.0,
        ),
    ]


def tokenise(options: BenchOptions, n_genes: int) -> list[Row]:
    """Time ranking cells against one dense row at a time."""
    from spatialformer_core.vocabulary import Vocabulary
    from spatialformer_core.vocabulary import tokenise as tokenise_counts

    matrix = inputs.counts(options.scaled(100_000), n_genes, seed=options.seed)
    rng = np.random.default_rng(options.seed)
    genes = tuple(f"G{i:05d}" for i in range(n_genes))
    vocabulary = Vocabulary((), genes, rng.uniform(0.5, 3, n_genes).astype(np.float32))
    ids = vocabulary.gene_ids(genes)
    meta = np.zeros(4, np.int32)
    n = options.scaled(200)
    dense = matrix[:n].toarray().astype(np.float64)
    names = np.array(genes)
    medians = dict(zip(genes, vocabulary.gene_medians.tolist(), strict=True))
    table = dict(zip(genes, ids.tolist(), strict=True))
    rows: list[list[int]] = []

    def reference() -> None:
        rows[:] = [published.tokenise_cell(row, medians, table, names) for row in dense]

    mine, theirs = compare(
        lambda: tokenise_counts(matrix, ids, vocabulary, meta), reference, rounds=options.rounds
    )
    tokens, _ = tokenise_counts(matrix[:n], ids, vocabulary, meta)
    if rows != [tokens.row(cell).tolist() for cell in range(n)]:
        raise _disagree("tokens")
    per_cell, reference_is = theirs / n, "dense row and Python loop per cell, as published"
    if options.peer_python is not None:
        per_cell = peer.tokenise_seconds(
            options.peer_python, dense, genes, np.asarray(vocabulary.gene_medians)
        )
        reference_is = "GeneTokenizer of spatialformer 0.1.8 itself"
    return [
        against(
            "data",
            f"tokenise_{n_genes}",
            (mine / matrix.shape[0], per_cell),
            reference_is=reference_is,
            limit=TOKENISE_LIMITS[n_genes],
            unit="CPU-s per cell",
        )
    ]


def cell_graph(options: BenchOptions) -> list[Row]:
    """Time the 30 um graph of a whole slide against scipy's tree, edges compared."""
    from spatialformer_core.cell_graph import radius_graph

    xy = inputs.clumpy_points(options.scaled(WHOLE_SLIDE_CELLS), seed=options.seed)
    radius_graph(xy[:1_000], 30.0)
    with measured(0.002) as used:
        graph = radius_graph(xy, 30.0)
    times = compare(
        lambda: radius_graph(xy, 30.0),
        lambda: published.neighbours_by_tree(xy, 30.0),
        rounds=options.rounds,
    )
    wall_s = best_wall(lambda: radius_graph(xy, 30.0), options.rounds)
    indptr, indices = published.neighbours_by_tree(xy, 30.0)
    if not (np.array_equal(graph.indptr, indptr) and np.array_equal(graph.indices, indices)):
        raise _disagree("edges")
    return [
        against(
            "data",
            "cell_graph",
            times,
            reference_is="scipy cKDTree.query_pairs to CSR, equal edges",
            limit=None,
        ),
        bounded("data", "cell_graph_700k", wall_s, "s on idle cores", at_most=0.5),
        bounded("data", "cell_graph_700k_memory", used.peak_bytes / 1e6, "MB", at_most=100.0),
    ]


def pair_sampling(options: BenchOptions) -> list[Row]:
    """Time labelled pairs of cells against a dense row per anchor."""
    from spatialformer_core.cell_graph import PairSampler, radius_graph

    xy = inputs.clumpy_points(options.scaled(200_000), seed=options.seed)
    graph = radius_graph(xy, 30.0)
    sampler = PairSampler(graph, xy, np.ones(len(xy), np.bool_))
    n = options.scaled(2_000_000)
    sampler.sample(1_000, seed=options.seed)
    ours = best_of(lambda: sampler.sample(n, seed=options.seed), options.rounds) / n
    rng = np.random.default_rng(options.seed)
    anchors = rng.choice(np.flatnonzero(graph.degree), options.scaled(40)).tolist()
    made = [0]

    def reference() -> None:
        made[0] = sum(
            len(published.pairs_of_anchor(graph.neighbors(cell), cell, len(xy), rng))
            for cell in anchors
        )

    theirs = best_of(reference, options.rounds) / made[0]
    return [
        against(
            "data",
            "pair_sampling",
            (ours, theirs),
            reference_is="dense row of the slide per anchor, easy negatives only, as published",
            limit=None,
            unit="CPU-s per labelled pair",
        ),
        bounded("data", "pair_sampling_rate", 1e-6 / ours, "M pairs per CPU-s", at_least=3.0),
    ]


def _disagree(what: str) -> SpatialFormerError:
    return SpatialFormerError(
        f"Ours and the reference disagree on the {what}; a time would compare nothing.",
        where="bench",
    )
