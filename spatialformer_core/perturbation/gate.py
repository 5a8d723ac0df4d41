"""The gate: whether this checkpoint tells near from far for these two cell types at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.perturbation.far import Slides, matched_far_pairs
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.tissue import PairTable, concatenate, near_pairs
from spatialformer_core.progress import Cancel, check, never

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer

MATCHED_UM = (80.0, 150.0)
"""Distance of the matched negatives, as in the benchmark's ``matched`` kind."""

_BLOCK_UM = 200.0
_MIN_BLOCKS = 5
_MIN_PAIRS = 20
_MAX_PAIRS = 4_000
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Gate:
    """AUROC of the checkpoint for this type pair against matched negatives.

    Attributes
    ----------
    auroc, low, high
        With a 95 % interval from resampling 200 um blocks; None where it cannot be measured.
    n_near, n_far, n_blocks
        What it was measured on.
    cells
        ``unseen``: only cells that the checkpoint was neither trained nor selected on;
        ``unknown``: all cells, as nobody recorded which were seen.
    open
        Whether p-values may be reported.
    reason
        The sentence for the report.
    """

    auroc: float | None
    low: float | None
    high: float | None
    n_near: int
    n_far: int
    n_blocks: int
    cells: str
    open: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return the gate for JSON."""
        return asdict(self)


def measure_gate(
    scorer: PairScorer,
    slides: Slides,
    request: ScreenRequest,
    cancel: Cancel = never,
) -> Gate:
    """Return how well the checkpoint tells near from matched far pairs of the two types.

    All tissue of the slides is used, inside and outside the regions; where it is known which
    cells the checkpoint has seen, only the others.
    """
    unseen = _unseen_slides(slides)
    cells = "unknown" if any(t.seen is None for t in slides.tissues) else "unseen"
    near = concatenate([near_pairs(t, k, unseen.graphs[k]) for k, t in enumerate(unseen.tissues)])
    near = _at_most(near, _MAX_PAIRS, request.seed)
    if len(near) < _MIN_PAIRS:
        return _closed(near, cells, f"only {len(near)} neighbouring pairs of these types")
    unit = np.zeros(len(near), np.int64)
    low_um = max(MATCHED_UM[0], request.radius_um + 1.0)
    ring = (low_um, max(MATCHED_UM[1], low_um + 70.0))
    far = matched_far_pairs(unseen, near, unit, ring, request.seed).pairs
    if len(far) < _MIN_PAIRS:
        return _closed(near, cells, f"only {len(far)} matched far pairs of these types")
    pairs = concatenate([near, far])
    label = np.arange(len(pairs)) < len(near)
    block = _blocks(pairs)
    if len(np.unique(block)) < _MIN_BLOCKS:
        return _closed(near, cells, f"these pairs lie in fewer than {_MIN_BLOCKS} tissue blocks")
    scores = _scores(scorer, unseen, pairs, cancel)
    return _judge(
        auroc(label, scores), _interval(label, scores, block, request.seed), label, block, cells
    )


def _unseen_slides(slides: Slides) -> Slides:
    """Return the slides without regions, the two types restricted to held-out cells."""
    tissues = []
    for tissue in slides.tissues:
        allowed = np.ones(len(tissue.xy_um), np.bool_)
        if tissue.held_out is not None:
            allowed = tissue.held_out
        elif tissue.seen is not None:
            allowed = ~tissue.seen
        left, right = tissue.left & allowed, tissue.right & allowed
        tissues.append(replace(tissue, left=left, right=right, regions=()))
    return Slides(tissues, slides.graphs)


def _at_most(pairs: PairTable, limit: int, seed: int) -> PairTable:
    if len(pairs) <= limit:
        return pairs
    rows = np.random.default_rng(seed).choice(len(pairs), limit, replace=False)
    return pairs.take(np.sort(rows))


def _scores(scorer: PairScorer, slides: Slides, pairs: PairTable, cancel: Cancel) -> DoubleArray:
    out = np.zeros(len(pairs))
    for number, tissue in enumerate(slides.tissues):
        check(cancel)
        here = np.flatnonzero(pairs.slide == number)
        if not len(here) or tissue.cells is None:
            continue
        ends = np.concatenate([pairs.left[here], pairs.right[here]])
        rows, back = np.unique(ends, return_inverse=True)
        encoded = scorer.encode(tissue.cells.take(rows))
        out[here] = scorer.score(encoded.take(back[: len(here)]), encoded.take(back[len(here) :]))
    return out


def _blocks(pairs: PairTable) -> LongArray:
    corner = np.floor(pairs.mid_um / _BLOCK_UM).astype(np.int64)
    _, codes = np.unique(np.column_stack([pairs.slide, corner]), axis=0, return_inverse=True)
    return np.asarray(codes.ravel(), np.int64)


def auroc(label: BoolArray, score: DoubleArray, weight: DoubleArray | None = None) -> float:
    """Return the area under the ROC curve, ties counted half; NaN with one class only.

    The probability that a random positive outranks a random negative (Mann-Whitney).
    """
    weights = np.ones(len(label)) if weight is None else weight
    values, level = np.unique(score, return_inverse=True)
    up = np.bincount(level, weights=weights * label, minlength=len(values))
    down = np.bincount(level, weights=weights * ~label, minlength=len(values))
    if not up.sum() or not down.sum():
        return float("nan")
    below = np.cumsum(down) - down
    return float(np.sum(up * (below + down / 2)) / (up.sum() * down.sum()))


def _interval(
    label: BoolArray, score: DoubleArray, block: LongArray, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval from resampling blocks with replacement."""
    rng = np.random.default_rng(seed)
    n_blocks = int(block.max()) + 1
    # Ranks say all that matters; small whole numbers make the repeated sorting cheap.
    rank = np.unique(score, return_inverse=True)[1].astype(np.float64)
    values = []
    for _ in range(_RESAMPLES):
        times = np.bincount(rng.integers(n_blocks, size=n_blocks), minlength=n_blocks)
        values.append(auroc(label, rank, times[block].astype(np.float64)))
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def _judge(
    value: float,
    interval: tuple[float, float],
    label: BoolArray,
    block: LongArray,
    cells: str,
) -> Gate:
    low, high = interval
    passes = low > 0.5
    figure = f"AUROC {value:.3f} (95 % interval {low:.4f}-{high:.4f})"
    on = "cells it has not seen" if cells == "unseen" else "all cells (seen cells are not recorded)"
    tells = "tells" if passes else "does not tell"
    reason = (
        f"The checkpoint {tells} neighbouring from matched far pairs of these types on {on}: "
        f"{figure}.{'' if passes else ' No p-value is reported.'}"
    )
    return Gate(
        value,
        low,
        high,
        int(label.sum()),
        int((~label).sum()),
        int(block.max()) + 1,
        cells,
        passes,
        reason,
    )


def _closed(near: PairTable, cells: str, why: str) -> Gate:
    where = "among cells that the checkpoint has not seen" if cells == "unseen" else "on the slides"
    return Gate(
        None,
        None,
        None,
        len(near),
        0,
        0,
        cells,
        open=False,
        reason=f"Whether the checkpoint tells near from far for these types cannot be measured: "
        f"{why} {where}. No p-value is reported.",
    )
