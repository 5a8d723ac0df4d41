"""What a SpatialData folder must be like before zarr, anndata or Arrow open anything in it.

zarr follows links out of its folder and believes every size that a header declares; dask follows
the paths that a Parquet ``_metadata`` file names. So the whole folder is walked first.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.spatialdata_store_chunks import check_chunks

MAX_OBJECTS = 2_000_000
MAX_DEPTH = 24
MAX_JSON_BYTES = 1 << 26
MAX_ARRAY_BYTES = 1 << 38
MAX_CHUNK_BYTES = 1 << 31
MAX_DIMENSIONS = 8

_FREE_BYTES = 1 << 26
_COPY = "Write the store again with all data inside."
_V2_NUMBER = re.compile(r"^[<>|][biufc](\d{1,2})$")
_V2_TEXT = re.compile(r"^[<>|][SU](\d{1,4})$")
_V3_NUMBER = re.compile(r"^(?:bool|u?int(\d{1,2})|float(\d{1,2})|complex(\d{1,3}))$")
_OBJECT_BYTES = 8
_CODECS = frozenset(
    {
        *("blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "shuffle", "delta"),
        *("vlen-utf8", "vlen-bytes", "bytes", "transpose", "crc32c", "sharding_indexed"),
        *("numcodecs.blosc", "numcodecs.zlib", "numcodecs.zstd", "numcodecs.gzip", "endian"),
    }
)
"""Codecs that only rearrange or shrink bytes: pickle and its kin are not among them."""
_TEXT_TYPES = ("string", "variable_length_utf8", "variable_length_bytes", "bytes")


@dataclass
class _Walk:
    """What lies below the root.

    Attributes
    ----------
    stored
        Bytes below each folder, by its path relative to the root.
    headers
        Metadata files of arrays and groups.
    tables
        Parquet files.
    """

    stored: dict[str, int] = field(default_factory=dict)
    headers: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def _refuse(what: str, where: str, fix: str | None = None) -> SpatialFormerError:
    return SpatialFormerError(what, where=where, fix=fix)


def check_store(root: Path) -> None:
    """Walk a SpatialData folder and refuse what leads outside, is oversized or lies.

    Raises
    ------
    SpatialFormerError
        On links, devices, too many or too deeply nested objects, unreadable headers, unknown
        codecs, arrays and chunks whose declared size the stored bytes cannot hold, names that
        climb out, and Parquet files with absurd footers or that refer to others.
    """
    walk = _walk(root)
    for header in walk.headers:
        where = str(header.relative_to(root))
        for path, values in _arrays(header, root):
            _check_array(values, walk.stored.get(path, 0), where)
            if path in walk.stored:
                _check_chunks(root / path, values, where)
    for table in walk.tables:
        if table.name.startswith("_") or not table.name.endswith(".parquet"):
            raise _refuse(
                f"{table.name[:80]!r} may refer to other files, which are not followed.",
                str(table.relative_to(root)),
                "Remove it: the points are read without it.",
            )
        guard.open_parquet(table, root, ()).close()


def _walk(root: Path) -> _Walk:
    found = _Walk()
    order: list[tuple[str, str | None]] = []
    stack: list[tuple[Path, str, str | None, int]] = [(root, "", None, 0)]
    seen = 0
    while stack:
        folder, name, parent, depth = stack.pop()
        order.append((name, parent))
        found.stored[name] = 0
        if depth > MAX_DEPTH:
            raise _refuse("Its folders are nested too deeply.", name[:80])
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > MAX_OBJECTS:
                    raise _refuse(f"It holds more than {MAX_OBJECTS:,} objects.", root.name)
                inner = f"{name}/{entry.name}" if name else entry.name
                if entry.is_symlink():
                    raise _refuse("It holds a link, which is not followed.", inner, _COPY)
                if entry.is_dir():
                    stack.append((folder / entry.name, inner, name, depth + 1))
                elif entry.is_file():
                    found.stored[name] += entry.stat().st_size
                    _sort(found, folder / entry.name)
                else:
                    raise _refuse("It holds something that is no file.", inner, _COPY)
    for name, parent in reversed(order):
        if parent is not None:
            found.stored[parent] += found.stored[name]
    return found


def _sort(found: _Walk, path: Path) -> None:
    if path.name in (".zarray", ".zattrs", ".zmetadata", "zarr.json"):
        found.headers.append(path)
    elif path.suffix == ".parquet" or path.parent.suffix == ".parquet":
        found.tables.append(path)


def read_header(path: Path, where: str) -> dict[str, Any]:
    """Return a metadata file of zarr.

    Raises
    ------
    SpatialFormerError
        If it is oversized or no JSON object.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise _refuse(f"The header is larger than {MAX_JSON_BYTES:,} bytes.", where)
    try:
        values = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        raise _refuse(f"The header is no JSON: {str(error)[:120]}.", where, "Copy it again.") from (
            error
        )
    if not isinstance(values, dict):
        raise _refuse("The header holds no object.", where, "Copy it again.")
    return values


def _arrays(header: Path, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and metadata of each array that a header describes."""
    where = str(header.relative_to(root))
    own = "" if header.parent == root else str(header.parent.relative_to(root))
    values = read_header(header, where)
    _check_image_paths(values, where)
    if header.name == ".zattrs":
        return
    if header.name == ".zarray":
        yield own, values
        return
    if header.name == "zarr.json" and values.get("node_type") == "array":
        yield own, values
    inner = values.get("consolidated_metadata") if header.name == "zarr.json" else values
    inner = inner.get("metadata") if isinstance(inner, dict) else None
    for key, entry in inner.items() if isinstance(inner, dict) else ():
        if not is_plain(key):
            raise _refuse(f"It describes an array at {key[:80]!r}.", where)
        _check_image_paths(entry, where)
        path = PurePosixPath(own, key)
        if path.name == ".zarray":
            yield str(path.parent), entry
        elif isinstance(entry, dict) and entry.get("node_type") == "array":
            yield str(path), entry


def is_plain(name: Any) -> bool:
    """Tell whether a name inside a store leads nowhere else."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= 1_024
        and not name.startswith("/")
        and ".." not in PurePosixPath(name).parts
        and not any(mark in name for mark in "\\:\x00")
    )


def _check_image_paths(values: Any, where: str) -> None:
    """Refuse a multiscale image whose levels lie elsewhere."""
    holders = [values] if isinstance(values, dict) else []
    for key in ("attributes", "ome"):
        holders += [h[key] for h in holders if isinstance(h.get(key), dict)]
    for holder in holders:
        scales = holder.get("multiscales")
        for scale in scales if isinstance(scales, list) else ():
            levels = scale.get("datasets") if isinstance(scale, dict) else None
            for level in levels if isinstance(levels, list) else ():
                path = level.get("path") if isinstance(level, dict) else None
                if not is_plain(path):
                    raise _refuse(f"A level of the image lies at {str(path)[:80]!r}.", where, _COPY)


def _check_array(values: Any, stored: int, where: str) -> None:
    if not isinstance(values, dict):
        raise _refuse("The header of an array holds no object.", where)
    shape = _sizes(values.get("shape"), where)
    item = _item_bytes(values, where)
    for codec in _codec_names(values):
        if codec not in _CODECS:
            raise _refuse(f"An array uses codec {str(codec)[:40]!r}, which is not allowed.", where)
    declared = math.prod(shape) * item
    most = _FREE_BYTES + stored * guard.MAX_COMPRESSION_RATIO
    if declared > min(MAX_ARRAY_BYTES, most):
        raise _refuse(f"An array declares {declared:,} bytes but stores {stored:,}.", where)
    chunk = math.prod(_sizes(_chunks(values), where)) * item
    if chunk > min(MAX_CHUNK_BYTES, most):
        raise _refuse(f"A chunk declares {chunk:,} bytes; {stored:,} are stored.", where)


def _check_chunks(folder: Path, values: dict[str, Any], where: str) -> None:
    names = list(_codec_names(values))
    if "sharding_indexed" in names:
        # Its chunks lie inside shards; what is unpacked at once was bounded above.
        return
    expected = math.prod(_sizes(_chunks(values), where)) * _item_bytes(values, where)
    texts = _is_text(values.get("dtype", values.get("data_type")))
    for name in names:
        check_chunks(folder, name, None if texts else expected, where)


def _is_text(kind: Any) -> bool:
    return kind == "|O" or kind in _TEXT_TYPES or isinstance(kind, dict)


def _sizes(values: Any, where: str) -> list[int]:
    sound = (
        isinstance(values, list)
        and len(values) <= MAX_DIMENSIONS
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)
    )
    if not sound:
        raise _refuse(f"An array has shape {str(values)[:80]!r}.", where)
    return list(values)


def _item_bytes(values: dict[str, Any], where: str) -> int:
    """Return the bytes of one item; texts of any length count as a pointer."""
    kind = values.get("dtype", values.get("data_type"))
    if _is_text(kind):
        return _OBJECT_BYTES
    if isinstance(kind, str):
        if found := _V2_NUMBER.match(kind):
            return int(found[1])
        if found := _V2_TEXT.match(kind):
            return 4 * int(found[1])
        if found := _V3_NUMBER.match(kind):
            return max(1, int(next((g for g in found.groups() if g), "8")) // 8)
    raise _refuse(f"An array has type {str(kind)[:80]!r}.", where)


def _chunks(values: dict[str, Any]) -> Any:
    """Return the shape of what is unpacked at once: within a shard, its inner chunks."""
    for codec in _listed(values.get("codecs")):
        if _entry(codec, "name") == "sharding_indexed":
            return _entry(_entry(codec, "configuration"), "chunk_shape")
    if "chunk_grid" in values:
        return _entry(_entry(values["chunk_grid"], "configuration"), "chunk_shape")
    return values.get("chunks")


def _entry(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, dict) else None


def _listed(values: Any) -> list[Any]:
    """Return a list as it is, nothing as no entries, anything else as one entry."""
    if values is None:
        return []
    return list(values) if isinstance(values, list) else [values]


def _codec_names(values: dict[str, Any]) -> Iterator[Any]:
    """Yield the names of all codecs, those inside shards too."""
    listed = [
        codec for key in ("compressor", "filters", "codecs") for codec in _listed(values.get(key))
    ]
    while listed:
        codec = listed.pop()
        name = codec.get("name", codec.get("id")) if isinstance(codec, dict) else codec
        yield name if isinstance(name, str) else str(name)
        inner = _entry(codec, "configuration")
        listed += _listed(_entry(inner, "codecs")) + _listed(_entry(inner, "index_codecs"))
