"""What a screen will cost and whether it can answer, before it is started. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from spatialformer_core.perturbation.cost import Mode, choose_mode, cost_of
from spatialformer_core.perturbation.effects import on_targets
from spatialformer_core.perturbation.facts import ModelFacts, Rates
from spatialformer_core.perturbation.plan import make_plan
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.screen import check_model
from spatialformer_core.perturbation.tissue import Tissue
from spatialformer_core.perturbation.words import NO_SUPPORT

ALPHA = 0.05
UNKNOWN = Rates(encodings_per_s=1_000.0, evaluations_per_s=100.0, measured=False)
"""A slow guess, where nobody knows the speed of a checkpoint."""

_FIXED_S = 6.0


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
    mode
        ``exact`` or ``screened``.
    forwards, evaluations
        Passes through the network (single-cell encodings; for a cross-encoder two per evaluation)
        and evaluations of cell pairs. Of a screened run the most that there can be.
    seconds, seconds_measured
        Expected time in one process, and whether it rests on a measurement on this machine.
    seconds_exact
        The same for the exact mode.
    n_shards
        Parts that can be made at the same time, and that a stopped screen keeps.
    coverage
        Share of the panel that the checkpoint knows.
    genes_left, genes_right, n_tested
        Genes and gene pairs that reach the support threshold.
    reason_no_p
        Why there can be no p-value; None if units suffice (the gate is measured in the job).
    t_needed
        |t| at which a single gene pair alone would reach q < 0.05; None without p-values.
    p_needed, effect_needed_sd
        The p-value it needs, and the mean effect in standard deviations between units.
    smallest_p
        Smallest two-sided p that so many units can give if only the signs of their effects are
        trusted (all alike): 2 / 2 ** n. What lies below rests on the spread between units.
    genes_unknown
        Chosen genes that the checkpoint does not know.
    marks
        What every output will be marked with.
    """

    n_near: int
    n_far: int
    unit_kind: str
    n_units: int
    units: tuple[dict[str, Any], ...]
    far_source: str
    mode: Mode
    forwards: int
    evaluations: int
    seconds: float
    seconds_measured: bool
    seconds_exact: float
    n_shards: int
    coverage: float
    genes_left: int
    genes_right: int
    n_tested: int
    reason_no_p: str | None
    t_needed: float | None
    p_needed: float | None
    effect_needed_sd: float | None
    smallest_p: float | None
    genes_unknown: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def can_reach_q(self) -> bool:
        """Whether any gene pair can reach q < 0.05 at all."""
        return self.reason_no_p is None and self.n_tested > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate for JSON."""
        return {**asdict(self), "can_reach_q": self.can_reach_q}


def estimate_screen(
    tissues: Sequence[Tissue], model: ModelFacts, request: ScreenRequest
) -> ScreenEstimate:
    """Return size, time and reach of a screen.

    Raises
    ------
    SpatialFormerError
        For everything that would stop the screen itself.
    """
    rates = model.rates or UNKNOWN
    marks = check_model(tissues, model, request)
    targets, tissues = on_targets(tissues, model, request)
    plan = make_plan(tissues, request)
    mode = choose_mode(plan, request, model)
    cost = cost_of(plan, request, mode, model.architecture)
    exact = cost if mode == "exact" else cost_of(plan, request, "exact", model.architecture)
    n_tested, n_units = len(plan.index), len(plan.unit_names)
    # The published test counts cell pairs, not units.
    reason = None if request.test == "published" else plan.no_p_reason
    if reason is None and not n_tested:
        reason = NO_SUPPORT
    t_needed = p_needed = None
    if reason is None:
        p_needed = ALPHA / n_tested
        t_needed = float(student.isf(p_needed / 2, n_units - 1))
    return ScreenEstimate(
        n_near=len(plan.near),
        n_far=len(plan.far.pairs),
        unit_kind=plan.units.label,
        n_units=n_units,
        units=tuple(plan.pairs_per_unit),
        far_source=plan.far.source,
        mode=mode,
        forwards=cost.forwards(model.architecture),
        evaluations=cost.evaluations,
        seconds=_FIXED_S + cost.seconds(rates),
        seconds_measured=rates.measured,
        seconds_exact=_FIXED_S + exact.seconds(rates),
        n_shards=len(cost.shards),
        coverage=model.coverage,
        genes_left=len(np.unique(plan.index.left)),
        genes_right=len(np.unique(plan.index.right)),
        n_tested=n_tested,
        reason_no_p=reason,
        t_needed=t_needed,
        p_needed=p_needed,
        effect_needed_sd=None if t_needed is None else t_needed / n_units**0.5,
        smallest_p=None if reason is not None else 2.0**-n_units * 2,
        genes_unknown=targets.unknown,
        marks=tuple(marks),
    )
