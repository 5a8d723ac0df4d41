"""The sentences and facts that stand beside every table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.perturbation.gate import Gate
from spatialformer_core.perturbation.plan import ScreenPlan
from spatialformer_core.perturbation.report import COLUMNS
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.stats import MIN_UNITS

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
NO_SUPPORT = (
    "No gene pair reaches the support threshold: take more cell pairs per unit, or lower it."
)

_FAR = {
    "outside": "outside all regions, with both cells nearest to one replicate unit; what follows "
    "the regions rather than contact differs between the two as well",
    "within": "around the near pairs themselves (one cell stays, the other is replaced)",
}
_TOO_LITTLE = ", because there is too little of these types outside the regions"
_VERSUS = "near pairs of the other regions"


def describe(
    plan: ScreenPlan,
    gate: Gate,
    request: ScreenRequest,
    table: pd.DataFrame,
    marks: list[str],
) -> dict[str, Any]:
    """Return what ``screen.json`` says of a finished screen."""
    reasons = reasons_without_p(plan, gate, request)
    return {
        "format_version": 1,
        "mode": "exact",
        "verdict": _verdict(plan, request, table, reasons),
        "marks": marks,
        "methods": _methods(plan, gate, request, len(plan.index)),
        "p_values": not reasons,
        "no_p_reason": " ".join(reasons) or None,
        "units": {
            "kind": plan.units.kind,
            "block_um": plan.units.block_um,
            "used": plan.pairs_per_unit,
            "left_out": plan.left_out,
            "needed_for_p": MIN_UNITS,
        },
        "interval_over": "units" if len(plan.unit_names) > 1 else "cell pairs of one unit",
        "pairs": {
            "near_found": plan.n_near_found,
            "near_used": len(plan.near),
            "far_used": len(plan.far.pairs),
            "far_source": plan.far.source,
            "imbalance_sd": plan.far.imbalance,
            "near_with_seen_cell": _seen_share(plan),
        },
        "tested": len(plan.index),
        "significant": _significant(table, reasons),
        "gate": gate.as_dict(),
        "columns": COLUMNS,
        "not_computed": _not_computed(plan),
        "request": request.model_dump(mode="json"),
    }


def reasons_without_p(plan: ScreenPlan, gate: Gate, request: ScreenRequest) -> list[str]:
    """Return why no p-value is reported; nothing if there are p-values.

    The published test knows no replicates, so it needs none; the gate it needs as well.
    """
    units = None if request.test == "published" else plan.no_p_reason
    support = None if len(plan.index) else NO_SUPPORT
    model = None if gate.open else gate.reason
    return [reason for reason in (units, support, model) if reason]


def _not_computed(plan: ScreenPlan) -> dict[str, str]:
    reasons = {
        "is_ligand_receptor": "no ligand-receptor table was given",
        "measured_recall": "every pair is exact, so nothing can be missed",
    }
    if any(tissue.spillover is None for tissue in plan.slides.tissues):
        reasons["spillover"] = (
            "not measured on every slide for this grouping; run `spatialformer spillover` first"
        )
    return reasons


def _significant(table: pd.DataFrame, reasons: list[str]) -> dict[str, int] | None:
    if reasons:
        return None
    return {name: int((table[name] < ALPHA).sum()) for name in ("q", "epsilon_q")}


def _seen_share(plan: ScreenPlan) -> float | None:
    seen = []
    for number, tissue in enumerate(plan.slides.tissues):
        if tissue.seen is None:
            return None
        here = plan.near.slide == number
        seen.append(tissue.seen[plan.near.left[here]] | tissue.seen[plan.near.right[here]])
    return round(float(np.mean(np.concatenate(seen))), 4) if len(plan.near) else None


def _verdict(
    plan: ScreenPlan, request: ScreenRequest, table: pd.DataFrame, reasons: list[str]
) -> str:
    types = f"{request.group_left}-{request.group_right}"
    what = (
        f"{len(plan.index):,} gene pairs tested on {len(plan.near):,} neighbouring {types} pairs "
        f"and {len(plan.far.pairs):,} {_others(plan)} (replicate units: {len(plan.unit_names)}, "
        f"{plan.units.label})"
    )
    caution = "This is what the network relies on, not what causes contact."
    if reasons:
        return f"{what}: effects and intervals, no p-values. {' '.join(reasons)} {caution}"
    counts = _significant(table, reasons) or {}
    if request.test == "published":
        return (
            f"{what}: {counts['q']:,} with q < {ALPHA} by the published test of d against 0 over "
            f"cell pairs, which says nothing about tissue. {caution}"
        )
    return (
        f"{what}: {counts['q']:,} with q < {ALPHA}, {counts['epsilon_q']:,} with an interaction at "
        f"q < {ALPHA}. {caution}"
    )


def _others(plan: ScreenPlan) -> str:
    return _VERSUS if plan.far.source == "versus" else "far pairs"


def _compared(plan: ScreenPlan, request: ScreenRequest) -> str:
    """Return what near pairs are compared with, as the end of a sentence."""
    if plan.far.source == "versus":
        return (
            f"{len(plan.far.pairs):,} pairs of the same types and distance in the other regions, "
            "matched in depth and number of neighbours"
        )
    regions = any(tissue.regions for tissue in plan.slides.tissues)
    far = _FAR[plan.far.source]
    if regions and request.far_from == "outside" and plan.far.source == "within":
        far += _TOO_LITTLE
    return (
        f"{len(plan.far.pairs):,} far pairs ({request.far_um[0]:g}-{request.far_um[1]:g} um) of "
        f"the same types, matched in depth and number of neighbours, taken {far}"
    )


def _tested(plan: ScreenPlan, request: ScreenRequest, n_tested: int) -> str:
    over_all = f"with Benjamini-Hochberg over all {n_tested:,} gene pairs"
    if request.test == "published":
        return (
            "Tested is, as published, whether the mean change over near cell pairs that carry both "
            "genes is below 0 (one-sided t-test, cell pairs counted as independent, both "
            f"directions of a gene pair together), {over_all}; this says nothing about tissue"
        )
    return (
        "Tested is the mean of near minus the mean of the others, the replicate being the "
        f"{plan.units.label} ({len(plan.unit_names)} used), by a moderated t-test where there are "
        f"at least {MIN_UNITS} units, {over_all}"
    )


def _methods(plan: ScreenPlan, gate: Gate, request: ScreenRequest, n_tested: int) -> str:
    orientation = (
        " Both cells are of one type, so each cell pair enters in both orientations and a gene "
        "pair has no direction."
        if request.same_type
        else ""
    )
    return (
        f"Every gene of the {request.group_left} cell was knocked out ({request.knockout}) with "
        f"every gene of the {request.group_right} cell, in {len(plan.near):,} pairs "
        f"within {request.radius_um:g} um and {_compared(plan, request)}.{orientation} The effect "
        "is the change of the pair logit; a cell pair that lacks one of the genes counts as zero, "
        f"as nothing can be knocked out. {_tested(plan, request, n_tested)} that reach the support "
        f"threshold ({request.min_support} cell pairs per unit, set before any effect was known). "
        f"Epsilon is the effect of both genes less those of each alone. "
        f"{gate.reason}"
    )
