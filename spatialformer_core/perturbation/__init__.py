"""Gene-pair knock-out screens: exact effects, near against far, the tissue as replicate."""

from __future__ import annotations

from spatialformer_core.perturbation.engine import Effects, Knocking, exact_effects
from spatialformer_core.perturbation.estimate import ScreenEstimate, estimate_screen
from spatialformer_core.perturbation.facts import ModelFacts, Rates
from spatialformer_core.perturbation.farm import Farm
from spatialformer_core.perturbation.gate import Gate, measure_gate
from spatialformer_core.perturbation.plan import ScreenPlan, make_plan
from spatialformer_core.perturbation.report import (
    COLUMNS,
    ScreenResult,
    read_result,
    write_result,
)
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.screen import Given, check_model, run_screen
from spatialformer_core.perturbation.tissue import Region, Tissue

__all__ = [
    "COLUMNS",
    "Effects",
    "Farm",
    "Gate",
    "Given",
    "Knocking",
    "ModelFacts",
    "Rates",
    "Region",
    "ScreenEstimate",
    "ScreenPlan",
    "ScreenRequest",
    "ScreenResult",
    "Tissue",
    "check_model",
    "estimate_screen",
    "exact_effects",
    "make_plan",
    "measure_gate",
    "read_result",
    "run_screen",
    "write_result",
]
