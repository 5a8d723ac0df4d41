"""Large files from the web: resumed after a cut, hashed, there whole or not at all."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from spatialformer_core import __version__, files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent

MAX_BYTES = 8 << 30
"""No published checkpoint is near this; a server that sends more is cut off."""

_CHUNK = 1 << 18
_TIMEOUT_S = 60.0
_ATTEMPTS = 5
_PAUSE_S = 1.0
_BEYOND_THE_END = 416
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download.

    Attributes
    ----------
    path
        Where it lies.
    url
        What was asked for.
    n_bytes, sha256
        What came.
    """

    path: Path
    url: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server says it sends.

    Attributes
    ----------
    start
        First byte of the file that follows.
    total
        Size of the whole file, None if it does not tell.
    validator
        Its strong entity tag; empty if there is none.
    """

    start: int
    total: int | None
    validator: str


def download(
    url: str,
    path: Path,
    *,
    allow_local_http: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Downloaded:
    """Fetch a file; what an earlier, broken attempt left is continued.

    Parameters
    ----------
    url
        An ``https`` address; every redirect has to be one too.
    path
        Where the file shall appear; until then it is ``NAME.part`` beside it.
    allow_local_http
        Accept plain ``http`` to this machine itself (tests).
    max_bytes
        Larger files are refused.

    Raises
    ------
    SpatialFormerError
        If the address is no ``https``, the server refuses or keeps breaking off, or the file is
        too large.
    Cancelled
        If the user cancels; what came is kept for the next time.
    """
    _check_address(url, local=allow_local_http)
    opener = urllib.request.build_opener(_Redirects(local=allow_local_http))
    transfer = _Transfer(opener, url, max_bytes, progress, cancel)
    part = path.with_name(f"{path.name}.part")
    known = _Known(part, url)
    failures = 0
    while True:
        before = known.n_bytes
        try:
            done = transfer.attempt(known)
        except (urllib.error.HTTPError, OSError, http.client.HTTPException) as error:
            _give_up_on_refusal(error, url)
            if isinstance(error, urllib.error.HTTPError) and error.code == _BEYOND_THE_END:
                known.part.unlink(missing_ok=True)
            done, reason = False, str(error) or type(error).__name__
        else:
            reason = "the connection was closed early"
        if done:
            break
        failures = 0 if known.n_bytes > before else failures + 1
        if failures >= _ATTEMPTS:
            raise SpatialFormerError(
                f"The download broke off {failures} times in a row: {reason}.",
                where=_shown(url),
                fix="Try again; it continues where it stopped.",
            )
        time.sleep(_PAUSE_S * 2**failures if failures else 0.0)
    n_bytes, sha256 = known.n_bytes, files.sha256_file(part)
    files.finish(part, path)
    known.forget()
    return Downloaded(path, url, n_bytes, sha256)


class _Known:
    """What is there of an unfinished download: its bytes, and which file they belong to."""

    def __init__(self, part: Path, url: str) -> None:
        self.part, self.url = part, url
        self._notes = part.with_name(f"{part.name}.json")
        self.validator = ""
        self.total: int | None = None
        if part.is_file() and self._notes.is_file():
            notes = files.read_json(self._notes)
            if isinstance(notes, dict) and notes.get("url") == url:
                self.validator = str(notes.get("validator", ""))
                total = notes.get("total")
                self.total = total if isinstance(total, int) else None
                return
        part.unlink(missing_ok=True)

    @property
    def n_bytes(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def note(self, answer: _Answer) -> None:
        self.validator, self.total = answer.validator, answer.total
        notes = {"url": self.url, "validator": self.validator, "total": self.total}
        files.write_json(self._notes, notes)

    def forget(self) -> None:
        self._notes.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Transfer:
    """How a file is fetched, whichever attempt it is."""

    opener: urllib.request.OpenerDirector
    url: str
    max_bytes: int
    progress: Progress
    cancel: Cancel

    def attempt(self, known: _Known) -> bool:
        """Fetch what is missing; return whether the file is whole."""
        offset = known.n_bytes
        if offset and offset == known.total:
            return True
        headers = {"User-Agent": f"spatialformer/{__version__}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if known.validator:
                # Another file under the same address is then sent whole, not joined to this one.
                headers["If-Range"] = known.validator
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 (checked)
        with self.opener.open(request, timeout=_TIMEOUT_S) as response:
            answer = _read_answer(response.status, response.headers, offset)
            changed = known.total is not None and answer.total not in {None, known.total}
            if answer.start and (answer.start != offset or changed):
                known.part.unlink(missing_ok=True)
                return False
            if answer.total is not None and answer.total > self.max_bytes:
                raise _too_large(self.url, self.max_bytes)
            known.note(answer)
            with files.growing(known.part, fresh=answer.start == 0) as stream:
                n_bytes = self._copy(response, stream, answer)
        if n_bytes > self.max_bytes:
            raise _too_large(self.url, self.max_bytes)
        return n_bytes == answer.total if answer.total is not None else True

    def _copy(self, response: Any, stream: IO[bytes], answer: _Answer) -> int:
        done = answer.start
        while done <= self.max_bytes and (block := response.read(_CHUNK)):
            check(self.cancel)
            stream.write(block)
            done += len(block)
            self.progress(done, answer.total or max(done, 1), f"{done / 1e6:,.0f} MB")
        return done


def _read_answer(status: int, headers: Mapping[str, str], offset: int) -> _Answer:
    tag = headers.get("ETag") or ""
    validator = "" if tag.startswith("W/") else tag
    length = headers.get("Content-Length") or ""
    if status == 200:
        return _Answer(0, int(length) if length.isdigit() else None, validator)
    found = _RANGE.match(headers.get("Content-Range") or "")
    if status != 206 or not offset or found is None:
        raise SpatialFormerError(
            f"The server answered with status {status} where a file was expected.",
            fix="Fetch the file with a browser and convert it: spatialformer convert FILE OUT.",
        )
    total = None if found[3] == "*" else int(found[3])
    return _Answer(int(found[1]), total, validator)


def _give_up_on_refusal(error: Exception, url: str) -> None:
    """Raise if the server said no; return if trying again may help."""
    if not isinstance(error, urllib.error.HTTPError):
        return
    with error:
        if error.code == _BEYOND_THE_END or error.code >= 500 or error.code == 429:
            return
        raise SpatialFormerError(
            f"The server refuses the file (status {error.code}).",
            where=_shown(url),
            fix="Fetch the file with a browser and convert it: spatialformer convert FILE OUT.",
        ) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to ``https`` only."""

    def __init__(self, *, local: bool) -> None:
        self._local = local

    def redirect_request(  # noqa: PLR0917 (the library's own signature)
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        _check_address(newurl, local=self._local)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str, *, local: bool) -> None:
    parts = urlsplit(url)
    plain = local and parts.scheme == "http" and parts.hostname in _LOCAL
    if not plain and (parts.scheme != "https" or not parts.hostname):
        raise SpatialFormerError(
            "Files are fetched over https only.",
            where=_shown(url),
            fix="Give an address that begins with https://.",
        )


def _shown(url: str) -> str:
    # Signed addresses carry keys in their query.
    return urlsplit(url)._replace(query="", fragment="").geturl()[:200]


def _too_large(url: str, max_bytes: int) -> SpatialFormerError:
    return SpatialFormerError(f"The file is larger than {max_bytes:,} bytes.", where=_shown(url))
