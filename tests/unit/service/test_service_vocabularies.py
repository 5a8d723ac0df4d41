"""Coverage of a slide by a vocabulary: service and command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from spatialformer_core.cli import app
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.vocabularies import find_vocabulary, slide_coverage
from spatialformer_core.vocabulary import GeneNames, Vocabulary, load_published


def vocabulary(path):
    made = Vocabulary((), ("GENE1", "MARK"), np.ones(2, np.float32))
    made.save(path)
    return made


def test_a_slide_is_covered_by_genes_and_by_counts(services, tmp_path):
    slide = services.slide("tiny")
    path = tmp_path / "v.json"
    made = vocabulary(path)
    report = slide_coverage(slide, made, GeneNames(aliases={"GENE0": "GENE1"}))
    assert report.merged == ("GENE1",)
    counts = np.asarray(slide.counts[slide.passes_qc].sum(0)).ravel()
    index = {gene: i for i, gene in enumerate(slide.genes)}
    assert report.count_shares["alias"] == pytest.approx(counts[index["GENE0"]] / counts.sum())
    assert len(report.genes["unknown"]) == 7
    assert find_vocabulary(services.home, str(path)) == made
    assert find_vocabulary(services.home, "published") == load_published().vocabulary
    with pytest.raises(SpatialFormerError, match="Say 'published'"):
        find_vocabulary(services.home, "nowhere")


def test_the_verb_prints_a_table_and_json(services, tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(services.home))
    path = tmp_path / "v.json"
    vocabulary(path)
    runner = CliRunner()
    shown = runner.invoke(app, ["vocabulary", "coverage", "tiny", "--vocabulary", str(path)])
    assert shown.exit_code == 0
    assert "20.0% of 10 genes" in shown.stdout
    assert "unknown: GENE0, GENE2" in shown.stdout
    called = ["vocabulary", "coverage", "tiny", "--json"]
    found = json.loads(runner.invoke(app, called).stdout)
    assert found["fraction"] == 0.0
    assert found["vocabulary"] == "published"
