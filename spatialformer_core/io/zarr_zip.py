"""Arrays of Zarr version 2 inside a zip archive, as Xenium writes them.

zarr itself would believe what the metadata and the chunk headers declare. Here the declared sizes
are compared with what is stored, and a chunk is decoded only if its own header states exactly the
size that the metadata gives it.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard
from spatialformer_core.io.archive import Archive

MAX_ARRAY_BYTES = 1 << 36
MAX_CHUNK_BYTES = 1 << 30
MAX_CHUNKS = 1 << 22
MAX_DIMENSIONS = 4

_FREE_BYTES = 1 << 26
_NUMBERS = re.compile(r"^([<>|][uif][1248]|\|b1)$")
_BLOSC_HEADER_BYTES = 16
_WINDOW_BITS = {"zlib": 15, "gzip": 31}
_CODECS = (None, "blosc", "zlib", "gzip")

Span = tuple[int, int]
"""First index and the one behind the last."""


@dataclass(frozen=True, slots=True)
class ZippedArray:
    """An array whose metadata passed the checks; nothing of it has been read yet.

    Attributes
    ----------
    name
        Its path inside the archive.
    codec
        Name of the compression, None = none.
    separator
        Between the chunk indices of a member's name.
    """

    archive: Archive
    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Any
    fill: float
    codec: str | None
    separator: str

    def read(self) -> NDArray[Any]:
        """Return the whole array.

        Raises
        ------
        SpatialFormerError
            If it declares more than its chunks can hold, or a chunk is damaged.
        """
        declared = math.prod(self.shape) * self.dtype.itemsize
        stored = self._stored_bytes()
        if declared > _FREE_BYTES + stored * guard.MAX_COMPRESSION_RATIO:
            raise self._refuse(f"declares {declared:,} bytes but stores {stored:,}")
        return self.region(*((0, length) for length in self.shape))

    def region(self, *spans: Span) -> NDArray[Any]:
        """Return part of the array.

        Parameters
        ----------
        spans
            One per dimension, within the shape.

        Raises
        ------
        SpatialFormerError
            If a chunk is damaged.
        """
        out = np.full([stop - start for start, stop in spans], self.fill, self.dtype)
        if out.size == 0:
            return out
        grid = [
            range(start // size, (stop - 1) // size + 1)
            for (start, stop), size in zip(spans, self.chunks, strict=True)
        ]
        for index in itertools.product(*grid):
            chunk = self._chunk(index)
            if chunk is None:
                continue
            here, there = [], []
            for (start, stop), size, at in zip(spans, self.chunks, index, strict=True):
                low, high = max(start, at * size), min(stop, (at + 1) * size)
                here.append(slice(low - start, high - start))
                there.append(slice(low - at * size, high - at * size))
            out[tuple(here)] = chunk[tuple(there)]
        return out

    def _chunk(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        name = f"{self.name}/{self.separator.join(str(i) for i in index)}"
        if name not in self.archive.sizes:
            return None
        size = math.prod(self.chunks) * self.dtype.itemsize
        packed = self.archive.read(name, size + (size >> 3) + 1024)
        try:
            data = _decoded(packed, self.codec, size)
        except (zlib.error, RuntimeError, ValueError, struct.error) as error:
            raise self._refuse(f"has a damaged chunk ({str(error)[:80]})") from error
        if len(data) != size:
            raise self._refuse(f"has a chunk that is not of the {size:,} bytes declared")
        return np.frombuffer(data, self.dtype).reshape(self.chunks, order=self.order)

    def _stored_bytes(self) -> int:
        counts = [-(-length // size) for length, size in zip(self.shape, self.chunks, strict=True)]
        if math.prod(counts) <= len(self.archive.sizes):
            keys = itertools.product(*(range(count) for count in counts))
            names = (f"{self.name}/{self.separator.join(map(str, key))}" for key in keys)
            return sum(self.archive.sizes.get(name, 0) for name in names)
        prefix = f"{self.name}/"
        return sum(b for name, b in self.archive.sizes.items() if name.startswith(prefix))

    def _refuse(self, what: str) -> SpatialFormerError:
        return SpatialFormerError(
            f"Array {self.name[:80]!r} {what}.", self.archive.path.name, "Copy it again."
        )


def _decoded(packed: bytes, codec: str | None, size: int) -> bytes:
    """Unpack a chunk into at most ``size`` bytes (one more where it would expand further)."""
    if codec is None:
        return packed
    if codec == "blosc":
        from numcodecs import blosc

        stated, _, whole = struct.unpack_from("<3I", packed, 4)
        if stated != size or whole != len(packed) or len(packed) < _BLOSC_HEADER_BYTES:
            return b""
        return bytes(blosc.decompress(packed))
    return zlib.decompressobj(_WINDOW_BITS[codec]).decompress(packed, size + 1)


def open_array(archive: Archive, name: str, dimensions: int) -> ZippedArray:
    """Return an array after checking its metadata.

    Parameters
    ----------
    name
        Path inside the archive.
    dimensions
        How many are expected.

    Raises
    ------
    SpatialFormerError
        If it is not there, is no version 2 array of plain numbers with that many dimensions,
        uses another compression than blosc, zlib or gzip, or declares absurd sizes.
    """
    meta = archive.json(f"{name}/.zarray")
    problem = _problem(meta, dimensions)
    if problem is not None:
        raise SpatialFormerError(f"Array {name[:80]!r} {problem}.", archive.path.name)
    compressor = meta.get("compressor")
    return ZippedArray(
        archive,
        name,
        tuple(meta["shape"]),
        tuple(meta["chunks"]),
        np.dtype(meta["dtype"]),
        meta.get("order", "C"),
        float(meta.get("fill_value") or 0),
        None if compressor is None else compressor["id"],
        meta.get("dimension_separator", "."),
    )


def _problem(meta: dict[str, Any], dimensions: int) -> str | None:
    """Say what is wrong with the metadata of an array, None if nothing is."""
    if meta.get("zarr_format") != 2:
        return f"is Zarr version {str(meta.get('zarr_format'))[:20]}; version 2 is expected"
    dtype = meta.get("dtype")
    if not isinstance(dtype, str) or not _NUMBERS.match(dtype):
        return f"holds {str(dtype)[:40]!r}; plain numbers are expected"
    for key, least in (("shape", 0), ("chunks", 1)):
        sizes = meta.get(key)
        good = isinstance(sizes, list) and len(sizes) == dimensions <= MAX_DIMENSIONS
        if not good or not all(type(n) is int and least <= n < 1 << 48 for n in sizes or ()):
            return f"has {key} {str(sizes)[:60]}; {dimensions} dimensions are expected"
    return _size_problem(meta) or _coding_problem(meta)


def _size_problem(meta: dict[str, Any]) -> str | None:
    itemsize = np.dtype(meta["dtype"]).itemsize
    if math.prod(meta["shape"]) * itemsize > MAX_ARRAY_BYTES:
        return f"declares shape {meta['shape']}"
    if math.prod(meta["chunks"]) * itemsize > MAX_CHUNK_BYTES:
        return f"declares chunks of {meta['chunks']}"
    pairs = zip(meta["shape"], meta["chunks"], strict=True)
    if math.prod(-(-length // size) for length, size in pairs) > MAX_CHUNKS:
        return f"declares more than {MAX_CHUNKS:,} chunks"
    return None


def _coding_problem(meta: dict[str, Any]) -> str | None:
    compressor = meta.get("compressor")
    codec = compressor.get("id") if isinstance(compressor, dict) else compressor
    if codec not in _CODECS or (codec is None and compressor is not None):
        return f"is compressed by {str(codec)[:40]!r}; blosc, zlib and gzip are allowed"
    if meta.get("filters"):
        return "uses filters, which are not allowed"
    if meta.get("order", "C") not in ("C", "F"):
        return "has neither C nor F order"
    if meta.get("dimension_separator", ".") not in (".", "/"):
        return "has an unknown dimension_separator"
    return _fill_problem(meta.get("fill_value"), np.dtype(meta["dtype"]))


def _fill_problem(fill: Any, dtype: np.dtype[Any]) -> str | None:
    if fill is None or (dtype.kind == "f" and (fill == "NaN" or isinstance(fill, int | float))):
        return None
    whole = isinstance(fill, int) and dtype.kind in "uib"
    top = np.iinfo(dtype).max if dtype.kind in "ui" else 1
    return None if whole and 0 <= fill <= top else "has a fill_value that does not fit"
