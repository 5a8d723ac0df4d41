"""The corpus report against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from spatialformer_core.corpus import corpus_report, write_report


def test_groups_are_tissue_and_condition(large):
    report = corpus_report(large)
    names = [(g["tissue"], g["condition"], g["slides"], g["cells"]) for g in report["groups"]]
    assert names == [
        ("Lung", "Disease", 1, 900),
        ("Lung", "Healthy", 2, 3000),
        ("all", "all", 3, 3900),
    ]
    assert report["simulated"] is True
    assert report["groups"][2]["donors"] == 3


def test_figures_match_plain_loops(large):
    group = corpus_report(large)["groups"][0]
    shard = large.shards[1]
    lengths = np.diff(shard.indptr)
    assert group["genes"] == len(set(shard.tokens.tolist()))
    assert group["transcripts"] == int(shard.counts.astype(int).sum())
    assert group["genes_per_cell_p50"] == np.median(lengths)
    assert group["pair_length_mean"] == round(float(11 + 2 * lengths.mean()), 3)
    for radius in (20, 30, 40):
        pairs = cKDTree(np.asarray(shard.xy_um, float)).query_pairs(radius)
        assert group[f"degree_{radius}_um_mean"] == round(2 * len(pairs) / 900, 3)
    together, others = [], []
    for cell in range(900):
        found = slice(shard.pair_indptr[cell], shard.pair_indptr[cell + 1])
        inside = {*shard.pair_left[found].tolist(), *shard.pair_right[found].tolist()}
        if inside:
            for place in range(lengths[cell]):
                (together if place in inside else others).append(place / (lengths[cell] - 1))
    assert group["rank_cooccurring"] == round(float(np.mean(together)), 4)
    assert group["rank_other"] == round(float(np.mean(others)), 4)


def test_files_hold_the_same_and_name_unknown_genes(large, tmp_path):
    report = corpus_report(large)
    report["slides"][0] |= {"unknown_genes": ["FOO"], "unknown_counts": 50, "total_counts": 100}
    out = write_report(report, tmp_path / "r")
    assert json.loads((out / "report.json").read_text()) == report
    assert pq.read_table(out / "groups.parquet").to_pylist() == report["groups"]
    text = (out / "report.md").read_text()
    assert "Unknown genes: FOO." in text
    assert "| one | d-one | 2,400 | 1 | 50.00% | 0 |" in text
    assert "simulated" in text
