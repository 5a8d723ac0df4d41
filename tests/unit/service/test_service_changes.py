"""Changes of a slide as jobs: labels, H&E, names of cell types, sample, removal."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import records
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import changes
from spatialformer_core.service.kinds import resolve


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, home):
    monkeypatch.setattr(changes, "ensure_worker", lambda home: True)
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))


def carried_out(services, change):
    job_id = changes.start_change(services, change, "local")
    run_job(services.queue, job_id, resolve, silent)
    job = services.job(job_id)
    assert job.status == "done", job.error
    return changes.change_report(services, job_id, "local")


def file_id(services, name, text):
    folder = services.home / "sources"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return next(f.id for f in services.attachable() if f.name == name)


def test_labels_are_added_and_unknown_ids_are_said(services):
    rows = [f"cell-{i},{'odd' if i % 2 else 'even'},#ff0000" for i in range(50)]
    text = "\n".join(["cell_id,group,color", *rows, "nobody,odd,#00ff00"])
    labels = file_id(services, "groups.csv", text)
    done = carried_out(services, changes.LabelsChange(slide_id="tiny", file_id=labels))
    slide = services.slide("tiny")
    # The slide has a cell_type of its own, which stays; the colour is no grouping.
    assert slide.group_keys == ("cell_type", "cell_type_2")
    assert slide.group("cell_type").categories == ("A", "B", "C")
    assert slide.group("cell_type_2").codes.tolist() == [i % 2 for i in range(50)] + [-1] * 10
    assert "50 of 60 cells have a label" in done.said[0]
    assert "1 of its labels name no cell" in done.said[1]
    change = changes.LabelsChange(slide_id="tiny", file_id=labels, replace=True)
    assert carried_out(services, change).groups == ("cell_type",)
    assert services.slide("tiny").group("cell_type").categories == ("even", "odd")
    # What leaves in the form of Xenium Explorer comes back as it was.
    text = changes.explorer_csv(services.slide("tiny"), "cell_type")
    assert text.splitlines()[:2] == ["cell_id,group", "cell-0,even"]
    assert len(text.splitlines()) == 51
    back = file_id(services, "back.csv", text)
    carried_out(services, changes.LabelsChange(slide_id="tiny", file_id=back))
    again = services.slide("tiny").group("cell_type_3")
    assert again.codes.tolist() == services.slide("tiny").group("cell_type").codes.tolist()


def test_types_are_named_merged_and_left_out(services):
    names = {"A": "T cell", "B": "T cell", "C": ""}
    change = changes.NamesChange(slide_id="tiny", groupby="cell_type", names=names, key="named")
    done = carried_out(services, change)
    slide = services.slide("tiny")
    assert (slide.group_keys, slide.meta.default_group) == (("cell_type", "named"), "named")
    old, new = slide.group("cell_type").codes, slide.group("named")
    assert new.categories == ("T cell",)
    assert new.codes.tolist() == np.where(np.asarray(old) < 2, 0, -1).tolist()
    assert slide.meta.retention_per_type["T cell"][0] == 40
    assert done.said == ("named: 1 types from cell_type.",)
    with pytest.raises(SpatialFormerError, match="'NAMED' already"):
        again = change.model_copy(update={"key": "NAMED"})
        changes.start_change(services, again, "local")
    with pytest.raises(SpatialFormerError, match="No group has a name"):
        none = {"A": "", "B": " ", "C": ""}
        changes.start_change(services, change.model_copy(update={"names": none, "key": "x"}), "o")


def test_a_group_that_is_not_named_keeps_its_name():
    groups = records.Groups(("a", "b", "c"), np.array([0, 1, 2, -1], np.int16))
    found = changes.renamed(groups, {"a": "c", "b": "x"})
    assert found.categories == ("c", "x")
    assert found.codes.tolist() == [0, 1, 0, -1]


def test_free_names():
    assert changes.free_key("Cell type", []) == "Cell_type"
    assert changes.free_key("donor", []) == "donor_2"
    assert changes.free_key("x", ["X", "x_2"]) == "x_3"
    assert changes.free_key("///", []) == "groups"


def test_sample_default_and_removed_grouping(services):
    sample = services.slide("tiny").meta.sample.model_copy(update={"condition": "Healthy"})
    carried_out(services, changes.SampleChange(slide_id="tiny", sample=sample, name="Other"))
    assert services.slide("tiny").meta.sample.condition == "Healthy"
    assert services.slides()[0].name == "Other"
    kept = services.store.user_path("tiny") / "spillover" / "cell-type"
    kept.mkdir(parents=True)
    carried_out(services, changes.DropChange(slide_id="tiny", groups=("cell_type",)))
    assert services.slide("tiny").group_keys == ()
    assert not kept.exists()
    assert services.slide("tiny").meta.retention_per_type == {}
    with pytest.raises(SpatialFormerError, match="no grouping"):
        change = changes.DefaultChange(slide_id="tiny", key="cell_type")
        changes.start_change(services, change, "local")


def test_an_image_needs_the_size_of_a_pixel_and_says_how_it_fits(services, bundles):
    folder = services.home / "sources"
    folder.mkdir(exist_ok=True)
    bundles.write_he(folder / "he.ome.tif")
    points = "0,0,0,0\n100,0,100,0\n0,100,0,100\n100,100,100,104\n"
    affine = file_id(services, "k.csv", "fixedX,fixedY,alignmentX,alignmentY\n" + points)
    image = next(f.id for f in services.attachable() if f.kind == "image")
    change = changes.ImageChange(slide_id="tiny", image_id=image, affine_id=affine)
    with pytest.raises(SpatialFormerError, match="the slide has none"):
        changes.start_change(services, change, "local")
    done = carried_out(services, change.model_copy(update={"pixel_um": 0.5}))
    assert done.images == ("he",)
    # By hand: least squares leave a saddle of (1, -1, -1, 1) pixels in y, rms 1 pixel of 0.5 um.
    assert "0.49 um" in done.said[1] or "0.50 um" in done.said[1]
    more = change.model_copy(update={"pixel_um": 0.5, "replace": True})
    carried_out(services, more)
    assert [entry.name for entry in services.slide("tiny").meta.images] == ["he"]
    carried_out(services, changes.DropChange(slide_id="tiny", images=("he",)))
    assert services.slide("tiny").meta.images == ()


def test_removal_asks_for_the_name_and_waits_for_jobs(services):
    with pytest.raises(SpatialFormerError, match="not the name"):
        changes.remove_slide(services, "tiny", "tinny")
    job_id = services.queue.submit("spillover", {"slide_id": "tiny", "groupby": "x"}, "local")
    with pytest.raises(SpatialFormerError, match="needs this slide"):
        changes.remove_slide(services, "tiny", "Tiny")
    services.cancel(job_id)
    services.queue.submit("spillover", {"slide_id": "tiny-2", "groupby": "x"}, "local")
    changes.remove_slide(services, "tiny", "Tiny ")
    assert services.slides() == []


def test_a_change_that_cannot_be_read_is_a_sentence(services, tmp_path):
    with pytest.raises(SpatialFormerError, match="cannot be read"):
        changes.run_change_job({"action": "explode", "slide_id": "tiny"}, tmp_path, silent, None)
