"""A cohort: donors differ as truth.json says, conditions as planted, single slides not at all."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import never, silent
from spatialformer_core.simulate import CohortSettings, SimulationSettings, simulate_cohort
from spatialformer_core.simulate.cohort import DISEASE_GENES, cohort_donors
from spatialformer_core.simulate.expression import donor_levels
from spatialformer_core.simulate.panel import TYPE_INDEX, load_panel
from spatialformer_core.simulate.planted import planted_genes
from spatialformer_core.simulate.settings import only_in_cohorts
from spatialformer_core.simulate.slide import simulate_slide

SETTINGS = CohortSettings(seed=4, healthy=2, disease=2, cells=1500, he=False)


@pytest.fixture(scope="module")
def slides():
    return {s.donor: simulate_slide(s, silent, never) for s in cohort_donors(SETTINGS)}


def test_donors_are_drawn_one_by_one():
    donors = cohort_donors(SETTINGS)
    more = cohort_donors(SETTINGS.model_copy(update={"healthy": 5}))
    assert more[:2] == donors[:2]
    assert more[5:] == donors[2:]
    assert len({donor.seed for donor in more}) == 7
    strengths = [donor.effects.contact_strength for donor in more]
    assert len(set(strengths)) == 7
    wide = cohort_donors(CohortSettings(healthy=0, disease=100))
    folds = np.array([list(donor.effects.disease_folds.values()) for donor in wide])
    np.testing.assert_allclose(
        np.exp(np.median(np.log(folds), axis=0)), list(DISEASE_GENES.values()), rtol=0.08
    )
    assert np.log([donor.depth for donor in wide]).std() == pytest.approx(0.15, abs=0.04)
    assert not planted_genes() & DISEASE_GENES.keys()
    with pytest.raises(ValueError, match="needs a donor"):
        CohortSettings(healthy=0, disease=0)


def test_disease_genes_rise_and_granulomas_are_there_in_disease_only(slides):
    panel = load_panel()
    level = {}
    for donor, slide in slides.items():
        counts = slide.matrix()[:, : panel.n_genes]
        ours = donor_levels(donor)
        # Per donor: expression less the donor's own gene levels and depth.
        mean = np.asarray(counts.mean(axis=0)).ravel() / ours / slide.settings.depth
        level[donor] = {gene: mean[panel.index(gene)] for gene in DISEASE_GENES}
        is_healthy = slide.settings.effects.condition == "healthy"
        assert len(slide.tissue.of_kind("granuloma")) == (0 if is_healthy else 2)
    healthy = [level[f"cohort-4-healthy-{k}"] for k in (1, 2)]
    for number in (1, 2):
        donor = f"cohort-4-disease-{number}"
        for gene, fold in slides[donor].settings.effects.disease_folds.items():
            ratio = level[donor][gene] / np.mean([one[gene] for one in healthy])
            # Types differ in number between the conditions, so this is no equality.
            assert (ratio > 1.15) == (fold > 1), (gene, fold, ratio)


def test_programmes_follow_the_place_in_disease_only(slides):
    def same_programme(slide):
        from scipy.spatial import cKDTree

        xy = slide.outlines.centroid_um
        types = [np.flatnonzero(slide.cell_type == TYPE_INDEX[n]) for n in ("Macrophage", "T cell")]
        pairs = cKDTree(xy[types[0]]).query_ball_tree(cKDTree(xy[types[1]]), 30.0)
        ends = [(i, j) for i, found in zip(types[0], pairs, strict=True) for j in types[1][found]]
        programme = slide.states.programme
        return np.mean([programme[i] == programme[j] for i, j in ends]), len(ends)

    for slide in slides.values():
        share, n = same_programme(slide)
        if slide.settings.effects.condition == "disease":
            assert share > 0.6
        else:
            assert share < 0.25 + 4 * np.sqrt(0.19 / max(n, 1))


def test_a_slide_on_its_own_does_not_know_of_cohorts():
    settings = SimulationSettings(seed=3)
    text = settings.model_dump_json(exclude=only_in_cohorts(settings))
    assert "effects" not in text
    assert "effects" in settings.model_copy(
        update={"effects": cohort_donors(SETTINGS)[0].effects}
    ).model_dump_json(exclude=only_in_cohorts(cohort_donors(SETTINGS)[0]))


def test_a_cohort_on_disk_has_a_sheet_and_the_donors_effects(tmp_path):
    from spatialformer_core.config import QcThresholds
    from spatialformer_core.service.cohort import read_cohort
    from spatialformer_core.slides import SlideStore

    small = CohortSettings(seed=2, healthy=1, disease=1, cells=200, he=False)
    report = simulate_cohort(tmp_path / "cohort", small)
    assert (report.healthy, report.disease, report.cells) == (1, 1, 400)
    truth = json.loads((tmp_path / "cohort" / "truth.json").read_text())
    assert [donor["condition"] for donor in truth["donors"]] == ["healthy", "disease"]
    assert set(truth["donors"][1]["gene_levels"]) == set(load_panel().genes)
    assert truth["donors"][0]["disease_folds"] == dict.fromkeys(DISEASE_GENES, 1.0)
    own = json.loads((tmp_path / "cohort" / "cohort-2-disease-1" / "truth.json").read_text())
    assert own["settings"]["effects"]["contact_strength"] == truth["donors"][1]["contact_strength"]
    with (tmp_path / "cohort" / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["condition"] for row in rows] == ["healthy", "disease"]
    sheet = tmp_path / "cohort" / "cohort.csv"
    read = read_cohort(sheet, SlideStore(tmp_path / "home"), QcThresholds())
    assert [row.name for row in read] == ["cohort-2-healthy-1", "cohort-2-disease-1"]
    with pytest.raises(SpatialFormerError):
        simulate_cohort(tmp_path / "cohort", small)


def test_regions_of_a_cohort_lie_on_their_slides(tmp_path):
    from spatialformer_core.slides.roi import parse_rois

    small = CohortSettings(seed=2, healthy=1, disease=2, cells=200, he=False)
    simulate_cohort(tmp_path / "cohort", small)
    names = ["cohort-2-healthy-1", "cohort-2-disease-1", "cohort-2-disease-2"]
    slides = {}
    for file in ("granulomas", "healthy", "disease"):
        text = (tmp_path / "cohort" / f"{file}.geojson").read_text()
        features = json.loads(text)["features"]
        slides[file] = [feature["properties"]["slide_id"] for feature in features]
        for name in set(slides[file]):
            mine = [one for one in features if one["properties"]["slide_id"] == name]
            collection = {"type": "FeatureCollection", "features": mine}
            assert len(parse_rois(collection, name)) == len(mine)
    assert set(slides["granulomas"]) == set(names[1:])
    assert (slides["healthy"], slides["disease"]) == (names[:1], names[1:])
