"""Tools of the page Tissue: colours, regions together, two users, an image placed anew."""

from __future__ import annotations

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.ui import identity, tissue_view
from pages.ui.viewer import parse_event
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.io.records import ImageSource
from spatialformer_core.service import facade, open_services, placing
from spatialformer_core.slides import SlideChange, change_slide, ingest

UM_FROM_PX = np.array([[2.0, 0, 10], [0, 2.0, 20], [0, 0, 1]])


@pytest.fixture(scope="module")
def home(tmp_path_factory, source, app_slide):
    """A home with the small slide, an H&E on it, and three regions of ann."""
    import tifffile

    folder = tmp_path_factory.mktemp("tools")
    services = open_services(folder)
    sample = SampleMetadata(**app_slide.SAMPLE)
    ingest(source, services.store, name="Small", sample=sample, qc=QcThresholds())
    path = folder / "he.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (180, 180, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb")
    image = ImageSource("he", "he", (path,), UM_FROM_PX)
    change_slide(services.store, "small", SlideChange(image=image))
    return folder


@pytest.fixture
def services(home, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))
    monkeypatch.setattr(facade, "ensure_worker", lambda home: True)
    monkeypatch.setattr(identity, "owner", lambda default: "ann")
    found = open_services(home)
    for roi in found.rois("small"):
        found.delete_roi("small", roi.roi_id)
    for name, x0 in (("one", 0), ("two", 100), ("three", 200)):
        ring = [[x0, 0], [x0 + 60, 0], [x0 + 60, 60], [x0, 60], [x0, 0]]
        polygon = json.dumps({"type": "Polygon", "coordinates": [ring]})
        found.save_roi("small", polygon, name, "ann")
    return found


def open_tissue(root, **query):
    at = AppTest.from_file(str(root / "app.py"), default_timeout=300)
    at.query_params.update({"slide": "small", **query})
    at.session_state["tissue-viewer:drawn:small"] = True
    at.switch_page("pages/tissue.py")
    return run(at)


def run(thing):
    """Run the page, or a widget's change of it."""
    at = thing.run()
    assert not at.exception, [e.message for e in at.exception]
    return at


def press(at, label):
    (button,) = (b for b in at.button if b.label == label)
    return run(button.click())


def names(services, owner="ann"):
    return {roi.name: roi for roi in services.rois("small", owner)}


def test_colours_of_a_link(services, root):
    at = open_tissue(root, colour="pair:GENE03,GENE05")
    assert at.selectbox(key="colour-kind-small").value == "Two genes"
    assert at.multiselect(key="colour-pair-small").value == ["GENE03", "GENE05"]
    run(at.selectbox(key="colour-kind-small").set_value("Quality"))
    assert at.selectbox(key="colour-value-small").value == "n_transcripts"
    assert "Result of a job" not in at.selectbox(key="colour-kind-small").options

    at = open_tissue(root, colour="value:area_um2")
    assert at.selectbox(key="colour-value-small").value == "area_um2"
    for nonsense in ("pair:GENE03,GENE03", "pair:GENE03,NOPE", "value:xy", "what:ever"):
        at = open_tissue(root, colour=nonsense)
        assert at.selectbox(key="colour-kind-small").value == "Cell type or group"
        assert not at.error


def test_regions_are_joined_put_into_a_set_and_shown_as_one(services, root):
    ids = {name: roi.roi_id for name, roi in names(services).items()}
    at = open_tissue(root)
    run(at.multiselect(key="tool-small-rois").set_value([ids["one"], ids["three"]]))
    press(at, "Join")
    assert names(services)["one + three"].area_um2 == 2 * 60 * 60

    run(at.selectbox(key="tool-small").set_value("Make a set"))
    at.multiselect(key="tool-small-rois").set_value([ids["one"], ids["two"]])
    (field,) = (box for box in at.text_input if box.label == "Name of the set")
    field.set_value("Granulomas")
    press(at, "Put in")
    assert {r.name for r in names(services).values() if r.group == "Granulomas"} == {"one", "two"}
    run(at.radio(key="region-small").set_value("(set) Granulomas"))
    cells = {metric.label: metric.value for metric in at.metric}["cells"]
    assert cells == str(2 * 6 * 6), "cells lie 10 um apart"

    run(at.multiselect(key="region-genes-small").set_value(["GENE00", "GENE13"]))
    table = next(t.value for t in at.dataframe if "mean_slide" in t.value)
    slide = services.slide("small")
    names_, codes = slide.group("cell_type").categories, np.asarray(slide.group("cell_type").codes)
    x, y = np.asarray(slide.xy_um).T
    here = ((x < 60) | ((x > 100) & (x < 160))) & (y < 60)
    for row in table.itertuples():
        of_type = codes == names_.index(row.group)
        counts = slide.gene_column(row.gene)
        assert row.mean_count == pytest.approx(counts[of_type & here].mean())
        assert row.mean_slide == pytest.approx(counts[of_type].mean())
        assert row.share_expressing == pytest.approx(100 * (counts[of_type & here] > 0).mean())
    assert set(table["gene"]) == {"GENE00", "GENE13"}


def test_a_lasso_is_answered_by_one_run_of_the_page(services, root, monkeypatch):
    at, runs = open_tissue(root), []
    show = tissue_view.show

    def counted(*args):
        runs.append(args[-1])
        return show(*args)

    monkeypatch.setattr(tissue_view, "show", counted)
    ring = [[0, 0], [45, 0], [45, 45], [0, 45]]
    event = {"kind": "roi", "polygon": ring, "slide": "small", "seq": 7}
    at.session_state["tissue-viewer"] = {"event": event}
    run(at)
    assert runs == ["(drawn)"]
    assert at.radio(key="region-small").value == "(drawn)"
    assert {m.label: m.value for m in at.metric}["cells"] == "25", "cells lie 10 um apart"
    # The viewer repeats its last event in each run; what was chosen since stays chosen.
    run(at.radio(key="region-small").set_value(names(services)["one"].roi_id))
    assert {m.label: m.value for m in at.metric}["cells"] == "36"


def test_a_new_region_changes_nobodys_colour(services, root):
    def colours():
        shown = [feature["properties"] for feature in tissue_view.features("small", None)]
        return {properties["name"]: properties["color"] for properties in shown}

    before = colours()
    assert len(set(before.values())) == 3
    at = open_tissue(root)
    at.text_input(key="numbers-name-small").set_value("a first")
    press(at, "Save rectangle")
    after = colours()
    assert next(iter(after)) == "a first"
    assert {name: after[name] for name in before} == before
    assert after["a first"] not in before.values()


def test_two_regions_beside_each_other_without_a_p_value(services, root):
    at = open_tissue(root)
    assert not [box for box in at.selectbox if box.key == "side-a-small"]
    at.session_state["compare-small"] = True
    run(at)
    run(at.selectbox(key="side-a-small").set_value("one"))
    said = "\n".join(str(c.value) for c in at.caption)
    assert "A 36, B 36 cells that pass QC." in said
    assert "no p-value: 1 and 1 regions" in said
    run(at.selectbox(key="side-b-small").set_value("one"))
    assert any("cells lie in both regions" in e.value for e in at.error)


def test_two_users_do_not_see_each_others_regions(services, root, monkeypatch):
    whose = {"now": "ann"}
    monkeypatch.setattr(identity, "owner", lambda default: whose["now"])
    ann, bob = open_tissue(root), None
    whose["now"] = "bob"
    bob = open_tissue(root)
    assert bob.radio(key="region-small").options == ["Whole slide"]
    assert ann.radio(key="region-small").options == ["Whole slide", "one", "three", "two"]
    token = {}
    for at, owner in ((ann, "ann"), (bob, "bob")):
        whose["now"] = owner
        run(at)
        token[owner] = routes_token(owner)
        shown = at.radio(key="region-small").options[1:]
        assert shown == (["one", "three", "two"] if owner == "ann" else [])
    assert token["ann"] != token["bob"]


def routes_token(owner):
    from pages.ui.routes_auth import mint_token

    return mint_token(owner, "small")


def pair(px, um):
    return [*map(float, px), *map(float, um)]


def test_an_image_is_placed_by_pairs_and_taken_back(services, root):
    slide = services.slide("small")
    assert np.allclose(placing.images(slide)[0].um_from_px, UM_FROM_PX)
    places = [(0, 0), (180, 0), (0, 180), (180, 180)]
    pairs = [pair(p, (1.8 * p[0] + 5, 1.8 * p[1] - 4)) for p in places]
    at = open_tissue(root)
    at.session_state["tissue-viewer:points:small"] = {"seq": 1, "image": "he", "pairs": pairs}
    run(at)
    assert any("fit to **0.00 µm**" in str(c.value) for c in at.caption)
    press(at, "Place the image so")
    wanted = [[1.8, 0, 5], [0, 1.8, -4], [0, 0, 1]]
    assert np.allclose(placing.images(slide)[0].um_from_px, wanted)
    # The viewer that has the slide loaded already is told.
    told = at.session_state["tissue-viewer:images:small"][0]["um_from_px"]
    assert np.allclose(told, wanted)
    press(at, "Undo this placing")
    assert np.allclose(placing.images(slide)[0].um_from_px, UM_FROM_PX)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"image": 3, "pairs": []},
        {"image": "he", "pairs": "x"},
        {"image": "he", "pairs": [[1, 2, 3]]},
        {"image": "he", "pairs": [[1, 2, 3, "4"]]},
        {"image": "he", "pairs": [[1, 2, 3, float("nan")]]},
        {"image": "he", "pairs": [[1, 2, 3, True]]},
        {"image": "he", "pairs": [[0, 0, 0, 0]] * 61},
    ],
)
def test_pairs_that_no_viewer_sends_are_no_event(raw):
    assert parse_event({"kind": "keypoints", **raw}) is None


def test_pairs_of_the_viewer_arrive():
    event = parse_event({"kind": "keypoints", "image": "he", "pairs": [[1, 2.5, 3, 4]]})
    assert (event.image, event.pairs) == ("he", ((1.0, 2.5, 3.0, 4.0),))
