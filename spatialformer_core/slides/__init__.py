"""The slide store: ingest, serving index, images, regions of interest."""

from __future__ import annotations

from spatialformer_core.io.records import Groups, Polygons
from spatialformer_core.slides.change import SlideChange, change_slide
from spatialformer_core.slides.ingest import IngestOptions, ingest
from spatialformer_core.slides.meta import ChannelMeta, ImageMeta, IngestReport, SlideMeta
from spatialformer_core.slides.rebuild import is_rebuildable, rebuild
from spatialformer_core.slides.roi import Roi, parse_rois, select_cells, to_geojson
from spatialformer_core.slides.slide import CellTranscripts, Slide
from spatialformer_core.slides.store import SlideStore, slug

__all__ = [
    "CellTranscripts",
    "ChannelMeta",
    "Groups",
    "ImageMeta",
    "IngestOptions",
    "IngestReport",
    "Polygons",
    "Roi",
    "Slide",
    "SlideChange",
    "SlideMeta",
    "SlideStore",
    "change_slide",
    "ingest",
    "is_rebuildable",
    "parse_rois",
    "rebuild",
    "select_cells",
    "slug",
    "to_geojson",
]
