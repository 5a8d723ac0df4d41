"""The page Perturbation: from every choice of the form to a request, and each part of a result."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from pages.ui import screen_charts
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import liana_ranks
from spatialformer_core.perturbation.examples import ExampleCell, ExamplePair
from spatialformer_core.service import ScreenRequest, open_services, references, screen_desk
from spatialformer_core.service.gene_lists import genes_of, sets_of

GENES = ("GENE00", "GENE01", "GENE02", "GENE03")


@pytest.fixture(scope="module")
def home(make_home):
    """Two slides of two donors, two untrained checkpoints, tables to compare with."""
    folder = make_home(models=("untrained", "other"), First="P1", Second="P2")
    table = b"ligand,receptor\nGENE00,GENE01\n"
    references.save_reference(folder, "pairs.csv", table, "ligand-receptor")
    references.save_reference(folder, "sets.gmt", b"S\t\tGENE00\tGENE01\tGENE02\n", "gene-sets")
    return folder


@pytest.fixture
def services(services):
    """The services of the home, its regions removed."""
    for roi in services.rois("first"):
        services.delete_roi("first", roi.roi_id)
    return services


@pytest.fixture
def page(open_page):
    return partial(open_page, "perturbation")


def asked(**changes):
    values = {
        "slide_ids": ("first",),
        "groupby": "cell_type",
        "group_left": "Macrophage",
        "group_right": "T cell",
        "checkpoint_id": "untrained",
        "allow_simulated": True,
        "genes": GENES,
        "max_pairs_per_unit": 10,
        **changes,
    }
    return ScreenRequest(**values)


def scores_of(pairs):
    return np.linspace(0.0, 1.0, len(pairs))


@pytest.fixture(scope="module")
def done(home, run_now):
    """A finished screen with everything beside it that can be asked for."""
    services = open_services(home)
    tables = {r.kind: r.id for r in references.list_references(home)}
    request = asked(
        agreement_ids=("other",),
        null_checkpoint_id="other",
        null_runs=1,
        ligand_receptor=tables["ligand-receptor"],
        gene_set_files=(tables["gene-sets"],),
        liana=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        # The page is tested here, not liana, which takes seconds to import.
        patch.setattr(liana_ranks, "is_installed", lambda: True)
        patch.setattr(liana_ranks, "_by_type", lambda data, pairs, *_, **__: scores_of(pairs))
        patch.setattr(liana_ranks, "_moran", lambda data, pairs, *_: scores_of(pairs))
        patch.setattr(liana_ranks.importlib.metadata, "version", lambda name: "9.9")
        return run_now(services, "screen", request)


def ready(at):
    """Choose types and model, so that the estimate is shown."""
    at.selectbox(key="screen-checkpoint").set_value("untrained").run()
    at.checkbox(key="screen-allow-simulated").check()
    at.selectbox(key="screen-type-0-cell_type").set_value("Macrophage")
    at.selectbox(key="screen-type-1-cell_type").set_value("T cell").run()
    assert not at.exception, [e.message for e in at.exception]
    return at


def start(at, services):
    next(b for b in at.button if b.label == "Start screen").click().run()
    assert not at.exception, [e.message for e in at.exception]
    assert not at.error, at.error[0].value
    return ScreenRequest(**services.jobs("local")[0].params)


def choose(at, key, value):
    at.session_state[key] = value
    at.run()
    assert not at.exception, [e.message for e in at.exception]
    return at


def test_every_choice_of_the_form_is_in_the_request(services, page):
    at = page(slide="first")
    at.session_state["screen-genes-how"] = "Genes I name"
    at.session_state["screen-genes"] = "GENE00, GENE01\nGENE02 ABSENT"
    at.multiselect(key="screen-agreement").select("other")
    at.selectbox(key="screen-null-model").set_value("other")
    at.selectbox(key="screen-test").set_value("published")
    at.selectbox(key="screen-control").set_value("none")
    at.number_input(key="screen-null-runs").set_value(2)
    tables = {r.kind: r.id for r in screen_desk.references(services)}
    at.selectbox(key="screen-lr").set_value(tables["ligand-receptor"])
    at.multiselect(key="screen-gmt").select(tables["gene-sets"])
    ready(at)
    assert not at.error, at.error[0].value
    assert any("ABSENT" in w.value for w in at.warning)
    assert any("carry out the screen 5 times in all" in c.value for c in at.caption)
    assert {m.label: m.value for m in at.metric}["gene pairs"] == "9"
    request = start(at, services)
    assert request.genes == ("GENE00", "GENE01", "GENE02", "ABSENT")
    assert (request.agreement_ids, request.null_checkpoint_id) == (("other",), "other")
    assert (request.test, request.control, request.null_runs) == ("published", "none", 2)
    assert request.ligand_receptor == tables["ligand-receptor"]
    assert request.gene_set_files == (tables["gene-sets"],)
    assert str(services.home) not in request.model_dump_json()  # ids, never paths


def test_gene_sets_are_pasted_and_a_broken_line_is_said(services, page):
    at = page(slide="first")
    at.session_state["screen-genes-how"] = "Gene sets"
    at.session_state["screen-sets"] = "no name here"
    ready(at)
    assert "no name or no gene" in at.error[0].value
    assert not [b for b in at.button if b.label == "Start screen"]
    choose(at, "screen-sets", "ONE: GENE00, GENE01\nTWO: GENE02")
    assert not at.error
    request = start(at, services)
    assert request.knockout_sets == {"ONE": ("GENE00", "GENE01"), "TWO": ("GENE02",)}


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def save(services, name, ring):
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return services.save_roi("first", geometry, name, "local").roi_id


def test_one_side_against_other_regions_or_slides(services, page):
    here, there = (save(services, n, square(x, 0, 150)) for n, x in (("here", 0), ("there", 200)))
    at = page(slide="first")
    at.multiselect(key="screen-rois").select(here)
    at.radio(key="screen-against").set_value("other regions")
    ready(at)
    assert "No region to compare with" in at.error[0].value
    at.multiselect(key="screen-versus-rois").select(there).run()
    assert not at.error, at.error[0].value
    request = start(at, services)
    assert (request.roi_ids, request.versus_roi_ids) == ((here,), (there,))
    at = page(slide="first")
    at.radio(key="screen-against").set_value("other slides")
    ready(at)
    at.multiselect(key="screen-versus-slides").select("second").run()
    assert not at.error, at.error[0].value
    request = start(at, services)
    assert request.slide_ids == ("first", "second")
    names = [
        [f["properties"]["slide_id"] for f in json.loads(text)["features"]]
        for text in (request.regions_geojson, request.versus_geojson)
    ]
    assert names == [["first"], ["second"]]
    assert "3 of each" in services.estimate_screen(request).reason_no_p


def test_regions_that_overlap_or_hold_too_little_are_said(services, page):
    one, other = (save(services, n, square(x, 0, 150)) for n, x in (("one", 0), ("two", 100)))
    at = page(slide="first")
    at.multiselect(key="screen-rois").select(one).select(other)
    ready(at)
    assert "overlap" in at.error[0].value
    assert "What to do" in at.error[0].value
    assert not [b for b in at.button if b.label == "Start screen"]


def test_a_model_of_another_panel_is_refused_with_its_coverage(services, page, app_slide, home):
    import shutil

    from spatialformer_core.model import build, preset_config, save_checkpoint
    from spatialformer_core.vocabulary import build_vocabulary

    slide = services.slide("first")
    sample = SampleMetadata(**app_slide.SAMPLE)
    vocabulary = build_vocabulary([(slide.genes[:4], slide.counts[:, :4])], [sample])
    model = build(preset_config("two-tower", "tiny", len(vocabulary.tokens)))
    narrow = home / "checkpoints" / "narrow"
    save_checkpoint(narrow, model, vocabulary, {"simulated": False, "trained_on": []}, "Narrow.")
    try:
        at = page(slide="first")
        at.selectbox(key="screen-checkpoint").set_value("narrow")
        at.selectbox(key="screen-type-0-cell_type").set_value("Macrophage")
        at.selectbox(key="screen-type-1-cell_type").set_value("T cell").run()
        assert "knows 29% of the slide's gene panel" in at.error[0].value
    finally:
        shutil.rmtree(narrow)


def labels(at):
    return {button.label for button in at.get("download_button")}


def test_each_picture_and_part_of_a_result(services, page, done):
    at = page(screen=done)
    assert not at.error, at.error[0].value
    assert {"CSV", "Parquet", "Provenance", "SVG", "PNG"} <= labels(at)
    links = [link for link in at.get("page_link") if "in the tissue" in link.proto.label]
    assert len(links) == 3
    for picture in ("Heat map", "Network", "Map", "Ranks"):
        choose(at, f"picture-{done}", picture)
        assert at.get("plotly_chart")
    expected = {
        "Known pairs": "testable here",
        "Gene sets": "smallest p",
        "Models": "least rank correlation",
        "Nulls": "runs with any q < 0.05",
        "Direction": "redundant",
        "Methods": "meaning",
    }
    for part, word in expected.items():
        choose(at, f"part-{done}", part)
        shown = [m.label for m in at.metric] + [c for f in at.dataframe for c in f.value.columns]
        assert word in shown, part
        assert not at.error
    choose(at, f"part-{done}", "liana")
    ranks = next(f.value for f in at.dataframe if "rank_cellphonedb" in f.value)
    assert len(ranks) == len(GENES) ** 2
    assert any(m.value.startswith("liana 9.9 on the") for m in at.markdown)


def test_filters_narrow_the_table_and_a_screen_is_run_again(services, page, done):
    at = page(screen=done)
    choose(at, f"only-{done}", ["known ligand–receptor"])
    table = next(f.value for f in at.dataframe if "d_diff" in f.value)
    pairs = set(zip(table["gene_left"], table["gene_right"], strict=True))
    assert pairs == {("GENE00", "GENE01"), ("GENE01", "GENE00")}
    before = len(services.jobs("local"))
    choose(at, f"part-{done}", "Methods")
    at.button(key=f"again-{done}").click().run()
    jobs = services.jobs("local")
    assert len(jobs) == before + 1
    assert jobs[0].params == services.job(done).params


def test_the_table_is_ordered_by_size_whatever_the_sign(services, page, done):
    at = page(screen=done)

    def column(name):
        return next(f.value for f in at.dataframe if "d_diff" in f.value)[name].to_numpy()

    effects, pairs = column("d_diff"), at.selectbox(key=f"examples-{done}").options
    choose(at, f"order-{done}", "epsilon")
    found = column("epsilon")
    assert (np.diff(np.abs(found)) <= 0).all()
    assert (found < 0).any()
    assert (found > 0).any()
    assert at.selectbox(key=f"examples-{done}").options != pairs
    genes = column("gene_left")[0], column("gene_right")[0]
    assert at.selectbox(key=f"examples-{done}").options[0] == " – ".join(genes)
    choose(at, f"order-{done}", "d_diff")
    assert (np.diff(np.abs(column("d_diff"))) <= 0).all()
    assert sorted(column("d_diff")) == sorted(effects)


def test_figures_and_examples_of_a_job_by_its_id(services, done):
    svg = screen_desk.figure(services, done, "volcano", ".svg", "local")
    assert b"<svg" in svg
    assert screen_desk.example_figure(services, done, GENES[:2], ".png", "local")[1:4] == b"PNG"
    with pytest.raises(SpatialFormerError, match="no figure"):
        screen_desk.figure(services, done, "pie", ".svg", "local")
    with pytest.raises(SpatialFormerError, match="carries both"):
        screen_desk.example_figure(services, done, ("GENE13", "GENE00"), ".svg", "local")
    with pytest.raises(SpatialFormerError, match="no job"):
        screen_desk.examples(services, done, GENES[:2], 1, "bob")


def test_tables_are_read_before_they_are_kept(home, services):
    with pytest.raises(SpatialFormerError, match="none of the endings"):
        screen_desk.upload(services, "sets.txt", b"S\t\tA\n", "gene-sets")
    with pytest.raises(SpatialFormerError, match="Expected"):
        screen_desk.upload(services, "no.csv", b"a,b\n1,2\n", "ligand-receptor")
    with pytest.raises(SpatialFormerError, match="bytes"):
        screen_desk.upload(services, "big.gmt", b"x" * (references.MAX_BYTES + 1), "gene-sets")
    with pytest.raises(SpatialFormerError, match="another file"):
        screen_desk.upload(services, "sets.gmt", b"T\t\tGENE00\tGENE01\n", "gene-sets")
    with pytest.raises(SpatialFormerError, match="cannot be used as a name"):
        screen_desk.upload(services, "../sets.gmt", b"T\t\tGENE00\n", "gene-sets")
    assert [r.name for r in screen_desk.references(services)] == ["pairs.csv", "sets.gmt"]
    by_path = asked(gene_set_files=(str(home / "references" / "sets.gmt"),))
    with pytest.raises(SpatialFormerError, match="not one of this server"):
        screen_desk.check_references(services, by_path)
    gone = asked(ligand_receptor="reference:0000")
    with pytest.raises(SpatialFormerError, match="not on the server any more"):
        screen_desk.check_references(services, gone)


def test_genes_and_sets_as_people_write_them():
    assert genes_of(' CD3E,"CD8A";GZMB\nCD3E ') == ("CD3E", "CD8A", "GZMB")
    found = sets_of("A: CD3E, CD8A\n\nB\tnote\tGZMB\tPRF1\n")
    assert found == {"A": ["CD3E", "CD8A"], "B": ["GZMB", "PRF1"]}
    for text, message in (("A:", "no gene"), ("A: X\nA: Y", "twice"), ("A\tnote", "no gene")):
        with pytest.raises(SpatialFormerError, match=message):
            sets_of(text)


def test_pictures_hold_the_table():
    rows = [("A", "X", -2.0, 1.0), ("A", "Y", 0.5, -0.2), ("B", "X", 0.1, 0.3)]
    table = pd.DataFrame(rows, columns=["gene_left", "gene_right", "d_diff", "epsilon"])
    heat = screen_charts.heatmap(table, "d_diff", "effect").data[0]
    grid = pd.DataFrame(heat.z, index=heat.y, columns=heat.x)
    assert (grid.loc["A", "X"], grid.loc["B", "X"]) == (-2.0, 0.1)
    assert np.isnan(grid.loc["B", "Y"])
    lines = [t for t in screen_charts.network(table).data if t.mode == "lines"]
    assert [t.name[:5] for t in lines] == ["joint", "joint", "redun"]
    assert max(lines, key=lambda t: t.line.width).name.startswith("joint")


def test_example_cells_draw_both_genes_in_both_cells():
    ring = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    one = ExampleCell(0, "a", np.array([2.0, 2.0]), ring, np.ones((2, 3)), np.ones((1, 3)))
    other = ExampleCell(1, "b", np.array([9.0, 2.0]), None, np.zeros((0, 3)), np.ones((3, 3)))
    pair = ExamplePair("s", "block 1", one, other, 7.0)
    figure = screen_charts.example_cells([pair, pair], ("G", "H"), ("T cell", "B cell"))
    counts = {(t.name, t.xaxis): len(t.x) for t in figure.data if t.name in ("G", "H")}
    assert counts == {("G", "x"): 2, ("H", "x"): 4, ("G", "x2"): 2, ("H", "x2"): 4}
    outline = next(t for t in figure.data if t.name == "T cell")
    np.testing.assert_array_equal(np.column_stack([outline.x, outline.y]), [*ring, ring[0]])
