"""The layout: structures apart from each other, and the right cells in them."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.simulate.panel import CELL_TYPES, TYPE_INDEX, load_panel
from spatialformer_core.simulate.placement import COMPOSITION, SPACING_UM
from spatialformer_core.simulate.planted import planted_genes
from spatialformer_core.simulate.settings import SimulationSettings, stream
from spatialformer_core.simulate.tissue import Zone, place_structures


@pytest.mark.parametrize("seed", range(6))
def test_default_slide_has_eight_or_more_granulomas_far_apart(seed):
    settings = SimulationSettings(seed=seed)
    side_um = 2400.0
    structures = place_structures(settings, side_um, stream(seed, "tissue"))
    granulomas = [s for s in structures if s.kind == "granuloma"]
    assert len(granulomas) >= 8
    for i, a in enumerate(granulomas):
        assert a.radius_um <= a.x_um <= side_um - a.radius_um
        assert a.radius_um <= a.y_um <= side_um - a.radius_um
        for b in granulomas[:i]:
            gap = np.hypot(a.x_um - b.x_um, a.y_um - b.y_um) - a.radius_um - b.radius_um
            assert gap >= 100


def test_every_populated_zone_has_a_composition_of_known_types():
    for zone in Zone:
        assert (SPACING_UM[zone] > 0) == (zone in COMPOSITION)
    for shares in COMPOSITION.values():
        assert set(shares) <= set(CELL_TYPES)


def test_granulomas_have_a_macrophage_core_and_a_t_cell_cuff(slide):
    zone = slide.states.zone

    def share(where, name):
        return np.mean(slide.cell_type[zone == where] == TYPE_INDEX[name])

    assert share(Zone.GRANULOMA_CORE, "Macrophage") > 0.6
    assert share(Zone.GRANULOMA_CUFF, "T cell") > 0.55
    assert share(Zone.SEPTUM, "Macrophage") < 0.05
    assert not np.any(zone == Zone.NECROSIS)
    assert share(Zone.LUMINAL_EPITHELIUM, "Ciliated") > 0.4


def test_slide_has_the_wanted_cells_of_many_types(slide):
    assert slide.n_cells == 7000
    assert len(np.unique(slide.cell_type)) >= 20
    assert len(slide.tissue.of_kind("granuloma")) == 8
    kinds = {s.kind for s in slide.tissue.structures}
    assert kinds == {"granuloma", "airway", "fibrotic focus", "vessel"}


def test_panel_is_real_and_complete():
    panel = load_panel()
    assert 330 <= panel.n_genes <= 360
    assert len(set(panel.genes)) == len(set(panel.ensembl)) == panel.n_genes
    assert all(e.startswith("ENSG") and len(e) == 15 for e in panel.ensembl)
    assert planted_genes() <= set(panel.genes)
    marked = {role for roles in panel.roles for role in roles}
    assert set(CELL_TYPES) <= marked
    assert marked - set(CELL_TYPES) == {"broad", "cycle"}


def test_panel_agrees_with_the_published_symbol_table(shared_data):
    rows = (shared_data / "vocab" / "xenium_symbol_to_ensembl.csv").read_text().split()[1:]
    published = dict(row.split(",") for row in rows)
    panel = load_panel()
    ours = dict(zip(panel.genes, panel.ensembl, strict=True))
    both = published.keys() & ours.keys()
    assert len(both) > 280
    assert {gene: ours[gene] for gene in both} == {gene: published[gene] for gene in both}
