"""Official checkpoints from where their authors put them: fetched, hashed, converted.

The addresses are the file ids in the published package's README on figshare. They could not be
tried from where this was written; downloads are tested against a server of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.download import Downloaded, download
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.service.convert import ConvertOptions, convert_spatialformer

if TYPE_CHECKING:
    from spatialformer_core.slides import Slide

_ADDRESS = "https://ndownloader.figshare.com/files/{}"


@dataclass(frozen=True, slots=True)
class Official:
    """One official checkpoint.

    Attributes
    ----------
    file_id, article_id
        On figshare.
    input_type
        What it was trained on: pairs or single cells.
    slides
        How many slides, of what.
    """

    file_id: int
    article_id: int
    input_type: Literal["paired", "single"]
    slides: str

    @property
    def url(self) -> str:
        """Where the file is fetched."""
        return _ADDRESS.format(self.file_id)


OFFICIAL: dict[str, Official] = {
    "published-71-pair": Official(61331557, 31146247, "paired", "71 slides, 13 tissues"),
    "published-71-single": Official(61331527, 31146238, "single", "71 slides, 13 tissues"),
    "published-61-pair": Official(52503416, 28452167, "paired", "61 slides, 13 tissues"),
    "published-62-single": Official(52503695, 28452209, "single", "62 slides, 13 tissues"),
    "published-lung-25-pair": Official(52504040, 28452233, "paired", "25 slides, lung"),
    "published-lung-1-pair": Official(52503359, 28452137, "paired", "1 slide, lung"),
}


def official(name: str) -> Official:
    """Return what is known of an official checkpoint.

    Raises
    ------
    SpatialFormerError
        If there is none of that name.
    """
    if name not in OFFICIAL:
        raise SpatialFormerError(
            f"There is no official checkpoint {name[:80]!r}.",
            fix=f"Choose one of {', '.join(OFFICIAL)}.",
        )
    return OFFICIAL[name]


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How a checkpoint is fetched.

    Attributes
    ----------
    url
        A mirror, instead of figshare.
    keep
        Keep the fetched file in ``downloads`` of the home folder.
    allow_local_http
        Accept plain ``http`` to this machine itself (tests).
    """

    url: str | None = None
    keep: bool = False
    allow_local_http: bool = False


def pull_checkpoint(
    home: Path,
    name: str,
    options: PullOptions | None = None,
    *,
    check_slide: Slide | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Fetch an official checkpoint and convert it into the home folder's checkpoints.

    Returns
    -------
    dict
        Its provenance; ``source_sha256`` is the hash of the file that came (the authors publish
        none to compare it with).

    Raises
    ------
    SpatialFormerError
        If the name is unknown or taken, the download fails, or the file cannot be converted.
    Cancelled
        If the user cancels; what came is kept for the next time.
    """
    known, options = official(name), options or PullOptions()
    out = home / "checkpoints" / name
    if out.exists():
        raise SpatialFormerError(
            f"The checkpoint {name!r} is there already.", fix=f"Remove {out} to fetch it again."
        )
    folder = home / "downloads"
    path, record = folder / f"{name}.ckpt", folder / f"{name}.json"
    fetched = _kept(path, record)
    if fetched is None:
        fetched = download(
            options.url or known.url,
            path,
            allow_local_http=options.allow_local_http,
            progress=staged(progress, 0.0, 0.8),
            cancel=cancel,
        )
        told = {"url": fetched.url, "bytes": fetched.n_bytes, "sha256": fetched.sha256}
        files.write_json(record, told)
    source = {"fetched_from": fetched.url, "figshare_article": known.article_id}
    try:
        provenance = convert_spatialformer(
            path,
            out,
            ConvertOptions(input_type=known.input_type, source=source | {"slides": known.slides}),
            check_slide=check_slide,
            progress=staged(progress, 0.8, 1.0),
        )
    except SpatialFormerError as error:
        # Not thrown away: it may be right and only be refused on this slide.
        kept = f"The fetched file is kept as {path}: convert it by hand, or remove it."
        raise SpatialFormerError(
            error.message, error.where, f"{error.fix or ''} {kept}".strip()
        ) from error
    if not options.keep:
        path.unlink()
        record.unlink()
    return provenance


def _kept(path: Path, record: Path) -> Downloaded | None:
    """Return an earlier download that is still what it was."""
    if not path.is_file() or not record.is_file():
        return None
    told = files.read_json(record)
    if not isinstance(told, dict) or told.get("sha256") != files.sha256_file(path):
        return None
    return Downloaded(path, str(told.get("url")), path.stat().st_size, str(told["sha256"]))
