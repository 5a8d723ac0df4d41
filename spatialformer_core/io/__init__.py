"""Readers of what instruments and people write, behind a guard against hostile files."""

from __future__ import annotations

from spatialformer_core.io.records import (
    CellTable,
    Groups,
    ImageSource,
    Polygons,
    SourceData,
    Transcripts,
)
from spatialformer_core.io.source import read_source

__all__ = [
    "CellTable",
    "Groups",
    "ImageSource",
    "Polygons",
    "SourceData",
    "Transcripts",
    "read_source",
]
