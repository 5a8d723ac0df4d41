"""Files that come through the browser: kept whole and checked, or refused with nothing left."""

from __future__ import annotations

import io
import zipfile

import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import open_services, uploads


@pytest.fixture
def empty(home):
    return open_services(home)


def zipped(members: dict[str, bytes], *, links: tuple[str, ...] = ()) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((0o120777 if name in links else 0o100644) << 16) | 0
            file.writestr(info, content)
    stream.seek(0)
    return stream


def folder_of(table_folder) -> dict[str, bytes]:
    return {f"tiny/{p.name}": p.read_bytes() for p in table_folder.iterdir() if p.is_file()}


def left(services) -> list[str]:
    root = services.home / "uploads"
    return sorted(p.name for p in root.iterdir()) if root.is_dir() else []


def test_a_zip_of_a_slide_folder_becomes_a_source(empty, table_folder):
    members = folder_of(table_folder) | {"__MACOSX/tiny/._cells.h5ad": b"x", "tiny/.DS_Store": b"x"}
    kept = uploads.save_upload(empty, "../My slide (1).zip", zipped(members))
    assert kept.name == "My-slide-1"
    entry = next(s for s in empty.sources() if s.name == "My-slide-1/tiny")
    assert entry.kind == "table"
    inside = {p.name for p in (empty.home / "uploads" / "My-slide-1" / "tiny").iterdir()}
    assert inside == {name.removeprefix("tiny/") for name in folder_of(table_folder)}
    again = uploads.save_upload(empty, "My slide (1).zip", zipped(folder_of(table_folder)))
    assert [u.name for u in uploads.list_uploads(empty)] == ["My-slide-1", again.name]
    uploads.delete_upload(empty, again.name)
    assert left(empty) == ["My-slide-1"]


def test_an_archive_that_holds_its_own_name_is_read_to_its_end(empty, table_folder):
    members = {"tiny.zip": b"another archive", **folder_of(table_folder)}
    kept = uploads.save_upload(empty, "tiny.zip", zipped(members))
    assert not list((empty.home / "uploads" / kept.name).glob("*.zip"))


def test_a_cut_archive_is_called_by_its_name(empty):
    with pytest.raises(SpatialFormerError, match=r"no zip archive.*\(cut\.zip\)"):
        uploads.save_upload(empty, "cut.zip", io.BytesIO(zipped({"a": b"1" * 99}).getvalue()[:60]))


def test_single_files_are_offered_where_they_belong(empty, table_folder):
    h5ad = (table_folder / "cells.h5ad").read_bytes()
    uploads.save_upload(empty, "cells.h5ad", io.BytesIO(h5ad))
    uploads.save_upload(empty, "labels.csv", io.BytesIO(b"cell_id,group\ncell-0,x\n"))
    assert "cells/uploaded-cells.h5ad" in {s.name for s in empty.sources()}
    assert "labels/labels.csv" in {f.name for f in empty.attachable()}


BOMB = {"tiny/cells.h5ad": b"\0" * 3_000_000}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.exe", b"MZ", "'.exe' are not taken"),
        ("a.h5ad", b"", "is empty"),
        ("a.h5ad", b"not HDF5 at all", "no HDF5 file"),
        ("a.zip", b"PK no zip", "no zip archive"),
        ("a.csv", b"\xff\xfe\x00", "no UTF-8"),
        ("a.csv", b"one column\n1\n", "one column only"),
        ("a.tif", b"II*\0garbage", "a.tif"),
        ("a.zip", zipped({"../../x": b"1"}), "named '../../x'"),
        ("a.zip", zipped({"/etc/x": b"1"}), "named '/etc/x'"),
        ("a.zip", zipped({"tiny/x": b"/etc/passwd"}, links=("tiny/x",)), "is a link"),
        ("a.zip", zipped({"x": b"1", "x/y": b"2"}), "both a file and a folder"),
        ("a.zip", zipped({"readme.txt": b"hello"}), "no slide that can be read"),
        ("a.zip", zipped(BOMB), "larger than the 2.0 MB allowed"),
        ("a.csv", b"a,b\n" * 400_000, "larger than the 1.0 MB allowed"),
    ],
)
def test_what_is_refused_leaves_nothing(home, name, content, said):
    limits = "limits: {max_upload_mb: 1, max_unpacked_mb: 2}\n"
    (home / "config.yaml").write_text(limits)
    services = open_services(home)
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    with pytest.raises(SpatialFormerError) as caught:
        uploads.save_upload(services, name, stream)
    assert said in str(caught.value)
    assert left(services) == []


def test_only_so_many_are_kept(home):
    (home / "config.yaml").write_text("limits: {max_uploads: 1}\n")
    services = open_services(home)
    uploads.save_upload(services, "a.csv", io.BytesIO(b"cell_id,group\n"))
    with pytest.raises(SpatialFormerError, match="1 uploads take"):
        uploads.save_upload(services, "b.csv", io.BytesIO(b"cell_id,group\n"))
    for name in ("..", "a/../a", "nothing"):
        with pytest.raises(SpatialFormerError):
            uploads.delete_upload(services, name)
    assert left(services) == ["a"]


def test_an_upload_that_a_job_may_read_stays(empty):
    uploads.save_upload(empty, "a.csv", io.BytesIO(b"cell_id,group\n"))
    empty.queue.submit("ingest", {"name": "x"}, "local")
    with pytest.raises(SpatialFormerError, match="being read"):
        uploads.delete_upload(empty, "a")
