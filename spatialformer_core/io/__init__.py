"""Readers of what instruments and people write, behind a guard against hostile files."""

from __future__ import annotations

from spatialformer_core.io.h5ad import read_expression, read_overview
from spatialformer_core.io.records import (
    CellTable,
    Expression,
    Groups,
    ImageSource,
    Overview,
    Polygons,
    SourceData,
    Transcripts,
)
from spatialformer_core.io.source import read_source

__all__ = [
    "CellTable",
    "Expression",
    "Groups",
    "ImageSource",
    "Overview",
    "Polygons",
    "SourceData",
    "Transcripts",
    "read_expression",
    "read_overview",
    "read_source",
]
