"""A slide that is there gets other groupings, images and facts, in one step."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from spatialformer_core import disk
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.io.images import he_source
from spatialformer_core.slides import (
    Groups,
    SlideChange,
    SlideStore,
    change_slide,
    ingest,
    rebuild,
)

SAMPLE = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
QC = QcThresholds(min_qv=20, min_transcripts=40, min_genes=10)
N = 30
HALVES = Groups(("even", "odd"), (np.arange(N) % 2).astype(np.int16))


@pytest.fixture(scope="module")
def made(bundles, tmp_path_factory):
    root = tmp_path_factory.mktemp("change")
    source = bundles.write_table_folder(root / "table", bundles.Tissue(n_cells=N))
    bundles.write_stain(source / "morphology.ome.tif")
    bundles.write_he(root / "he.ome.tif")
    (root / "affine.csv").write_text("0,-2,1300\n2,0,10\n0,0,1\n")
    ingest(source, SlideStore(root / "home"), name="One", sample=SAMPLE, qc=QC)
    return root


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made / "home", tmp_path / "home")
    return SlideStore(tmp_path / "home")


def table_of(slide):
    import spatialdata

    return spatialdata.read_zarr(slide.zarr_path, selection=("tables",)).tables["table"]


@pytest.mark.filterwarnings("ignore")
def test_a_grouping_is_added_everywhere_and_taken_away(store):
    old = store.open("one")
    before = old.cell_ids[:].tolist(), old.group("celltype_marker").codes.tolist()
    meta = change_slide(store, "one", SlideChange(groups={"halves": HALVES}))
    new = store.open("one")
    assert meta == new.meta
    assert new.group_keys == ("celltype_marker", "halves")
    assert new.meta.default_group == "celltype_marker"
    assert new.meta.created == old.meta.created
    assert new.meta.version != old.meta.version
    assert new.group("halves").categories == ("even", "odd")
    assert new.group("halves").codes.tolist() == HALVES.codes.tolist()
    assert (new.cell_ids.tolist(), new.group("celltype_marker").codes.tolist()) == before
    table = table_of(new)
    assert table.obs["halves"].tolist() == [HALVES.categories[c] for c in HALVES.codes]
    assert store.verify("one") == []
    # What was open before the change still reads what it opened.
    assert old.group("celltype_marker").codes.tolist() == before[1]
    change_slide(store, "one", SlideChange(drop_groups=("halves",)))
    assert store.open("one").group_keys == ("celltype_marker",)
    assert "halves" not in table_of(store.open("one")).obs
    assert store.verify("one") == []


@pytest.mark.filterwarnings("ignore")
def test_a_changed_slide_can_be_rebuilt(store):
    shown = SlideChange(groups={"halves": HALVES}, default_group="halves")
    change_slide(store, "one", shown)
    (store.path("one") / "index" / "xy_um.npy").write_bytes(b"broken")
    rebuild(store, "one")
    slide = store.open("one")
    assert slide.group("halves").codes.tolist() == HALVES.codes.tolist()
    passes = np.asarray(slide.passes_qc)
    assert slide.meta.retention_per_type == {
        "even": (N // 2, int(passes[::2].sum())),
        "odd": (N // 2, int(passes[1::2].sum())),
    }


@pytest.mark.filterwarnings("ignore")
def test_sample_and_name_change_the_id_stays(store):
    other = SAMPLE.model_copy(update={"condition": "healthy", "donor": "d2"})
    change_slide(store, "one", SlideChange(sample=other, name="Another name"))
    slide = store.open("one")
    assert (slide.meta.sample, slide.meta.name) == (other, "Another name")
    obs = table_of(slide).obs
    assert set(obs["condition"]) == {"healthy"}
    assert set(obs["donor"]) == {"d2"}
    assert store.verify("one") == []


def test_an_image_is_added_replaced_and_removed(store, made):
    source = he_source(made / "he.ome.tif", made / "affine.csv", 0.5)
    meta = change_slide(store, "one", SlideChange(image=source))
    assert [image.kind for image in meta.images] == ["stain", "he"]
    assert store.open("one").image_path("he").is_file()
    np.testing.assert_allclose(meta.images[1].um_from_px[0], (0, -1, 650))
    kept, bytes_ = store.root / "kept.tif", store.open("one").image_path("he").read_bytes()
    os.link(store.open("one").image_path("he"), kept)
    other = replace(source, um_from_px=np.diag([2.0, 2.0, 1.0]))
    meta = change_slide(store, "one", SlideChange(image=other, drop_images=("he",)))
    assert kept.read_bytes() == bytes_  # nothing was written into the old slide's file
    kept.unlink()
    assert meta.images[1].pixel_size_um == pytest.approx(2.0)
    assert [image.name for image in meta.images] == ["morphology", "he"]
    assert store.verify("one") == []
    meta = change_slide(store, "one", SlideChange(drop_images=("he",)))
    assert [image.name for image in meta.images] == ["morphology"]
    assert not (store.path("one") / "image" / "he.ome.tif").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (SlideChange(groups={"celltype_marker": HALVES}), "has 'celltype_marker' already"),
        (SlideChange(groups={"Celltype_Marker": HALVES}), "already"),
        (SlideChange(groups={"donor": HALVES}), "already"),
        (SlideChange(groups={"a/../b": HALVES}), "cannot name a grouping"),
        (SlideChange(groups={"x": Groups(("a",), np.zeros(3, np.int16))}), "has 3 cells"),
        (SlideChange(drop_groups=("nothing",)), "no grouping 'nothing'"),
        (SlideChange(drop_images=("nothing",)), "no image 'nothing'"),
        (SlideChange(default_group="nothing"), "no grouping 'nothing'"),
    ],
)
def test_what_is_refused_changes_nothing(store, change, said):
    before = store.open("one").meta
    with pytest.raises(SpatialFormerError, match=said):
        change_slide(store, "one", change)
    assert store.open("one").meta == before
    assert store.verify("one") == []


def test_a_damaged_slide_is_not_made_to_look_whole(store):
    path = store.path("one") / "index" / "xy_um.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpatialFormerError, match="damaged"):
        change_slide(store, "one", SlideChange(groups={"halves": HALVES}))


def test_two_changes_at_once_one_is_told_to_wait(store):
    descriptor = os.open(store.path("one"), os.O_RDONLY)
    try:
        assert disk.try_lock(descriptor)
        with pytest.raises(SpatialFormerError, match="Somebody else"):
            change_slide(store, "one", SlideChange(groups={"halves": HALVES}))
    finally:
        os.close(descriptor)
    assert change_slide(store, "one", SlideChange(groups={"halves": HALVES})).group_keys


def test_cancel_leaves_the_slide_as_it_was(store):
    asked = iter((False, True))
    with pytest.raises(Cancelled):
        change_slide(
            store,
            "one",
            SlideChange(groups={"halves": HALVES}),
            cancel=lambda: next(asked, True),
        )
    assert store.open("one").group_keys == ("celltype_marker",)
    assert [p.name for p in store.root.iterdir()] == ["one"]
