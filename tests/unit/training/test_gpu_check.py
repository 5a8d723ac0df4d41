"""The GPU script is ready: all of it runs on a CPU, small."""

from __future__ import annotations

import pytest

from spatialformer_core import files
from spatialformer_core.bench import inputs
from training import gpu_check


def test_made_up_pairs_are_among_the_genes_of_their_cell():
    slide = inputs.made_up_slide(200)
    pairs = slide.gene_pairs
    assert pairs is not None
    assert pairs.n_cells == 200
    for cell in range(200):
        expressed = set(slide.counts[[cell]].indices.tolist())
        at = slice(pairs.indptr[cell], pairs.indptr[cell + 1])
        for left, right in zip(pairs.left[at], pairs.right[at], strict=True):
            assert left < right
            assert {int(left), int(right)} <= expressed


def test_report_says_what_failed(tmp_path):
    checks = [
        gpu_check.Check("a", 1.0, "s", "<= 2", passed=True),
        gpu_check.Check("b", 3.0, "s", "<= 2", passed=False),
    ]
    gpu_check.report(gpu_check.Settings.of("cpu"), checks, tmp_path)
    assert "| b | 3 s | <= 2 | NO |" in (tmp_path / "gpu_check.md").read_text()
    assert files.read_json(tmp_path / "gpu_check.json")["checks"][0]["passed"] is True


@pytest.mark.slow
def test_every_check_runs_on_a_cpu():
    checks = gpu_check.run(gpu_check.Settings.of("cpu"))
    assert not [check.name for check in checks if check.passed is False]
    assert any(check.name == "5,000 such pairs" for check in checks)


@pytest.mark.gpu
def test_every_check_passes_on_a_gpu():
    checks = gpu_check.run(gpu_check.Settings.of("cuda"))
    assert not [check.name for check in checks if check.passed is False]
