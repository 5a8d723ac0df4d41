"""The store lists what is whole, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides import Roi, SlideMeta, SlideStore, slug

SAMPLE = SampleMetadata(
    donor="d", block="b", condition="c", tissue="t", species="s", assay="Xenium"
)


def record(slide_id: str) -> dict:
    meta = SlideMeta(
        slide_id=slide_id, name=slide_id.upper(), sample=SAMPLE, technology="Xenium",
        simulated=False, qc=QcThresholds(), bounds_um=(0, 0, 100, 100), n_cells=1, n_cells_kept=0,
        n_genes=1, n_transcripts=0, retention_per_type={}, dropped={}, missing=(), mismatch=None,
        group_keys=(), default_group=None, has_z=False, has_qv=False, has_polygons=False,
        source="x", created="2026-11-21T00:00:00+00:00",
    )  # fmt: skip
    return meta.model_dump(mode="json")


def put(store: SlideStore, slide_id: str) -> None:
    with files.atomic_directory(store.path(slide_id)) as folder:
        files.write_json(folder / "meta.json", record(slide_id))
        np.save(folder / "a.npy", np.arange(9))


@pytest.fixture
def store(tmp_path) -> SlideStore:
    store = SlideStore(tmp_path)
    put(store, "b")
    put(store, "a")
    return store


def test_lists_only_what_is_whole(store, caplog) -> None:
    (store.root / "half").mkdir()
    (store.root / "c.partial-123").mkdir()
    put(store, "old")
    text = (store.root / "old" / "meta.json").read_text()
    (store.root / "old" / "meta.json").write_text(
        text.replace('format_version": 2', 'format_version": 0')
    )
    assert [meta.slide_id for meta in store.list()] == ["a", "b"]
    assert "old cannot be read" in caplog.text
    with pytest.raises(SpatialFormerError, match="format 0"):
        store.open("old")
    assert SlideStore(store.root / "nowhere").list() == []


@pytest.mark.parametrize("name", ["nothing", "../a", "a/../b", "A", "", "a.user", "a\x00"])
def test_unknown_or_hostile_id_is_refused(store, name: str) -> None:
    with pytest.raises(SpatialFormerError):
        store.open(name)


def test_remove_takes_one_slide(store) -> None:
    store.open("a").save_roi(Roi("r", "r", "a", "r", shapely.box(0, 0, 5, 5)))
    store.remove("a")
    assert [meta.slide_id for meta in store.list()] == ["b"]
    assert [p.name for p in store.root.iterdir()] == ["b"]
    with pytest.raises(SpatialFormerError, match="Slides: b"):
        store.remove("a")


def test_verify_names_what_changed(store) -> None:
    assert store.verify("a") == []
    (store.root / "a" / "a.npy").write_bytes(b"x")
    assert store.verify("a") == ["a.npy has changed since it was written."]
    rois = store.user_path("a") / "rois"
    rois.mkdir(parents=True)
    (rois / "bad.geojson").write_text("{")
    assert len(store.verify("a")) == 2


def test_sweep_removes_what_was_interrupted(store) -> None:
    (store.root / "c.partial-1" / "index").mkdir(parents=True)
    assert store.sweep() == 1
    assert sorted(p.name for p in store.root.iterdir()) == ["a", "b"]


def test_regions_persist_one_by_one(store) -> None:
    slide = store.open("a")
    assert slide.rois() == []
    for name in ("two", "one"):
        slide.save_roi(Roi(f"id-{name}", name, "a", name, shapely.box(0, 0, 5, 5)))
    slide.save_roi(Roi("id-two", "two", "a", "unit", shapely.box(0, 0, 9, 9), "#00ff00"))
    rois = store.open("a").rois()
    assert [(r.name, r.unit, r.area_um2) for r in rois] == [("one", "one", 25), ("two", "unit", 81)]
    slide.delete_roi("id-one")
    assert [r.roi_id for r in slide.rois()] == ["id-two"]
    with pytest.raises(SpatialFormerError, match="no region"):
        slide.delete_roi("id-one")


@pytest.mark.parametrize(
    "roi",
    [
        Roi("../x", "n", "a", "n", shapely.box(0, 0, 5, 5)),
        Roi("x", "n", "b", "n", shapely.box(0, 0, 5, 5)),
        Roi("x", "n", "a", "n", shapely.box(500, 500, 505, 505)),
        Roi("x", "n", "a", "n", shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])),
    ],
)
def test_bad_region_is_not_saved(store, roi: Roi) -> None:
    with pytest.raises(SpatialFormerError):
        store.open("a").save_roi(roi)
    assert store.open("a").rois() == []
    assert not list(store.root.parent.rglob("*.geojson"))


def test_slug() -> None:
    assert slug("Pancréas  (rép. 1)") == "pancreas-rep-1"
    assert slug("x" * 99) == "x" * 48
    assert slug(slug("A b")) == slug("A b")
    with pytest.raises(SpatialFormerError, match="no letter"):
        slug("…")


def test_meta_is_frozen_json(store) -> None:
    text = (store.path("a") / "meta.json").read_text()
    assert SlideMeta.model_validate(json.loads(text)) == store.open("a").meta
    with pytest.raises(ValueError, match="frozen"):
        store.open("a").meta.name = "other"


@pytest.mark.parametrize("content", [None, b"", b"no array"])
def test_a_damaged_array_is_a_sentence(store, content) -> None:
    index = store.path("a") / "index"
    index.mkdir()
    if content is not None:
        (index / "xy_um.npy").write_bytes(content)
    with pytest.raises(SpatialFormerError, match=r"missing or damaged.*xy_um.npy.*slides verify"):
        _ = store.open("a").xy_um
