from __future__ import annotations

import json
from pathlib import Path

import pytest

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError


def test_atomic_write_leaves_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(path, "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_directory_appears_whole_with_hashes(tmp_path: Path) -> None:
    target = tmp_path / "slide"
    with files.atomic_directory(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x.bin").write_bytes(b"123")
        assert not target.exists()
    assert files.is_complete(target)
    assert files.verify_directory(target) == []
    (target / "sub" / "x.bin").write_bytes(b"124")
    assert files.verify_directory(target) == ["sub/x.bin has changed since it was written."]
    (target / "sub" / "x.bin").unlink()
    assert files.verify_directory(target) == ["sub/x.bin is missing."]


def test_atomic_directory_leaves_nothing_when_the_writer_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.atomic_directory(tmp_path / "slide") as folder:
        (folder / "x").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_directory_refuses_to_overwrite_unless_told(tmp_path: Path) -> None:
    target = tmp_path / "slide"
    for text in ("one", "two"):
        with files.atomic_directory(target, replace=text == "two") as folder:
            (folder / "x").write_text(text)
    assert (target / "x").read_text() == "two"
    with pytest.raises(SpatialFormerError, match="exists already"), files.atomic_directory(target):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["slide"]


@pytest.mark.security
@pytest.mark.parametrize("bad", ["../x", "/etc/passwd", "a/../../x", "a\x00b", "link/secret"])
def test_nothing_outside_the_root_is_reached(tmp_path: Path, bad: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(SpatialFormerError, match="outside"):
        files.resolve_under(root, bad)


def test_resolve_under_joins_what_stays_inside(tmp_path: Path) -> None:
    assert files.resolve_under(tmp_path, "a/b.json") == tmp_path.resolve() / "a" / "b.json"


@pytest.mark.security
@pytest.mark.parametrize("bad", ["", ".hidden", "a/b", "a..b", "x" * 65, "a b", "a.partial-1", "ä"])
def test_names_that_are_no_names(bad: str) -> None:
    with pytest.raises(SpatialFormerError, match="cannot be used as a name"):
        files.check_name(bad, "Slide")


def test_read_json_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(SpatialFormerError, match="not there"):
        files.read_json(path)
    path.write_text("{")
    with pytest.raises(SpatialFormerError, match="no JSON"):
        files.read_json(path)
    path.write_text(json.dumps({"a": "x" * 100}))
    with pytest.raises(SpatialFormerError, match="larger"):
        files.read_json(path, max_bytes=50)


def test_sweep_removes_only_what_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "slide.partial-0").mkdir()
    (tmp_path / "a.json.partial-1").write_text("x")
    assert files.sweep_partials(tmp_path) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["keep"]
