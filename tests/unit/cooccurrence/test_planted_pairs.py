"""Simulated tissue with planted pairs: those are recovered, equally expressed decoys are not."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.cooccurrence import Molecules, permuted_pairs
from spatialformer_core.progress import never, silent
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.settings import SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide


@pytest.fixture(scope="module")
def null():
    """Observed and permuted co-occurrence of every pair of genes on a small slide."""
    slide = simulate_slide(SimulationSettings(seed=5, cells=2500), silent, never)
    calls, n_genes = slide.transcripts, load_panel().n_genes
    used = (calls.cell >= 0) & (calls.qv >= 20.0) & (calls.feature < n_genes)
    order = np.flatnonzero(used)[np.argsort(calls.cell[used], kind="stable")]
    indptr = np.zeros(slide.n_cells + 1, np.int64)
    np.cumsum(np.bincount(calls.cell[order], minlength=slide.n_cells), out=indptr[1:])
    molecules = Molecules(calls.xyz_um[order], calls.feature[order], indptr, n_genes)
    return permuted_pairs(molecules, n_permutations=20, seed=0)


def observed_over_expected(null, genes):
    left, right = sorted(load_panel().index(gene) for gene in genes)
    (row,) = np.flatnonzero((null.left == left) & (null.right == right))
    return null.observed[row] / max(null.expected[row], 1.0), null.observed[row]


@pytest.mark.parametrize("pair", planted.COLOCALISED_PAIRS, ids=lambda p: "-".join(p.genes))
def test_planted_pairs_stand_out_from_their_counts(null, pair):
    ratio, observed = observed_over_expected(null, pair.genes)
    assert observed >= 5
    assert ratio > 1.4


@pytest.mark.parametrize("pair", planted.COLOCALISATION_DECOYS, ids=lambda p: "-".join(p.genes))
def test_decoys_follow_from_their_counts(null, pair):
    ratio, _ = observed_over_expected(null, pair.genes)
    assert ratio < 1.15
