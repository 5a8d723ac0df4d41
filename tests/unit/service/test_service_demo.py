"""The demo slide, small: made once, found again, marked as simulated."""

from __future__ import annotations

from spatialformer_core.service import open_services
from spatialformer_core.service.demo import prepare_demo


def test_demo_is_made_once(tmp_path):
    assert prepare_demo(tmp_path, cells=200).created
    services = open_services(tmp_path)
    (meta,) = services.slides()
    assert (meta.slide_id, meta.name, meta.simulated, meta.n_cells) == ("demo", "demo", True, 200)
    assert meta.sample.model_dump() == {
        "donor": "simulated-1",
        "block": "1",
        "condition": "Disease",
        "tissue": "Lung",
        "species": "Human",
        "assay": "Xenium",
    }
    assert any(image.kind == "he" for image in meta.images)
    assert [source.name for source in services.sources()] == ["demo"]
    outlined = services.rois("demo")
    assert outlined
    assert all(roi.name.startswith("granuloma ") and roi.name == roi.unit for roi in outlined)
    created = meta.created
    assert not prepare_demo(tmp_path, cells=200).created
    assert services.slide("demo").meta.created == created
    # The bundle is kept: a removed slide comes back without another simulation.
    truth = (tmp_path / "sources" / "demo" / "truth.json").stat().st_mtime_ns
    services.store.remove("demo")
    assert prepare_demo(tmp_path, cells=200).created
    assert (tmp_path / "sources" / "demo" / "truth.json").stat().st_mtime_ns == truth
