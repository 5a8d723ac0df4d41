"""Takes a source into the slide store: for the command line at once, for the app as a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from pydantic import Field, model_validator

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, QcThresholds, SampleMetadata, validate
from spatialformer_core.progress import Cancel, Progress
from spatialformer_core.service.settings import load_config, source_roots
from spatialformer_core.service.sources import file_path, source_path

REPORT = "ingest.json"


class IngestExtras(TypedDict, total=False):
    """What may be given besides a source: its scale, and files by id (`sources.list_files`).

    ``um_per_px`` is the scale of a source that keeps pixels, ``he_id`` an H&E image,
    ``he_affine_id`` its alignment (3x3 matrix or keypoints), ``labels_id`` a table of groups.
    """

    um_per_px: float | None
    he_id: str | None
    he_affine_id: str | None
    labels_id: str | None


class IngestParams(FrozenModel):
    """Parameters of an ``ingest`` job; files by id, see `IngestExtras`."""

    source_id: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=64)
    sample: SampleMetadata
    qc: QcThresholds = QcThresholds()
    um_per_px: float | None = Field(default=None, gt=0)
    he_id: str | None = Field(default=None, max_length=64)
    he_affine_id: str | None = Field(default=None, max_length=64)
    labels_id: str | None = Field(default=None, max_length=64)

    @model_validator(mode="after")
    def _alignment_needs_an_image(self) -> IngestParams:
        if self.he_affine_id and not self.he_id:
            msg = "an alignment is given without its H&E image"
            raise ValueError(msg)
        return self


def ingest_files(roots: tuple[Path, ...], request: IngestParams) -> dict[str, Path]:
    """Return the files that go with a slide, as `slides.ingest` names them.

    Raises
    ------
    SpatialFormerError
        If one of them is gone.
    """
    asked = (
        ("he", request.he_id, "image"),
        ("he_affine", request.he_affine_id, "table"),
        ("labels", request.labels_id, "table"),
    )
    return {name: file_path(roots, file_id, kind) for name, file_id, kind in asked if file_id}


def run_ingest_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Ingest a source that lies below an allow-listed folder; writes ``ingest.json``.

    Raises
    ------
    SpatialFormerError
        If the source is gone, no readable slide, or its name is taken.
    Cancelled
        If it was cancelled; the store stays as it was.
    """
    from spatialformer_core.slides import SlideStore, ingest

    request = validate(IngestParams, params, "ingest job")
    home = files.home()
    roots = source_roots(home, load_config(home))
    source = source_path(roots, request.source_id)
    given = ingest_files(roots, request)
    report = ingest(
        source,
        SlideStore(home),
        name=request.name,
        sample=request.sample,
        qc=request.qc,
        um_per_px=request.um_per_px,
        he=given.get("he"),
        he_affine=given.get("he_affine"),
        labels=given.get("labels"),
        progress=progress,
        cancel=cancel,
    )
    files.write_json(out / REPORT, report.model_dump(mode="json"))
