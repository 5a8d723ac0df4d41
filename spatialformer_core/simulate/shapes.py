"""Cell and nucleus outlines: ellipses cut by the lines between neighbours.

Every pair of neighbours is separated by one line, and both keep to their side of it, so outlines
never overlap; an ellipse cut by half-planes is convex, so a vertex list is a whole description.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray
from spatialformer_core.simulate.panel import CELL_TYPES
from spatialformer_core.simulate.settings import stream

N_VERTICES: Final = 24
"""Vertices of every outline (the closing vertex not counted)."""

_REACH_UM = 32.0
_GAP_UM = 0.25
_NO_NUCLEUS_SHARE = 0.03

# Radius in um of the free cell and ratio of its long to its short axis.
_SIZE: Final[dict[str, tuple[float, float]]] = {
    "AT1": (6.4, 2.3),
    "AT2": (5.9, 1.1),
    "Ciliated": (5.6, 1.5),
    "Club": (5.4, 1.4),
    "Goblet": (6.2, 1.4),
    "Basal": (4.9, 1.2),
    "Capillary endothelial": (5.3, 2.0),
    "Vascular endothelial": (5.5, 2.0),
    "Lymphatic endothelial": (5.5, 2.2),
    "Smooth muscle": (6.0, 2.3),
    "Pericyte": (5.3, 1.8),
    "Alveolar fibroblast": (5.8, 2.1),
    "Myofibroblast": (6.4, 2.3),
    "Alveolar macrophage": (7.4, 1.1),
    "Macrophage": (6.9, 1.15),
    "Dendritic cell": (5.8, 1.3),
    "Monocyte": (5.0, 1.1),
    "T cell": (4.3, 1.05),
    "NK cell": (4.4, 1.05),
    "B cell": (4.3, 1.05),
    "Plasma cell": (5.2, 1.25),
    "Mast cell": (5.4, 1.15),
}

_NUCLEUS_RADIUS_UM: Final = (2.4, 3.5)


@dataclass(frozen=True, slots=True)
class Outlines:
    """Convex outlines of all cells and their nuclei.

    Attributes
    ----------
    centre_um
        Point inside the cell from which its vertices are measured, shape ``(n, 2)``.
    cell
        Vertices relative to the centre, counter-clockwise, um, shape ``(n, V, 2)``.
    nucleus
        Vertices relative to the centre, um, shape ``(n, V, 2)``; meaningless without a nucleus.
    has_nucleus
        Whether a nucleus was segmented, shape ``(n,)``.
    centroid_um
        Centroid of the outline, shape ``(n, 2)``.
    cell_area_um2, nucleus_area_um2
        Areas, shape ``(n,)``; 0 without a nucleus.
    """

    centre_um: DoubleArray
    cell: FloatArray
    nucleus: FloatArray
    has_nucleus: BoolArray
    centroid_um: DoubleArray
    cell_area_um2: FloatArray
    nucleus_area_um2: FloatArray


def outline_cells(
    seed: int, xy_um: DoubleArray, cell_type: IntArray, direction: FloatArray
) -> Outlines:
    """Return an outline and a nucleus for every cell.

    Parameters
    ----------
    seed
        Seed of the slide.
    xy_um
        Centres, shape ``(n, 2)``.
    cell_type
        Type codes, shape ``(n,)``.
    direction
        Direction of the long axis, radians, shape ``(n,)``.
    """
    rng = stream(seed, "shapes")
    n = len(xy_um)
    size = np.array([_SIZE[name] for name in CELL_TYPES])[cell_type]
    radius = size[:, 0] * rng.lognormal(0, 0.09, n)
    ratio = 1 + (size[:, 1] - 1) * rng.uniform(0.7, 1.3, n)
    long, short = radius * np.sqrt(ratio), radius / np.sqrt(ratio)
    turn = direction + rng.normal(0, 0.25, n)
    pairs = cKDTree(xy_um).query_pairs(_REACH_UM, output_type="ndarray").astype(np.int32)
    # The tree's order of pairs is not part of its promise; the result must not depend on it.
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    axes = np.stack([long, short, turn, radius], axis=1)
    cell = _cut(xy_um, axes, pairs, N_VERTICES)
    area, offset = _area_and_centroid(cell)
    nucleus = _nuclei(cell, area, turn, rng)
    has_nucleus = rng.random(n) >= _NO_NUCLEUS_SHARE
    nucleus_area = np.where(has_nucleus, _area_and_centroid(nucleus)[0], 0)
    return Outlines(
        centre_um=xy_um,
        cell=cell,
        nucleus=nucleus,
        has_nucleus=has_nucleus,
        centroid_um=xy_um + offset,
        cell_area_um2=area.astype(np.float32),
        nucleus_area_um2=nucleus_area.astype(np.float32),
    )


@njit(cache=True)
def _cut(xy_um: DoubleArray, axes: DoubleArray, pairs: IntArray, n_vertices: int) -> FloatArray:
    """Return ellipse outlines cut at the lines between neighbours, ``(n, V, 2)``.

    ``axes`` holds long and short half-axis, direction and free radius of each cell. The line
    between two cells divides their distance in proportion to their free radii.
    """
    n = len(xy_um)
    reach = np.empty((n, n_vertices))
    step = 2 * np.pi / n_vertices
    for i in range(n):
        for k in range(n_vertices):
            angle = k * step - axes[i, 2]
            across, along = np.sin(angle) / axes[i, 1], np.cos(angle) / axes[i, 0]
            reach[i, k] = 1 / np.sqrt(across * across + along * along)
    for p in range(len(pairs)):
        i, j = pairs[p]
        dx, dy = xy_um[j, 0] - xy_um[i, 0], xy_um[j, 1] - xy_um[i, 1]
        distance = np.sqrt(dx * dx + dy * dy)
        ux, uy = dx / distance, dy / distance
        share = axes[i, 3] / (axes[i, 3] + axes[j, 3])
        to_line_i = max(distance * share - _GAP_UM / 2, 0.2)
        to_line_j = max(distance * (1 - share) - _GAP_UM / 2, 0.2)
        for k in range(n_vertices):
            facing = np.cos(k * step) * ux + np.sin(k * step) * uy
            if facing > 1e-6:
                reach[i, k] = min(reach[i, k], to_line_i / facing)
            elif facing < -1e-6:
                reach[j, k] = min(reach[j, k], to_line_j / -facing)
    outline = np.empty((n, n_vertices, 2), np.float32)
    for i in range(n):
        for k in range(n_vertices):
            outline[i, k, 0] = reach[i, k] * np.cos(k * step)
            outline[i, k, 1] = reach[i, k] * np.sin(k * step)
    return outline


def _area_and_centroid(outline: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Return area ``(n,)`` and centroid ``(n, 2)`` of polygons ``(n, V, 2)``."""
    here = outline.astype(np.float64)
    there = np.roll(here, -1, axis=1)
    cross = here[..., 0] * there[..., 1] - there[..., 0] * here[..., 1]
    area = cross.sum(axis=1) / 2
    centroid = ((here + there) * cross[..., None]).sum(axis=1) / (6 * area[:, None])
    return area, centroid


def _nuclei(
    cell: FloatArray, area: DoubleArray, turn: DoubleArray, rng: np.random.Generator
) -> FloatArray:
    """Return nuclei: rounded, about a quarter to half of the cell, always inside of it."""
    n, n_vertices = len(cell), cell.shape[1]
    reach = np.hypot(cell[..., 0], cell[..., 1])
    angle = np.arange(n_vertices) * (2 * np.pi / n_vertices)
    radius = np.clip(np.sqrt(area / np.pi) * rng.uniform(0.58, 0.70, n), *_NUCLEUS_RADIUS_UM)
    ratio = rng.uniform(1.0, 1.5, n)
    relative = angle[None, :] - turn[:, None]
    ellipse = radius[:, None] / np.sqrt(
        np.cos(relative) ** 2 / ratio[:, None] + np.sin(relative) ** 2 * ratio[:, None]
    )
    # The nucleus of a flat cell is pressed flat by the membrane. Both sets are convex and sampled
    # at the same angles, so what they share is convex too.
    pressed = np.minimum(ellipse, 0.86 * reach)
    directions = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    nucleus: FloatArray = (pressed[..., None] * directions).astype(np.float32)
    return nucleus


@njit(cache=True)
def rasterise(
    outline_um: FloatArray,
    centre_um: DoubleArray,
    labels: IntArray,
    size_px: int,
    pixel_size_um: float,
) -> NDArray[np.uint32]:
    """Return a label picture ``(size_px, size_px)``; 0 is background.

    A pixel belongs to a polygon that holds its centre. ``labels`` of 0 are left out.
    """
    picture = np.zeros((size_px, size_px), np.uint32)
    n, n_vertices, _ = outline_um.shape
    for i in range(n):
        if labels[i] == 0:
            continue
        ys = (outline_um[i, :, 1] + centre_um[i, 1]) / pixel_size_um - 0.5
        xs = (outline_um[i, :, 0] + centre_um[i, 0]) / pixel_size_um - 0.5
        for row in range(max(0, int(np.ceil(ys.min()))), min(size_px - 1, int(ys.max())) + 1):
            left, right = np.inf, -np.inf
            for k in range(n_vertices):
                k2 = (k + 1) % n_vertices
                y0, y1 = ys[k], ys[k2]
                if (y0 <= row < y1) or (y1 <= row < y0):
                    x = xs[k] + (row - y0) / (y1 - y0) * (xs[k2] - xs[k])
                    left, right = min(left, x), max(right, x)
            if right < left:
                continue
            for column in range(max(0, int(np.ceil(left))), min(size_px - 1, int(right)) + 1):
                picture[row, column] = labels[i]
    return picture
