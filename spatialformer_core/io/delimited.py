"""CSV, TSV and MatrixMarket text, plain or gzipped, streamed with a bound on what it expands to."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spatialformer_core import progress as progress_
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import guard

MAX_TEXT_BYTES = 1 << 38
MAX_LINE_BYTES = 1 << 20
MAX_COLUMNS = 1 << 16
"""A matrix of cells x genes has a column per gene."""
MAX_EXPANSION = 200
"""Tables of numbers shrink 3- to 10-fold; what expands further was made to fill memory or disk."""

_FREE_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 23


def _refuse(what: str, path: Path, fix: str | None = None) -> SpatialFormerError:
    return SpatialFormerError(what, where=path.name, fix=fix)


class _Bounded(io.RawIOBase):
    """A byte stream that refuses to yield more than a file of its size may hold."""

    def __init__(self, source: Any, path: Path) -> None:
        super().__init__()
        self._source, self._path = source, path
        expanded = _FREE_BYTES + path.stat().st_size * MAX_EXPANSION
        self._left = min(expanded, MAX_TEXT_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._source.readinto(buffer)
        self._left -= got
        if self._left < 0:
            raise _refuse(
                f"It expands to more than {MAX_EXPANSION} times its size, which no table does.",
                self._path,
            )
        return int(got)


@contextlib.contextmanager
def open_text(path: Path, folder: Path) -> Iterator[io.BufferedReader]:
    """Open a text file for reading bytes; a name that ends in ``.gz`` is unpacked on the way.

    Raises
    ------
    SpatialFormerError
        If it is missing, empty, leads outside ``folder``, is no gzip file or is truncated, or
        expands beyond any table.
    """
    guard.check_file(path, folder)
    try:
        with path.open("rb") as raw, contextlib.ExitStack() as stack:
            zipped = path.suffix == ".gz"
            source = stack.enter_context(gzip.GzipFile(fileobj=raw)) if zipped else raw
            yield io.BufferedReader(_Bounded(source, path), 1 << 18)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _refuse(
            f"The file is no gzip file, or it is truncated: {str(error)[:120]}.",
            path,
            "Copy it again.",
        ) from error


def read_line(stream: io.BufferedReader, path: Path) -> str:
    """Return the next line without its end, empty at the end of the file.

    Raises
    ------
    SpatialFormerError
        If it is longer than ``MAX_LINE_BYTES`` or no UTF-8.
    """
    line = stream.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise _refuse(f"A line is longer than {MAX_LINE_BYTES:,} bytes.", path)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _refuse(f"The text is no UTF-8: {error}.", path) from error


def columns(path: Path, folder: Path) -> list[str]:
    """Return the column names of a CSV with a header.

    A column that has no name, or the name of another one, is called ``NAME#POSITION``.

    Raises
    ------
    SpatialFormerError
        If the file cannot be opened or its first line is no header.
    """
    with open_text(path, folder) as stream:
        return _header(stream, path)


def _header(stream: io.BufferedReader, path: Path) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([read_line(stream, path)]), [])]
    except csv.Error as error:
        raise _refuse(f"Its first line is no header: {error}.", path) from error
    if len(names) > MAX_COLUMNS:
        raise _refuse(f"It has {len(names):,} columns; {MAX_COLUMNS:,} at most.", path)
    return _unique(names)


def batches(
    path: Path,
    folder: Path,
    required: Mapping[str, Any],
    optional: Mapping[str, Any],
    cancel: progress_.Cancel = progress_.never,
) -> Iterator[Any]:
    """Yield the wanted columns of a CSV with a header as record batches.

    Parameters
    ----------
    required, optional
        Arrow type of each column; optional ones that the file lacks are left out. An empty field
        is null, nothing else is.

    Raises
    ------
    SpatialFormerError
        If a column is missing, a value has another type, or a line another number of fields.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    with open_text(path, folder) as stream:
        header = _header(stream, path)
        absent = [name for name in required if name not in header]
        if absent:
            raise _refuse(
                f"Column(s) {', '.join(absent)} expected; found {', '.join(header[:20])[:200]!r}.",
                path,
            )
        types = {n: kind for n, kind in (*required.items(), *optional.items()) if n in header}
        convert = pc.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
        )
        options = pc.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=header)
        with _reading(path):
            if not stream.peek(1):
                yield pa.RecordBatch.from_pylist([], schema=pa.schema(list(types.items())))
                return
            for batch in pc.open_csv(stream, read_options=options, convert_options=convert):
                progress_.check(cancel)
                yield batch


def bare_rows(
    path: Path, stream: io.BufferedReader, types: Sequence[Any], separator: str
) -> Iterator[Any]:
    """Yield the rest of a text file without header as record batches, columns ``c0 c1 ...``.

    Parameters
    ----------
    types
        Arrow type of each column.

    Raises
    ------
    SpatialFormerError
        If a field has another type, or a line another number of fields.
    """
    import pyarrow.csv as pc

    named = {f"c{position}": kind for position, kind in enumerate(types)}
    options = pc.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=list(named))
    with _reading(path):
        if stream.peek(1):
            yield from pc.open_csv(
                stream,
                read_options=options,
                parse_options=pc.ParseOptions(delimiter=separator, quote_char=False),
                convert_options=pc.ConvertOptions(column_types=named),
            )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _refuse(
            f"The table cannot be read: {str(error)[:160]}", path, "Write it again."
        ) from error


def _unique(names: list[str]) -> list[str]:
    """Return names that differ: a column that is not wanted may occur twice or have no name."""
    seen: set[str] = set()
    result = []
    for position, name in enumerate(names):
        result.append(f"{name}#{position}" if name in seen or not name else name)
        seen.add(name)
    return result
