"""Takes a source into the slide store: for the command line at once, for the app as a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, QcThresholds, SampleMetadata, validate
from spatialformer_core.progress import Cancel, Progress
from spatialformer_core.service.settings import load_config, source_roots
from spatialformer_core.service.sources import source_path

REPORT = "ingest.json"


class IngestParams(FrozenModel):
    """Parameters of an ``ingest`` job."""

    source_id: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=64)
    sample: SampleMetadata
    qc: QcThresholds = QcThresholds()
    um_per_px: float | None = Field(default=None, gt=0)


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
    source = source_path(source_roots(home, load_config(home)), request.source_id)
    report = ingest(
        source,
        SlideStore(home),
        name=request.name,
        sample=request.sample,
        qc=request.qc,
        um_per_px=request.um_per_px,
        progress=progress,
        cancel=cancel,
    )
    files.write_json(out / REPORT, report.model_dump(mode="json"))
