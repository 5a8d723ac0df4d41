"""The tissue viewer: a Streamlit component over deck.gl (`src/`), built into `dist/viewer.js`."""

from __future__ import annotations

from pages.ui.viewer.component import (
    ViewerEvent,
    cells_viewer,
    data_address,
    drawn_from,
    drawn_polygon,
    forget_drawing,
    has_drawn,
    keep_drawing,
    keep_images,
    keep_points,
    parse_event,
    set_points,
    tissue_viewer,
    viewer_event,
)

__all__ = [
    "ViewerEvent",
    "cells_viewer",
    "data_address",
    "drawn_from",
    "drawn_polygon",
    "forget_drawing",
    "has_drawn",
    "keep_drawing",
    "keep_images",
    "keep_points",
    "parse_event",
    "set_points",
    "tissue_viewer",
    "viewer_event",
]
