"""Every page in its empty, loaded and error states; what it shows is counted by hand."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from pages.ui import charts, composition, downloads, session, text
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import open_services
from spatialformer_core.service.kinds import resolve


@pytest.fixture
def home(tmp_path, source, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"slide_roots: [{source.parent}]\n")
    monkeypatch.setenv("SPATIALFORMER_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def loaded_home(make_home, source):
    """A home with the small slide and an untrained checkpoint; made once."""
    folder = make_home()
    (folder / "config.yaml").write_text(f"slide_roots: [{source.parent}]\n")
    return folder


@pytest.fixture
def loaded(loaded_home, monkeypatch):
    """The services of the loaded home, its regions removed."""
    monkeypatch.setenv("SPATIALFORMER_HOME", str(loaded_home))
    services = open_services(loaded_home)
    for roi in services.rois("small"):
        services.delete_roi("small", roi.roi_id)
    return services


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def test_a_folder_becomes_a_job_with_what_was_chosen(loaded, open_page, started):
    at = open_page("slides")
    at.selectbox(key="register-source").select_index(0)
    at.text_input(key="register-name").input("Lung 1")
    # AppTest cannot type a value that is no option; the Chromium test does.
    chosen = {
        "donor": "P1",
        "block": "1",
        "condition": "Healthy",
        "tissue": "Pancreas",
        "species": "Mouse",
        "assay": "CosMx",
    }
    for field, value in chosen.items():
        at.selectbox(key=f"register-{field}").set_value(value)
    next(b for b in at.button if b.label == "Register slide").click()
    at.run()
    assert not at.exception
    assert not at.error, at.error[0].value
    job = loaded.jobs("local")[0]
    loaded.cancel(job.id)
    assert job.kind == "ingest"
    assert job.params["name"] == "Lung 1"
    assert job.params["sample"] == chosen
    assert job.params["qc"] == {"min_qv": 20.0, "min_transcripts": 30, "min_genes": 10}
    assert started


def test_nothing_is_guessed_in_the_form(home, open_page):
    at = open_page("slides")
    next(b for b in at.button if b.label == "Register slide").click()
    at.run()
    (error,) = at.error
    for label in ("Folder", "Name", "Donor", "Block", "Condition", "Tissue", "Species", "Assay"):
        assert label in error.value
    assert open_services().jobs("local") == []


def test_running_waiting_and_failed_ingests_are_shown(home, open_page):
    services = open_services()
    (source,) = services.sources()
    sample = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
    jobs = [services.register(source.id, n, sample, QcThresholds(), "local") for n in "xyz"]
    services.queue.claim("me", jobs[0])
    services.queue.report(services.job(jobs[0]), 0.25, "Reading transcripts", 40.0)
    failed = services.queue.claim("me", jobs[2])
    services.queue.finish(failed, "failed", "The transcripts are cut off.")
    at = open_page("slides")
    texts = "\n".join(bar.text for bar in at.get("progress"))
    assert "Reading transcripts · 25 % · about 40 s left" in texts
    assert "Reading y" in texts
    assert "The transcripts are cut off." in at.error[0].value
    at.button(key=f"cancel-{jobs[1]}").click().run()
    assert services.job(jobs[1]).status == "cancelled"


def test_slide_card_and_quality_control(loaded, open_page, metrics):
    at = open_page("slides", slide="small")
    found = metrics(at)
    assert found["cells"] == "1,600"
    assert found["pass QC"] == "98 %"  # 1,560 of 1,600
    assert found["genes"] == "14"
    table = next(f.value for f in at.dataframe if "kept_percent" in f.value)
    assert table.set_index("group").loc["Macrophage", ["cells", "kept"]].tolist() == [534, 520]
    assert at.get("plotly_chart")


def test_tissue_shows_the_whole_slide_and_then_a_region(loaded, open_page, metrics):
    at = open_page("tissue", slide="small")
    assert metrics(at)["cells"] == "1,600"
    # Cell centres lie at 5, 15, ...: the square holds 9 x 9 of them.
    at.text_input(key="numbers-name-small").input("Nine by nine")
    for field in at.number_input:
        field.set_value(10.0 if "from" in field.label else 100.0)
    next(b for b in at.button if b.label == "Save rectangle").click()
    at.run()
    assert not at.exception
    assert not at.error, at.error[0].value
    (roi,) = loaded.rois("small")
    assert roi.name == "Nine by nine"
    assert at.radio[0].value == roi.roi_id
    assert metrics(at) == {
        "cells": "81",
        "pass QC": "100 %",
        "area (mm²)": "0.0081",
        "cells / mm²": "10 k",
    }


def test_charts_wait_until_the_viewer_has_drawn_the_cells(loaded, open_page, metrics):
    at = open_page("tissue", drawn=False, slide="small")
    assert not metrics(at)
    assert not at.get("plotly_chart")
    for slide, is_shown in (("another", False), ("small", True)):
        event = {"kind": "drawn", "seq": 7, "slide": slide}
        at.session_state["tissue-viewer"] = {"event": event}
        at.run()
        assert not at.exception
        assert ("cells" in metrics(at)) == is_shown
    # The picture of the server needs no viewer.
    at = open_page("tissue", drawn=False, slide="small")
    at.toggle(key="plain-picture").set_value(True).run()
    assert metrics(at)["cells"] == "1,600"


def test_a_drawn_region_is_counted_and_saved(loaded, open_page, metrics):
    at = open_page("tissue", slide="small")
    draft = {"seq": 1, "polygon": square(0, 0, 50, 50)}
    at.session_state["tissue-viewer:draft:small"] = draft
    at.run()
    at.radio[0].set_value("(drawn)").run()
    assert metrics(at)["cells"] == "25"
    next(b for b in at.button if b.label == "Save region").click()
    at.run()
    assert [roi.name for roi in loaded.rois("small")] == ["Region 1"]
    assert at.session_state["tissue-viewer:draft:small"]["polygon"] is None


def test_regions_are_renamed_deleted_and_pasted(loaded, open_page, metrics):
    ring = [*square(0, 0, 50, 50), [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"name": "pasted"}, "geometry": geometry}
    at = open_page("tissue", slide="small")
    at.text_area(key="paste-small").input(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    next(b for b in at.button if b.label == "Import").click()
    at.run()
    assert not at.error
    next(f for f in at.text_input if f.label == "New name").input("renamed")
    next(b for b in at.button if b.label == "Rename").click()
    at.run()
    (roi,) = loaded.rois("small")
    assert roi.name == "renamed"
    at.button(key=f"delete-{roi.roi_id}").click().run()
    assert loaded.rois("small") == []
    assert metrics(at)["cells"] == "1,600"


def test_a_self_crossing_region_is_refused_with_a_way_on(loaded, open_page, metrics):
    bow_tie = [[0, 0], [50, 50], [50, 0], [0, 50], [0, 0]]
    at = open_page("tissue", slide="small")
    at.text_area(key="paste-small").input(json.dumps({"type": "Polygon", "coordinates": [bow_tie]}))
    next(b for b in at.button if b.label == "Import").click()
    at.run()
    assert not at.exception
    assert len(at.error) == 1
    assert loaded.rois("small") == []
    assert metrics(at)["cells"] == "1,600"


def choose_types(at, left="Macrophage", right="T cell"):
    at.selectbox(key="screen-type-0-cell_type").set_value(left)
    at.selectbox(key="screen-type-1-cell_type").set_value(right)
    at.run()
    assert not at.exception, [e.message for e in at.exception]


def test_a_simulated_checkpoint_is_refused_until_allowed(loaded, open_page):
    at = open_page("perturbation", slide="small")
    at.selectbox(key="screen-checkpoint").set_value("untrained").run()
    choose_types(at)
    assert any("simulated tissue" in error.value for error in at.error)
    assert not [b for b in at.button if b.label == "Start screen"]
    at.checkbox(key="screen-allow-simulated").check().run()
    assert not at.error
    assert [b for b in at.button if b.label == "Start screen"]


def test_a_screen_from_estimate_to_table(loaded, open_page, app_slide, metrics):
    at = open_page("perturbation", slide="small")
    at.selectbox(key="screen-checkpoint").set_value("untrained").run()
    at.checkbox(key="screen-allow-simulated").check()
    choose_types(at)
    estimate = metrics(at)
    assert estimate["panel known"] == "100 %"
    assert estimate["gene pairs"] == "144"  # 12 x 12 genes expressed everywhere
    next(b for b in at.button if b.label == "Start screen").click()
    at.run()
    assert not at.error
    job = loaded.jobs("local")[0]
    assert job.params["group_left"] == "Macrophage"
    assert job.params["allow_simulated"] is True
    run_job(loaded.queue, job.id, resolve, silent)
    at = open_page("perturbation", screen=job.id)
    assert metrics(at)["gene pairs tested"] == "144"
    table = next(f.value for f in at.dataframe if "d_diff" in f.value)
    assert len(table) == 144
    assert set(table["gene_left"]) == set(app_slide.GENES[: app_slide.N_EXPRESSED])
    assert any("SIMULATED" in warning.value for warning in at.warning)
    at.text_input(key=f"gene-{job.id}").input("gene03").run()
    table = next(f.value for f in at.dataframe if "d_diff" in f.value)
    assert len(table) == 23  # 12 + 12 pairs, one of them both


def test_types_without_neighbours_say_so(loaded, open_page):
    geojson = {"type": "Polygon", "coordinates": [[*square(0, 0, 12, 12), [0, 0]]]}
    roi = loaded.save_roi("small", geojson, "one cell", "local")
    at = open_page("perturbation", slide="small")
    at.multiselect(key="screen-rois").select(roi.roi_id)
    at.selectbox(key="screen-checkpoint").set_value("untrained").run()
    at.checkbox(key="screen-allow-simulated").check()
    choose_types(at)
    assert len(at.error) == 1
    assert "What to do" in at.error[0].value


def test_composition_beside_the_slide():
    region = pd.DataFrame({"group": ["A"], "cells": [4], "share": [1.0], "kept": [3]})
    whole = pd.DataFrame(
        {"group": ["A", "B"], "cells": [5, 15], "share": [0.25, 0.75], "kept": [3, 9]}
    )
    table = composition.beside_slide(region, whole).set_index("group")
    assert table.loc["A"].tolist() == [4, 3, 1.0, 0.25, 4.0]
    assert table.loc["B"].tolist() == [0, 0, 0.0, 0.75, 0.0]


def test_downloads_hold_the_table():
    frame = pd.DataFrame({"gene": ["A", "µ"], "value": [0.1 + 0.2, 1.0]})
    assert downloads.csv_bytes(frame).decode() == "gene,value\nA,0.30000000000000004\nµ,1.0\n"
    import io

    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(downloads.parquet_bytes(frame))), frame
    )


def test_names_in_the_picture_do_not_overlap():
    rows = [("A", "B", -0.5, 1.0), ("C", "D", -0.49, 1.01), ("E", "F", 0.48, 2.0)]
    table = pd.DataFrame(rows, columns=["gene_left", "gene_right", "d_diff", "epsilon"])
    table[["n_pairs", "n_units"]] = 5
    figure = charts.effects(table, "epsilon", "interaction", pd.Series([True] * 3))
    assert [note.text for note in figure.layout.annotations] == ["A – B", "E – F"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (9_999, "9,999"), (89_787, "89.8 k"), (5_312_345, "5.31 M"), (2e9, "2 G")],
)
def test_counts_are_short(value, expected):
    assert text.compact(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "–"), (0.2, "under 1 s"), (42, "42 s"), (125, "2 min"), (7_200, "2.0 h")],
)
def test_durations_are_said_as_people_do(seconds, expected):
    assert text.duration(seconds) == expected


def test_a_link_opens_the_view_it_was_copied_from(loaded, open_page, app_slide):
    asked = {"colour": "gene:GENE03", "genes": "GENE02,NOPE,GENE05", "x": "1", "y": "2"}
    at = open_page("tissue", slide="small", **asked)
    assert at.selectbox(key="colour-gene-small").value == "GENE03"
    assert at.multiselect(key="transcripts-small").value == ["GENE02", "GENE05"]
    assert not at.error


def lassoed(ring):
    lasso = {"xref": "x", "yref": "y", "x": [x for x, _ in ring], "y": [y for _, y in ring]}
    return {"selection": {"points": [], "lasso": [lasso], "box": []}}


def test_a_lasso_on_the_plain_picture_selects_the_cells_inside(
    loaded, open_page, app_slide, metrics
):
    at = open_page("tissue", slide="small")
    at.toggle(key="plain-picture").set_value(True).run()
    assert not at.exception
    # The ring has no cell centre on its outline, where a rule would have to decide.
    ring = square(6, 6, 96, 46)
    at.session_state["picture-small"] = lassoed(ring)
    at.run()
    assert not at.exception
    xy, _, _ = app_slide.tissue()
    inside = ((xy > (6, 6)) & (xy < (96, 46))).all(axis=1).sum()
    assert metrics(at)["cells"] == f"{inside:,}"

    at.session_state["picture-small"] = lassoed([ring[i] for i in (0, 2, 1, 3)])
    at.run()
    assert not at.exception
    assert any("crosses itself" in warning.value for warning in at.warning)


def test_an_error_names_no_folder_of_the_server(loaded, monkeypatch):
    shown = []
    monkeypatch.setattr(session.st, "error", lambda text, **_: shown.append(text))
    place = loaded.home / "slides" / "small" / "meta.json"
    session.show_error(SpatialFormerError("It is damaged.", where=str(place)))
    assert shown == ["It is damaged. `slides/small/meta.json`"]
