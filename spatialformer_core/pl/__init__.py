"""Figures for papers, as matplotlib figures: nothing here needs a display or a web server."""

from __future__ import annotations

from spatialformer_core.pl.canvas import as_bytes, save
from spatialformer_core.pl.examples import example_cells
from spatialformer_core.pl.screen import (
    screen_figures,
    screen_heatmap,
    screen_map,
    screen_network,
    screen_ranks,
    screen_volcano,
)

__all__ = [
    "as_bytes",
    "example_cells",
    "save",
    "screen_figures",
    "screen_heatmap",
    "screen_map",
    "screen_network",
    "screen_ranks",
    "screen_volcano",
]
