"""What truth.json says is there, by brute force on counts and positions; the decoys are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spatialformer_core.progress import never, silent
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import CELL_TYPES, TYPE_INDEX, load_panel
from spatialformer_core.simulate.settings import SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide
from spatialformer_core.simulate.tissue import GRANULOMA_ZONES, Zone

NEAR_UM, FAR_UM = 30.0, (80.0, 150.0)


def gene_counts(slide):
    return slide.matrix()[:, : load_panel().n_genes].toarray()


def macrophage_t_pairs(slide):
    """Macrophage, T cell and distance of all pairs within 150 um of each other."""
    xy = slide.outlines.centroid_um
    macrophages = np.flatnonzero(slide.cell_type == TYPE_INDEX["Macrophage"])
    t_cells = np.flatnonzero(slide.cell_type == TYPE_INDEX["T cell"])
    near = cKDTree(xy[macrophages]).sparse_distance_matrix(
        cKDTree(xy[t_cells]), FAR_UM[1], output_type="coo_matrix"
    )
    return macrophages[near.row], t_cells[near.col], near.data


def joint_table(slide, counts, pair):
    """P(near) for neither, right only, left only and both genes; and the near joint odds ratio."""
    m, t, distance = macrophage_t_pairs(slide)
    kept = (distance <= NEAR_UM) | (distance >= FAR_UM[0])
    m, t, near = m[kept], t[kept], distance[kept] <= NEAR_UM
    panel = load_panel()
    left = counts[m, panel.index(pair.gene_left)] >= 2
    right = counts[t, panel.index(pair.gene_right)] >= 2
    table = np.array([[near[(left == i) & (right == j)].mean() for j in (0, 1)] for i in (0, 1)])
    cells = [[np.sum(near & (left == i) & (right == j)) for j in (0, 1)] for i in (0, 1)]
    (n00, n01), (n10, n11) = cells
    marginals = [abs(gene[near].mean() - gene[~near].mean()) for gene in (left, right)]
    return table, (n11 * n00) / max(n10 * n01, 1), max(marginals)


@pytest.fixture(scope="module")
def counts(slide):
    return gene_counts(slide)


@pytest.mark.parametrize("pair", planted.CONTACT_PAIRS, ids=lambda p: p.gene_left)
def test_lock_and_key_decide_contact_together_and_neither_alone(slide, counts, pair):
    table, odds_ratio, shift = joint_table(slide, counts, pair)
    base_rate = table[0, 0]
    assert odds_ratio > 8
    assert table[1, 1] > 2.5 * base_rate
    assert table[1, 0] < base_rate
    assert table[0, 1] < base_rate
    assert shift < 0.08


@pytest.mark.parametrize("pair", planted.CONTACT_PAIR_DECOYS, ids=lambda p: p.gene_left)
def test_equally_expressed_unlinked_pairs_do_not_decide_contact(slide, counts, pair):
    table, odds_ratio, shift = joint_table(slide, counts, pair)
    assert 0.7 < odds_ratio < 1.45
    np.testing.assert_allclose(table, table.mean(), rtol=0.35)
    assert shift < 0.08


def test_linked_and_unlinked_pairs_are_equally_expressed(slide, counts):
    panel = load_panel()

    def mean(pairs, side, name):
        genes = panel.columns([getattr(p, side) for p in pairs])
        return counts[slide.cell_type == TYPE_INDEX[name]][:, genes].sum(axis=1).mean()

    for side, name in (("gene_left", "Macrophage"), ("gene_right", "T cell")):
        linked = mean(planted.CONTACT_PAIRS, side, name)
        assert mean(planted.CONTACT_PAIR_DECOYS, side, name) == pytest.approx(linked, rel=0.2)
        assert linked > 2.5


def median_gap_um(slide, spot):
    """Median distance from a transcript of one gene to the nearest of the other in its cell."""
    t, panel = slide.transcripts, load_panel()
    types = [TYPE_INDEX[name] for name in spot.cell_types or CELL_TYPES]
    kept = (t.cell >= 0) & (t.qv >= 20)
    kept[kept] = np.isin(slide.cell_type[t.cell[kept]], types)
    first, second = (np.flatnonzero(kept & (t.feature == panel.index(gene))) for gene in spot.genes)
    by_cell = {}
    for index in second:
        by_cell.setdefault(t.cell[index], []).append(index)
    gaps = [
        np.hypot(*(t.xyz_um[others, :2] - t.xyz_um[index, :2]).T).min()
        for index in first[:: max(1, len(first) // 1500)]
        if len(others := by_cell.get(t.cell[index], [])) >= 3
    ]
    return np.median(gaps), len(gaps)


def test_colocalised_pairs_share_spots_and_their_decoys_do_not(slide):
    for pair, decoy in zip(planted.COLOCALISED_PAIRS, planted.COLOCALISATION_DECOYS, strict=True):
        planted_um, n = median_gap_um(slide, pair)
        decoy_um, n_decoy = median_gap_um(slide, decoy)
        assert min(n, n_decoy) > 100
        assert planted_um < 0.75
        assert decoy_um > 1.3
        assert decoy_um > 2.5 * planted_um


def test_decoys_of_colocalised_pairs_are_equally_expressed(slide, counts):
    panel = load_panel()
    for pair, decoy in zip(planted.COLOCALISED_PAIRS, planted.COLOCALISATION_DECOYS, strict=True):
        rows = np.isin(slide.cell_type, [TYPE_INDEX[n] for n in pair.cell_types or CELL_TYPES])
        means = counts[rows][:, panel.columns(pair.genes + decoy.genes)].mean(axis=0)
        assert means.max() < 1.6 * means.min()
        assert means.min() > 2.3


@pytest.mark.parametrize("rule", planted.CONTACT_GENES, ids=lambda r: r.gene)
def test_contact_genes_rise_where_the_types_touch(slide, counts, rule):
    own = slide.cell_type == TYPE_INDEX[rule.cell_type]
    tree = cKDTree(slide.outlines.centre_um[slide.cell_type == TYPE_INDEX[rule.touching]])
    distance, _ = tree.query(slide.outlines.centre_um)
    touching, apart = own & (distance <= planted.TOUCH_UM), own & (distance > planted.TOUCH_UM)
    assert touching.sum() >= 25
    column = counts[:, load_panel().index(rule.gene)]
    assert column[touching].mean() > 3 * column[apart].mean()


def test_zone_genes_follow_the_zone_in_every_type(slide, counts):
    inside = {
        "granuloma": np.isin(slide.states.zone, GRANULOMA_ZONES),
        "fibrotic focus": slide.states.zone == Zone.FIBROSIS,
    }
    for rule in planted.ZONE_GENES:
        column, compared = counts[:, load_panel().index(rule.gene)], 0
        for code in range(len(CELL_TYPES)):
            own = slide.cell_type == code
            within, outside = own & inside[rule.zone], own & ~inside[rule.zone]
            if min(within.sum(), outside.sum()) >= 12:
                compared += 1
                assert column[within].mean() > 4 * column[outside].mean()
        assert compared >= 3


def test_spillover_genes_come_from_their_source_only(slide):
    t, panel = slide.transcripts, load_panel()
    for rule in planted.SPILLOVER_GENES:
        sure = (t.feature == panel.index(rule.gene)) & (t.cell >= 0) & (t.qv >= 20)
        source = TYPE_INDEX[rule.source]
        made = t.origin[sure]
        assert (slide.cell_type[made[made >= 0]] == source).all()
        elsewhere = sure & (t.origin >= 0)
        elsewhere[elsewhere] = slide.cell_type[t.cell[elsewhere]] != source
        assert elsewhere.sum() > 10


def test_spilled_transcripts_lie_in_a_touching_cell_beside_the_border(slide):
    t = slide.transcripts
    spilled = np.flatnonzero((t.origin >= 0) & (t.cell != t.origin))
    share = len(spilled) / np.sum(t.origin >= 0)
    assert 0.02 < share < 0.045
    centre = slide.outlines.centre_um
    here, there = centre[t.cell[spilled]], centre[t.origin[spilled]]
    assert np.hypot(*(here - there).T).max() <= planted.TOUCH_UM
    position = t.xyz_um[spilled, :2]
    towards = ((position - here) * (there - here)).sum(axis=1)
    assert (towards > 0).all()


def test_null_tissue_has_no_relation():
    settings = SimulationSettings(seed=5, cells=3000, granulomas=4, he=False, planted=False)
    slide = simulate_slide(settings, silent, never)
    counts = gene_counts(slide)
    for pair in planted.CONTACT_PAIRS:
        _, odds_ratio, _ = joint_table(slide, counts, pair)
        assert 0.6 < odds_ratio < 1.7
    spot_um, _ = median_gap_um(slide, planted.COLOCALISED_PAIRS[-1])
    assert spot_um > 1.3
