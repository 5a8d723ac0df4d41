from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import pytest

from spatialformer_core import disk, files
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


def put(target: Path, text: str) -> None:
    with files.atomic_directory(target, replace=True) as folder:
        (folder / "x").write_text(text)


class Killed(BaseException):
    """Stands for a kill: nothing of the writer runs after it."""


@pytest.mark.parametrize(("step", "left"), [(0, "old"), (1, "old"), (2, "new")])
def test_old_or_new_is_there_at_each_step_of_a_replacement(
    tmp_path: Path, monkeypatch, step: int, left: str
) -> None:
    """Two folders cannot be swapped here, so that the old one is set aside and comes back."""
    target, rename, done = tmp_path / "slide", Path.rename, []
    put(target, "old")

    def dies(self: Path, new: Path) -> Path:
        if len(done) == step:
            raise Killed
        done.append(1)
        return rename(self, new)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "exchange", lambda *_: False)
        patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)  # a dead writer cleans not
        patch.setattr(Path, "rename", dies)
        with contextlib.suppress(Killed):
            put(target, "new")
    assert target.exists() == (step != 1)
    assert files.restore_set_aside(tmp_path) == (step == 1)
    files.sweep_partials(tmp_path)
    assert (target / "x").read_text() == left
    assert files.verify_directory(target) == []
    assert [p.name for p in tmp_path.iterdir()] == ["slide"]


def test_two_folders_are_swapped_in_one_step(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    if not disk.exchange(one, two):
        pytest.skip("this file system cannot swap folders")
    assert [(p / "name").read_text() for p in (one, two)] == ["two", "one"]
    with pytest.raises(FileNotFoundError):
        disk.exchange(one, tmp_path / "three")


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    with files.atomic_directory(tmp_path / "slide") as folder:
        (folder / "x").write_text("half")
        assert files.sweep_partials(tmp_path) == 0
        assert folder.is_dir()
    with files.atomic_write(tmp_path / "a.json", "w") as stream:
        stream.write("half")
        assert files.sweep_partials(tmp_path) == 0
    assert (tmp_path / "a.json").read_text() == "half"


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "slide"
    with (
        pytest.raises(SpatialFormerError, match="exists already"),
        files.atomic_directory(target) as folder,
    ):
        (folder / "x").write_text("mine")
        target.mkdir()
        (target / "x").write_text("another's")
    assert (target / "x").read_text() == "another's"
    assert [p.name for p in tmp_path.iterdir()] == ["slide"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said_with_what_was_needed(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(SpatialFormerError, match=r"'slide'.*2.0 MB needed, 1.5 kB written.*free"),
        files.atomic_directory(tmp_path / "slide", needed_bytes=2_000_000) as folder,
    ):
        (folder / "x").write_bytes(bytes(1500))
        with files.atomic_write(folder / "y"):
            raise OSError(code, os.strerror(code))
    with pytest.raises(OSError, match="Permission"), files.atomic_write(tmp_path / "z"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(SpatialFormerError, match="disk is full"),
        files.atomic_directory(tmp_path / "slide", needed_bytes=1 << 60),
    ):
        pass


def test_differences_name_missing_changed_and_extra(tmp_path: Path) -> None:
    target = tmp_path / "slide"
    with files.atomic_directory(target) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_text(name)
        with files.atomic_directory(folder / "inner") as inner:
            (inner / "d").write_text("d")
    assert not files.compare_directory(target)
    (target / "a").unlink()
    (target / "b").write_text("x")
    (target / "e").symlink_to(target / "c")
    found = files.compare_directory(target)
    assert found == files.Differences(("a",), ("b",), ("e",))
    assert [s.split(" ")[0] for s in found.sentences()] == ["a", "b", "e"]
    (target / files.MANIFEST).write_text('{"files": {"../../x": "0"}}')
    assert files.compare_directory(target) == files.Differences(changed=(files.MANIFEST,))
    (target / files.MANIFEST).unlink()
    assert files.compare_directory(target) == files.Differences(missing=(files.MANIFEST,))
