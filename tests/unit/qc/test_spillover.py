"""Spillover against planted truth: leaks at borders are flagged, induction by contact is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse
from scipy.spatial import cKDTree

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import never, silent
from spatialformer_core.qc import (
    SpilloverCells,
    SpilloverSettings,
    counts_within,
    depth_in_cells,
    spillover_table,
)
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import CELL_TYPES, load_panel
from spatialformer_core.simulate.settings import SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide

SETTINGS = SpilloverSettings()
SOURCE, TARGET, OTHER = range(3)
SPILL, CONTACT, QUIET = slice(0, 5), slice(5, 10), slice(10, 60)
DEEP, AT_BORDER = 0.45, 0.08


def tissue(seed: int, n: int = 6000) -> SpilloverCells:
    """Cells at random; genes 0-59 are of the source type.

    Target cells beside a source cell hold genes 0-4 at their border (spillover) and genes 5-9
    anywhere (induced by contact); the rest they hold rarely, wherever they lie. Genes 60-89 are of
    the other types.
    """
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 1500, (n, 2))
    # The source keeps to patches, so that there are cells near it and far from it.
    patch = (np.floor(xy / 75).sum(axis=1) % 2 == 0) & (rng.random(n) < 0.3)
    codes = np.where(patch, SOURCE, np.where(rng.random(n) < 0.5, TARGET, OTHER))
    beside = cKDTree(xy[codes == SOURCE]).query(xy)[0] <= 15
    depth = rng.lognormal(0, 0.5, n)[:, None]
    rate = np.full((n, 90), 0.1)
    rate[codes == SOURCE, :60] = 2.0
    rate[codes != SOURCE, 60:] = 2.0
    made = rng.poisson(rate * depth)
    gained = np.zeros_like(made)
    reached = beside & (codes == TARGET)
    gained[reached, :10] = rng.poisson(0.5, (reached.sum(), 10))
    at_border = gained.copy()
    at_border[:, CONTACT] = 0
    inside = made + gained - at_border
    deep = rng.binomial(inside, DEEP) + rng.binomial(at_border, AT_BORDER)
    return SpilloverCells(
        sparse.csr_matrix(made + gained), sparse.csr_matrix(deep), xy, codes, np.ones(n, bool), 3
    )


@pytest.fixture(scope="module")
def cells():
    return tissue(0)


@pytest.fixture(scope="module")
def table(cells):
    return spillover_table(cells, SETTINGS)


def of(table, code, genes, name):
    """One column for a range of genes in a type, in the order of the genes."""
    here = table.columns["type"] == code
    wanted = np.isin(table.columns["gene"], np.arange(90)[genes])
    return table.columns[name][here & wanted]


def test_sources_are_the_types_that_express_a_gene(table):
    assert all(table.sources[gene] == (SOURCE,) for gene in range(60))
    assert all(table.sources[gene] == (TARGET, OTHER) for gene in range(60, 90))
    assert len(of(table, SOURCE, slice(0, 60), "p")) == 0


def test_spillover_is_flagged_and_contact_is_not(table):
    for genes in (SPILL, CONTACT):
        assert (of(table, TARGET, genes, "q") < 0.01).all()
        assert (of(table, TARGET, genes, "odds_ratio") > 2).all()
        assert (of(table, TARGET, genes, "rate_near") > of(table, TARGET, genes, "rate_far")).all()
    assert (of(table, TARGET, SPILL, "edge_ratio") < 0.6).all()
    assert (np.abs(of(table, TARGET, CONTACT, "edge_ratio") - 1) < 0.15).all()
    assert of(table, TARGET, SPILL, "flagged").all()
    assert not of(table, TARGET, CONTACT, "flagged").any()
    assert of(table, TARGET, CONTACT, "depends_on_distance").all()
    # Erosion takes most of what spilled over near the source, little of what contact induced.
    lost = [
        of(table, TARGET, genes, "rate_near_eroded") / of(table, TARGET, genes, "rate_near")
        for genes in (SPILL, CONTACT)
    ]
    assert lost[0].max() < lost[1].min()


def test_only_what_was_planted_is_flagged(table):
    flagged = table.columns["flagged"]
    assert flagged.sum() == 5
    assert set(table.columns["type"][flagged]) == {TARGET}


def test_without_spillover_p_values_are_even():
    tables = [spillover_table(tissue(seed, 3000), SETTINGS) for seed in range(1, 5)]
    null = np.concatenate([of(found, OTHER, QUIET, "p") for found in tables])
    assert len(null) == 200
    assert 0.01 <= (null < 0.05).mean() <= 0.10
    assert 0.4 <= (null < 0.5).mean() <= 0.6


def test_order_of_cells_and_genes_changes_nothing(cells, table):
    rng = np.random.default_rng(3)
    row, column = rng.permutation(len(cells.codes)), rng.permutation(90)
    turned = SpilloverCells(
        cells.counts[row][:, column],
        cells.deep[row][:, column],
        cells.xy_um[row],
        cells.codes[row],
        cells.analysed[row],
        3,
    )
    other = spillover_table(turned, SETTINGS)
    place = np.lexsort((column[other.columns["gene"]], other.columns["type"]))
    for name in ("p", "q", "p_edge", "edge_ratio", "odds_ratio"):
        np.testing.assert_allclose(other.columns[name][place], table.columns[name], atol=1e-9)


def test_without_outlines_nothing_is_flagged(cells):
    found = spillover_table(dataclasses.replace(cells, deep=None), SETTINGS)
    assert (of(found, TARGET, SPILL, "q") < 0.01).all()
    assert np.isnan(found.columns["p_edge"]).all()
    assert not found.columns["flagged"].any()


def test_what_cannot_be_tested_is_said(cells):
    with pytest.raises(SpatialFormerError, match="do not fit together"):
        spillover_table(dataclasses.replace(cells, codes=cells.codes[1:]), SETTINGS)
    with pytest.raises(SpatialFormerError, match="between two"):
        spillover_table(dataclasses.replace(cells, codes=np.zeros(6000, int)), SETTINGS)
    with pytest.raises(ValidationError, match="near_um"):
        SpilloverSettings(near_um=40)


def simulated(**settings) -> SpilloverCells:
    """A simulated slide, with transcripts eroded by the outlines of its cells."""
    slide = simulate_slide(SimulationSettings(seed=5, cells=7000, **settings), silent, never)
    calls, n_genes = slide.transcripts, load_panel().n_genes
    used = (calls.cell >= 0) & (calls.qv >= 20.0) & (calls.feature < n_genes)
    order = np.flatnonzero(used)[np.argsort(calls.cell[used], kind="stable")]
    indptr = np.zeros(slide.n_cells + 1, np.int64)
    np.cumsum(np.bincount(calls.cell[order], minlength=slide.n_cells), out=indptr[1:])
    shapes = slide.outlines
    vertices = (shapes.cell + shapes.centre_um[:, None]).reshape(-1, 2)
    starts = np.arange(slide.n_cells + 1) * shapes.cell.shape[1]
    depth = depth_in_cells(calls.xyz_um[order], indptr, vertices, starts)
    gene = calls.feature[order]
    return SpilloverCells(
        counts_within(indptr, gene, n_genes, depth > -1e9),
        counts_within(indptr, gene, n_genes, depth >= SETTINGS.erosion_um),
        shapes.centroid_um.astype(np.float64),
        slide.cell_type,
        np.diff(indptr) >= 30,
        len(CELL_TYPES),
    )


def test_genes_that_the_simulator_spills_are_flagged_and_its_contact_genes_are_not():
    found = spillover_table(simulated(spillover=0.12), SETTINGS).columns
    genes = [load_panel().index(rule.gene) for rule in planted.SPILLOVER_GENES]
    tested = np.isin(found["gene"], genes)
    # Rare types leave too few cells beside a source; of what is tested most is found.
    assert tested.sum() >= 15
    assert found["flagged"][tested].mean() > 0.6
    assert (found["edge_ratio"][tested] < 0.9).all()
    for rule in planted.CONTACT_GENES:
        own = found["type"] == CELL_TYPES.index(rule.cell_type)
        assert not found["flagged"][own & (found["gene"] == load_panel().index(rule.gene))].any()


@pytest.mark.slow
@pytest.mark.parametrize("is_planted", [True, False])
def test_a_simulated_slide_without_spillover_has_none(is_planted):
    found = spillover_table(simulated(spillover=0.0, planted=is_planted), SETTINGS).columns
    assert len(found["p"]) > 1000
    assert found["flagged"].sum() == 0
    assert 0.02 <= (found["p"] < 0.05).mean() <= 0.07
    assert 0.02 <= (found["p_edge"] < 0.05).mean() <= 0.08
