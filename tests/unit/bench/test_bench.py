"""The benchmark measures what it says, and the two sides of a ratio do the same work."""

from __future__ import annotations

import json
import math
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spatialformer_core.bench import BenchOptions, inputs, published, run
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.timing import best_of, compare, cpu_seconds, measured
from spatialformer_core.cli import app
from spatialformer_core.errors import SpatialFormerError

SMALL = BenchOptions(scale=0.01, rounds=1)


def test_a_ratio_above_one_means_that_ours_is_faster() -> None:
    row = against("data", "x", (0.5, 2.0), reference_is="r", limit=3.0)
    assert row.ratio == 4.0
    assert row.passed
    assert not against("data", "x", (0.5, 1.0), reference_is="r", limit=3.0).passed
    assert math.isinf(against("data", "x", (0.0, 1.0), reference_is="r", limit=3.0).ratio or 0)


@pytest.mark.parametrize(
    ("value", "bound", "passed"),
    [
        (1.0, {"at_most": 1.0}, True),
        (1.1, {"at_most": 1.0}, False),
        (2.9, {"at_least": 3.0}, False),
        (3.0, {"at_least": 3.0}, True),
        (3.0, {}, None),
    ],
)
def test_bounds(value: float, bound: dict[str, float], passed: bool | None) -> None:
    row = bounded("data", "x", value, "s", **bound)
    assert row.passed is passed
    assert row.ratio is None


def burn(n: int) -> float:
    return float(np.sqrt(np.arange(n, dtype=np.float64)).sum())


def test_cpu_time_is_of_work_not_of_waiting() -> None:
    import time

    assert cpu_seconds(lambda: time.sleep(0.2)) < 0.1
    assert best_of(lambda: burn(3_000_000)) > 0.0


def test_compare_does_not_count_the_first_call_of_ours() -> None:
    calls: list[str] = []
    compare(lambda: calls.append("ours"), lambda: calls.append("theirs"), rounds=2)
    assert calls == ["ours", "ours", "theirs", "ours", "theirs"]


def test_peak_memory_is_seen_even_if_it_is_freed_again() -> None:
    # Pages of its own: malloc may hand out what earlier tests left resident.
    with measured(0.001) as used, mmap.mmap(-1, 40_000_000) as block:
        for _ in range(100):
            block[::4096] = bytes(len(range(0, len(block), 4096)))
            time.sleep(0.001)
    assert used.peak_bytes > 30_000_000
    assert used.wall_s > 0


def test_small_run_gives_every_row_of_the_table() -> None:
    rows = {row.name: row for row in run("data", SMALL)}
    expected = {"cooccurrence", "tokenise_343", "tokenise_5000", "cell_graph", "pair_sampling"}
    expected |= {"pair_loader", "transcript_graph"}
    assert expected <= set(rows)
    for name in expected:
        assert rows[name].ratio is not None
        assert rows[name].ours > 0
    assert Row.model_validate(json.loads(rows["cooccurrence"].model_dump_json()))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SpatialFormerError, match="no figure nonsense"):
        next(run("data", SMALL, only=("nonsense",)))
    with pytest.raises(SpatialFormerError, match="no stage"):
        next(run("moon", SMALL))  # type: ignore[arg-type]


def test_verb_prints_one_json_object_last() -> None:
    done = CliRunner().invoke(
        app, ["bench", "--only", "cell_graph", "--scale", "0.002", "--rounds", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout.strip().splitlines()[-1])["rows"]
    assert rows[0]["name"] == "cell_graph"
    assert set(rows[0]) == {
        *("stage", "name", "ours", "reference", "ratio", "unit", "reference_is", "limit", "passed")
    }


def test_louvain_reference_finds_two_clusters() -> None:
    xy = np.array([[0, 0], [0, 1], [1, 0], [50, 0], [50, 1], [51, 0]], np.float32)
    graph = published.transcript_graph_of_cell(xy, 5.0)
    labels = published.louvain_labels(graph)
    assert len(set(labels[:3])) == 1
    assert len(set(labels)) == 2
    assert published.modularity(graph, labels) == pytest.approx(0.5)
    gene = np.array([0, 0, 1, 1, 1, 0], np.int32)
    assert published.pairs_of_cell(gene, labels, min_copies=1) == {(0, 1)}
    assert published.pairs_of_cell(gene, labels, min_copies=3) == set()


def test_collator_of_the_reference_is_dense_and_padded() -> None:
    left = published.StoredCell([7, 8, 9], [0, 2], [2, 0], (3, 3))
    right = published.StoredCell([5, 6], [0, 1], [1, 0], (2, 2))
    tokens, kinds, mask, together, label = published.collate([(left, right)], [1], length=7)
    assert tokens.tolist() == [[7, 8, 9, 5, 6, 0, 0]]
    assert kinds.tolist() == [[1, 1, 1, 2, 2, 0, 0]]
    assert mask.sum() == 5
    assert together[0].nonzero().tolist() == [[0, 2], [2, 0], [3, 4], [4, 3]]
    assert label.tolist() == [1]
    tokens, _, _, together, _ = published.collate([(left, right)], [0], length=4)
    assert tokens.tolist() == [[7, 8, 9, 5]]
    assert together.shape == (1, 4, 4)


def test_large_bundle_is_read_by_ingest(tmp_path) -> None:
    from spatialformer_core.bench.large_bundle import LargeBundle
    from spatialformer_core.io import read_source

    source = LargeBundle(150, 20_000, n_genes=30).write(tmp_path / "large")
    data = read_source(source)
    assert len(data.cells.cell_ids) == 150
    assert data.simulated
    assert data.transcripts.n == 20_000
    assert 0.03 < np.mean(np.asarray(data.transcripts.cell) < 0) < 0.1


def test_ingest_row_measures_the_command(tmp_path) -> None:
    from spatialformer_core.bench.ingest import ingest_row
    from spatialformer_core.bench.large_bundle import LargeBundle

    source = LargeBundle(150, 20_000, n_genes=30).write(tmp_path / "large")
    rows = {row.name: row for row in ingest_row(source, "x", at_most_s=600.0, at_most_gb=6.0)}
    assert rows["ingest_x"].passed
    assert 0.1 < rows["ingest_x_memory"].ours < 6.0
    assert rows["ingest_x_transcripts"].ours == pytest.approx(0.02)
    with pytest.raises(SpatialFormerError, match="ended with code 2"):
        ingest_row(tmp_path / "nothing", "x", at_most_s=1.0, at_most_gb=1.0)


def test_inputs_have_the_sizes_that_were_asked_for() -> None:
    tissue = inputs.molecules(300, per_cell=120, seed=1)
    assert len(tissue.indptr) == 301
    assert tissue.indptr[-1] == len(tissue.gene) == len(tissue.xyz_um)
    assert 90 < np.diff(tissue.indptr).mean() < 150
    assert tissue.gene.max() < 343
    matrix = inputs.counts(500, 343, seed=1)
    assert 50 < np.diff(matrix.indptr).mean() < 90
    assert matrix.has_canonical_format
    assert matrix.data.min() >= 1
    assert inputs.clumpy_points(1_000).shape == (1_000, 2)


def test_an_interpreter_without_the_published_package_is_said() -> None:
    import sys

    options = SMALL.model_copy(update={"peer_python": Path(sys.executable)})
    with pytest.raises(SpatialFormerError, match="published package could not be timed"):
        list(run("data", options, only=("tokenise_343",)))


@pytest.mark.peer
def test_the_published_tokeniser_is_timed() -> None:
    python = os.environ.get("SPATIALFORMER_PEER_PYTHON")
    if not python:
        pytest.skip("SPATIALFORMER_PEER_PYTHON names no environment with the published package")
    options = SMALL.model_copy(update={"peer_python": Path(python)})
    (row,) = run("data", options, only=("tokenise_343",))
    assert "0.1.8" in row.reference_is
    assert row.reference is not None
    assert row.reference > 1e-5
