"""Use-cases for pages and command line: the only room of the core that a page may import."""

from __future__ import annotations

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.jobs import Job
from spatialformer_core.service.checkpoints import CheckpointInfo
from spatialformer_core.service.facade import Services, open_services
from spatialformer_core.service.settings import AppConfig, Limits
from spatialformer_core.service.sources import SourceEntry
from spatialformer_core.service.tissue import QcReport, Retention

__all__ = [
    "AppConfig",
    "CheckpointInfo",
    "Job",
    "Limits",
    "QcReport",
    "QcThresholds",
    "Retention",
    "SampleMetadata",
    "Services",
    "SourceEntry",
    "open_services",
]
