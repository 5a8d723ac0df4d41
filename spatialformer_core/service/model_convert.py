"""Published checkpoints converted for a page: a file below the allowed folders, as a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import ensure_worker
from spatialformer_core.progress import Cancel, Progress, check
from spatialformer_core.service.settings import load_config, source_roots
from spatialformer_core.service.sources import SourceEntry, file_path, list_files

if TYPE_CHECKING:
    from spatialformer_core.service.facade import Services

KIND = "convert"
REPORT = "convert.json"
_FOLDER = "checkpoints"


class ConvertRequest(FrozenModel):
    """What shall be converted.

    Attributes
    ----------
    file_id
        The published file, by id.
    name
        Of the new checkpoint.
    input_type, layout
        What the file may not tell of itself; None leaves it to the file.
    base_id
        The model that a file of low-rank changes alone belongs to.
    check_slide
        A slide on which both attention layouts are compared before anything is written.
    """

    file_id: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=64)
    input_type: Literal["paired", "single"] | None = None
    layout: Literal["split", "head-major"] | None = None
    base_id: str | None = Field(default=None, max_length=64)
    check_slide: str | None = Field(default=None, max_length=64)


def weight_files(services: Services) -> list[SourceEntry]:
    """Return the published files below the allowed folders."""
    roots = source_roots(services.home, services.config)
    found = list_files(roots, services.config.limits.max_sources)
    return [entry for entry in found if entry.kind == "weights"]


def start_convert(services: Services, request: ConvertRequest, owner: str) -> str:
    """Queue a conversion and return the job id.

    Raises
    ------
    SpatialFormerError
        If the file or slide is gone, or the name is taken or cannot name a folder.
    """
    _sources(source_roots(services.home, services.config), request)
    _target(services.home, request.name)
    if any(info.id == request.name for info in services.checkpoints()):
        raise _taken(request.name)
    if request.check_slide is not None:
        services.slide(request.check_slide)
    job_id = services.queue.submit(KIND, request.model_dump(mode="json"), owner)
    ensure_worker(services.home)
    return job_id


def run_convert_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued conversion; writes the checkpoint and ``convert.json``.

    Raises
    ------
    SpatialFormerError
        If the file is damaged or of another model, or the name was taken meanwhile.
    Cancelled
        If it was cancelled before it began.
    """
    from spatialformer_core.service.convert import ConvertOptions, convert_spatialformer
    from spatialformer_core.slides import SlideStore

    request = validate(ConvertRequest, params, "convert job")
    home = files.home()
    path, base = _sources(source_roots(home, load_config(home)), request)
    target = _target(home, request.name)
    slide = SlideStore(home).open(request.check_slide) if request.check_slide else None
    check(cancel)
    options = ConvertOptions(
        layout=request.layout, input_type=request.input_type, base=base, name=request.name
    )
    told = convert_spatialformer(path, target, options, check_slide=slide, progress=progress)
    files.write_json(out / REPORT, told)


def _sources(roots: tuple[Path, ...], request: ConvertRequest) -> tuple[Path, Path | None]:
    base = file_path(roots, request.base_id, "weights") if request.base_id else None
    return file_path(roots, request.file_id, "weights"), base


def _target(home: Path, name: str) -> Path:
    target = home / _FOLDER / files.check_name(name, "The checkpoint name")
    if target.exists():
        raise _taken(name)
    return target


def _taken(name: str) -> SpatialFormerError:
    return SpatialFormerError(f"There is a model {name!r} already.", fix="Choose another name.")
