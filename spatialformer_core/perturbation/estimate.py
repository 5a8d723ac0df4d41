"""What a screen will cost and whether it can answer, before it is started. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from spatialformer_core.perturbation.plan import encodings_and_grid, make_plan
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.screen import ModelFacts, check_model
from spatialformer_core.perturbation.tissue import Tissue

_FIXED_S = 6.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Speed of a checkpoint on this machine.

    Attributes
    ----------
    encodings_per_s
        Single-cell encodings per second.
    evaluations_per_s
        Evaluations of the pair head per second.
    measured
        Whether a screen with this checkpoint measured them here.
    """

    encodings_per_s: float
    evaluations_per_s: float
    measured: bool


@dataclass(frozen=True, slots=True)
class ScreenEstimate:
    """What is shown before the start.

    Attributes
    ----------
    n_near, n_far
        Cell pairs that will be used.
    unit_kind, n_units, units
        Replicate units with their numbers of near and far pairs.
    far_source
        Where far pairs come from.
    forwards, evaluations
        Single-cell encodings and evaluations of the pair head.
    seconds, seconds_measured
        Expected time, and whether it rests on a measurement on this machine.
    coverage
        Share of the panel that the checkpoint knows.
    genes_left, genes_right, n_tested
        Genes and gene pairs that reach the support threshold.
    reason_no_p
        Why there can be no p-value; None if units suffice (the gate is measured in the job).
    t_needed
        |t| at which a single gene pair alone would reach q < 0.05; None without p-values.
    marks
        What every output will be marked with.
    """

    n_near: int
    n_far: int
    unit_kind: str
    n_units: int
    units: tuple[dict[str, Any], ...]
    far_source: str
    forwards: int
    evaluations: int
    seconds: float
    seconds_measured: bool
    coverage: float
    genes_left: int
    genes_right: int
    n_tested: int
    reason_no_p: str | None
    t_needed: float | None
    marks: tuple[str, ...]

    @property
    def can_reach_q(self) -> bool:
        """Whether any gene pair can reach q < 0.05 at all."""
        return self.reason_no_p is None and self.n_tested > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate for JSON."""
        return {**asdict(self), "can_reach_q": self.can_reach_q}


def estimate_screen(
    tissues: Sequence[Tissue], model: ModelFacts, request: ScreenRequest, rates: Rates
) -> ScreenEstimate:
    """Return size, time and reach of a screen.

    Raises
    ------
    SpatialFormerError
        For everything that would stop the screen itself.
    """
    marks = check_model(tissues, model, request)
    plan = make_plan(tissues, request)
    encodings, evaluations = encodings_and_grid(plan)
    n_tested = len(plan.index)
    reason = plan.no_p_reason
    if reason is None and not n_tested:
        reason = "No gene pair reaches the support threshold."
    needed = None
    if reason is None:
        needed = float(student.isf(0.05 / n_tested / 2, len(plan.unit_names) - 1))
    seconds = _FIXED_S + encodings / rates.encodings_per_s + evaluations / rates.evaluations_per_s
    return ScreenEstimate(
        n_near=len(plan.near),
        n_far=len(plan.far.pairs),
        unit_kind=plan.units.label,
        n_units=len(plan.unit_names),
        units=tuple(plan.pairs_per_unit),
        far_source=plan.far.source,
        forwards=encodings,
        evaluations=evaluations,
        seconds=seconds,
        seconds_measured=rates.measured,
        coverage=model.coverage,
        genes_left=len(np.unique(plan.index.left)),
        genes_right=len(np.unique(plan.index.right)),
        n_tested=n_tested,
        reason_no_p=reason,
        t_needed=needed,
        marks=tuple(marks),
    )
