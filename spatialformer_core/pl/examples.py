"""Example cell pairs of a gene pair: outlines, and the transcripts of both genes in both cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.pl.canvas import NEUTRAL, STRONG, WEAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spatialformer_core.perturbation.examples import ExamplePair

_COLUMNS = 3
_MARGIN_UM = 2.0
_BAR_UM = 5.0


def example_cells(
    pairs: Sequence[ExamplePair],
    genes: tuple[str, str],
    types: tuple[str, str],
    caption: Sequence[str] = (),
) -> Figure:
    """Return one panel per cell pair.

    Parameters
    ----------
    pairs
        Cell pairs, one at least.
    genes, types
        Left and right gene, left and right cell type.
    caption
        Sentences below.
    """
    from matplotlib.figure import Figure

    n_columns = min(_COLUMNS, len(pairs))
    n_rows = -(-len(pairs) // n_columns)
    figure = Figure(figsize=(3.1 * n_columns, 3.2 * n_rows + 0.7), layout="constrained")
    for number, pair in enumerate(pairs, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        _draw(axes, pair)
        axes.set_title(f"{pair.unit}, {pair.distance_um:.0f} um apart", fontsize=7, loc="left")
    drawn = f"{genes[0]} red, {genes[1]} blue; {types[0]} left-hashed, {types[1]} plain. Bar 5 um."
    lines = "\n".join([drawn, *(line for line in caption if line)])
    figure.supxlabel(lines, fontsize=7, x=0.01, ha="left", color="#444")
    return figure


def _draw(axes: Axes, pair: ExamplePair) -> None:
    from matplotlib.patches import Polygon

    for cell, hatch in ((pair.left, "///"), (pair.right, None)):
        if cell.outline_um is not None:
            axes.add_patch(
                Polygon(
                    cell.outline_um, facecolor="#f4f6f8", edgecolor=NEUTRAL, hatch=hatch, lw=0.8
                )
            )
        axes.plot(*cell.xy_um, "+", color=NEUTRAL, markersize=5)
        for places, colour in ((cell.first_um, STRONG), (cell.second_um, WEAK)):
            if places is not None:
                axes.scatter(places[:, 0], places[:, 1], s=9, c=colour, linewidths=0, zorder=3)
    corners = np.concatenate(
        [part for cell in (pair.left, pair.right) for part in (cell.outline_um, cell.xy_um[None])
         if part is not None]
    )  # fmt: skip
    (x0, y0), (x1, y1) = corners.min(axis=0) - _MARGIN_UM, corners.max(axis=0) + _MARGIN_UM
    axes.plot([x0 + 1, x0 + 1 + _BAR_UM], [y1 - 1, y1 - 1], color="black", linewidth=1.5)
    axes.set_xlim(x0, x1)
    # The y axis points down, as on the slide.
    axes.set_ylim(y1, y0)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
