"""Spatial train / validation / test splits with gaps.

Neighbouring cells resemble each other, so a random split of cells flatters every model
(design reference, co-localisation, point 5). Here whole rectangles are held out, and every other
cell nearer than the gap to one of them is used for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError

TRAIN, VALIDATION, TEST, GAP = 0, 1, 2, -1

_LAYOUTS = 100
_SAMPLE = 8_000
_ASPECTS = (0.4, 1.0, 2.5)
_MIN_SHARE, _MAX_SHARE = 0.75, 1.35
_MIN_TRAIN_SHARE = 0.25

SplitCodes = NDArray[np.int8]
Rectangle = tuple[float, float, float, float]
Layout = list[tuple[int, Rectangle]]


class SplitRecipe(FrozenModel):
    """Everything that `split_by_recipe` needs beside the coordinates; stored with a checkpoint.

    Attributes
    ----------
    block_um
        Shortest side that a held-out rectangle may have.
    gap_um
        Least distance between cells of different codes.
    fractions
        Wanted shares (train, validation, test) of all cells; the gaps are paid by training.
    patches
        Rectangles per held-out code: several, so that one odd corner of the tissue does not
        decide a benchmark.
    """

    block_um: float = Field(default=300.0, gt=0)
    gap_um: float = Field(default=150.0, ge=0)
    fractions: tuple[float, float, float] = (0.75, 0.10, 0.15)
    patches: int = Field(default=4, ge=1, le=16)
    seed: int = 0


def split_by_recipe(
    xy_um: NDArray[np.floating], recipe: SplitRecipe | dict[str, Any]
) -> SplitCodes:
    """Split the cells of one slide into spatial blocks.

    Many layouts of held-out rectangles are drawn from the seed; of those that hold the wanted
    shares, one that leaves many cells for training and holds out dense and sparse tissue alike is
    taken. Only coordinates are looked at.

    Parameters
    ----------
    xy_um
        Centroids in micrometres, shape ``(n, 2)``.
    recipe
        The recipe, or as it is stored (a checkpoint's provenance holds one).

    Returns
    -------
    numpy.ndarray
        int8 codes, shape ``(n,)``: 0 train, 1 validation, 2 test, -1 gap. Cells of different
        codes (gap aside) are at least ``gap_um`` apart.

    Raises
    ------
    SpatialFormerError
        If the tissue is too small for the wanted blocks and gaps.
    """
    if not isinstance(recipe, SplitRecipe):
        recipe = validate(SplitRecipe, recipe, "split recipe")
    xy = np.asarray(xy_um, np.float64)
    if len(xy) == 0:
        raise SpatialFormerError("There are no cells to split.")
    layout = _best_layout(xy, recipe)
    codes = None if layout is None else _codes(xy, layout, recipe.gap_um)
    if codes is None or np.mean(codes == TRAIN) < _MIN_TRAIN_SHARE:
        size = np.ptp(xy, axis=0)
        raise SpatialFormerError(
            f"The tissue ({size[0]:.0f} x {size[1]:.0f} um, {len(xy):,} cells) is too small for "
            f"held-out blocks of {recipe.block_um:.0f} um with gaps of {recipe.gap_um:.0f} um.",
            where="block split",
            fix="Use smaller blocks or fractions, fewer patches, or hold out another slide.",
        )
    return codes


def _best_layout(xy: DoubleArray, recipe: SplitRecipe) -> Layout | None:
    """Return the drawn layout of the right shares that costs training and likeness least."""
    rng = np.random.default_rng(recipe.seed)
    # Shares of every k-th cell tell layouts apart as well as all of them and much faster.
    sample = xy[:: max(1, len(xy) // _SAMPLE)]
    density = _density_class(sample, recipe.block_um / 3)
    best, highest = None, -np.inf
    for _ in range(_LAYOUTS):
        layout = _layout(sample, recipe, rng)
        codes = _codes(sample, layout, recipe.gap_um)
        if not _holds_shares(codes, recipe):
            continue
        unlike = sum(_unlikeness(density, codes == code) for code in (VALIDATION, TEST))
        score = float(np.mean(codes == TRAIN)) - unlike / 2
        if score > highest:
            best, highest = layout, score
    return best


def _density_class(xy: DoubleArray, radius_um: float) -> NDArray[np.int64]:
    """Return the quartile of local cell density of each cell, shape ``(n,)``.

    Keeping most cells for training alone would hold out the sparse rims of a tissue; density is
    what coordinates tell about the kind of tissue, without a look at expression or labels.
    """
    tree = cKDTree(xy)
    density = tree.query_ball_point(xy, radius_um, return_length=True)
    cuts = np.quantile(density, (0.25, 0.5, 0.75))
    classes: NDArray[np.int64] = np.searchsorted(cuts, density)
    return classes


def _unlikeness(classes: NDArray[np.int64], inside: BoolArray) -> float:
    """Return the total variation distance between held-out cells and all cells, 0 to 1."""
    if not inside.any():
        return 0.0
    whole = np.bincount(classes, minlength=4) / len(classes)
    part = np.bincount(classes[inside], minlength=4) / inside.sum()
    return float(np.abs(whole - part).sum() / 2)


def _layout(xy: DoubleArray, recipe: SplitRecipe, rng: np.random.Generator) -> Layout:
    layout: Layout = []
    for code in (TEST, VALIDATION):
        wanted = recipe.fractions[code] / recipe.patches * len(xy)
        for _ in range(recipe.patches if wanted else 0):
            anchor = xy[rng.integers(len(xy))]
            aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
            layout.append((code, _grow(xy, anchor, aspect, wanted, recipe.block_um)))
    return layout


def _grow(
    xy: DoubleArray, anchor: DoubleArray, aspect: float, wanted: float, shortest_um: float
) -> Rectangle:
    """Return the smallest rectangle of the given aspect about ``anchor`` with enough cells."""
    shape = np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    away = np.abs(xy - anchor) / shape
    reach = np.max(away, axis=1)
    rank = min(int(wanted), len(reach) - 1)
    half = float(np.partition(reach, rank)[rank])
    half_xy = np.maximum(half * shape, shortest_um / 2)
    low, high = anchor - half_xy, anchor + half_xy
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _distance(xy: DoubleArray, box: Rectangle) -> DoubleArray:
    """Return the distance of each cell from a rectangle, 0 inside; shape ``(n,)``."""
    away_x = np.maximum(np.maximum(box[0] - xy[:, 0], xy[:, 0] - box[2]), 0.0)
    away_y = np.maximum(np.maximum(box[1] - xy[:, 1], xy[:, 1] - box[3]), 0.0)
    distance: DoubleArray = np.hypot(away_x, away_y)
    return distance


def _codes(xy: DoubleArray, layout: Layout, gap_um: float) -> SplitCodes:
    codes = np.full(len(xy), TRAIN, np.int8)
    inside: dict[int, BoolArray] = {}
    near: dict[int, BoolArray] = {}
    for code in (VALIDATION, TEST):
        distances = [_distance(xy, box) for other, box in layout if other == code]
        closest = np.min(distances, axis=0) if distances else np.full(len(xy), np.inf)
        inside[code] = closest == 0
        near[code] = closest < gap_um
    codes[near[VALIDATION] | near[TEST]] = GAP
    # Between the two held-out codes, validation gives way: the test set is what is reported.
    codes[inside[VALIDATION] & ~near[TEST]] = VALIDATION
    codes[inside[TEST]] = TEST
    return codes


def _holds_shares(codes: SplitCodes, recipe: SplitRecipe) -> bool:
    for code in (VALIDATION, TEST):
        share, wanted = float(np.mean(codes == code)), recipe.fractions[code]
        if not _MIN_SHARE * wanted <= share <= _MAX_SHARE * wanted:
            return False
    return True
