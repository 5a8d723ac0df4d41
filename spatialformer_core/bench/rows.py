"""One figure of the benchmark, beside what it is compared with."""

from __future__ import annotations

import math
from typing import Literal

from spatialformer_core.config import FrozenModel

Stage = Literal["data", "model", "screen", "app", "evaluate"]


class Row(FrozenModel):
    """A figure; a ratio above 1 means that ours is faster or smaller.

    Attributes
    ----------
    ours, reference
        Values in ``unit``; ``reference`` is None where the figure stands against a limit.
    ratio
        How much better ours is, both taken in this run; None without a reference.
    reference_is
        What the reference is, in words.
    limit
        The least ratio that is asked for or, without a reference, the bound of ``ours``.
    passed
        Whether the limit is met; None where nothing was asked.
    """

    stage: Stage
    name: str
    ours: float
    reference: float | None = None
    ratio: float | None = None
    unit: str
    reference_is: str = ""
    limit: float | None = None
    passed: bool | None = None


def against(
    stage: Stage,
    name: str,
    seconds: tuple[float, float],
    *,
    reference_is: str,
    limit: float | None,
    unit: str = "CPU-s",
) -> Row:
    """Return the row of a comparison: ``seconds`` are ours and the reference's, same work."""
    ours, reference = seconds
    ratio = reference / ours if ours > 0 else math.inf
    return Row(
        stage=stage,
        name=name,
        ours=ours,
        reference=reference,
        ratio=ratio,
        unit=unit,
        reference_is=reference_is,
        limit=limit,
        passed=None if limit is None else ratio >= limit,
    )


def bounded(
    stage: Stage,
    name: str,
    value: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """Return the row of a figure that stands against a fixed bound, or alone."""
    bound = at_most if at_most is not None else at_least
    passed = None
    if at_most is not None:
        passed = value <= at_most
    elif at_least is not None:
        passed = value >= at_least
    word = "" if bound is None else ("at most" if at_most is not None else "at least")
    return Row(
        stage=stage,
        name=name,
        ours=value,
        unit=unit,
        reference_is=word and f"bound: {word}",
        limit=bound,
        passed=passed,
    )
