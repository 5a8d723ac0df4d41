"""The page Neighbours: without cells, from form to tables and pictures, and what goes wrong."""

from __future__ import annotations

from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
from shapely import Polygon

from pages.ui import neighbour_charts, neighbour_chord, neighbour_map, neighbour_view
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.inference.panel import MIN_COVERAGE
from spatialformer_core.service import colocalise_estimate, model_jobs, open_services
from spatialformer_core.service.colocalise import ColocaliseRequest
from spatialformer_core.service.colocalise_estimate import (
    estimate_colocalisation,
    expression_files,
    file_overview,
)

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]


@pytest.fixture(scope="module")
def home(make_home, source):
    """The small slide with one region, the untrained model, a file without coordinates."""
    folder = make_home()
    services = open_services(folder)
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}}
    services.save_roi("small", {**feature, "properties": {}}, "Corner", "local")
    loose = anndata.read_h5ad(source / "cells.h5ad")
    del loose.obsm["spatial"]
    (folder / "sources").mkdir()
    loose.write_h5ad(folder / "sources" / "loose.h5ad")
    return folder


def ask(**more):
    values = {"slide_id": "small", "checkpoint_id": "untrained", "groupby": "cell_type"}
    return ColocaliseRequest.model_validate({**values, "allow_simulated": True, **more})


@pytest.fixture(scope="module")
def finished(home, run_now):
    """A prediction for T cells of the region, as a job that is done."""
    services = open_services(home)
    region = services.rois("small")[0].roi_id
    request = ask(query_types=("T cell",), roi_ids=(region,), k=4, n_far=50)
    return run_now(services, "colocalise", request)


@pytest.fixture
def page(open_page):
    return partial(open_page, "neighbours")


def test_from_form_to_job(services, page, metrics):
    at = page(slide="small")
    # The model that knows these genes is offered first, though it is of simulated tissue.
    assert at.selectbox(key="neighbours-checkpoint-small").value == "untrained"
    assert not [b for b in at.button if b.label == "Predict neighbours"]
    at.checkbox(key="neighbours-allow-simulated-untrained").check().run()
    at.multiselect(key="neighbours-types-cell_type").set_value(["T cell"]).run()
    assert not at.error, at.error[0].value
    # 1,560 cells pass, every third of them a T cell.
    assert metrics(at)["query cells"] == "520"
    next(b for b in at.button if b.label == "Predict neighbours").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    services.cancel(job.id)
    assert job.kind == "colocalise"
    assert job.params["query_types"] == ["T cell"]
    assert job.params["radius_um"] == 30.0
    assert job.params["allow_simulated"] is True


def test_the_least_known_panel_is_that_of_the_job():
    assert colocalise_estimate.MIN_COVERAGE == MIN_COVERAGE


def test_estimate_counts_cells_and_candidates(services):
    region = services.rois("small")[0].roi_id
    found = estimate_colocalisation(services, ask(roi_ids=(region,), n_far=0, reach_um=10.5))
    # 10 x 10 cells; a cell has 4 others within one step, 3 at the two edges, 2 in the corner.
    assert (found.n_queries, found.n_may_ask, found.n_cells) == (100, 100, 1560)
    assert found.candidates_per_query == pytest.approx((81 * 4 + 18 * 3 + 2) / 100)
    assert found.has_truth
    assert not found.has_prior
    assert "no part in training" in found.exposure
    with pytest.raises(SpatialFormerError, match="no type 'Mast'"):
        estimate_colocalisation(services, ask(query_types=("Mast",)))
    with pytest.raises(SpatialFormerError, match="no region"):
        estimate_colocalisation(services, ask(roi_ids=("nowhere",)))
    with pytest.raises(ValueError, match="regions lie on a slide"):
        ask(slide_id=None, source_id="x", roi_ids=("a",))


def test_a_model_of_other_genes_is_refused_before_it_starts(services, page):
    at = page(slide="small")
    at.selectbox(key="neighbours-checkpoint-small").set_value("pancreas-two-tower").run()
    assert "knows 0% of the slide's genes" in at.error[0].value
    assert not [b for b in at.button if b.label == "Predict neighbours"]


def test_queries_are_those_asked_for(services, finished, app_slide):
    view = model_jobs.colocalisation(services, finished, "local")
    xy, types, _ = app_slide.tissue()
    wanted = {f"cell-{i}" for i in np.flatnonzero((types == 2) & (xy < 100).all(1))}
    assert set(view.edges["cell_id"]) == wanted
    assert set(view.edges["type"]) == {"T cell"}
    assert view.info["n_queries"] == len(wanted)
    assert view.info["n_candidates"] == 1560
    # Every neighbour's type is that of the cell of this name.
    place = view.edges["neighbour_id"].str.removeprefix("cell-").astype(int)
    names = np.array(app_slide.TYPES, dtype=object)[types[place]]
    assert (names == view.edges["neighbour_type"]).all()


def test_result_page(services, page, finished, words):
    at = page(neighbours=finished)
    assert not at.error, at.error[0].value
    assert "SIMULATED CHECKPOINT on real cells" in words(at)
    labels = [b.label for b in at.get("download_button")]
    assert labels.count("CSV") == labels.count("Parquet") == 5
    answers = next(f.value for f in at.dataframe if "answer" in f.value)
    assert {"model, best", "model, weighted", "type frequency"} <= set(answers["answer"])
    for picture in ("Chord diagrams", "By type", "Arcs on the tissue"):
        at.segmented_control(key=f"neighbours-picture-{finished}").set_value(picture).run()
        assert not at.exception, [e.message for e in at.exception]
        assert not at.error, at.error[0].value
    assert "of the true neighbours (within 30 µm) are predicted" in words(at)
    assert "SVG" in [b.label for b in at.get("download_button")]


def test_cells_without_coordinates(services, page, run_now, words):
    (file,) = expression_files(services)
    found = file_overview(services, file.id)
    assert (found.n_cells, found.has_coordinates) == (1600, False)
    assert set(found.groups["cell_type"]) == {"B cell", "Macrophage", "T cell"}
    fields = {"slide_id": None, "source_id": file.id, "meta": "masked", "n_queries": 40}
    request = ask(**fields, n_sample=60)
    estimate = estimate_colocalisation(services, request)
    assert (estimate.n_pairs, estimate.has_truth) == (2400, False)
    job_id = run_now(services, "colocalise", request)
    at = page(neighbours=job_id)
    assert not at.error, at.error[0].value
    assert "Missing without coordinates" in words(at)
    assert "no coordinates" in words(at)
    names = at.segmented_control(key=f"neighbours-picture-{job_id}").options
    assert list(names) == ["Heat maps", "Chord diagrams"]


def test_the_form_asks_what_a_file_holds(services, page, words):
    at = page()
    at.segmented_control(key="neighbours-kind").set_value("Dissociated cells (.h5ad)").run()
    assert "1,600 cells without coordinates" in words(at)
    at.selectbox(key="neighbours-checkpoint-None").set_value("untrained").run()
    at.checkbox(key="neighbours-allow-simulated-untrained").check().run()
    assert "Say what the cells are" in words(at)
    at.checkbox(key="neighbours-masked").check().run()
    assert "nobody knows the true neighbours" in words(at)
    assert [b for b in at.button if b.label == "Predict neighbours"]


def edges():
    """Three query cells on a line, 10 um apart; the third far away."""
    rows = [("a", "b", 0, 10, True, True), ("a", "z", 0, 90, True, False)]
    rows += [("b", "a", 10, 0, False, True), ("c", "z", 500, 90, True, False)]
    columns = ["cell_id", "neighbour_id", "x_um", "neighbour_x_um", "predicted", "true"]
    frame = pd.DataFrame(rows, columns=columns).assign(y_um=0.0, neighbour_y_um=0.0)
    frame["distance_um"] = (frame["x_um"] - frame["neighbour_x_um"]).abs()
    return frame.assign(score=0.5, type="T", neighbour_type="B")


def test_arcs_are_right_wrong_or_missed():
    assert list(neighbour_map.with_kind(edges())["kind"]) == ["right", "wrong", "missed", "wrong"]
    assert neighbour_map.crowded_first(edges(), 50.0) == ["a", "b", "c"]
    assert set(neighbour_map.around(edges(), "b", 3)["cell_id"]) == {"a", "b"}
    assert set(neighbour_map.around(edges(), "c", 1)["cell_id"]) == {"c"}
    assert len(neighbour_map.around(edges(), "a", 1)) == 1


def test_the_picture_file_holds_the_arcs():
    import xml.etree.ElementTree as ET

    shown = neighbour_map.with_kind(edges())[:3]
    cells = pd.DataFrame({"x_um": [1.0, 2.0], "y_um": 0.0, "type": ["T", "<B>"]})
    text = neighbour_map.svg(shown, cells, {"T": "#0072B2"})
    drawing = ET.fromstring(text)
    tags = [part.tag.split("}")[1] for part in drawing]
    assert (tags.count("line"), tags.count("circle")) == (3, 2)
    assert "100 µm" in text


def test_without_webgl_arcs_are_lines():
    shown = neighbour_map.with_kind(edges())
    cells = pd.DataFrame({"x_um": [1.0, 2.0], "y_um": 0.0, "type": ["T", "B"]})
    figure = neighbour_map.flat(shown, cells, {"T": "#0072B2"})
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines"}
    assert {name: np.isnan(line.x).sum() for name, line in lines.items()} == {
        "predicted, right": 1,
        "predicted, wrong": 2,
        "missed": 1,
    }
    np.testing.assert_array_equal(lines["predicted, right"].x, [0, 10, np.nan])
    said = [text for trace in figure.data if trace.text is not None for text in trace.text]
    assert "missed: T – B, 10 µm, score 0.50" in said
    assert list(figure.data[-1].x) == [0, 10, 500]


def test_without_webgl_the_page_draws_lines(services, page, finished):
    at = page(neighbours=finished)
    at.session_state["_without-webgl"] = True
    at.segmented_control(key=f"neighbours-picture-{finished}").set_value("Arcs on the tissue").run()
    assert not at.exception, [e.message for e in at.exception]
    assert at.get("plotly_chart")
    assert not at.get("deck_gl_json_chart")
    del at.session_state["_without-webgl"]
    at.run()
    assert at.get("deck_gl_json_chart")
    assert not at.get("plotly_chart")


def pairs(truth):
    """Return a table of two types where A asks B ``truth`` times as often as expected."""
    rows = [("true", "A", "B", 100 * truth, 100.0), ("true", "B", "A", 100 * truth, 100.0)]
    rows += [("true", "A", "A", 50.0, 100.0), ("true", "B", "B", 2.0, 4.0)]
    rows += [("spatialformer", *row[1:3], 100.0, 100.0) for row in rows]
    columns = ["source", "type", "neighbour_type", "observed", "expected"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["ratio"] = frame["observed"] / frame["expected"]
    return frame.assign(low=frame["ratio"] / 2, high=2 * frame["ratio"], n_queries=20)


def test_heat_maps_share_one_scale_and_one_mask():
    figure = neighbour_charts.heatmaps(pairs(4), ["true", "spatialformer"], ["A", "B"], 20)
    tissue, model = (np.asarray(trace.z, float) for trace in figure.data)
    np.testing.assert_allclose(tissue, [[-1, 2], [2, np.nan]])
    # Too few neighbours are expected of B around B in the tissue: blank in the model, too.
    np.testing.assert_allclose(model, [[0, 0], [0, np.nan]])


def test_chords_join_types_that_lie_together():
    links = neighbour_chord.chord_links(pairs(4), "true", ["A", "B"], "ratio", (1.5, 20))
    assert links.to_dict("records") == [{"one": "A", "other": "B", "size": 4.0, "ratio": 4.0}]
    by_number = neighbour_chord.chord_links(pairs(4), "true", ["A", "B"], "observed", (1.5, 20))
    assert list(by_number["size"]) == [400.0]
    assert not len(neighbour_chord.chord_links(pairs(1), "true", ["A", "B"], "ratio", (1.5, 20)))
    figure = neighbour_chord.chord(links, {"A": "#0072B2", "B": "#E69F00"}, "tissue")
    ribbon = figure.data[0]
    assert Polygon(list(zip(ribbon.x, ribbon.y, strict=True))).area > 0.1
    assert np.hypot(ribbon.x, ribbon.y).max() <= 1


def test_by_type_orders_the_model():
    rows = [("spatialformer", name, "recall", value) for name, value in (("A", 0.1), ("B", 0.3))]
    rows += [("type_frequency", "A", "recall", 0.2), ("spatialformer", "all", "recall", 0.2)]
    frame = pd.DataFrame(rows, columns=["method", "type", "metric", "value"])
    frame = frame.assign(low=frame["value"] - 0.05, high=frame["value"] + 0.05, n_queries=9)
    methods = ["spatialformer", "type_frequency"]
    figure = neighbour_charts.by_type(frame, "recall", "recall", methods)
    assert list(figure.data[0].y) == ["B", "A"]
    np.testing.assert_allclose(figure.data[1].x, [np.nan, 0.2])


def test_names_in_a_verdict_are_those_of_the_pictures():
    text = "answer (type_pair_prior) 6 % within 30 um; the best, type_frequency: 0.1"
    said = neighbour_view._in_words(text)
    assert said == "answer (type pairs, best) 6 % within 30 µm; the best, type frequency: 0.1"
