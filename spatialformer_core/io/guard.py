"""The gate for untrusted files: nothing is read through a reference that leads elsewhere.

anndata follows external HDF5 links, tifffile opens other files that an OME-XML block names, and
every header may lie about sizes. The checks here run before the first value is read.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import tifffile

from spatialformer_core.errors import SpatialFormerError

MAX_HDF5_OBJECTS = 100_000
MAX_HDF5_DEPTH = 32
MAX_HDF5_BYTES = 1 << 36
MAX_PARQUET_ROWS = 1_000_000_000
MAX_ROWS_PER_BYTE = 16
"""Tables of places take bytes per row; constant columns would expand a small file to any size."""
MAX_PARQUET_COLUMNS = 1_000
MAX_ROW_GROUP_BYTES = 1 << 34
MAX_THRIFT_BYTES = 1 << 28
MAX_PIXELS = 20_000_000_000
MAX_CHANNELS = 64
MAX_XML_BYTES = 1 << 25
MAX_COMPRESSION_RATIO = 1_100
"""Deflate cannot exceed 1032:1, so a larger declared size is a lie or an unwritten fill value."""

_FREE_BYTES = 1 << 26
_FREE_ROWS = 1 << 20
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
"""HDF5's own filters and LZF: others would load plugins."""
TIFF_FAULTS = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
)
"""What tifffile and its codecs raise on damaged files; they have no error of their own for it."""
_FILENAME = re.compile(r"FileName\s*=\s*(\"[^\"]*\"|'[^']*')")


def _refuse(what: str, path: Path, fix: str | None = None) -> SpatialFormerError:
    return SpatialFormerError(what, where=path.name, fix=fix)


def check_file(path: Path, folder: Path) -> Path:
    """Return ``path`` if it is a regular file that truly lies below ``folder``.

    Raises
    ------
    SpatialFormerError
        If it is missing, no regular file, empty, or a link that leads outside.
    """
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise _refuse(
            "The file is a link that leads outside its folder.", path, "Copy the file there."
        )
    if not real.is_file():
        raise _refuse("A file was expected and is not there.", path)
    if real.stat().st_size == 0:
        raise _refuse("The file is empty.", path, "Copy it again.")
    return path


def _check_link(parent: Any, name: str, path: Path) -> None:
    link = parent.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _refuse(
            f"The file holds a {type(link).__name__} ({name[:80]!r}), which is not followed.",
            path,
            "Write it again with all data inside.",
        )


def _check_dataset(dataset: Any, path: Path) -> None:
    if dataset.external or dataset.is_virtual:
        raise _refuse(
            f"The data of {dataset.name[:80]!r} lie in another file, which is not followed.",
            path,
            "Write it again with all data inside.",
        )
    plist = dataset.id.get_create_plist()
    for position in range(plist.get_nfilters()):
        code = plist.get_filter(position)[0]
        if code not in _FILTERS:
            raise _refuse(
                f"{dataset.name[:80]!r} uses HDF5 filter {code}, which is not allowed.",
                path,
                "Write it again with gzip compression.",
            )
    declared = dataset.size * dataset.dtype.itemsize if dataset.shape is not None else 0
    stored = dataset.id.get_storage_size()
    if declared > MAX_HDF5_BYTES or declared > _FREE_BYTES + stored * MAX_COMPRESSION_RATIO:
        raise _refuse(
            f"{dataset.name[:80]!r} declares {declared:,} bytes but stores {stored:,}.", path
        )


def check_hdf5(file: Any, path: Path) -> None:
    """Walk an open HDF5 file and refuse what leads outside or is oversized.

    Raises
    ------
    SpatialFormerError
        On soft or external links, external or virtual data, unknown filters, too many or too
        deeply nested objects, and declared sizes that the stored bytes cannot hold.
    """
    stack: list[tuple[Any, int]] = [(file["/"], 0)]
    seen = 0
    while stack:
        group, depth = stack.pop()
        if depth > MAX_HDF5_DEPTH:
            raise _refuse("Its groups are nested too deeply, or in a circle.", path)
        for name in group:
            seen += 1
            if seen > MAX_HDF5_OBJECTS:
                raise _refuse(f"It holds more than {MAX_HDF5_OBJECTS:,} objects.", path)
            _check_link(group, name, path)
            child = group[name]
            if isinstance(child, h5py.Group):
                stack.append((child, depth + 1))
            elif isinstance(child, h5py.Dataset):
                _check_dataset(child, path)


@contextlib.contextmanager
def open_hdf5(path: Path, folder: Path) -> Iterator[Any]:
    """Open an HDF5 file read-only after `check_hdf5`.

    Raises
    ------
    SpatialFormerError
        If it is no HDF5 file, is damaged, or holds what is refused.
    """
    check_file(path, folder)
    damaged = "The file is no HDF5 file, or it is damaged"
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _refuse(f"{damaged}: {str(error)[:200]}.", path, "Copy it again.") from error
    with file:
        try:
            check_hdf5(file, path)
            yield file
        except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
            raise _refuse(f"{damaged}: {str(error)[:200]}.", path, "Copy it again.") from error


def open_parquet(path: Path, folder: Path, columns: tuple[str, ...]) -> Any:
    """Open a Parquet file after checking its footer.

    Parameters
    ----------
    columns
        Columns that must be there.

    Returns
    -------
    pyarrow.parquet.ParquetFile
        Text columns are read dictionary-encoded.

    Raises
    ------
    SpatialFormerError
        If it is no Parquet file, truncated, lacks a column, or declares absurd sizes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_file(path, folder)
    limits = {
        "thrift_string_size_limit": MAX_THRIFT_BYTES,
        "thrift_container_size_limit": MAX_THRIFT_BYTES // 64,
    }
    try:
        file = pq.ParquetFile(path, **limits)
        schema = file.schema_arrow
        texts = [f.name for f in schema if _is_text(f.type)]
        if texts:
            file.close()
            file = pq.ParquetFile(path, read_dictionary=texts, **limits)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _refuse(
            f"The file is no Parquet file, or it is truncated: {str(error)[:160]}",
            path,
            "Copy it again.",
        ) from error
    try:
        _check_footer(file.metadata, path)
    except SpatialFormerError:
        file.close()
        raise
    absent = [name for name in columns if name not in schema.names]
    if absent:
        raise _refuse(
            f"Column(s) {', '.join(absent)} expected; found {', '.join(schema.names[:20])}.", path
        )
    return file


def _is_text(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind))


def _check_footer(metadata: Any, path: Path) -> None:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if rows != metadata.num_rows or any(group.num_rows < 0 for group in groups):
        raise _refuse("Its row groups do not add up to the rows it declares.", path)
    if rows > MAX_PARQUET_ROWS or metadata.num_columns > MAX_PARQUET_COLUMNS:
        raise _refuse(f"It declares {rows:,} rows in {metadata.num_columns:,} columns.", path)
    if rows > _FREE_ROWS + path.stat().st_size * MAX_ROWS_PER_BYTE:
        raise _refuse(f"It declares {rows:,} rows in {path.stat().st_size:,} bytes.", path)
    largest = max((group.total_byte_size for group in groups), default=0)
    if largest > MAX_ROW_GROUP_BYTES:
        raise _refuse(f"One of its row groups declares {largest:,} bytes.", path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what Arrow raises on damaged pages into one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _refuse(f"The file is damaged: {str(error)[:160]}", path, "Copy it again.") from error


def open_tiff(path: Path, folder: Path) -> tifffile.TiffFile:
    """Open one TIFF file and never another one.

    The OME block is parsed by us (`ome_xml`); tifffile's own OME reader would open the files that
    it names. References to neighbours in the same folder, as real Xenium runs write them for
    their channels, are left unread; any other reference is refused.

    Raises
    ------
    SpatialFormerError
        If it is no TIFF, references a file elsewhere, or declares absurd sizes.
    """
    check_file(path, folder)
    try:
        tif = tifffile.TiffFile(path, is_ome=False, _multifile=False)
    except TIFF_FAULTS as error:
        said = f"The file is no TIFF image: {str(error)[:160]}."
        raise _refuse(said, path, "Save the image as a TIFF, or copy it again.") from error
    try:
        _check_tiff(tif, path)
    except BaseException:
        tif.close()
        raise
    return tif


def _check_tiff(tif: tifffile.TiffFile, path: Path) -> None:
    try:
        page = tif.pages.first
        pixels = int(page.imagewidth) * int(page.imagelength)
        stored = sum(page.databytecounts)
        ends = max((a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)))
    except TIFF_FAULTS as error:
        raise _refuse(f"Its header cannot be read: {str(error)[:160]}.", path) from error
    if not 0 < pixels <= MAX_PIXELS or page.samplesperpixel > MAX_CHANNELS:
        raise _refuse(f"It declares {pixels:,} pixels.", path)
    if ends > path.stat().st_size:
        raise _refuse("It is truncated: its pixels end behind the file.", path, "Copy it again.")
    if pixels > _FREE_BYTES + stored * 20 * MAX_COMPRESSION_RATIO:
        raise _refuse(f"It declares {pixels:,} pixels in {stored:,} bytes.", path)
    ome_xml(tif, path)


def ome_xml(tif: tifffile.TiffFile, path: Path) -> str:
    """Return the OME-XML text of a TIFF, or an empty string.

    Raises
    ------
    SpatialFormerError
        If it is oversized, declares entities, or names a file outside its folder.
    """
    text = str(tif.pages.first.description or "")
    if "<OME" not in text[:10_000] and "OME-XML" not in text[:10_000]:
        return ""
    if len(text) > MAX_XML_BYTES:
        raise _refuse("Its OME block is oversized.", path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _refuse("Its OME block declares entities, which is not allowed.", path)
    for match in _FILENAME.finditer(text):
        name = match.group(1)[1:-1]
        if name and not _is_plain_name(name):
            raise _refuse(
                f"Its OME block refers to another file ({name[:80]!r}), which is not followed.",
                path,
                "Save the image as one self-contained OME-TIFF.",
            )
    return text


def _is_plain_name(name: str) -> bool:
    return not re.search(r"[/\\:&\x00]", name) and name not in {".", ".."}
