"""Placing an image on its slide: by pairs of points or by an exported file, with a way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io.alignment import MIN_KEYPOINTS, Alignment, fit_keypoints, parse_alignment
from spatialformer_core.io.images import morphology_matrix, scale
from spatialformer_core.slides.placing import (
    Placement,
    place_image,
    placed_images,
    placements,
    unplace_image,
)

if TYPE_CHECKING:
    from spatialformer_core.slides import ImageMeta, Slide

XENIUM_PIXEL_UM = 0.2125
"""Side of a pixel of Xenium's morphology images at full resolution."""

_SCALE_DOUBT = 0.2
Pair = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Fit:
    """Where an image would lie.

    Attributes
    ----------
    um_from_px
        3x3 matrix, pixel to um.
    rms_um
        Root mean square distance of the points from their fit; None where three points, or a
        matrix, leave none.
    errors_um
        Distance of each pair from its fit; empty for a matrix.
    moved_um
        How far the corners of the image move from where they lie now, at most.
    doubts
        Sentences about what looks wrong.
    pairs
        What it was fitted to.
    """

    um_from_px: DoubleArray
    rms_um: float | None
    errors_um: tuple[float, ...]
    moved_um: float
    doubts: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()


def images(slide: Slide) -> tuple[ImageMeta, ...]:
    """Return the images of a slide as they lie now."""
    return placed_images(slide)


def history(slide: Slide, image: str) -> tuple[Placement, ...]:
    """Return the decisions about an image since it was ingested, the last one counts."""
    return placements(slide, image)


def fit_pairs(slide: Slide, image: str, pairs: Sequence[Pair]) -> Fit:
    """Fit an image to pairs of points, ``(x_px, y_px, x_um, y_um)`` each.

    Raises
    ------
    SpatialFormerError
        If there are fewer than three pairs, or they lie on one line.
    """
    points = np.array(pairs, np.float64).reshape(-1, 4)
    if len(points) < MIN_KEYPOINTS:
        raise SpatialFormerError(
            f"{len(points)} of at least {MIN_KEYPOINTS} pairs are set.", where=image
        )
    found = fit_keypoints(points[:, [2, 3, 0, 1]], image)
    errors = np.hypot(*(_apply(found.matrix, points[:, :2]) - points[:, 2:]).T)
    placed = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in points)
    return _judged(slide, image, found, errors, placed)


def fit_file(slide: Slide, image: str, text: str, morphology_um: float | None = None) -> Fit:
    """Place an image by the CSV that Xenium Explorer writes: a 3x3 matrix or keypoints.

    Parameters
    ----------
    morphology_um
        Side of the pixels that the file calls fixed; None takes the slide's stain, or
        `XENIUM_PIXEL_UM` without one.

    Raises
    ------
    SpatialFormerError
        If it is no alignment.
    """
    found = parse_alignment(text, "alignment.csv")
    others = [other for other in placed_images(slide) if other.name != image]
    base = morphology_matrix(others) if morphology_um is None else scale(morphology_um)
    if base is None:
        base = scale(XENIUM_PIXEL_UM)
    side_um = float(np.sqrt(abs(np.linalg.det(base[:2, :2]))))
    rms_um = None if found.rms_px is None else found.rms_px * side_um
    return _judged(slide, image, Alignment(base @ found.matrix, rms_um), np.zeros(0), ())


def save(slide: Slide, image: str, fit: Fit, owner: str) -> Placement:
    """Let an image lie where a fit puts it, for everybody; see `undo`."""
    pairs = np.array(fit.pairs, np.float64) if fit.pairs else None
    return place_image(slide, image, fit.um_from_px, rms_um=fit.rms_um, pairs=pairs, owner=owner)


def undo(slide: Slide, image: str) -> Placement:
    """Take the last decision about an image back.

    Raises
    ------
    SpatialFormerError
        If it lies as it was ingested.
    """
    return unplace_image(slide, image)


def _judged(
    slide: Slide,
    image: str,
    placed: Alignment,
    errors_um: DoubleArray,
    pairs: tuple[Pair, ...],
) -> Fit:
    """Look at a matrix from pixels to um before somebody saves it."""
    matrix = placed.matrix
    now = next(found for found in placed_images(slide) if found.name == slide.image(image).name)
    corners = np.array([(0, 0), (now.width, 0), (0, now.height), (now.width, now.height)])
    old = np.array(now.um_from_px, np.float64)
    moved = np.hypot(*(_apply(matrix, corners) - _apply(old, corners)).T)
    doubts = []
    determinants = [float(np.linalg.det(m[:2, :2])) for m in (old, matrix)]
    scale = float(np.sqrt(abs(determinants[1] / determinants[0])))
    if abs(scale - 1) > _SCALE_DOUBT:
        doubts.append(f"The image would become {scale:.2f} times as large as it is now.")
    if determinants[0] * determinants[1] < 0:
        doubts.append("The image would be mirrored.")
    x0, y0, x1, y1 = slide.meta.bounds_um
    place = _apply(matrix, corners)
    low, high = place.min(axis=0), place.max(axis=0)
    if low[0] > x1 or low[1] > y1 or high[0] < x0 or high[1] < y0:
        doubts.append("The image would lie beside the tissue.")
    return Fit(
        matrix,
        placed.rms_px,
        tuple(float(e) for e in errors_um),
        float(moved.max()),
        tuple(doubts),
        pairs,
    )


def _apply(matrix: DoubleArray, points: DoubleArray) -> DoubleArray:
    moved: DoubleArray = points @ matrix[:2, :2].T + matrix[:2, 2]
    return moved
