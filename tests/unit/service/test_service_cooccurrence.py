"""Co-occurrence of the tiny slide, where every cell's transcripts are one community."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from spatialformer_core import files
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.service.cooccurrence import CooccurrenceSettings, write_cooccurrence
from spatialformer_core.slides import Slide

# A radius beyond the cell links all of its transcripts to each other.
WIDE = CooccurrenceSettings(radius_um=12.0, permutations=0)
EXPECTED = {
    ("GENE0", "GENE1"): 50,
    ("GENE0", "GENE2"): 50,
    ("GENE1", "GENE2"): 50,
    ("GENE0", "MARK"): 16,
    ("GENE1", "MARK"): 16,
    ("GENE2", "MARK"): 16,
}


def read(path):
    rows = pq.read_table(path).to_pylist()
    return {(row["gene_left"], row["gene_right"]): row for row in rows}


def test_pairs_are_counted_in_the_cells_that_pass_qc(services, tmp_path):
    report = write_cooccurrence(services.slide("tiny"), WIDE, tmp_path)
    assert (report.cells, report.cells_with_pairs, report.gene_pairs) == (50, 50, 6)
    found = {pair: row["cells"] for pair, row in read(tmp_path / "pairs.parquet").items()}
    assert found == EXPECTED
    cells = pq.read_table(tmp_path / "cells.parquet").to_pylist()
    assert len(cells) == 50 * 3 + 16 * 3
    with_mark = {row["cell_id"] for row in cells if row["gene_right"] == "MARK"}
    assert with_mark == {f"cell-{i}" for i in range(10, 60) if i % 3 == 0}
    facts = files.read_json(tmp_path / "cooccurrence.json")
    assert facts["settings"]["radius_um"] == 12.0
    assert facts["simulated"] is False


def test_in_one_community_the_counts_alone_make_every_pair(services, tmp_path):
    settings = WIDE.model_copy(update={"permutations": 5})
    report = write_cooccurrence(services.slide("tiny"), settings, tmp_path)
    rows = read(tmp_path / "pairs.parquet")
    assert {pair: row["cells"] for pair, row in rows.items()} == EXPECTED
    assert {pair: row["expected"] for pair, row in rows.items()} == pytest.approx(EXPECTED)
    assert all(row["z"] is None for row in report.top)


def test_more_copies_than_a_gene_has(services, tmp_path):
    settings = WIDE.model_copy(update={"min_copies": 5})
    report = write_cooccurrence(services.slide("tiny"), settings, tmp_path)
    assert {pair: row["cells"] for pair, row in read(tmp_path / "pairs.parquet").items()} == {
        ("GENE0", "GENE1"): 50
    }
    assert report.gene_pairs == 1


def test_depth_that_is_not_there_and_cancel(services, tmp_path):
    slide = services.slide("tiny")
    with pytest.raises(SpatialFormerError, match="z position"):
        write_cooccurrence(slide, CooccurrenceSettings(dims=3), tmp_path)
    with pytest.raises(Cancelled):
        write_cooccurrence(slide, WIDE, tmp_path, cancel=lambda: True)
    assert list(tmp_path.glob("*.parquet")) == []


def test_searches_vote_and_the_facts_say_how(services, tmp_path):
    settings = WIDE.model_copy(update={"n_seeds": 5, "seed": 3})
    write_cooccurrence(services.slide("tiny"), settings, tmp_path)
    assert {
        pair: row["cells"] for pair, row in read(tmp_path / "pairs.parquet").items()
    } == EXPECTED
    shares = pq.read_table(tmp_path / "cells.parquet").column("share").to_pylist()
    assert set(shares) == {1.0}
    facts = files.read_json(tmp_path / "cooccurrence.json")
    told = {key: facts["settings"][key] for key in ("dims", "radius_um", "n_seeds", "seed")}
    assert told == {"dims": 2, "radius_um": 12.0, "n_seeds": 5, "seed": 3}
    assert facts["agreement"] == 1.0


def test_nuclei_give_a_second_comparison(services, tmp_path, monkeypatch):
    slide = services.slide("tiny")
    found = slide.transcripts_by_cell()
    over = np.arange(len(found.gene)) % 2 == 0
    monkeypatch.setattr(
        Slide,
        "transcripts_by_cell",
        lambda self: dataclasses.replace(found, overlaps_nucleus=over),
    )
    write_cooccurrence(slide, WIDE.model_copy(update={"permutations": 5}), tmp_path)
    rows = read(tmp_path / "pairs.parquet")
    # In one community every permutation gives every pair, wherever genes may go.
    assert {pair: row["expected_within"] for pair, row in rows.items()} == pytest.approx(EXPECTED)
    assert all(np.isnan(row["z_within"]) for row in rows.values())
