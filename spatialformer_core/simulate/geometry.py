"""Kernels on convex outlines whose vertices lie at equal angles around an inner point.

An outline is an array ``(V, 2)`` of vertices relative to that point, counter-clockwise from
angle 0, as `shapes` makes them. All lengths share one unit (um here).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray, IntArray


@njit(cache=True)
def border(outline: FloatArray, angle: float) -> float:
    """Return how far the outline reaches in a direction (radians)."""
    n = len(outline)
    k = int(np.floor((angle % (2 * np.pi)) / (2 * np.pi) * n)) % n
    ax, ay = outline[k, 0], outline[k, 1]
    bx, by = outline[(k + 1) % n, 0], outline[(k + 1) % n, 1]
    edge = np.cos(angle) * (by - ay) - np.sin(angle) * (bx - ax)
    return float((ax * by - ay * bx) / edge)


@njit(cache=True)
def uniform_inside(outline: FloatArray, u: FloatArray) -> tuple[float, float]:
    """Return a uniform point of the outline from three uniform numbers in [0, 1)."""
    n = len(outline)
    total = 0.0
    for k in range(n):
        k2 = (k + 1) % n
        total += outline[k, 0] * outline[k2, 1] - outline[k, 1] * outline[k2, 0]
    wanted, a, b = u[0] * total, 0, 1
    for k in range(n):
        a, b = k, (k + 1) % n
        wanted -= outline[a, 0] * outline[b, 1] - outline[a, 1] * outline[b, 0]
        if wanted <= 0:
            break
    # Slightly inside, so that rounding to float32 cannot carry the point out.
    root = np.sqrt(u[1]) * 0.998
    s, t = root * (1 - u[2]), root * u[2]
    return s * outline[a, 0] + t * outline[b, 0], s * outline[a, 1] + t * outline[b, 1]


@njit(cache=True)
def contains(outline: FloatArray, x: float, y: float) -> bool:
    """Tell whether the outline holds a point."""
    n = len(outline)
    for k in range(n):
        ax, ay = outline[k, 0], outline[k, 1]
        bx, by = outline[(k + 1) % n, 0], outline[(k + 1) % n, 1]
        if (bx - ax) * (y - ay) - (by - ay) * (x - ax) < 0:
            return False
    return True


@njit(cache=True)
def distance_to(outline: FloatArray, x: float, y: float) -> float:
    """Return the distance of a point to the outline, 0 inside."""
    if contains(outline, x, y):
        return 0.0
    n = len(outline)
    best = np.inf
    for k in range(n):
        ax, ay = outline[k, 0], outline[k, 1]
        bx, by = outline[(k + 1) % n, 0] - ax, outline[(k + 1) % n, 1] - ay
        t = ((x - ax) * bx + (y - ay) * by) / max(bx * bx + by * by, 1e-12)
        t = min(max(t, 0.0), 1.0)
        dx, dy = ax + t * bx - x, ay + t * by - y
        best = min(best, dx * dx + dy * dy)
    return float(np.sqrt(best))


@njit(cache=True)
def containing_cell(
    xy_um: DoubleArray, nearest: IntArray, centre_um: DoubleArray, outlines: FloatArray
) -> IntArray:
    """Return the cell that holds each point among its ``nearest`` cells ``(m, k)``, else -1."""
    result = np.full(len(xy_um), -1, np.int32)
    for i in range(len(xy_um)):
        for c in nearest[i]:
            dx, dy = xy_um[i, 0] - centre_um[c, 0], xy_um[i, 1] - centre_um[c, 1]
            if contains(outlines[c], dx, dy):
                result[i] = c
                break
    return result


@njit(cache=True)
def nucleus_distance(
    xy_um: DoubleArray, cell: IntArray, centre_um: DoubleArray, nuclei: FloatArray
) -> FloatArray:
    """Return the distance of each point to the nucleus of one cell, 0 inside, shape ``(m,)``."""
    result = np.empty(len(cell), np.float32)
    for i in range(len(cell)):
        c = cell[i]
        result[i] = distance_to(
            nuclei[c], xy_um[i, 0] - centre_um[c, 0], xy_um[i, 1] - centre_um[c, 1]
        )
    return result


@njit(cache=True)
def positions_inside(
    placement: tuple[IntArray, IntArray, IntArray, BoolArray],
    shapes: tuple[DoubleArray, FloatArray, FloatArray, FloatArray],
    u: FloatArray,
    spread: FloatArray,
) -> FloatArray:
    """Return positions relative to the centre of the cell that holds them, ``(m, 2)``.

    Parameters
    ----------
    placement
        For each transcript: the cell that made it, the cell that holds it, its spot (-1 for none)
        and whether it stays in the nucleus.
    shapes
        Centres ``(n, 2)``, outlines and nuclei ``(n, V, 2)``, spot centres ``(n, spots, 2)``.
    u
        Three uniform numbers of each transcript.
    spread
        Offset from the spot's centre of each transcript, um.
    """
    origin, cell, slot, nuclear = placement
    centre, outlines, nuclei, spots = shapes
    xy = np.empty((len(origin), 2), np.float32)
    for i in range(len(origin)):
        c, o = cell[i], origin[i]
        if c != o:
            # Spilled: close to the border that faces the cell that made it.
            turn = np.arctan2(centre[o, 1] - centre[c, 1], centre[o, 0] - centre[c, 0])
            turn += 0.9 * (u[i, 1] - 0.5)
            reach = border(outlines[c], turn) * (0.99 - 0.4 * u[i, 0])
            xy[i, 0], xy[i, 1] = reach * np.cos(turn), reach * np.sin(turn)
        elif slot[i] >= 0:
            x, y = spots[c, slot[i], 0], spots[c, slot[i], 1]
            dx, dy = spread[i, 0], spread[i, 1]
            for _ in range(12):
                if contains(outlines[c], x + dx, y + dy):
                    break
                dx, dy = dx * 0.6, dy * 0.6
            xy[i, 0], xy[i, 1] = x + dx, y + dy
        elif nuclear[i]:
            xy[i, 0], xy[i, 1] = uniform_inside(nuclei[c], u[i])
        else:
            xy[i, 0], xy[i, 1] = uniform_inside(outlines[c], u[i])
    return xy
