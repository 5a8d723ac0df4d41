"""Figures for papers, as matplotlib figures: nothing here needs a display or a web server."""

from __future__ import annotations

from spatialformer_core.pl.canvas import save
from spatialformer_core.pl.screen import (
    screen_figures,
    screen_heatmap,
    screen_map,
    screen_network,
    screen_ranks,
    screen_volcano,
)

__all__ = [
    "save",
    "screen_figures",
    "screen_heatmap",
    "screen_map",
    "screen_network",
    "screen_ranks",
    "screen_volcano",
]
