"""The training loader and the transcript graph against the published procedures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.bench import inputs, published
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.timing import best_of, compare
from spatialformer_core.errors import SpatialFormerError

LOADER_LIMIT = 500.0
GRAPH_LIMIT = 25.0
_BATCH, _WINDOW = 256, 32
_REFERENCE_BATCH = 32


def pair_loader(options: BenchOptions) -> list[Row]:
    """Time batches of pairs, drawing included, against rows of a table made dense."""
    from spatialformer_core.corpus import (
        Corpus,
        LoaderSettings,
        PairBatches,
        PairLoader,
        build_corpus,
        export_dataset,
        read_rows,
    )
    from spatialformer_core.vocabulary import build_vocabulary

    slide = inputs.made_up_slide(max(options.scaled(60_000), 500))
    with tempfile.TemporaryDirectory(prefix="spatialformer-bench-") as name:
        folder = Path(name)
        vocabulary = build_vocabulary([(slide.genes, slide.counts)], [slide.sample])
        corpus = Corpus.load(build_corpus([slide], vocabulary, folder / "corpus"))
        export_dataset(corpus, folder / "rows")
        rows = read_rows(folder / "rows")
        loader = PairLoader(corpus, "train", LoaderSettings(batch_size=_BATCH, window=_WINDOW))
        loader.batch(0)
        position = [_WINDOW]
        n_batches = max(options.scaled(2 * _WINDOW), 2)
        waste: list[float] = []

        def ours() -> None:
            steps = range(position[0], position[0] + n_batches)
            waste.extend(loader.batch(step).padding_waste for step in steps)
            # New windows every time: a window that is in memory already would flatter us.
            position[0] += -(-n_batches // _WINDOW) * _WINDOW

        mine = best_of(ours, options.rounds) / (n_batches * _BATCH)
        drawn = [PairBatches(corpus, "train", _REFERENCE_BATCH).batch(step) for step in range(3)]

        def reference() -> None:
            for batch in drawn:
                _collate(rows, batch)

        theirs = best_of(reference, options.rounds) / (len(drawn) * _REFERENCE_BATCH)
    return [
        against(
            "data",
            "pair_loader",
            (mine, theirs),
            reference_is="datasets rows, padded to 500 with a dense 500 x 500 matrix per pair, "
            "as published",
            limit=LOADER_LIMIT,
            unit="CPU-s per pair",
        ),
        bounded("data", "pair_loader_rate", 1e-3 / mine, "k pairs per CPU-s"),
        bounded("data", "pair_loader_padding", float(np.mean(waste)), "share", at_most=0.05),
    ]


def _collate(rows: Any, batch: Any) -> None:
    pairs = [
        (published_cell(rows[int(left)]), published_cell(rows[int(right)]))
        for left, right in zip(batch.left_cells, batch.right_cells, strict=True)
    ]
    published.collate(pairs, batch.label.tolist())


def published_cell(row: dict[str, Any]) -> published.StoredCell:
    """Return what a row of the table says of one cell."""
    return published.StoredCell(
        row["Full_Tokens"], row["Rows"], row["Cols"], tuple(int(n) for n in row["Shape"])
    )


def transcript_graph(options: BenchOptions) -> list[Row]:
    """Time the 3 um graph of transcripts against a tree, a networkx graph and its edge list."""
    from spatialformer_core.transcript_graph import transcript_graph as link

    xyz = inputs.molecules(options.scaled(6_000), seed=options.seed).xyz_um
    n = options.scaled(10_000)
    # A patch of tissue, not every n-th transcript: those would have fewer neighbours.
    corner = np.argsort(np.maximum(xyz[:, 0], xyz[:, 1]), kind="stable")[:n]
    patch = xyz[corner]
    edges: list[set[tuple[int, int]]] = []

    def reference() -> None:
        edges[:] = [published.transcript_edges(patch, 3.0)]

    mine, theirs = compare(lambda: link(xyz, radius_um=3.0), reference, rounds=options.rounds)
    own = link(patch, radius_um=3.0)
    left, right = own.graph.edges()
    found = {
        (min(a, b), max(a, b))
        for a, b in zip(own.order[left].tolist(), own.order[right].tolist(), strict=True)
    }
    if found != edges[0]:
        raise SpatialFormerError(
            "Ours and the reference disagree on the edges; a time would compare nothing.",
            where="bench",
        )
    return [
        against(
            "data",
            "transcript_graph",
            (mine / len(xyz), theirs / len(patch)),
            reference_is="KDTree.query_ball_point + networkx + edge list, as published",
            limit=GRAPH_LIMIT,
            unit="CPU-s per transcript",
        )
    ]
