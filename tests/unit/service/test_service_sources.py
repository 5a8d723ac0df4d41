"""Settings and sources: only what lies below an allow-listed root, and by opaque ids."""

from __future__ import annotations

import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import open_services
from spatialformer_core.service.settings import load_config
from spatialformer_core.service.sources import (
    file_path,
    list_files,
    list_sources,
    source_path,
)


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    make(
        folder,
        "pancreas/cells.h5ad",
        "pancreas/transcripts.parquet",
        "without-positions/cells.h5ad",
        "run7/experiment.xenium",
        "batch/run8/cell_feature_matrix.h5",
        "batch/notes/readme.txt",
        "batch/lung/S1_tx_file.csv.gz",
        "batch/region_0/cell_by_gene.csv",
        "store.zarr/zarr.json",
        "store.zarr/points/zarr.json",
        "loose.h5ad",
        ".hidden/experiment.xenium",
        "plain/readme.txt",
    )
    (folder / "object.zarr").mkdir()
    return folder


def test_sources_are_found_two_levels_deep_with_their_kind(root):
    found = {entry.name: entry.kind for entry in list_sources((root,), 100)}
    assert found == {
        "pancreas": "table",
        "without-positions": "table",
        "run7": "xenium",
        "batch/run8": "xenium",
        "batch/lung": "cosmx",
        "batch/region_0": "merscope",
        "loose.h5ad": "h5ad",
        "store.zarr": "spatialdata",
    }


def test_ids_lead_back_to_the_path_and_tell_nothing(root):
    for entry in list_sources((root,), 100):
        assert source_path((root,), entry.id) == root / entry.name
        assert len(entry.id) == 16
        assert int(entry.id, 16) >= 0
    assert len({entry.id for entry in list_sources((root, root), 100)}) == 16


def test_limit(root):
    assert len(list_sources((root,), 2)) == 2
    assert list_sources((root,), 0) == []


@pytest.mark.parametrize("bad", ["", "../pancreas", "/etc/passwd", "0" * 16])
def test_no_free_path_ever_leads_anywhere(root, bad):
    with pytest.raises(SpatialFormerError, match="no source"):
        source_path((root,), bad)


@pytest.mark.security
def test_a_link_that_leads_outside_is_no_source(root, tmp_path):
    make(tmp_path / "secret", "experiment.xenium")
    (root / "alias").symlink_to(tmp_path / "secret")
    (root / "inside").symlink_to(root / "pancreas")
    names = {entry.name for entry in list_sources((root,), 100)}
    assert "alias" not in names
    assert "inside" in names


def test_a_root_that_is_not_there_is_empty(tmp_path):
    assert list_sources((tmp_path / "nowhere",), 10) == []


def test_config_defaults_and_file(tmp_path, root):
    assert load_config(tmp_path).slide_roots == ()
    (tmp_path / "config.yaml").write_text(f"slide_roots: [{root}]\nlimits: {{max_sources: 1}}\n")
    config = load_config(tmp_path)
    assert config.slide_roots == (root,)
    assert config.limits.max_sources == 1
    assert len(open_services(tmp_path).sources()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_roots: [relative/folder]", "not absolute"),
        ("slide_root: [/data]", "slide_root"),
        ("limits: {max_sources: 0}", "max_sources"),
        ("slide_roots: [", "no YAML"),
    ],
)
def test_a_bad_config_is_one_sentence(tmp_path, text, said):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SpatialFormerError, match=said):
        open_services(tmp_path)


def test_the_homes_own_sources_come_first(tmp_path, root):
    home = tmp_path / "home"
    make(home, "sources/demo/experiment.xenium")
    (home / "config.yaml").write_text(f"slide_roots: [{root}]")
    assert next(entry.name for entry in open_services(home).sources()) == "demo"


def test_files_that_go_with_a_slide(tmp_path):
    folder = tmp_path / "data"
    make(
        folder,
        "he.ome.tif",
        "run7/keypoints.csv",
        "run7/output/morphology.ome.TIFF",
        "run7/a/b/labels.csv",
        "run7/a/b/c/too-deep.csv",
        "store.zarr/inside.csv",
        "run7/notes.txt",
        ".hidden/labels.csv",
    )
    (folder / "out.csv").symlink_to(tmp_path / "secret.csv")
    (tmp_path / "secret.csv").touch()
    found = list_files((folder,), 100)
    assert {(entry.name, entry.kind) for entry in found} == {
        ("he.ome.tif", "image"),
        ("run7/output/morphology.ome.TIFF", "image"),
        ("run7/keypoints.csv", "table"),
        ("run7/a/b/labels.csv", "table"),
    }
    image = next(entry for entry in found if entry.name == "he.ome.tif")
    assert file_path((folder,), image.id, "image") == folder / "he.ome.tif"
    with pytest.raises(SpatialFormerError, match="no table"):
        file_path((folder,), image.id, "table")
    assert len(list_files((folder,), 1)) == 2
