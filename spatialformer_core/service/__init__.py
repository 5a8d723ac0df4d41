"""Use-cases for pages and command line: the only room of the core that a page may import."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.jobs import Job
from spatialformer_core.service.checkpoints import CheckpointInfo
from spatialformer_core.service.facade import Services, open_services
from spatialformer_core.service.results import ResultFile
from spatialformer_core.service.settings import AppConfig, Limits
from spatialformer_core.service.sources import SourceEntry
from spatialformer_core.service.tissue import QcReport, Retention

if TYPE_CHECKING:
    from spatialformer_core.perturbation import ScreenEstimate, ScreenRequest
    from spatialformer_core.service.gene_pair_view import (
        GenePairEstimate,
        GenePairView,
        PairNetwork,
    )
    from spatialformer_core.service.gene_pairs import GenePairRequest
    from spatialformer_core.service.ingest import IngestExtras
    from spatialformer_core.service.panel import GeneAnswer
    from spatialformer_core.service.screen import ScreenView
    from spatialformer_core.service.spillover import SpilloverView
    from spatialformer_core.slides import Roi, Slide, SlideMeta
    from spatialformer_core.vocabulary import Coverage, CoverageReport

_LAZY = {
    "Coverage": "spatialformer_core.vocabulary",
    "CoverageReport": "spatialformer_core.vocabulary",
    "GeneAnswer": "spatialformer_core.service.panel",
    "GenePairEstimate": "spatialformer_core.service.gene_pair_view",
    "GenePairRequest": "spatialformer_core.service.gene_pairs",
    "GenePairView": "spatialformer_core.service.gene_pair_view",
    "IngestExtras": "spatialformer_core.service.ingest",
    "PairNetwork": "spatialformer_core.service.gene_pair_view",
    "Roi": "spatialformer_core.slides",
    "ScreenEstimate": "spatialformer_core.perturbation",
    "ScreenRequest": "spatialformer_core.perturbation",
    "ScreenView": "spatialformer_core.service.screen",
    "Slide": "spatialformer_core.slides",
    "SlideMeta": "spatialformer_core.slides",
    "SpilloverView": "spatialformer_core.service.spillover",
}

__all__ = [
    "AppConfig",
    "CheckpointInfo",
    "Coverage",
    "CoverageReport",
    "GeneAnswer",
    "GenePairEstimate",
    "GenePairRequest",
    "GenePairView",
    "IngestExtras",
    "Job",
    "Limits",
    "PairNetwork",
    "QcReport",
    "QcThresholds",
    "ResultFile",
    "Retention",
    "Roi",
    "SampleMetadata",
    "ScreenEstimate",
    "ScreenRequest",
    "ScreenView",
    "Services",
    "Slide",
    "SlideMeta",
    "SourceEntry",
    "SpilloverView",
    "open_services",
]


def __getattr__(name: str) -> Any:
    # Records of lower rooms: pages name them, but need them only once they use them.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
